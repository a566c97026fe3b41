# SPDX-License-Identifier: MIT
"""Many devices of this code on one broker: what one of them alone cannot show."""

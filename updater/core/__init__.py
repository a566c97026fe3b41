# SPDX-License-Identifier: MIT
"""What decides: pure functions and tables over values. Nothing here touches the world."""

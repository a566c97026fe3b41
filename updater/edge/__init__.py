# SPDX-License-Identifier: MIT
"""What does: one module per outside thing, each behind a protocol of ``updater.core.ports``."""

# SPDX-License-Identifier: MIT
"""``python -m updater`` is the same as ``updater``."""

from updater.cli import entry

entry()

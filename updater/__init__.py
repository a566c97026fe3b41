# SPDX-License-Identifier: MIT
"""Keeps the firmware of an embedded Linux device current and cannot brick it."""

__version__ = "0.1.0"

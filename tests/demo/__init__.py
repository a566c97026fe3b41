# SPDX-License-Identifier: MIT
"""``make demo``: the whole of an update, and of a bad one, on one terminal screen."""

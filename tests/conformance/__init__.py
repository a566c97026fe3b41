# SPDX-License-Identifier: MIT
"""The device against the cloud in small: whole life-cycles, and side by side with another's SDK."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "cli"))  # the board on a loop device is there

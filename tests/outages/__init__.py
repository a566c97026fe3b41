# SPDX-License-Identifier: MIT
"""The real program at a real broker, through everything that can happen between the two."""

import sys
from pathlib import Path

for _folder in ("cli", "edge"):  # the board, and the certificates
    sys.path.append(str(Path(__file__).parents[1] / _folder))

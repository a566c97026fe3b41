# SPDX-License-Identifier: MIT
"""Writes docs/conformance.md from a fresh run of both devices."""

import tempfile
from pathlib import Path

from board_on_loop import ROOT_BYTES, make_image

from conformance import exchange
from conformance.desk import Image
from conformance.page import PAGE, compare, page


def main() -> None:
    """Run each case, then write the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = Image.of(make_image(folder / "small.ext4", ROOT_BYTES))
        theirs, mine = exchange.both(folder, image)
        PAGE.write_text(page(compare(theirs, mine), exchange.SDK[0]))


main()

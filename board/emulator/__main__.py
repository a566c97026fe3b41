# SPDX-License-Identifier: MIT
"""Boots the emulated board as a device of one's own: its console is this terminal.

    make board FILES=FOLDER

What is in FOLDER (updater.toml, and what that names) goes to /data/updater. Version 1.0.0 runs, and
an image of 1.1.0 waits to be offered. The board reaches whatever this machine reaches. What is
typed goes to its root shell, line by line; Ctrl-C pulls the plug, and nothing of it is left.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from board.emulator import image
from board.emulator.machine import Machine


def main() -> None:
    """Make a disk of the folder's files, switch the board on, and hand over its console."""
    parser = argparse.ArgumentParser(prog="make board", description=__doc__)
    parser.add_argument("folder", type=Path, help="files for /data/updater")
    folder = parser.parse_args().folder
    files = {f"updater/{path.name}": path.read_text() for path in folder.iterdir()}
    first, newer = image.image("1.0.0"), image.image("1.1.0")
    print(f"an image of version 1.1.0: {newer.path}", flush=True)
    with tempfile.TemporaryDirectory(prefix="board-") as storage:
        disk, card = Path(storage) / "disk.img", Path(storage) / "card.img"
        image.make_disk(disk, first, files)
        image.make_card(card, {"boot_slot": "A"})
        with Machine(disk, card, listener=_show) as board:
            board.power_on()
            for line in sys.stdin:
                board.serial.type(line.rstrip("\n"))


def _show(said: str) -> None:
    sys.stdout.write(said)
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()

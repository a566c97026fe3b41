# SPDX-License-Identifier: MIT
"""A board in small whose slots are files: many of them run beside each other, and boot at once."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paho
import pyudev
from board_on_loop import Board
from workshop import REPOSITORY

PROGRAM = Path(__file__).with_name("onfiles.py")
SLOT_BYTES = 1 << 20
_HEAD_BYTES = 4096


class FileBoard(Board):
    """Slots A and B; A is booted."""

    def __init__(
        self, folder: Path, enter: Sequence[str] = (), *, python: str = "", **options: Any
    ) -> None:
        """Set it up; *enter* stands before the program's command line, *python* runs it."""
        self._enter = list(enter)
        self._python = python or sys.executable
        if python:
            self._enter += ["env", f"PYTHONPATH={lent(folder / 'lent')}"]
        for name in ("slot-A", "slot-B", "diskp1", "diskp2"):
            with (folder / name).open("wb") as file:
                file.truncate(SLOT_BYTES)
        super().__init__(folder, str(folder / "disk"), **options)
        self.slots = {name: str(folder / f"slot-{name}") for name in ("A", "B")}
        Path(self.slots["A"]).write_bytes(b"A" * SLOT_BYTES)

    def enter(self) -> Sequence[str]:
        """Return what has to stand before a command."""
        return self._enter

    def command(self, *arguments: object) -> list[str]:
        """Return the command line that runs the program with *arguments*."""
        program = [self._python, str(PROGRAM), "--config", str(self.config)]
        return [*self.enter(), *program, *(str(argument) for argument in arguments)]

    def has_image(self, name: str) -> bool:
        """Tell whether the bootloader would find anything in slot *name*."""
        with Path(self.slots[name]).open("rb") as file:
            return any(file.read(_HEAD_BYTES))


def lent(folder: Path) -> str:
    """Return a path of modules for another Python: ours, and what is not bound to this one."""
    folder.mkdir()
    for module in (paho, pyudev):
        source = Path(next(iter(module.__path__)))
        (folder / source.name).symlink_to(source)
    return os.pathsep.join([str(folder), str(REPOSITORY)])

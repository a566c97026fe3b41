# SPDX-License-Identifier: MIT
"""Runs the program with slots that are files: ``slot-A`` and ``slot-B`` beside its configuration.

Nothing else differs from ``python -m updater``. Which slot is booted is told by the command line of
the kernel, as ``boardonfiles`` has written it.
"""

import re
import sys
from functools import partial
from pathlib import Path

import updater.assembly
from updater.cli import entry
from updater.core.model import Slot, Slots

SLOT_BYTES = 1 << 20


class FileFinder:
    """Finds the two files."""

    def __init__(self, folder: Path, _table: object) -> None:
        self._folder = folder

    def find(self) -> Slots:
        """Return booted and target slot."""
        found = re.search(r"updater\.slot=(\w)", (self._folder / "cmdline").read_text())
        assert found is not None
        booted = found[1]
        target = {"A": "B", "B": "A"}[booted]
        return Slots(self._slot(booted), self._slot(target))

    def _slot(self, name: str) -> Slot:
        path = self._folder / f"slot-{name}"
        return Slot(name, str(path), 0, SLOT_BYTES)


if __name__ == "__main__":
    config = Path(sys.argv[sys.argv.index("--config") + 1])
    vars(updater.assembly)["UdevSlotFinder"] = partial(FileFinder, config.parent)
    entry()

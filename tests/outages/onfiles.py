# SPDX-License-Identifier: MIT
"""Runs the program with slots that are files: ``slot-A`` and ``slot-B`` beside its configuration.

So is the lock of the boot environment, for each of many boards on one machine has its own. Nothing
else differs from ``python -m updater``, unless this Python lacks what the native module needs: then
``plainpipeline`` stands in for it, and the link alone is what it is. Which slot is booted is told
by the command line of the kernel, as ``boardonfiles`` has written it.
"""

import importlib.util
import re
import sys
from functools import partial
from pathlib import Path

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


def main() -> None:
    """Run the program."""
    if importlib.util.find_spec("_cffi_backend") is None:
        import plainpipeline  # noqa: PLC0415 - before the program looks for it

        sys.modules["updater.edge.pipeline"] = plainpipeline
    import updater.assembly  # noqa: PLC0415 - the same
    from updater.cli import entry  # noqa: PLC0415

    config = Path(sys.argv[sys.argv.index("--config") + 1])
    folder = config.parent
    ours = vars(updater.assembly)
    ours["UdevSlotFinder"] = partial(FileFinder, folder)
    ours["EnvironmentStore"] = partial(
        ours["EnvironmentStore"], lock_files=[str(folder / "fw_printenv.lock")]
    )
    entry()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""Writes images to a flash that flash.c and its neighbours play, by the MTD sink (burn.c).

NOR and NAND, with their rules. Whatever happens, the good blocks hold the old head, a blank or a
broken one, or the whole new image, and no block is marked bad that does not deserve it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drivers import Orders, Run, ask, build, each

PARTS = (
    "sink_mtd", "source_mtd", "mtd", "mtd_store", "mtd_guard", "number", "sysfs", "extent", "error",
)  # fmt: skip
PAGE, BLOCK, BLOCKS = 2048, 16384, 12
ROOM = BLOCKS * BLOCK
SIZE = 100_000
NEEDED = -(-SIZE // BLOCK)
NOR: Orders = {"type": 3, "write_size": 1}
NAND_AND_NOR = pytest.mark.parametrize("kind", [{}, NOR], ids=["nand", "nor"])


def driver() -> Path:
    """Return the sink, the source and their flash, compiled."""
    return build("burn", ("flash", "flash_kernel", "flash_sysfs", "burn"), PARTS)


class Burning(Run):
    """What one run came to."""

    @property
    def head(self) -> str:
        return self.said["head"]

    @property
    def bad(self) -> list[int]:
        return self._numbers("bad")

    @property
    def locked(self) -> list[int]:
        return self._numbers("locked")

    @property
    def is_whole(self) -> bool:
        return self.new == 1

    @property
    def is_untouched(self) -> bool:
        return (self.head, self.erased_most, self.programmed) == ("old", 0, 0)

    def _numbers(self, name: str) -> list[int]:
        return [int(word) for word in self.said[name].split()]


class Burner:
    """The sink, its flash, and a file that the flash is kept in.

    Args:
        program: The driver.
        file: It need not exist.
    """

    def __init__(self, program: Path, file: Path) -> None:
        self._program = program
        self._file = file

    def burn(self, size: int = SIZE, **orders: Any) -> Burning:
        """Run once; whatever it comes to, nothing stays open and no part of an image looks whole.

        Args:
            size: Of the image.
            orders: The driver's and the flash's; None leaves one out.
        """
        burning = Burning(ask(self._program, size=size, **orders))
        assert burning.head != "new" or burning.is_whole
        if not burning.was_cut:
            assert not burning.left_open
            assert len(burning.message) < 160
        return burning

    def keep(self, **orders: Any) -> Burning:
        """The same on a flash that outlives the run."""
        return self.burn(file=self._file, **orders)

    def renew(self) -> None:
        """Put the old image back."""
        self._file.unlink(missing_ok=True)

    def each(self, fault: str, **orders: Any) -> Iterator[Burning]:
        """Burn with the fault at the first, second, … call, as long as there is such a call."""
        return each(lambda planned: self.burn(fault=planned, **orders), fault)

# SPDX-License-Identifier: MIT
"""Everything in this folder boots the emulated board: a real U-Boot, a real Linux."""

from pathlib import Path

import pytest

from board.emulator import image
from board.emulator.image import Image


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.qemu)


@pytest.fixture(scope="session")
def old() -> Image:
    """Return the firmware that the board comes with."""
    return image.image("0.1")


@pytest.fixture(scope="session")
def new() -> Image:
    """Return a good firmware."""
    return image.image("0.2")

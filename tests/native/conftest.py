# SPDX-License-Identifier: MIT
"""The engine and its parts under sanitizers, built once."""

from collections.abc import Iterator
from pathlib import Path

import burning
import pytest
from hostile import HostileServer
from sanitized import Slot, build


@pytest.fixture(scope="session")
def engine() -> Path:
    """The engine under AddressSanitizer and UndefinedBehaviorSanitizer."""
    return build("address")


@pytest.fixture
def slot(tmp_path: Path, engine: Path) -> Slot:
    return Slot(tmp_path, engine)


@pytest.fixture(scope="session")
def server() -> Iterator[HostileServer]:
    with HostileServer() as serving:
        yield serving


@pytest.fixture(scope="session")
def flash_driver() -> Path:
    """The MTD sink and source alone, between their driver and a flash."""
    return burning.driver()


@pytest.fixture
def burner(flash_driver: Path, tmp_path: Path) -> burning.Burner:
    return burning.Burner(flash_driver, tmp_path / "flash")

# SPDX-License-Identifier: MIT
"""The engine under sanitizers, built once."""

from collections.abc import Iterator
from pathlib import Path

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

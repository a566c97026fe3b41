# SPDX-License-Identifier: MIT
"""What the tests of the command line share: a machine without slots, an image, a place for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sim.http_server import HttpServer
from workshop import IMAGE, MIB, Workshop, loop_device


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A configured machine that has no slots."""
    return Workshop(tmp_path)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image in a file."""
    path = tmp_path / "image"
    path.write_bytes(IMAGE)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device that is not blank."""
    with loop_device(tmp_path / "medium", 8 * MIB) as path:
        Path(path).write_bytes(b"\xa5" * 8 * MIB)
        yield path


@pytest.fixture
def web(image: Path) -> Iterator[HttpServer]:
    """A web server that has the image."""
    with HttpServer() as server:
        server.put({"image": image, "gone": 410, "forbidden": 403, "broken": 500})
        yield server

# SPDX-License-Identifier: MIT
"""Where an image comes from and goes to in the tests of the pipeline."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pipelinecases import IMAGE, loop, serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(IMAGE)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    with loop(tmp_path, 512) as path:
        yield path

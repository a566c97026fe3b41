# SPDX-License-Identifier: MIT
"""What the tests of outages share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sim.wire import Wire

from outages.site import certificates


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and what it has signed."""
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Namespaces of one's own."""
    with Wire() as it:
        yield it

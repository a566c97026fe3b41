# SPDX-License-Identifier: MIT
"""A device is written only if it is the one that was looked at before, whatever its name."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from pipelinecases import IMAGE, held, install, loop, request_for

from updater.core.errors import DeviceError

pytestmark = pytest.mark.root


def number_of(path: str | Path) -> int:
    return Path(path).stat().st_rdev


def test_the_device_that_was_meant_is_written(device: str, source: Path, tmp_path: Path) -> None:
    """By any name that it has."""
    node = tmp_path / "node"
    os.mknod(node, 0o600 | stat.S_IFBLK, number_of(device))
    install(replace(request_for(source, node), device_number=number_of(device)))
    assert held(device) == IMAGE


def test_another_one_by_its_name_is_not_touched(device: str, source: Path, tmp_path: Path) -> None:
    """A name that led to one device and leads to another now: both stay as they are."""
    (tmp_path / "other").mkdir()
    with loop(tmp_path / "other", 512) as other:
        meant = number_of(other)
        before = held(device)
        link = tmp_path / "link"
        link.symlink_to(device)
        with pytest.raises(DeviceError) as caught:
            install(replace(request_for(source, link), device_number=meant))
        assert held(device) == before
    found = number_of(device)
    assert str(caught.value) == (
        "another device has this name now: its number is "
        f"{os.major(found)}:{os.minor(found)}, expected was {os.major(meant)}:{os.minor(meant)}"
    )

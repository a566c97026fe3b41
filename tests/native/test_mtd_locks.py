# SPDX-License-Identifier: MIT
"""MTD as a sink: write protection of NOR flash is lifted for the image, and set again."""

import errno

import pytest
from burning import NOR, Burner
from sanitized import Status

LOCKED = {"locked": "0,1,5,6,7,11", **NOR}


def test_locked_nor_is_unlocked_and_locked_again(burner: Burner) -> None:
    """In one go, and where it was."""
    burning = burner.burn(**LOCKED)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert (burning.unlocks, burning.locks) == (1, 3)
    assert burning.locked == [0, 1, 5, 6, 7, 11]


@pytest.mark.parametrize("until", ["open", "blank", "write", "settle"])
def test_it_is_locked_again_whatever_happened(burner: Burner, until: str) -> None:
    """Also where the image was given up half-way."""
    burning = burner.burn(until=until, **LOCKED)
    assert burning.locked == [0, 1, 5, 6, 7, 11]
    assert burning.unlocks == (until in {"write", "settle"})


def test_what_was_not_locked_is_left_alone(burner: Burner) -> None:
    """Neither unlocked nor locked."""
    burning = burner.burn(**NOR)
    assert (burning.unlocks, burning.locks, burning.locked) == (0, 0, [])


def test_a_flash_that_does_not_tell_is_unlocked(burner: Burner) -> None:
    """It may be locked; and nobody knows what to lock again."""
    burning = burner.burn(tells_no_locks=1, **LOCKED)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert (burning.unlocks, burning.locks) == (1, 0)


@pytest.mark.parametrize("fault", [f"lock:13:{errno.EINVAL}", f"lock:5:{errno.EIO}"])
def test_a_lock_that_cannot_be_lifted_changes_nothing(burner: Burner, fault: str) -> None:
    """One that covers more than this partition, say."""
    burning = burner.burn(fault=fault, **LOCKED)
    assert burning.result == Status.OPEN
    assert burning.is_untouched
    assert burning.locked == [0, 1, 5, 6, 7, 11]

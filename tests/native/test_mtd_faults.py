# SPDX-License-Identifier: MIT
"""MTD as a sink: each call that it makes may fail, be interrupted, stop half-way or lie."""

import errno
import os

import pytest
from burning import NAND_AND_NOR, NOR, Burner
from drivers import Orders
from sanitized import Status


@pytest.mark.parametrize("call", ["erase", "write", "read"])
def test_a_failure_of_nand_that_does_not_come_again_costs_nothing(
    burner: Burner, call: str
) -> None:
    """The first, the second, … the last of its kind: the block is tried once more, and it holds."""
    for burning in burner.each(f"{call}:{{}}:{errno.EIO}", bad="3"):
        assert (burning.result, burning.is_whole) == (Status.DONE, True)
        assert (burning.bad, burning.erased_most <= 2) == ([3], True)


def test_bits_that_others_lost_are_not_its_own(burner: Burner) -> None:
    """The kernel counts them for whoever reads the chip at that moment: it is read once more."""
    plain = burner.burn(bad="3")
    for burning in burner.each("ecc:{}:stray", bad="3"):
        assert (burning.result, burning.is_whole, burning.bad) == (Status.DONE, True, [3])
        assert (burning.erased_most, burning.programmed) == (1, plain.programmed)


@NAND_AND_NOR
@pytest.mark.parametrize("call", ["erase", "write", "read", "ecc", "lock", "info", "bad"])
@pytest.mark.parametrize("error", [errno.ENODEV, errno.ETIMEDOUT])
def test_what_is_no_block_s_fault_marks_none(
    burner: Burner, call: str, error: int, kind: Orders
) -> None:
    """A controller that is gone, a call that is refused: one clear error, nothing marked bad."""
    if (call, bool(kind)) in {("lock", False), ("bad", True)}:
        return
    for burning in burner.each(f"{call}:{{}}:{error}", **kind):
        assert burning.result in {Status.IO, Status.OPEN} or burning.is_whole
        assert burning.result is Status.DONE or os.strerror(error) in burning.message
        assert burning.bad == []


@NAND_AND_NOR
@pytest.mark.parametrize("call", ["erase", "write", "read", "ecc", "lock", "info", "bad", "mark"])
def test_an_interrupted_call_is_made_again(burner: Burner, call: str, kind: Orders) -> None:
    """A signal costs nothing, and no block."""
    worn = {} if kind else {"weak_write": "4"}
    if (call, bool(kind)) in {("lock", False), ("bad", True), ("mark", True)}:
        return
    for burning in burner.each(f"{call}:{{}}:{errno.EINTR}", **kind, **worn):
        assert (burning.result, burning.is_whole) == (Status.DONE, True)
        assert len(burning.bad) == len(worn)


@NAND_AND_NOR
@pytest.mark.parametrize("call", ["write", "read"])
def test_a_call_may_stop_half_way(burner: Burner, call: str, kind: Orders) -> None:
    """The rest is asked for again."""
    for burning in burner.each(f"{call}:{{}}:short", **kind):
        assert (burning.result, burning.is_whole) == (Status.DONE, True)


@pytest.mark.parametrize("call", ["erase", "write"])
def test_each_lost_write_of_nand_is_found_out(burner: Burner, call: str) -> None:
    """One that says it was done and was not: it is done again."""
    for burning in burner.each(f"{call}:{{}}:lose"):
        assert (burning.result, burning.is_whole, burning.bad) == (Status.DONE, True, [])


@pytest.mark.parametrize("call", ["erase", "write"])
def test_each_lost_write_of_nor_is_found_out(burner: Burner, call: str) -> None:
    """There it is the end, and the head is not there."""
    for burning in burner.each(f"{call}:{{}}:lose", **NOR):
        assert burning.result == Status.READ_BACK
        assert burning.head in {"blank", "old"}


@pytest.mark.parametrize("call", ["open", "stat", "sysfs", "memory"])
def test_a_look_that_fails_touches_nothing(burner: Burner, call: str) -> None:
    """What cannot be told is not guessed, unless it is not needed."""
    for burning in burner.each(f"{call}:{{}}:{errno.EIO}", **NOR):
        wanted = Status.RESOURCES if call == "memory" else Status.OPEN
        assert burning.result == wanted or (call == "sysfs" and burning.is_whole)
        assert burning.is_untouched or burning.is_whole

# SPDX-License-Identifier: MIT
"""MTD as a sink, on blocks that fail: they are marked, their data move, and no healthy one goes."""

import errno
from collections.abc import Mapping
from pathlib import Path

import pytest
from burning import BLOCK, BLOCKS, NEEDED, NOR, ROOM, SIZE, Burner
from drivers import Orders
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sanitized import Status

FAILURES_IN_A_ROW = 8


@pytest.mark.parametrize("fault", ["weak_erase", "weak_write", "grave", "liar"])
def test_a_worn_block_is_marked_and_its_data_move(burner: Burner, fault: str) -> None:
    """It fails to erase, to program, to be read, or to tell the truth: the next good one has it."""
    worn: Orders = {fault: "4,6"}
    burning = burner.burn(bad="2", **worn)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert (burning.bad, burning.bad_blocks) == ([2, 4, 6], 2)
    assert burning.verified == SIZE


def test_several_in_a_row_are_passed_over(burner: Burner) -> None:
    """Block after block may fail for the same data."""
    burning = burner.burn(weak_erase="3", weak_write="4", grave="5", liar="6")
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.bad == [3, 4, 5, 6]


def test_what_fails_block_after_block_is_not_wear(burner: Burner) -> None:
    """A write-protected chip or a dying controller does not cost every block of the flash."""
    burning = burner.burn(30_000, weak_erase=",".join(map(str, range(1, 12))))
    assert burning.result == Status.IO
    assert "8 erase blocks failed one after the other" in burning.message
    assert len(burning.bad) == FAILURES_IN_A_ROW - 1
    assert burning.head == "blank"


def test_wear_all_over_the_flash_is_wear(burner: Burner) -> None:
    """Many blocks may fail, if others between them do not."""
    burning = burner.burn(20 * BLOCK, blocks=40, weak_erase=",".join(map(str, range(1, 40, 2))))
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.bad_blocks > 2 * FAILURES_IN_A_ROW


@pytest.mark.parametrize("fault", ["weak_erase", "weak_write", "grave", "liar"])
def test_too_few_good_blocks_are_no_room(burner: Burner, fault: str) -> None:
    """Told as soon as it is clear, with what is left."""
    worn: Orders = {fault: "5,8,9"}
    burning = burner.burn(bad="0,1,2", **worn)
    assert burning.result == Status.SPACE
    assert burning.offset == (NEEDED - 1) * BLOCK
    assert "3 blocks went bad just now" in burning.message
    assert (burning.bad, burning.head) == ([0, 1, 2, 5, 8, 9], "blank")


def test_the_last_block_of_all_may_fail(burner: Burner) -> None:
    """Also where nobody knows how much is to come."""
    burning = burner.burn(ROOM, announced=0, weak_write="11")
    assert (burning.result, burning.offset) == (Status.SPACE, ROOM - BLOCK)


def test_a_head_that_does_not_erase_moves_at_once(burner: Burner) -> None:
    """Nothing stands behind it yet: the next good block is the head."""
    burning = burner.burn(weak_erase="0,1,3")
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.bad == [0, 1, 3]


@pytest.mark.parametrize("fault", ["weak_write", "grave", "liar"])
def test_a_head_that_fails_at_the_end_asks_for_another_go(burner: Burner, fault: str) -> None:
    """It is marked bad, what is left does not boot, and from the first byte on it works."""
    burning = burner.keep(bad="0", **{fault: "1"})
    assert (burning.result, burning.bad) == (Status.AGAIN, [0, 1])
    assert burning.head == "blank"
    again = burner.keep(**{fault: "1"})
    assert (again.result, again.is_whole, again.bad) == (Status.DONE, True, [0, 1])


def test_a_head_that_was_resumed_cannot_move(burner: Burner) -> None:
    """All else stands behind it: the image is to be written again."""
    assert burner.keep(until="settle").result == Status.DONE
    dirty = burner.keep(size=BLOCK, until="commit")  # an image in the head
    assert dirty.result == Status.DONE
    burning = burner.keep(**{"from": 3 * BLOCK, "weak_erase": "0"})
    assert (burning.result, burning.bad) == (Status.AGAIN, [0])


@pytest.mark.parametrize("orders", [{"takes_no_marks": 1}, {"fault": f"mark:1:{errno.EIO}"}])
def test_a_block_that_cannot_be_marked_ends_it(burner: Burner, orders: Orders) -> None:
    """Whoever reads the slot would not skip it: that is no success."""
    burning = burner.burn(weak_write="4", **orders)
    assert (burning.result, burning.os_errno, burning.offset) == (
        Status.IO,
        errno.EIO,
        4 * BLOCK,
    )
    assert (burning.head, burning.bad) == ("blank", [])


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (f"erase:4:{errno.EIO}", Status.IO),
        (f"write:4:{errno.EIO}", Status.IO),
        (f"read:4:{errno.EIO}", Status.IO),
        ("write:4:lose", Status.READ_BACK),
        ("erase:4:lose", Status.READ_BACK),
    ],
)
def test_nor_flash_knows_no_bad_blocks(burner: Burner, fault: str, status: Status) -> None:
    """There a failure is the end, with its place."""
    burning = burner.burn(fault=fault, **NOR)
    assert burning.result == status
    assert 0 < burning.offset < SIZE
    assert (burning.bad, burning.head) == ([], "blank")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    flash=st.tuples(
        st.sets(st.integers(0, BLOCKS - 1), max_size=3),
        st.dictionaries(
            st.integers(0, BLOCKS - 1),
            st.sampled_from(["weak_erase", "weak_write", "grave", "liar"]),
            max_size=FAILURES_IN_A_ROW - 1,
        ),
    ),
    size=st.integers(1, ROOM),
    is_known=st.booleans(),
)
def test_whatever_is_worn_the_image_finds_its_place(
    flash_driver: Path,
    tmp_path_factory: pytest.TempPathFactory,
    flash: tuple[set[int], Mapping[int, str]],
    size: int,
    is_known: bool,
) -> None:
    """If the healthy blocks are enough it arrives, and no healthy one is ever marked."""
    bad, worn = flash
    burner = Burner(flash_driver, tmp_path_factory.mktemp("flash") / "flash")
    orders: dict[str, object] = {"bad": ",".join(map(str, bad)) or None}
    for kind in set(worn.values()):
        orders[kind] = ",".join(str(block) for block, how in worn.items() if how == kind)
    healthy = set(range(BLOCKS)) - bad - set(worn)
    for _ in range(1 + len(worn)):
        burning = burner.keep(size=size, announced=None if is_known else 0, **orders)
        assert bad <= set(burning.bad) <= bad | set(worn)
        if burning.result is not Status.AGAIN:
            break
        assert burning.head in {"blank", "old"}
    if burning.result is Status.DONE:
        assert burning.is_whole
    else:
        assert burning.result is Status.SPACE
        assert len(healthy) * BLOCK < size
        assert burning.head != "new"
    burner.renew()

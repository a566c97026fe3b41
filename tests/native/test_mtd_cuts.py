# SPDX-License-Identifier: MIT
"""MTD as a sink: what a power cut or a close leaves never looks whole, and can be gone on with."""

import errno

import pytest
from burning import BLOCK, NEEDED, NOR, PAGE, ROOM, SIZE, Burner
from drivers import Orders
from sanitized import Status

WEAR = {"weak_erase": "2", "weak_write": "4", "grave": "7"}
LIES = {"bad": "0", "liar": "3"}


@pytest.mark.parametrize("when", ["die", "tear", "dead"])
@pytest.mark.parametrize("call", ["erase", "write", "mark"])
@pytest.mark.parametrize("wear", [{}, WEAR, LIES, NOR], ids=["healthy", "worn", "lies", "nor"])
def test_after_any_cut_it_goes_on(burner: Burner, call: str, when: str, wear: Orders) -> None:
    """Before, in or behind any call: no slot that looks whole and is not; then on to the end."""
    if call == "mark" and wear in ({}, NOR):
        return
    for n in range(1, 200):
        burner.renew()
        cut = burner.keep(fault=f"{call}:{n}:{when}", **wear)
        if not cut.happened:
            assert n > 1
            return
        assert cut.cut == 1
        # the pages of NAND have an order of their own, which begins with what a head is known by
        parts = {"unknown", "ending"} if wear == NOR else {"unknown", "ending", "part"}
        assert cut.head in {"old", "blank", *parts} or cut.is_whole
        settled = cut.settled // BLOCK * BLOCK
        again = burner.keep(**{**wear, "from": settled if settled > BLOCK else 0})
        assert (again.result, again.is_whole) == (Status.DONE, True)
        assert again.erased_most <= (3 if wear in ({}, NOR) else 4)  # what fails is tried twice
        deserved = {int(b) for list_ in wear.values() for b in str(list_).split(",")}
        assert wear == NOR or set(again.bad) <= deserved
    pytest.fail("it never ended")


def test_a_resume_writes_only_the_rest(burner: Burner) -> None:
    """What was proven is read, and neither erased nor programmed again."""
    burner.keep(until="settle")
    burning = burner.keep(**{"from": 3 * BLOCK})
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.verified == SIZE
    assert burning.programmed < (NEEDED - 2) * BLOCK


def test_blocks_marked_by_an_earlier_try_stay_where_they_are(burner: Burner) -> None:
    """The good blocks before the cut are the same ones afterwards, in the same order."""
    first = burner.keep(until="write", bad="1", weak_write="3,5")
    assert first.bad == [1, 3, 5]
    settled = first.settled // BLOCK * BLOCK
    assert settled > 3 * BLOCK
    burning = burner.keep(**{"from": settled})
    assert (burning.result, burning.is_whole) == (Status.DONE, True)


@pytest.mark.parametrize("offset", [1, BLOCK - PAGE, 3 * BLOCK + PAGE])
def test_a_position_that_cannot_be_starts_over(burner: Burner, offset: int) -> None:
    """A checkpoint of another flash is not believed, nor is a block that begins nowhere."""
    burner.keep(until="settle")
    burning = burner.keep(**{"from": offset})
    assert (burning.result, burning.head) == (Status.AGAIN, "blank")


def test_a_position_behind_the_end_is_an_error(burner: Burner) -> None:
    """There is nothing to be read there."""
    burner.keep(size=ROOM, until="settle")
    burning = burner.keep(size=ROOM + BLOCK, **{"from": ROOM + BLOCK})
    assert (burning.result, burning.os_errno) == (Status.IO, errno.ENXIO)


def test_a_head_that_is_blank_is_erased_once(burner: Burner) -> None:
    """Tries that bring little cost no wear; what an earlier one erased is erased anew for use."""
    for _ in range(3):
        assert burner.keep(size=PAGE, until="write").erased_most == 1
    burning = burner.keep()
    assert (burning.result, burning.is_whole, burning.erased_most) == (Status.DONE, True, 2)


@pytest.mark.parametrize("until", ["write", "settle"])
def test_a_close_before_the_commit_leaves_no_head(burner: Burner, until: str) -> None:
    """A wrong digest, a cancel, a failure elsewhere: the slot does not boot."""
    burning = burner.burn(until=until)
    assert (burning.result, burning.head) == (Status.DONE, "blank")

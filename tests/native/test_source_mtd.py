# SPDX-License-Identifier: MIT
"""MTD as a source: the good blocks in their order, and no byte that the flash did not hold."""

import errno

import pytest
from burning import BLOCK, NAND_AND_NOR, ROOM, SIZE, Burner
from drivers import Orders
from sanitized import Status


@pytest.mark.parametrize("piece", [4096, 5 * 4096, 64 * 4096])
@NAND_AND_NOR
def test_what_was_written_is_read(burner: Burner, piece: int, kind: Orders) -> None:
    """Bad blocks left out, up to the announced size."""
    worn = {} if kind else {"bad": "0,3", "weak_write": "5"}
    burner.keep(**kind, **worn)
    burning = burner.keep(source=1, options_size=SIZE, piece=piece, **kind)
    assert (burning.result, burning.read, burning.same) == (Status.DONE, SIZE, 1)


def test_without_a_size_it_is_all_good_blocks(burner: Burner) -> None:
    """And it ends with the last one."""
    burning = burner.burn(source=1, bad="0,3")
    assert burning.source_size == burning.read == ROOM - 2 * BLOCK


def test_a_source_may_begin_in_the_middle(burner: Burner) -> None:
    """Where an earlier try had come to."""
    burner.keep()
    burning = burner.keep(source=1, options_size=SIZE, skips=33_000)
    assert (burning.result, burning.read, burning.same) == (Status.DONE, SIZE, 1)
    beyond = burner.keep(source=1, options_size=SIZE, skips=SIZE + 1)
    assert beyond.result == Status.AGAIN


def test_a_source_that_is_too_short_is_an_error(burner: Burner) -> None:
    """One that has fewer good blocks than the image needs."""
    burning = burner.burn(source=1, options_size=ROOM, bad="4")
    assert burning.result == Status.LENGTH


@pytest.mark.parametrize("orders", [{"ubi": 6}, {"held": 1}, {"read_only": 1}])
def test_a_source_may_be_in_use(burner: Burner, orders: Orders) -> None:
    """Reading harms nobody."""
    assert burner.burn(source=1, **orders).result == Status.DONE


def test_what_ecc_cannot_correct_is_no_firmware(burner: Burner) -> None:
    """The kernel gives the bytes all the same: it is an error, with its place."""
    burner.keep(until="write", weak_write="0")
    torn = burner.keep(fault="erase:4:tear")
    assert torn.cut == 1
    burning = burner.keep(source=1, options_size=SIZE)
    assert (burning.result, burning.os_errno) == (Status.SOURCE, errno.EBADMSG)
    assert burning.offset == burning.read == 4 * BLOCK + BLOCK // 2  # the erasure got that far


@pytest.mark.parametrize("call", ["read", "ecc"])
def test_each_failed_read_of_a_source_is_told(burner: Burner, call: str) -> None:
    """No byte is made up."""
    for burning in burner.each(f"{call}:{{}}:{errno.EIO}", source=1, piece=64 * 4096):
        assert (burning.result, burning.os_errno) == (Status.SOURCE, errno.EIO)

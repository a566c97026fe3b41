# SPDX-License-Identifier: MIT
"""MTD as a sink, on flash that is healthy: whatever its kind and geometry, the image arrives whole.

tests/qemu/test_mtd.py asks the same of a real kernel.
"""

import errno
import itertools
from pathlib import Path

import pytest
from burning import BLOCK, NAND_AND_NOR, NOR, PAGE, ROOM, SIZE, Burner
from drivers import Orders
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sanitized import Status

BLANK_PAGE = 3  # of five, in the image
KINDS = {
    "nand": {},
    "nor": NOR,
    "mlc": {"type": 8},
    "ram": {"type": 1, "write_size": 64},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "size", [1, PAGE, PAGE + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, SIZE, ROOM], ids=str
)
def test_any_size_arrives_whole(burner: Burner, size: int, kind: Orders) -> None:
    """One byte, around a page and an erase block, up to the last byte of the flash."""
    burning = burner.burn(size, **kind)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.written == burning.verified == size
    assert burning.settled == size
    assert (burning.erased_most, burning.bad) == (1, [])


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, ROOM),
    piece=st.integers(1, 64).map(lambda blocks: 4096 * blocks),
    geometry=st.sampled_from([(16384, 2048), (8192, 512), (65536, 4096), (2048, 2048)]),
)
@example(size=ROOM, piece=5 * 4096, geometry=(65536, 4096))
def test_any_piece_and_geometry_will_do(
    flash_driver: Path, size: int, piece: int, geometry: tuple[int, int]
) -> None:
    """Buffers larger and smaller than an erase block, and not a multiple of it."""
    erase, page = geometry
    shape = {"erase_size": erase, "write_size": page, "blocks": min(64, ROOM // erase)}
    size = min(size, erase * int(shape["blocks"]))
    burning = Burner(flash_driver, Path()).burn(size, piece=piece, **shape)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.head_size == erase


@pytest.mark.parametrize(
    ("erase", "page"), [(4224, 1056), (12_288, 1), (12_000, 32), (4096, 1)], ids=str
)
def test_odd_geometry_of_nor(burner: Burner, erase: int, page: int) -> None:
    """Erase blocks and pages that are no powers of two, as on DataFlash."""
    burning = burner.burn(40_000, type=6, erase_size=erase, write_size=page)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)


def is_blank(page: int) -> bool:
    """Tell whether a page of the image is nothing but 0xFF."""
    return page % 5 == BLANK_PAGE or page // 8 % 11 == 6


@NAND_AND_NOR
def test_pages_of_nothing_but_ff_are_not_programmed(burner: Burner, kind: Orders) -> None:
    """What the erasure leaves is not written once more, but it counts as verified."""
    burning = burner.burn(ROOM, **kind)
    assert burning.verified == ROOM
    # NOR is looked at in pieces of 4096 bytes, and the first sector of each block by itself
    edges = sorted({*range(0, BLOCK + 1, 4096 if kind else PAGE), *([512] if kind else [])})
    blank = sum(
        end - start
        for block in range(0, ROOM, BLOCK)
        for start, end in itertools.pairwise(edges)
        if all(is_blank(at // PAGE) for at in range(block + start, block + end, 512))
    )
    assert burning.programmed == ROOM - blank


def test_the_last_page_is_filled_up(burner: Burner) -> None:
    """NAND takes whole pages only: the rest of the last one is 0xFF."""
    burning = burner.burn(BLOCK + 1)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.programmed == 6 * PAGE + PAGE  # the head has two blank ones


@pytest.mark.parametrize(
    "orders", [{"old": 1}, {"narrow": 1}, {"old": 1, "narrow": 1, **NOR}], ids=str
)
def test_an_old_kernel_will_do(burner: Burner, orders: Orders) -> None:
    """One without the 64-bit erasure, or without sysfs."""
    burning = burner.burn(**orders)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)


def test_it_is_told_from_others(burner: Burner) -> None:
    """A partition that begins elsewhere, or has another size, is another medium."""
    seen = {
        burner.burn(until="open", **orders).identity
        for orders in ({}, {"narrow": 1}, {"blocks": 11})
    }
    assert len(seen) == 3
    assert burner.burn(until="open").identity in seen


@pytest.mark.parametrize(("read_back", "verified"), [(0, 0), (1, SIZE)])
def test_nor_is_read_back_if_that_is_asked_for(
    burner: Burner, read_back: int, verified: int
) -> None:
    """Without it each byte is programmed once and not looked at."""
    burning = burner.burn(read_back=read_back, **NOR)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.verified == verified


def test_nand_is_always_read_back(burner: Burner) -> None:
    """Its ECC has to be asked."""
    assert burner.burn(read_back=0).verified == SIZE


# --- what the flash holds already --------------------------------------------------------------


@NAND_AND_NOR
def test_identical_blocks_are_left_alone(burner: Burner, kind: Orders) -> None:
    """Neither erased nor programmed, but read and counted; all else is written."""
    burner.keep(size=50_000, **kind)
    burning = burner.keep(skip_identical=1, **kind)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.identical == 50_000 // BLOCK * BLOCK - BLOCK
    assert burning.verified == burning.written == SIZE
    again = burner.keep(skip_identical=1, **kind)
    assert again.identical == SIZE - BLOCK
    assert again.programmed <= BLOCK
    assert again.is_whole


def test_identical_bytes_that_ecc_doubts_are_written(burner: Burner) -> None:
    """What can just about be read is refreshed."""
    burner.keep()
    burning = burner.keep(skip_identical=1, grave="9")
    assert burning.identical == SIZE - BLOCK
    for failing in ("read:3", "ecc:7"):
        burner.renew()
        burner.keep()
        burning = burner.keep(skip_identical=1, fault=f"{failing}:{errno.EIO}")
        assert (burning.result, burning.is_whole, burning.bad) == (Status.DONE, True, [])
        assert burning.identical == SIZE - 2 * BLOCK

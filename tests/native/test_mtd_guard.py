# SPDX-License-Identifier: MIT
"""MTD as a sink: whom a write would harm without their name being said; and what must not boot.

The flash is mtd5, a partition; flash_sysfs.c has its neighbours.
"""

import errno

import pytest
from burning import BLOCK, NAND_AND_NOR, SIZE, Burner
from drivers import Orders
from sanitized import Status

AROUND, BESIDE, HIDDEN = range(3)  # where the kernel shows the chip
MOUNT = "36 22 31:{} / /mnt rw,relatime - jffs2 mtd:other rw"
BEFORE, BEHIND, ELSEWHERE, FAR = 4, 6, 11, 13
OVERLAPPING = {"its first block": 7, "its last block": 8, "a part of it": 9}


@pytest.mark.parametrize("chip", [AROUND, BESIDE, HIDDEN], ids=["around", "beside", "hidden"])
@pytest.mark.parametrize("other", OVERLAPPING.values(), ids=OVERLAPPING)
def test_whoever_has_some_of_its_bytes_is_spared(burner: Burner, other: int, chip: int) -> None:
    """UBI on, or a mount of, another partition: in use, and nothing is touched."""
    for orders, words in (
        ({"ubi": other + 1}, "an overlapping partition is attached to UBI"),
        ({"mounts": MOUNT.format(other)}, "an overlapping partition is mounted"),
        ({"mounts": MOUNT.format(other), "late": 1}, "an overlapping partition is mounted"),
    ):
        burning = burner.burn(chip=chip, **orders)
        assert (burning.result, burning.os_errno) == (Status.OPEN, errno.EBUSY)
        assert words in burning.message
        assert burning.is_untouched


def test_whoever_has_the_whole_chip_is_spared(burner: Burner) -> None:
    """It is a device of its own, around the partition or beside it."""
    for chip in (AROUND, BESIDE):
        burning = burner.burn(chip=chip, ubi=1)
        assert (burning.result, burning.os_errno) == (Status.OPEN, errno.EBUSY)
        assert burning.is_untouched


@pytest.mark.parametrize(
    ("other", "chip"),
    [
        *((other, chip) for other in (BEFORE, BEHIND, FAR) for chip in (AROUND, BESIDE, HIDDEN)),
        (ELSEWHERE, AROUND),
        (14, AROUND),  # in one that overlaps, and behind what that has in common with it
        (10, AROUND),
        (12, BESIDE),
        (99, AROUND),
    ],
)
def test_whoever_has_none_of_them_is_no_hindrance(burner: Burner, other: int, chip: int) -> None:
    """The partitions next to it, the same place of other chips, and what has gone."""
    burning = burner.burn(chip=chip, ubi=other + 1, mounts=MOUNT.format(other))
    assert (burning.result, burning.is_whole) == (Status.DONE, True)


@pytest.mark.parametrize("other", [ELSEWHERE, 10])
def test_a_chip_that_cannot_be_told_is_taken_for_its_own(burner: Burner, other: int) -> None:
    """Two chips in one place, which partitions stand beside: it may be either."""
    assert burner.burn(chip=BESIDE, ubi=other + 1).is_untouched


# --- another device by the same name -------------------------------------------------------------


def number_of(index: int, major: int = 31) -> int:
    return major << 8 | index


def test_the_device_that_was_meant_is_written(burner: Burner) -> None:
    """Its number is that of its block device, as slots count."""
    assert burner.burn(device_number=number_of(5)).result == Status.DONE


@pytest.mark.parametrize("number", [number_of(4), number_of(5, 90), number_of(10, 90)])
def test_another_device_by_its_name_is_refused(burner: Burner, number: int) -> None:
    """Devices may be numbered anew while a program waits."""
    burning = burner.burn(device_number=number)
    assert (burning.result, burning.os_errno) == (Status.OPEN, errno.ENODEV)
    assert burning.message == (
        "another device has this name now: its number is 31:5, expected was "
        f"{number >> 8}:{number & 255}"
    )
    assert burning.is_untouched


# --- the image of a whole UBI device -------------------------------------------------------------


@NAND_AND_NOR
@pytest.mark.parametrize("size", [4, BLOCK, SIZE])
def test_a_ubi_image_is_refused_before_the_first_erasure(
    burner: Burner, size: int, kind: Orders
) -> None:
    """A part of one is attached all the same, so that none can be left half-written."""
    burning = burner.burn(size, ubi_image=1, **kind)
    assert burning.result == Status.OPEN
    assert burning.message == (
        "a UBI image cannot be written to flash as it is: write each volume's own image, or use "
        "ubiformat"
    )
    assert burning.is_untouched


def test_what_only_begins_like_one_is_written(burner: Burner) -> None:
    """Three bytes of it are an image like any other."""
    burning = burner.burn(3, ubi_image=1)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)


@NAND_AND_NOR
@pytest.mark.parametrize("size", [0, SIZE])
def test_nothing_is_touched_before_the_first_bytes_are_seen(
    burner: Burner, size: int, kind: Orders
) -> None:
    """The head is blank with the first write, or with the end of an image that has no bytes."""
    assert burner.burn(size, until="blank", **kind).is_untouched
    assert burner.burn(size, until="settle", **kind).head == "blank"

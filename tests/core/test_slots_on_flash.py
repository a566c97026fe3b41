# SPDX-License-Identifier: MIT
"""Slots on flash: MTD partitions, UBI volumes, and the many names that a root on them has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.cmdline import CommandLine
from updater.core.config import SlotConfig, parse_board
from updater.core.errors import ConfigError, SlotError
from updater.core.model import Slots
from updater.core.slots import Partition, character, resolve, root_number, unmarked

MTDBLOCK = 31 << 8
UBI0, UBI1 = character(254 << 8), character(253 << 8)


def mtd(index: int, name: str) -> Partition:
    return Partition(f"/dev/mtd{index}", MTDBLOCK + index, -1, size_bytes=1 << 20, mtd_name=name)


def volume(ubi: int, index: int, name: str, *, block: int = 0, on: int = 3) -> Partition:
    """Volume *index* of UBI device *ubi*, which is on MTD partition *on*."""
    disk = (UBI0, UBI1)[ubi]
    return Partition(
        f"/dev/ubi{ubi}_{index}", disk + 1 + index, disk, size_bytes=1 << 20, ubi_volume=name,
        block=block, below=MTDBLOCK + on,
    )  # fmt: skip


# two volumes of one UBI device; ubiblock shows them where a disk of the same number may stand
VOLUMES = [
    volume(0, 0, "rootfs-a", block=252 << 8),
    volume(0, 1, "rootfs-b", block=(252 << 8) + 1),
    volume(0, 2, "data"),
]
TWIN = [volume(1, 0, "rootfs-a", on=4), volume(1, 1, "rootfs-b", on=4)]
DISK = [Partition("/dev/vda1", (254 << 8) + 1, 254 << 8, 1 << 20, partlabel="rootfs-a")]
RAW = [mtd(0, "u-boot"), mtd(3, "slot-a"), mtd(4, "slot-b")]
MACHINE = DISK + RAW + VOLUMES
A, B, DATA = (each.number for each in VOLUMES)

BY_VOLUME = (
    SlotConfig(bootname="A", ubi_volume="rootfs-a"),
    SlotConfig(bootname="B", ubi_volume="rootfs-b"),
)
BY_NAME = (
    SlotConfig(bootname="A", mtd_name="slot-a"),
    SlotConfig(bootname="B", mtd_name="slot-b"),
)


BOARD = """
[board]
name = "flash"
[[slot]]
bootname = "A"
ubi_volume = "rootfs-a"
[[slot]]
bootname = "B"
ubi_volume = "rootfs-b"
"""


def test_a_board_may_name_volumes() -> None:
    """In place of a label, a UUID or an MTD name, and not beside one."""
    assert parse_board(BOARD, "board.toml").slot == BY_VOLUME
    with pytest.raises(ConfigError, match="slot B needs exactly one"):
        parse_board(f"{BOARD}mtd_name = 'slot-b'\n", "board.toml")


def said(slots: Slots) -> tuple[str, str, str, str]:
    booted, target = slots.booted, slots.target
    return booted.bootname, booted.device, target.bootname, target.device


@pytest.mark.parametrize(
    ("table", "partitions", "root", "wanted"),
    [
        (BY_VOLUME, MACHINE, A, ("A", "/dev/ubi0_0", "B", "/dev/ubi0_1")),
        (BY_VOLUME, MACHINE, B, ("B", "/dev/ubi0_1", "A", "/dev/ubi0_0")),
        (BY_VOLUME, TWIN + MACHINE, B, ("B", "/dev/ubi0_1", "A", "/dev/ubi0_0")),
        (BY_VOLUME, MACHINE + TWIN, TWIN[0].number, ("A", "/dev/ubi1_0", "B", "/dev/ubi1_1")),
        (BY_NAME, MACHINE, MTDBLOCK + 4, ("B", "/dev/mtd4", "A", "/dev/mtd3")),
        (BY_NAME, MACHINE + TWIN, A, ("A", "/dev/mtd3", "B", "/dev/mtd4")),
        (BY_NAME, MACHINE + TWIN, DATA, ("A", "/dev/mtd3", "B", "/dev/mtd4")),
        (BY_NAME, MACHINE + TWIN, TWIN[0].number, ("B", "/dev/mtd4", "A", "/dev/mtd3")),
    ],
)
def test_a_slot_is_a_volume_or_the_partition_below(
    table: tuple[SlotConfig, ...],
    partitions: list[Partition],
    root: int,
    wanted: tuple[str, ...],
) -> None:
    """Two volumes of one UBI device, or two partitions with a UBI device on each."""
    slots = resolve(table, partitions, root, CommandLine())
    assert said(slots) == wanted
    assert slots.target.size_bytes == 1 << 20


@pytest.mark.parametrize(
    ("table", "root", "words"),
    [
        (BY_VOLUME, DATA, "runs from none of A, B"),
        (BY_VOLUME, MTDBLOCK + 3, "ubi_volume rootfs-a is on 0 partitions"),
        (BY_VOLUME, DISK[0].number, "ubi_volume rootfs-a is on 0 partitions"),
        (BY_VOLUME, UBI0, "root is on no partition"),
        (BY_NAME, MTDBLOCK, "runs from none of A, B"),
        # whoever writes that partition writes all volumes on it, the booted one too
        ((BY_VOLUME[0], BY_NAME[0]), A, "A and A are the same partition"),
        ((BY_NAME[0], BY_VOLUME[1]), A, "A and B are the same partition"),
        ((BY_NAME[0], BY_VOLUME[1]), B, "A and B are the same partition"),
        ((BY_NAME[0], BY_VOLUME[1]), MTDBLOCK + 3, "ubi_volume rootfs-b is on 0 partitions"),
        ((BY_VOLUME[0], BY_VOLUME[0]), A, "A and A are the same partition"),
    ],
)
def test_a_contradiction_is_an_error(table: tuple[SlotConfig, ...], root: int, words: str) -> None:
    """A slot that lies on the other, or is nowhere near the root, is never written."""
    with pytest.raises(SlotError, match=words):
        resolve(table, MACHINE, root, CommandLine())


def test_a_block_device_is_no_character_device() -> None:
    """A disk's partition and a UBI volume may have the same number, and are two things."""
    disk, ours = DISK[0], VOLUMES[0]
    assert (disk.number, character(disk.number)) == ((254 << 8) + 1, ours.number)
    assert root_number(CommandLine(), disk.number, MACHINE) == disk.number
    with pytest.raises(SlotError, match="on 0 partitions of the booted disk"):
        resolve(BY_VOLUME, MACHINE, disk.number, CommandLine())


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_marked_numbers_stay_apart(one: int, other: int) -> None:
    """From each other as they were, from all unmarked ones, and marking twice changes nothing."""
    assert (character(one) == character(other)) == (one == other)
    assert character(one) != other
    assert character(character(one)) == character(one)
    assert unmarked(character(one)) == unmarked(one) == one


@pytest.mark.parametrize(
    ("root", "wanted"),
    [
        ("ubi0:rootfs-b", B),
        ("ubi:rootfs-b", B),
        ("ubi0!rootfs-b", B),
        ("ubi!rootfs-b", B),
        ("ubi0_1", B),
        ("ubi1", B),
        ("/dev/ubi0_1", B),
        ("/dev/ubiblock0_1", B),
        ("ubi1:rootfs-b", TWIN[1].number),
        ("ubi1_1", TWIN[1].number),
        ("/dev/ubiblock1_1", TWIN[1].number),
        ("mtd:slot-b", MTDBLOCK + 4),
        ("mtd4", MTDBLOCK + 4),
        ("/dev/mtd4", MTDBLOCK + 4),
        ("/dev/mtdblock4", MTDBLOCK + 4),
    ],
)
def test_a_root_on_flash_has_many_names(root: str, wanted: int) -> None:
    """Every form of ``root=`` that the kernel takes, where the root has no device of its own."""
    assert root_number(CommandLine(root=root), None, MACHINE + TWIN) == wanted


@pytest.mark.parametrize(
    "root",
    [
        "ubi2:rootfs-b", "ubi0:rootfs", "ubi0:", "ubi:", "ubi", "ubi0_9", "ubi0_1x", "xubi0_1",
        "ubi0_1\n", "mtd:", "mtd:slot", "mtd9", "mtd", "/dev/mtdblock", "/dev/ubiblock0",
        "ubi0:rootfs-b ", "/dev/ubi0", "rootfs-b", "slot-b",
    ],
)  # fmt: skip
def test_a_name_that_fits_nothing_is_an_error(root: str) -> None:
    """A name that is nearly right is wrong."""
    with pytest.raises(SlotError, match="fits 0 partitions"):
        root_number(CommandLine(root=root), None, MACHINE)


def test_a_name_that_fits_two_is_an_error() -> None:
    """The kernel takes the first MTD partition of a name; we cannot know which that was."""
    with pytest.raises(SlotError, match="fits 2 partitions"):
        root_number(CommandLine(root="mtd:slot-b"), None, [*RAW, mtd(5, "slot-b")])


def test_a_volume_that_a_block_device_shows_is_that_volume() -> None:
    """A read-only file system on ubiblock has that device's number; its slot is the volume."""
    root = root_number(CommandLine(root="/dev/ubiblock0_0"), (252 << 8) + 1, MACHINE)
    assert root == B  # and not what the command line says
    assert said(resolve(BY_VOLUME, MACHINE, root, CommandLine()))[0] == "B"


_volumes = st.lists(
    st.builds(
        volume,
        st.integers(0, 1),
        st.integers(0, 3),
        st.sampled_from(["rootfs-a", "rootfs-b", "data"]),
        block=st.sampled_from([0, 1, 2]),
        on=st.integers(0, 3),
    ),
    max_size=6,
    unique_by=lambda each: each.number,  # as the kernel has it
)
_table = st.tuples(
    st.sampled_from([BY_VOLUME[0], BY_NAME[0]]), st.sampled_from([BY_VOLUME[1], BY_NAME[1]])
)


@given(_volumes, _table, st.sampled_from([1, 2, MTDBLOCK + 3, None]))
def test_the_target_never_holds_the_root(
    volumes: list[Partition], table: tuple[SlotConfig, SlotConfig], stat_number: int | None
) -> None:
    """Whatever a machine shows: an error, or a target that is neither the root nor below it."""
    partitions = [*RAW, *volumes]
    try:
        root = root_number(CommandLine(root="ubi0_1"), stat_number, partitions)
        slots = resolve(table, partitions, root, CommandLine())
    except SlotError:
        return
    of_root = next(p for p in partitions if p.number == root)
    target = next(p for p in partitions if p.number == slots.target.number)
    assert target.number not in {root, of_root.below}
    assert target.below != slots.booted.number
    assert slots.booted.number in {root, of_root.below}

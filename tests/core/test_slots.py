# SPDX-License-Identifier: MIT
"""Which partition is which slot: told by device numbers, and never told wrongly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.cmdline import CommandLine
from updater.core.config import SlotConfig
from updater.core.errors import SlotError
from updater.core.model import Slot, Slots
from updater.core.slots import Partition, resolve, root_number

MMC, STICK, FLASH = 100, 200, -1


def gpt(number: int, label: str, disk: int = MMC) -> Partition:
    return Partition(
        f"/dev/p{number}", number, disk, size_bytes=1 << 20, partlabel=label,
        partuuid=f"5e55-{number}",
    )  # fmt: skip


def mtd(number: int, name: str) -> Partition:
    return Partition(f"/dev/mtd{number}", number, FLASH, size_bytes=1 << 20, mtd_name=name)


MACHINE = [gpt(101, "boot"), gpt(102, "rootfs-a"), gpt(103, "rootfs-b"), gpt(104, "data")]
TWIN = [gpt(201, "rootfs-a", STICK), gpt(202, "rootfs-b", STICK)]
RAW = [mtd(31, "rootfs-a"), mtd(32, "rootfs-b")]
TABLE = (
    SlotConfig(bootname="A", partlabel="rootfs-a"),
    SlotConfig(bootname="B", partlabel="rootfs-b"),
)
BY_UUID = (
    SlotConfig(bootname="A", partuuid="5E55-102"),
    SlotConfig(bootname="B", partuuid="5e55-103"),
)
BY_NAME = (
    SlotConfig(bootname="A", mtd_name="rootfs-a"),
    SlotConfig(bootname="B", mtd_name="rootfs-b"),
)
A = Slot("A", "/dev/p102", 102, 1 << 20)
B = Slot("B", "/dev/p103", 103, 1 << 20)


@pytest.mark.parametrize(
    ("table", "partitions", "root", "wanted"),
    [
        (TABLE, MACHINE, 102, Slots(A, B)),
        (TABLE, MACHINE, 103, Slots(B, A)),
        (BY_UUID, MACHINE, 103, Slots(B, A)),
        (TABLE, TWIN + MACHINE, 102, Slots(A, B)),
        (TABLE, MACHINE + TWIN, 102, Slots(A, B)),
        (
            TABLE,
            MACHINE + TWIN,
            202,
            Slots(Slot("B", "/dev/p202", 202, 1 << 20), Slot("A", "/dev/p201", 201, 1 << 20)),
        ),
        (
            BY_NAME,
            MACHINE + RAW,
            31,
            Slots(Slot("A", "/dev/mtd31", 31, 1 << 20), Slot("B", "/dev/mtd32", 32, 1 << 20)),
        ),
    ],
)
def test_slots_are_those_of_the_booted_disk(
    table: tuple[SlotConfig, ...], partitions: list[Partition], root: int, wanted: Slots
) -> None:
    """A second disk with the same labels changes nothing, wherever it stands in the list."""
    assert resolve(table, partitions, root, CommandLine()) == wanted
    agreeing = CommandLine(slot=wanted.booted.bootname)
    assert resolve(table, partitions, root, agreeing) == wanted


@pytest.mark.parametrize(
    ("table", "partitions", "root", "line", "words"),
    [
        (TABLE, MACHINE, 999, "", "root is on no partition"),
        (TABLE, MACHINE, 104, "", "runs from none of A, B"),
        (TABLE, MACHINE[:2], 102, "", "slot B: partlabel rootfs-b is on 0 partitions"),
        (TABLE, [*MACHINE, gpt(105, "rootfs-b")], 102, "", "rootfs-b is on 2 partitions"),
        (TABLE, [*MACHINE[:2], *TWIN], 102, "", "rootfs-b is on 0 partitions of the booted disk"),
        (TABLE, MACHINE, 102, "B", "updater.slot=B, the root is on slot A"),
        (TABLE, MACHINE, 102, "C", "updater.slot=C, the root is on slot A"),
        ((TABLE[0], BY_UUID[0]), MACHINE, 102, "", "A and A are the same partition"),
        (BY_NAME, MACHINE + RAW, 102, "", "mtd_name rootfs-a is on 0 partitions"),
    ],
)
def test_a_contradiction_is_an_error(
    table: tuple[SlotConfig, ...], partitions: list[Partition], root: int, line: str, words: str
) -> None:
    """Nothing is guessed, and the sentence says what contradicts what."""
    with pytest.raises(SlotError, match=words):
        resolve(table, partitions, root, CommandLine(slot=line))


_partitions = st.lists(
    st.builds(
        lambda number, disk, label: gpt(number, label, disk),
        st.integers(1, 8),
        st.sampled_from([MMC, STICK]),
        st.sampled_from(["rootfs-a", "rootfs-b", "data", ""]),
    ),
    max_size=8,
)


@given(_partitions, st.integers(1, 8), st.sampled_from(["", "A", "B"]))
def test_the_target_is_never_the_booted_root(
    partitions: list[Partition], root: int, line: str
) -> None:
    """Whatever a machine shows, even one number twice: an error, or two slots of one disk."""
    try:
        slots = resolve(TABLE, partitions, root, CommandLine(slot=line))
    except SlotError:
        return
    assert slots.booted.number == root != slots.target.number
    assert {slots.booted.bootname, slots.target.bootname} == {"A", "B"}
    assert line in {"", slots.booted.bootname}


@pytest.mark.parametrize(
    ("root", "stat_number", "wanted"),
    [
        ("/dev/p103", 102, 102),  # the kernel's word is not asked where stat(2) knows
        ("/dev/p103", None, 103),
        ("PARTUUID=5E55-102", None, 102),
        ("PARTLABEL=rootfs-b", None, 103),
    ],
)
def test_the_root_is_where_the_kernel_has_mounted_it_from(
    root: str, stat_number: int | None, wanted: int
) -> None:
    """By device number, else by what the command line names."""
    assert root_number(CommandLine(root=root), stat_number, MACHINE) == wanted


@pytest.mark.parametrize(
    ("root", "partitions", "count"),
    [
        ("", MACHINE, 0),
        ("/dev/nfs", MACHINE, 0),
        ("UUID=102", MACHINE, 0),
        ("PARTUUID=", [*MACHINE, RAW[0]], 0),
        ("PARTLABEL=", [*MACHINE, RAW[0]], 0),
        ("PARTLABEL=rootfs-a", MACHINE + TWIN, 2),
    ],
)
def test_a_root_that_fits_none_or_several_is_an_error(
    root: str, partitions: list[Partition], count: int
) -> None:
    """Flash, which has no label, is no partition with an empty one."""
    with pytest.raises(SlotError, match=f"fits {count} partitions"):
        root_number(CommandLine(root=root), None, partitions)

# SPDX-License-Identifier: MIT
"""Which partition is which slot, and which one we run from: decided over values.

A slot is looked up on the booted root's own disk only: a second disk with the same labels changes
nothing. The booted slot is told by its device number. If the command line, the root device and the
slot table do not agree, nothing may be written, and the error says what contradicts what.

Flash has more than one face. An MTD partition counts by the number of its block device, which is
what a root on it has; a UBI volume by that of its character device, for it need not have any other.
Block and character devices are numbered apart, so the latter's number is marked as one. A root on a
UBI volume may be on a slot in two ways: the volume is the slot, or the MTD partition below is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from updater.core.cmdline import CommandLine
from updater.core.config import SlotConfig
from updater.core.errors import SlotError
from updater.core.model import Slot, Slots

_CHARACTER = 1 << 64  # no device number is as large

# Forms of root= that name a node of flash, and the node: drivers/mtd/mtdsuper.c, fs/ubifs/super.c
_NODES = (
    (r"ubi(\d+)", r"/dev/ubi0_\1"),
    (r"ubi(\d+_\d+)", r"/dev/ubi\1"),
    (r"/dev/ubiblock(\d+_\d+)", r"/dev/ubi\1"),
    (r"mtd(\d+)", r"/dev/mtd\1"),
    (r"/dev/mtdblock(\d+)", r"/dev/mtd\1"),
)
_VOLUME = re.compile(r"ubi(\d*)[:!](.+)")
_MTD = re.compile(r"mtd:(.+)")


def character(number: int) -> int:
    """Return what tells the character device *number* from the block device of the same number."""
    return number | _CHARACTER


def unmarked(number: int) -> int:
    """Return the device number itself, of a character device too."""
    return number & ~_CHARACTER


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition or volume as the kernel shows it.

    Attributes:
        device: Path of its node.
        number: Its device number; a UBI volume's is marked by ``character``.
        disk: Device number of the disk or UBI device that it is on.
        size_bytes: Its size.
        partlabel: GPT name, or "".
        partuuid: GPT or MBR identity in lower case, or "".
        mtd_name: Name of the MTD partition, or "".
        ubi_volume: Name of the UBI volume, or "".
        block: Number of the block device that shows a UBI volume, or 0.
        below: Number of the MTD partition that a UBI volume is on, or 0.
    """

    device: str
    number: int
    disk: int
    size_bytes: int
    partlabel: str = ""
    partuuid: str = ""
    mtd_name: str = ""
    ubi_volume: str = ""
    block: int = 0
    below: int = 0


def root_number(
    command_line: CommandLine, stat_number: int | None, partitions: Sequence[Partition]
) -> int:
    """Return the number of the booted root, as ``Partition.number`` has it.

    Args:
        command_line: For a root that has no device of its own (UBIFS, or an overlay).
        stat_number: What stat(2) says of ``/``, or None if that is no block device.
        partitions: Every partition of the machine.

    Raises:
        SlotError: It cannot be told.
    """
    if stat_number is not None:
        return next((p.number for p in partitions if p.block == stat_number), stat_number)
    found = _named(command_line.root, partitions)
    if len(found) != 1:
        raise SlotError(
            f"the root device cannot be told: root={command_line.root!r} fits "
            f"{len(found)} partitions"
        )
    return found[0].number


def _named(root: str, partitions: Sequence[Partition]) -> list[Partition]:
    """Return the partitions that the value of ``root=`` fits."""
    kind, _, value = root.partition("=")
    if kind == "PARTUUID" and value:
        return [p for p in partitions if p.partuuid == value.lower()]
    if kind == "PARTLABEL" and value:
        return [p for p in partitions if p.partlabel == value]
    if match := _MTD.fullmatch(root):
        return [p for p in partitions if p.mtd_name == match[1]]
    if match := _VOLUME.fullmatch(root):
        place = f"/dev/ubi{match[1] or 0}_"
        return [p for p in partitions if p.ubi_volume == match[2] and p.device.startswith(place)]
    node = root
    for pattern, device in _NODES:
        node = re.sub(rf"\A{pattern}\Z", device, node)
    return [p for p in partitions if p.device == node]


def resolve(
    table: Sequence[SlotConfig],
    partitions: Sequence[Partition],
    root: int,
    command_line: CommandLine,
) -> Slots:
    """Return booted and target slot.

    Raises:
        SlotError: They cannot be told for sure.
    """
    places = _places(partitions, root)
    if not places:
        raise SlotError("this system's root is on no partition: it runs from none of the slots")
    disks = {place.disk for place in places}
    numbers = {place.number for place in places}
    candidates = [p for p in partitions if p.disk in disks]
    found = [(row, _partition(row, candidates)) for row in table]
    booted = next((pair for pair in found if pair[1].number in numbers), None)
    if booted is None:
        names = ", ".join(row.bootname for row in table)
        raise SlotError(f"this system runs from none of {names}")
    if command_line.slot and command_line.slot != booted[0].bootname:
        raise SlotError(
            f"the command line says updater.slot={command_line.slot}, the root is on slot "
            f"{booted[0].bootname}"
        )
    target = next(pair for pair in found if pair is not booted)
    if target[1].number in numbers or target[1].below == booted[1].number:
        raise SlotError(
            f"slots {booted[0].bootname} and {target[0].bootname} are the same partition"
        )
    return Slots(_slot(*booted), _slot(*target), command_line.primary)


def _places(partitions: Sequence[Partition], root: int) -> Sequence[Partition]:
    """Return the partition that the root is on and the one below that, as far as there are any."""
    of_root = next((p for p in partitions if p.number == root), None)
    if of_root is None:
        return []
    below = next((p for p in partitions if p.number == of_root.below), None)
    return [of_root] if below is None else [of_root, below]


def _partition(row: SlotConfig, partitions: Sequence[Partition]) -> Partition:
    wanted = {
        "partlabel": row.partlabel,
        "partuuid": row.partuuid.lower(),
        "mtd_name": row.mtd_name,
        "ubi_volume": row.ubi_volume,
    }
    kind, value = next((k, v) for k, v in wanted.items() if v)
    found = [p for p in partitions if getattr(p, kind) == value]
    if len(found) != 1:
        raise SlotError(
            f"slot {row.bootname}: {kind} {value} is on {len(found)} partitions of the booted disk"
        )
    return found[0]


def _slot(row: SlotConfig, partition: Partition) -> Slot:
    return Slot(row.bootname, partition.device, partition.number, partition.size_bytes)

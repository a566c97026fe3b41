# SPDX-License-Identifier: MIT
"""Which partition is which slot, and which one we run from: decided over values.

A slot is looked up on the booted root's own disk only: a second disk with the same labels changes
nothing. The booted slot is told by its device number. If the command line, the root device and the
slot table do not agree, nothing may be written, and the error says what contradicts what.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from updater.core.cmdline import CommandLine
from updater.core.config import SlotConfig
from updater.core.errors import SlotError
from updater.core.model import Slot, Slots


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as the kernel shows it.

    Attributes:
        device: Path of its node.
        number: Its device number.
        disk: Device number of the disk that it is on.
        size_bytes: Its size.
        partlabel: GPT name, or "".
        partuuid: GPT or MBR identity in lower case, or "".
        mtd_name: Name of the MTD partition, or "".
    """

    device: str
    number: int
    disk: int
    size_bytes: int
    partlabel: str = ""
    partuuid: str = ""
    mtd_name: str = ""


def root_number(
    command_line: CommandLine, stat_number: int | None, partitions: Sequence[Partition]
) -> int:
    """Return the device number of the booted root.

    Args:
        command_line: For a root that has no device of its own (an overlay, say).
        stat_number: What stat(2) says of ``/``, or None if that is no block device.
        partitions: Every partition of the machine.

    Raises:
        SlotError: It cannot be told.
    """
    if stat_number is not None:
        return stat_number
    kind, _, value = command_line.root.partition("=")
    match kind:
        case "PARTUUID" if value:
            found = [p for p in partitions if p.partuuid == value.lower()]
        case "PARTLABEL" if value:
            found = [p for p in partitions if p.partlabel == value]
        case _:
            found = [p for p in partitions if p.device == command_line.root]
    if len(found) != 1:
        raise SlotError(
            f"the root device cannot be told: root={command_line.root!r} fits "
            f"{len(found)} partitions"
        )
    return found[0].number


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
    disk = next((p.disk for p in partitions if p.number == root), None)
    if disk is None:
        raise SlotError("this system's root is on no partition: it runs from none of the slots")
    slots = [_slot(row, [p for p in partitions if p.disk == disk]) for row in table]
    booted = next((slot for slot in slots if slot.number == root), None)
    if booted is None:
        raise SlotError(f"this system runs from none of {', '.join(s.bootname for s in slots)}")
    if command_line.slot and command_line.slot != booted.bootname:
        raise SlotError(
            f"the command line says updater.slot={command_line.slot}, the root is on slot "
            f"{booted.bootname}"
        )
    target = next(slot for slot in slots if slot is not booted)
    if target.number == booted.number:
        raise SlotError(f"slots {booted.bootname} and {target.bootname} are the same partition")
    return Slots(booted, target, command_line.primary)


def _slot(row: SlotConfig, partitions: Sequence[Partition]) -> Slot:
    wanted = {
        "partlabel": row.partlabel,
        "partuuid": row.partuuid.lower(),
        "mtd_name": row.mtd_name,
    }
    kind, value = next((k, v) for k, v in wanted.items() if v)
    found = [p for p in partitions if getattr(p, kind) == value]
    if len(found) != 1:
        raise SlotError(
            f"slot {row.bootname}: {kind} {value} is on {len(found)} partitions of the booted disk"
        )
    return Slot(row.bootname, found[0].device, found[0].number, found[0].size_bytes)

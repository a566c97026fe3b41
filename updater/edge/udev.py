# SPDX-License-Identifier: MIT
"""Slots behind ``core.ports.SlotFinder``: what pyudev shows of this machine, read anew each time.

libudev reads sysfs itself, so that a system without udevd shows its partitions too, with the labels
that the kernel knows. Gathers facts; ``core.slots`` decides.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyudev

from updater.core import cmdline, slots
from updater.core.cmdline import CommandLine
from updater.core.config import SlotConfig
from updater.core.errors import SlotError
from updater.core.model import Slots
from updater.core.slots import Partition

_SECTOR_BYTES = 512  # of sysfs, whatever the device's own sectors are
_MTDBLOCK_MAJOR = 31
_MTD_DISK = -1  # all flash counts as one disk


class UdevSlotFinder:
    """Finds the slots of this machine."""

    def __init__(
        self, table: Sequence[SlotConfig], root: str = "/", command_line: str = "/proc/cmdline"
    ) -> None:
        self._table = table
        self._root = root
        self._command_line = command_line
        self._context: pyudev.Context | None = None

    def find(self) -> Slots:
        """Return booted and target slot."""
        try:
            partitions = list(self._partitions())
            number = self._root_number()
            line = cmdline.parse(Path(self._command_line).read_text("ascii", "replace"))
        except (OSError, ImportError) as error:  # pyudev says ImportError where libudev is missing
            raise SlotError(f"cannot look at this machine's partitions: {error}") from error
        return _resolve(self._table, partitions, number, line)

    def _root_number(self) -> int | None:
        """Return the number of the block device that the root is on, or None if it is on none."""
        number = Path(self._root).stat().st_dev
        return number if os.major(number) else None

    def _partitions(self) -> Iterator[Partition]:
        """Yield all that could be a slot, but what is vanishing."""
        if self._context is None:
            self._context = pyudev.Context()
        for device in self._context.list_devices(subsystem="block", DEVTYPE="partition"):
            yield from _block(device)
        for device in self._context.list_devices(subsystem="mtd"):
            yield from _flash(device)
        shown = self._context.list_devices(subsystem="block", sys_name="ubiblock*")
        blocks = {device.sys_name: device.device_number for device in shown}
        for device in self._context.list_devices(subsystem="ubi"):
            yield from _volume(device, blocks)


def _resolve(
    table: Sequence[SlotConfig],
    partitions: Sequence[Partition],
    number: int | None,
    line: CommandLine,
) -> Slots:
    return slots.resolve(table, partitions, slots.root_number(line, number, partitions), line)


def _block(device: pyudev.Device) -> Iterator[Partition]:
    """Yield one partition of a disk."""
    parent = device.find_parent("block", "disk")
    size = device.attributes.get("size")
    if parent is None or size is None or device.device_node is None:
        return
    properties = device.properties
    yield Partition(
        device=device.device_node,
        number=device.device_number,
        disk=parent.device_number,
        size_bytes=int(size) * _SECTOR_BYTES,
        partlabel=properties.get("PARTNAME") or properties.get("ID_PART_ENTRY_NAME") or "",
        partuuid=(properties.get("PARTUUID") or properties.get("ID_PART_ENTRY_UUID") or "").lower(),
    )


def _flash(device: pyudev.Device) -> Iterator[Partition]:
    """Yield one MTD partition, numbered as the block device that a root could be mounted from."""
    name, size = device.attributes.get("name"), device.attributes.get("size")
    if name is None or size is None or not device.device_node or device.sys_name.endswith("ro"):
        return
    if not stat.S_ISCHR(Path(device.device_node).stat().st_mode):
        return
    yield Partition(
        device=device.device_node,
        number=_mtdblock(device.sys_number),
        disk=_MTD_DISK,
        size_bytes=int(size),
        mtd_name=name.decode("utf-8", "replace"),
    )


def _volume(device: pyudev.Device, blocks: Mapping[str, int]) -> Iterator[Partition]:
    """Yield one UBI volume; not the UBI device, which stands in the same subsystem."""
    parent = device.find_parent("ubi")
    name = device.attributes.get("name")
    count, size = device.attributes.get("reserved_ebs"), device.attributes.get("usable_eb_size")
    if parent is None or name is None or not count or not size or not device.device_node:
        return
    below = parent.attributes.get("mtd_num")
    yield Partition(
        device=device.device_node,
        number=slots.character(device.device_number),
        disk=slots.character(parent.device_number),
        size_bytes=int(count) * int(size),  # data_bytes is what a static volume holds now
        ubi_volume=name.decode("utf-8", "replace"),
        block=blocks.get(f"ubiblock{device.sys_name.removeprefix('ubi')}", 0),
        below=_mtdblock(below) if below else 0,
    )


def _mtdblock(number: str | bytes) -> int:
    return os.makedev(_MTDBLOCK_MAJOR, int(number))

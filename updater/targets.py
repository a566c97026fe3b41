# SPDX-License-Identifier: MIT
"""Which medium ``updater write`` must leave alone: what a boot, a session or a mount counts on.

That is a slot, unless it is free, and the boot environment; each by itself, and whatever it lies
on. Both are told by device numbers, never by names. A machine without a configuration has neither;
one whose bootloader says that it chose a slot has them, whatever became of its configuration.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from updater.core import cmdline, fwenvconfig
from updater.core.errors import (
    BusyError,
    ConfigError,
    DeviceError,
    EnvironmentStoreError,
    SlotError,
)
from updater.core.fwenvconfig import Place
from updater.core.model import Slot, Slots
from updater.device import Device
from updater.edge.medium import Kind, Medium, number_of, shares, user_of


def booted_slot() -> str:
    """Return the slot that the bootloader says it has booted, or ""."""
    return cmdline.parse(Path("/proc/cmdline").read_text("ascii", "replace")).slot


def check_target(device: Device | None, medium: Medium, sysfs: str = "/sys") -> str:
    """Return the bootname of the slot that *medium* is, or "" if it is none.

    Args:
        device: The device that this machine is configured as, or None.
        medium: What is about to be written.
        sysfs: Where the kernel tells of devices.

    Raises:
        DeviceError: It is the booted slot, or the one that boots next or after a failed trial; or
            it holds more than one free slot, or the boot environment.
        BusyError: A session is open for it, or it is mounted or otherwise in use.
    """
    if medium.number == Path("/").stat().st_dev:
        raise DeviceError(f"{medium.path} is the booted root: it is never written")
    slots = None if device is None or medium.kind is Kind.FILE else _slots(device, medium)
    bootname = "" if device is None or slots is None else _checked_slot(device, medium, slots)
    use = user_of(medium, sysfs)
    if use:
        raise BusyError(f"{medium.path} is {use}")
    if slots is not None:
        _check_apart(medium, [slots.booted, *([] if bootname else [slots.target])], sysfs)
    if device is not None:
        config = device.board.environment.config
        _check_environment(medium, config, sysfs, has_slots=slots is not None)
    return bootname


# --- slots ---------------------------------------------------------------------------------------


def _slots(device: Device, medium: Medium) -> Slots | None:
    """Return the slots of this machine, or None if it has none: a workshop's computer, say."""
    try:
        return device.finder.find()
    except SlotError as error:
        if booted_slot():
            raise DeviceError(f"{medium.path} may be a slot that is needed: {error}") from error
        return None


def _checked_slot(device: Device, medium: Medium, slots: Slots) -> str:
    if _is(medium, slots.booted):
        raise DeviceError(
            f"{medium.path} is the booted slot {slots.booted.bootname}: it is never written"
        )
    if not _is(medium, slots.target):
        return ""
    _check_unneeded(device, medium.path, slots.target.bootname)
    return slots.target.bootname


def _is(medium: Medium, slot: Slot) -> bool:
    """Tell whether *medium* is *slot*, or lies on it."""
    return slot.number in {medium.number, medium.below}


def _check_unneeded(device: Device, path: str, bootname: str) -> None:
    """Refuse to write a slot that a boot or a session counts on."""
    try:
        state = device.boot_state()
    except EnvironmentStoreError as error:
        raise DeviceError(f"{path} may be the slot that boots next: {error}") from error
    if state.primary == bootname:
        raise DeviceError(f"{path} is slot {bootname}, which boots next; roll back first")
    if state.is_trial:
        raise DeviceError(f"{path} is slot {bootname}, which the trial under way falls back to")
    session = device.journal.current()
    if session is not None and not session.state.is_final:
        raise BusyError(f"session {session.id} for slot {bootname} is {session.state.value}")


def _check_apart(medium: Medium, slots: Sequence[Slot], sysfs: str) -> None:
    """Refuse what a slot lies on. Of disks only a slot that is not mounted comes to here."""
    for slot in slots:
        if shares(medium.number, slot.number, sysfs=sysfs):
            raise DeviceError(
                f"{medium.path} holds slot {slot.bootname}, which is {slot.device}: only a free "
                "slot is written, by its own name"
            )


# --- the boot environment ------------------------------------------------------------------------


def _check_environment(medium: Medium, config: str, sysfs: str, *, has_slots: bool) -> None:
    """Refuse what holds the boot environment that *config* names, or may hold it.

    A device that is not there may be *medium* by another name: a link that udev has not made, or a
    disk that is numbered otherwise since. A file that is not there may be in a file system on
    *medium* that is not mounted. A machine that runs from a slot does have an environment, so none
    of its devices is written before it is known where that is. Any other machine has at most
    another one's configuration, and what is missing there is not there at all.
    """
    try:
        place = _place_on(medium, config, sysfs)
    except (ConfigError, DeviceError) as error:
        if not has_slots:
            return
        raise DeviceError(
            f"{medium.path} may hold the boot environment: {error}; mend that first"
        ) from error
    if place is not None:
        raise DeviceError(
            f"{medium.path} holds the boot environment ({place.device}+{place.offset_bytes:#x} in "
            f"{config}): write it from U-Boot or from another system"
        )


def _place_on(medium: Medium, config: str, sysfs: str) -> Place | None:
    """Return the place of a copy of the environment that *medium* holds some of, or None.

    Raises:
        ConfigError: *config* cannot be read, or makes no sense.
        DeviceError: There is none, but one place that is not there.
    """
    try:
        text = Path(config).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8"
        raise ConfigError(f"cannot read {config}: {reason}") from error
    missing: DeviceError | None = None
    for place in fwenvconfig.parse(text, config):
        try:
            if _is_on(medium, place, sysfs):
                return place
        except DeviceError as error:
            missing = error
    if missing is not None:
        raise missing
    return None


def _is_on(medium: Medium, place: Place, sysfs: str) -> bool:
    if medium.kind is Kind.FILE:
        real = os.path.realpath(medium.path)
        return any(_is_same_file(path, place.device) for path in (real, f"{real}.part"))
    number = number_of(place.device, sysfs)
    if not number:
        return False  # a file: what it is on is mounted, and therefore in use
    size_bytes = max(place.size_bytes, place.sectors * place.sector_bytes)
    return shares(medium.number, number, (place.offset_bytes, size_bytes), sysfs)


def _is_same_file(path: str, other: str) -> bool:
    """Tell whether both name the same file, or will when there is one."""
    try:
        return Path(path).samefile(other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)

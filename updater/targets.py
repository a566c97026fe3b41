# SPDX-License-Identifier: MIT
"""Which medium ``updater write`` must leave alone: what a boot, a session or a mount counts on.

Slots are told by device numbers, never by names. A machine without a configuration has no slots;
one whose bootloader says that it chose a slot has them, whatever became of its configuration.
"""

from pathlib import Path

from updater.core import cmdline
from updater.core.errors import (
    BusyError,
    DeviceError,
    EnvironmentStoreError,
    SlotError,
)
from updater.core.model import Slot
from updater.device import Device
from updater.edge.medium import Kind, Medium, user_of


def booted_slot() -> str:
    """Return the slot that the bootloader says it has booted, or ""."""
    return cmdline.parse(Path("/proc/cmdline").read_text("ascii", "replace")).slot


def check_target(device: Device | None, medium: Medium) -> str:
    """Return the bootname of the slot that *medium* is, or "" if it is none.

    Args:
        device: The device that this machine is configured as, or None.
        medium: What is about to be written.

    Raises:
        DeviceError: It is the booted slot, or the one that boots next or after a failed trial.
        BusyError: A session is open for it, or it is mounted or otherwise in use.
    """
    if medium.number == Path("/").stat().st_dev:
        raise DeviceError(f"{medium.path} is the booted root: it is never written")
    bootname = "" if device is None else _checked_slot(device, medium)
    use = user_of(medium)
    if use:
        raise BusyError(f"{medium.path} is {use}")
    return bootname


def _checked_slot(device: Device, medium: Medium) -> str:
    if medium.kind is Kind.FILE:
        return ""
    try:
        slots = device.finder.find()
    except SlotError as error:
        if booted_slot():
            raise DeviceError(f"{medium.path} may be a slot that is needed: {error}") from error
        return ""  # a machine without slots: a workshop's computer, say
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

# SPDX-License-Identifier: MIT
"""The boot flow in the ``bootcount`` dialect: what each side writes, and what then boots.

Theory of operation. The words are U-Boot's own: ``boot_slot`` (the primary), ``upgrade_available``
(1 only in a trial), ``bootcount``, ``bootlimit``, ``altbootcmd``; and ours: ``updater_session``.

    Linux       activate      boot_slot=T upgrade_available=1 bootcount=0 updater_session=id
                mark_good     boot_slot=T upgrade_available=0 bootcount=0, session gone
                roll_back     boot_slot=O upgrade_available=0; count and session stay to tell why
                clear         clears what is left over, once it was journalled
                settle        the same before an install, and the booted slot becomes primary
    bootloader  in a trial    bootcount + 1 at each boot
                past limit    boot_slot=O upgrade_available=0; count and session stay
                otherwise     writes nothing

Each line is ONE store. Before it took the previous line's boot happens, after it this line's: there
is no state between. ``boot`` is the bootloader's half as a pure function; the script that
``core.bootscript`` renders does the same in U-Boot, and the tests hold one against the other.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

Changes = Mapping[str, str | None]

BOOT_SLOT = "boot_slot"
UPGRADE_AVAILABLE = "upgrade_available"
BOOTCOUNT = "bootcount"
SESSION = "updater_session"


@dataclass(frozen=True, slots=True)
class BootState:
    """What the environment says about booting.

    Attributes:
        primary: The slot that is tried first, or "" if the variable is missing.
        is_trial: True if boots are counted.
        count: Boots counted so far; 0 if the variable is missing or no number.
        session: Whose trial it is or was, or "".
    """

    primary: str
    is_trial: bool
    count: int
    session: str


def read(variables: Mapping[str, str]) -> BootState:
    """Return what *variables* say, as U-Boot understands them."""
    count = variables.get(BOOTCOUNT, "")
    return BootState(
        primary=variables.get(BOOT_SLOT, ""),
        is_trial=variables.get(UPGRADE_AVAILABLE, "") == "1",
        count=int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0,  # noqa: PLR2004 - more than U-Boot's counter holds
        session=variables.get(SESSION, ""),
    )


def activate(target: str, session_id: str) -> Changes:
    """Return the one store that boots *target* on trial."""
    return {BOOT_SLOT: target, UPGRADE_AVAILABLE: "1", BOOTCOUNT: "0", SESSION: session_id}


def mark_good(booted: str) -> Changes:
    """Return the one store that ends the trial of *booted* and keeps it."""
    return {BOOT_SLOT: booted, UPGRADE_AVAILABLE: "0", BOOTCOUNT: "0", SESSION: None}


def roll_back(other: str) -> Changes:
    """Return the one store that boots *other* again; the next boot still tells whose trial."""
    return {BOOT_SLOT: other, UPGRADE_AVAILABLE: "0"}


def settle(state: BootState, booted: str) -> Changes:
    """Return what must be stored so that only *booted* is preferred and no trial is left over.

    For the time before a target is blanked: nothing may prefer a slot that is about to lose its
    head. Empty if all is well.
    """
    changes: dict[str, str | None] = {}
    if state.primary != booted:
        changes[BOOT_SLOT] = booted
    if state.is_trial:
        changes[UPGRADE_AVAILABLE] = "0"
    if state.count:
        changes[BOOTCOUNT] = "0"
    if state.session:
        changes[SESSION] = None
    return changes


def clear(state: BootState, booted: str) -> Changes:
    """Return what must be stored when no session is open; the primary stays unless on trial.

    A good slot that could not be loaded once is tried again at the next boot, and a rollback that
    still waits for its reboot is not undone.
    """
    changes = dict(settle(state, booted))
    if not state.is_trial:
        changes.pop(BOOT_SLOT, None)
    return changes


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot as the bootloader performs it.

    Attributes:
        slot: Bootname of what was started, or None: the script stopped at the prompt.
        is_trial: True if the started slot was told that it is on trial.
        stores: The variables after each store that the bootloader made, in order.
        primary: The slot that it tried first, or "": what it tells the kernel.
    """

    slot: str | None
    is_trial: bool
    stores: tuple[Mapping[str, str], ...]
    primary: str


def boot(
    variables: Mapping[str, str] | None,
    table: tuple[str, ...],
    loadable: Collection[str],
    bootlimit: int,
) -> Boot:
    """Return what U-Boot does at a reset, counting by itself (``counter = "u-boot"``).

    Args:
        variables: The environment on the medium, or None if no copy is valid: the compiled default
            tries the table in order, and neither counts nor stores.
        table: Bootnames in the order of the slot table.
        loadable: Bootnames whose kernel can be loaded and started.
        bootlimit: Trial boots before the fallback.
    """
    known = dict(variables or {})
    state = read(known)
    stores: list[Mapping[str, str]] = []
    if state.is_trial:
        known = {**known, BOOTCOUNT: str(state.count + 1)}
        stores.append(known)
        if state.count + 1 > bootlimit:
            known = {**known, BOOT_SLOT: _next(state.primary, table), UPGRADE_AVAILABLE: "0"}
            stores.append(known)
    state = read(known)
    order = (state.primary, *table) if state.primary in table else table
    slot = next((name for name in order if name in loadable), None)
    is_trial = state.is_trial and slot is not None and slot == state.primary
    return Boot(slot, is_trial, tuple(stores), state.primary)


def _next(primary: str, table: tuple[str, ...]) -> str:
    """Return the slot after *primary*, round the table; the first one if it is unknown."""
    if primary not in table:
        return table[0]
    return table[(table.index(primary) + 1) % len(table)]

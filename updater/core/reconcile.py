# SPDX-License-Identifier: MIT
"""What happened while this program did not run: journal by environment by booted slot, as a table.

Read once at each start, before anything else is done. The first row that matches says what was
found; most findings are an event of the state machine. Nothing is guessed from a version string,
and a combination that no row names cannot exist: the last row of each state takes what is left.
"""

import enum
from dataclasses import dataclass

from updater.core.bootflow import BootState
from updater.core.machine import Event, FellBack, InstallFailed, MarkedGood, TargetBooted
from updater.core.model import Session, State


class Finding(enum.Enum):
    """What the table says; the value is a line for history."""

    AS_LEFT = "the machine is as this program left it"
    TARGET_BOOTED = "the target slot booted on trial"
    STILL_ON_TRIAL = "the target slot booted again on trial"
    ALREADY_GOOD = "the trial had been ended before the journal knew"
    FALLBACK = "the bootloader fell back to the old slot"
    FELL_THROUGH = "the target slot could not be loaded and the old slot booted"
    ROLLED_BACK = "the old slot booted again after the rollback"
    NOT_RETURNED = "the old slot could not be loaded after the rollback"
    LOST_TO_OTHERS = "the environment was changed by someone else"
    WRONG_SLOT = "the slot being installed is the one that booted"
    ORPHAN_TRIAL = "a trial of an unknown session: judged like any other"
    RETURN_DUE = "the trial of an unknown session was ended and the reboot is due"
    AWAITED = "another slot was made primary: the next boot decides"
    NOT_PRIMARY = "the primary slot could not be loaded"
    LEFTOVERS = "the environment speaks of a session that has ended"


class Who(enum.Enum):
    """A slot as seen from the session."""

    TARGET = "target"
    OTHER = "other"
    ANY = "any"


_T, _O, _ANY = Who.TARGET, Who.OTHER, Who.ANY


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; None matches both.

    Attributes:
        states: Where the session stands in the journal.
        booted: The slot we run from.
        primary: The slot that the environment prefers.
        is_trial: ``upgrade_available``.
        is_ours: ``updater_session`` is the session's id.
        is_tried: The bootloader has counted at least one boot.
        is_missed: The bootloader has tried the primary slot at this boot and could not load it.
        finding: What that means.
    """

    states: frozenset[State]
    booted: Who
    primary: Who
    is_trial: bool | None
    is_ours: bool | None
    is_tried: bool | None
    finding: Finding
    is_missed: bool | None = None


_WRITING = frozenset({State.INSTALLING, State.INSTALLED})
_ACTIVATED = frozenset({State.ACTIVATED})
_TRIAL = frozenset({State.TRIAL})
_ROLLING = frozenset({State.ROLLING_BACK})

TABLE: tuple[Row, ...] = (
    # states, booted, primary, trial, ours, tried
    Row(_WRITING, _T, _ANY, None, None, None, Finding.WRONG_SLOT),
    Row(_WRITING, _O, _ANY, None, None, None, Finding.AS_LEFT),
    #
    Row(_ACTIVATED, _T, _T, True, None, None, Finding.TARGET_BOOTED),  # judged, whosever it is
    Row(_ACTIVATED, _T, _T, False, None, None, Finding.ALREADY_GOOD),
    Row(_ACTIVATED, _T, _ANY, None, None, None, Finding.LOST_TO_OTHERS),
    Row(_ACTIVATED, _O, _T, True, True, False, Finding.AS_LEFT),  # stored, not yet rebooted
    Row(_ACTIVATED, _O, _T, True, True, True, Finding.FELL_THROUGH),
    Row(_ACTIVATED, _O, _O, False, True, None, Finding.FALLBACK),
    Row(_ACTIVATED, _O, _O, False, False, None, Finding.AS_LEFT),  # the store never took
    Row(_ACTIVATED, _O, _ANY, None, None, None, Finding.LOST_TO_OTHERS),
    #
    Row(_TRIAL, _T, _T, True, None, None, Finding.STILL_ON_TRIAL),
    Row(_TRIAL, _T, _T, False, None, None, Finding.ALREADY_GOOD),
    Row(_TRIAL, _T, _ANY, None, None, None, Finding.LOST_TO_OTHERS),
    Row(_TRIAL, _O, _T, True, True, None, Finding.FELL_THROUGH),
    Row(_TRIAL, _O, _O, False, True, None, Finding.FALLBACK),
    Row(_TRIAL, _O, _ANY, None, None, None, Finding.LOST_TO_OTHERS),
    #
    Row(_ROLLING, _T, _O, False, None, None, Finding.NOT_RETURNED, is_missed=True),
    Row(_ROLLING, _T, _ANY, None, None, None, Finding.AS_LEFT),  # store again, reboot again
    Row(_ROLLING, _O, _ANY, None, None, None, Finding.ROLLED_BACK),
)


def find(
    session: Session | None, state: BootState, booted: str, tried_first: str | None
) -> Finding:
    """Return what happened since the journal was last written.

    Args:
        session: The journal's current session, or None.
        state: What the environment says.
        booted: Bootname of the slot we run from, told by its device number.
        tried_first: The slot that the bootloader tried first at this boot; None if its script does
            not say so, and then a slot that is primary now is taken to have been tried.
    """
    is_missed = booted != state.primary and tried_first in {None, state.primary}
    if session is None or session.state.is_final:
        return _without_session(state, booted, is_missed=is_missed)
    rows = (row for row in TABLE if row.is_missed in {None, is_missed})
    row = next(row for row in rows if _matches(row, session, state, booted))
    return row.finding


def _matches(row: Row, session: Session, state: BootState, booted: str) -> bool:
    """Tell whether *row* speaks of this machine."""
    return (
        session.state in row.states
        and row.booted is (_T if booted == session.target else _O)
        and row.primary in {_ANY, _who(session, state.primary)}
        and row.is_trial in {None, state.is_trial}
        and row.is_ours in {None, state.session == session.id}
        and row.is_tried in {None, state.count > 0}
    )


def _who(session: Session, primary: str) -> Who | None:
    """Return the slot that *primary* is, or None if it is no slot of this session."""
    return {session.target: _T, session.other: _O}.get(primary)


def _without_session(state: BootState, booted: str, *, is_missed: bool) -> Finding:
    """Return what the environment alone tells, when no session is open."""
    is_left = bool(state.session or state.count)
    if state.primary == booted:
        if state.is_trial:
            return Finding.ORPHAN_TRIAL
        return Finding.LEFTOVERS if is_left else Finding.AS_LEFT
    if state.is_trial:
        return Finding.LEFTOVERS
    if is_missed:
        return Finding.NOT_PRIMARY
    return Finding.RETURN_DUE if is_left else Finding.AWAITED


def event_of(finding: Finding, state: BootState) -> Event | None:
    """Return the event that *finding* is, or None if the plan simply goes on."""
    match finding:
        case Finding.TARGET_BOOTED:
            return TargetBooted()
        case Finding.ALREADY_GOOD:
            return MarkedGood()
        case Finding.FALLBACK:
            trials = max(state.count - 1, 0)
            return FellBack(f"trial: fell back after {trials} boots without being marked good")
        case Finding.FELL_THROUGH:
            return FellBack(
                f"boot: target could not be loaded, old slot booted (try {state.count})"
            )
        case Finding.ROLLED_BACK:
            return FellBack("trial: rolled back")
        case Finding.NOT_RETURNED:
            return FellBack("trial: rolled back, and the old slot could not be loaded")
        case Finding.LOST_TO_OTHERS:
            return FellBack("boot: the environment was changed by someone else")
        case Finding.WRONG_SLOT:
            return InstallFailed("boot: the machine now runs from the slot being installed")
        case _:
            return None

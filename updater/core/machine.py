# SPDX-License-Identifier: MIT
"""The state machine of one session, as two literal tables.

Theory of operation. A session is born INSTALLING when an offer is accepted and ends GOOD or FAILED.
Events are facts that already happened; ``advance`` looks them up in ``TRANSITIONS`` and an event
that is not listed is an error that changes nothing. ``PLAN`` says what must be done in a state.

The journal is written *before* a command of the new state is performed, and every command is
idempotent. After a power cut the agent therefore loads the session, lets ``core.reconcile`` turn
what the bootloader did meanwhile into at most one event, and performs the plan again:

    INSTALLING    the target cannot boot: its head is blank until all else was read back
    INSTALLED     the old slot boots; nothing in the environment speaks of the target
    ACTIVATED     journalled first, then ONE store; before it took the old slot boots and the plan
                  stores again, after it took the target boots on trial
    TRIAL         U-Boot counts; the target is judged, or falls back by itself
    ROLLING_BACK  the verdict is journalled first, then ONE store makes the old slot primary
    GOOD, FAILED  the environment was cleared of the session before this was journalled, except
                  for leftovers that ``bootflow.clear`` removes on sight

No state is guessed from a version string, and no event is derived from a return code of a store.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from updater.core.errors import IllegalEventError, ResultCode
from updater.core.model import Offer, Session, State


@dataclass(frozen=True, slots=True)
class InstallCompleted:
    """Every byte was read back from the target and matched."""


@dataclass(frozen=True, slots=True)
class ActivationBegun:
    """Nothing stands against making the target primary; *baseline* had failed before it."""

    baseline: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetBooted:
    """The machine runs from the target, on trial."""


@dataclass(frozen=True, slots=True)
class HealthFailed:
    """The target runs and is not healthy."""

    reason: str


@dataclass(frozen=True, slots=True)
class MarkedGood:
    """The store that ends the trial is proven."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The session cannot reach its end: *reason* names step and fact."""

    reason: str
    code: ResultCode = ResultCode.LOCAL


class InstallFailed(Failed):
    """The image did not come, did not match or could not be written; the target cannot boot."""


class ActivationFailed(Failed):
    """The environment was proven not to have taken the store; the old slot stays primary."""


class FellBack(Failed):
    """The old slot runs again: the bootloader's fallback, a failed load, or a rollback."""


class Withdrawn(Failed):
    """Superseded by another offer, or cancelled by a person."""


Event = (
    InstallCompleted | ActivationBegun | TargetBooted | HealthFailed | MarkedGood | Failed
)  # fmt: skip

TRANSITIONS: Mapping[State, Mapping[type[Event], State]] = {
    State.INSTALLING: {
        InstallCompleted: State.INSTALLED,
        InstallFailed: State.FAILED,
        Withdrawn: State.FAILED,
    },
    State.INSTALLED: {
        ActivationBegun: State.ACTIVATED,
        InstallFailed: State.FAILED,
        Withdrawn: State.FAILED,
    },
    State.ACTIVATED: {
        TargetBooted: State.TRIAL,
        MarkedGood: State.GOOD,
        ActivationFailed: State.FAILED,
        FellBack: State.FAILED,
    },
    State.TRIAL: {
        MarkedGood: State.GOOD,
        HealthFailed: State.ROLLING_BACK,
        FellBack: State.FAILED,
    },
    State.ROLLING_BACK: {
        FellBack: State.FAILED,
    },
    State.GOOD: {},
    State.FAILED: {},
}


class Command(enum.Enum):
    """What the agent must do now; each may be done again after a power cut."""

    INSTALL = "write the image into the target, blank head first"
    PREPARE_ACTIVATION = "report burning, take the health baseline, wait for the reboot policy"
    STORE_ACTIVATION = "make the target primary for a trial, in one store"
    REBOOT = "reboot"
    JUDGE_TRIAL = "judge the booted slot's health, then mark it good or roll back"
    STORE_ROLLBACK = "make the old slot primary, in one store"
    REPORT = "deliver the terminal report"


PLAN: Mapping[State, tuple[Command, ...]] = {
    State.INSTALLING: (Command.INSTALL,),
    State.INSTALLED: (Command.PREPARE_ACTIVATION,),
    State.ACTIVATED: (Command.STORE_ACTIVATION, Command.REBOOT),
    State.TRIAL: (Command.JUDGE_TRIAL,),
    State.ROLLING_BACK: (Command.STORE_ROLLBACK, Command.REBOOT),
    State.GOOD: (Command.REPORT,),
    State.FAILED: (Command.REPORT,),
}


def advance(session: Session, event: Event) -> Session:
    """Return the session as it stands after *event*.

    Raises:
        IllegalEventError: The current state does not accept *event*; nothing changed.
    """
    try:
        state = TRANSITIONS[session.state][type(event)]
    except KeyError:
        raise IllegalEventError(session.state, event) from None
    return replace(session, state=state, **_facts(session, event))


def _facts(session: Session, event: Event) -> dict[str, Any]:
    """Return what *event* adds to what is known; the first reason for a failure stands."""
    match event:
        case ActivationBegun(baseline):
            return {"baseline": baseline}
        case HealthFailed(reason):
            return {"reason": reason, "code": ResultCode.LOCAL}
        case Failed(reason, code) if not session.reason:
            return {"reason": reason, "code": code}
        case _:
            return {}


class Answer(enum.Enum):
    """What to do with an offer."""

    ACCEPT = "begin a session"
    ADOPT = "the running session's firmware, perhaps with a fresh URL: go on with it"
    SUPERSEDE = "end the running session, then begin one"
    WAIT = "decide after the reboot that is under way"
    RUNNING = "this firmware is already running: say so"
    REFUSE = "not for this device"


def answer(
    offer: Offer, session: Session | None, running_version: str, fw_type: str
) -> Answer:  # fmt: skip
    """Say what is to be done with *offer*.

    Args:
        offer: What the cloud sent, already within its limits.
        session: The session that has not ended, or the last one, or None.
        running_version: Version of the booted slot; versions are compared for equality only.
        fw_type: The kind of firmware that this device takes; an offer without one is meant too.
    """
    if offer.fw_type is not None and offer.fw_type != (fw_type or offer.fw_type):
        return Answer.REFUSE
    if session is None or session.state.is_final:
        return Answer.RUNNING if offer.firmware.version == running_version else Answer.ACCEPT
    if session.offer.firmware == offer.firmware:
        return Answer.ADOPT
    if session.state in {State.INSTALLING, State.INSTALLED}:
        return Answer.SUPERSEDE
    return Answer.WAIT

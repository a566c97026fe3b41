# SPDX-License-Identifier: MIT
"""The state machine's tables, row by row and as a whole."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core import machine
from updater.core.errors import IllegalEventError, ResultCode
from updater.core.machine import (
    PLAN,
    TRANSITIONS,
    ActivationBegun,
    ActivationFailed,
    Answer,
    Event,
    FellBack,
    HealthFailed,
    InstallCompleted,
    InstallFailed,
    MarkedGood,
    TargetBooted,
    Withdrawn,
    advance,
    answer,
)
from updater.core.model import Firmware, Offer, Session, State

FIRMWARE = Firmware("0.2", "0" * 32, 4096)
OFFER = Offer(FIRMWARE, "https://example.invalid/f")
EVENTS: list[Event] = [
    InstallCompleted(),
    InstallFailed("install: x", ResultCode.DIGEST),
    Withdrawn("superseded"),
    ActivationBegun(("gateway",)),
    ActivationFailed("activate: x"),
    TargetBooted(),
    HealthFailed("health: x"),
    FellBack("trial: x"),
    MarkedGood(),
]
LEGAL = {
    (State.INSTALLING, InstallCompleted): State.INSTALLED,
    (State.INSTALLING, InstallFailed): State.FAILED,
    (State.INSTALLING, Withdrawn): State.FAILED,
    (State.INSTALLED, ActivationBegun): State.ACTIVATED,
    (State.INSTALLED, InstallFailed): State.FAILED,
    (State.INSTALLED, Withdrawn): State.FAILED,
    (State.ACTIVATED, TargetBooted): State.TRIAL,
    (State.ACTIVATED, MarkedGood): State.GOOD,
    (State.ACTIVATED, ActivationFailed): State.FAILED,
    (State.ACTIVATED, FellBack): State.FAILED,
    (State.TRIAL, MarkedGood): State.GOOD,
    (State.TRIAL, HealthFailed): State.ROLLING_BACK,
    (State.TRIAL, FellBack): State.FAILED,
    (State.ROLLING_BACK, FellBack): State.FAILED,
}


def session(state: State) -> Session:
    return Session("5e55", state, OFFER, target="B", other="A")


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_pair_of_state_and_event_is_decided(state: State, event: Event) -> None:
    """A listed pair moves the session; any other is an error that changes nothing."""
    before = session(state)
    wanted = LEGAL.get((state, type(event)))
    if wanted is None:
        with pytest.raises(IllegalEventError, match=r"not possible in state"):
            advance(before, event)
        assert before == session(state)
    else:
        assert advance(before, event).state is wanted


def test_every_state_has_transitions_and_a_plan() -> None:
    """No state is forgotten by a table, and only final states have no way out."""
    assert set(TRANSITIONS) == set(PLAN) == set(State)
    assert {state for state in State if not TRANSITIONS[state]} == {State.GOOD, State.FAILED}
    assert all(PLAN[state] for state in State)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_a_session_ends_once_and_stays_ended(events: list[Event]) -> None:
    """Whatever order events come in, a final state is never left."""
    now = session(State.INSTALLING)
    for event in events:
        was_final = now.state.is_final
        try:
            now = advance(now, event)
        except IllegalEventError:
            continue
        assert not was_final


def test_the_first_reason_stands() -> None:
    """A rollback is reported with the health check that caused it, not with the boot after it."""
    trial = session(State.TRIAL)
    failed = advance(advance(trial, HealthFailed("health: api: exit 1")), FellBack("rolled back"))
    assert (failed.reason, failed.code) == ("health: api: exit 1", ResultCode.LOCAL)


def test_failures_carry_their_code() -> None:
    """The code of the cloud's table comes from the error that ended the install."""
    failed = advance(session(State.INSTALLING), InstallFailed("install: x", ResultCode.NOT_FOUND))
    assert (failed.code, failed.reason) == (ResultCode.NOT_FOUND, "install: x")


def test_the_baseline_is_kept() -> None:
    """What had failed before the update is known in the trial."""
    assert advance(session(State.INSTALLED), ActivationBegun(("dns",))).baseline == ("dns",)


def test_activation_stores_before_it_reboots() -> None:
    """The order of writes is the table's order."""
    assert PLAN[State.ACTIVATED] == (machine.Command.STORE_ACTIVATION, machine.Command.REBOOT)
    assert PLAN[State.ROLLING_BACK] == (machine.Command.STORE_ROLLBACK, machine.Command.REBOOT)


OTHER = Offer(replace(FIRMWARE, md5="1" * 32), "https://example.invalid/g")
LARGER = Offer(replace(FIRMWARE, size_bytes=FIRMWARE.size_bytes + 1), "https://example.invalid/g")
LATER = Offer(replace(FIRMWARE, version="0.3"), "https://example.invalid/g")


@pytest.mark.parametrize(
    ("offer", "current", "running", "wanted"),
    [
        (OFFER, None, "0.1", Answer.ACCEPT),
        (OFFER, None, "0.2", Answer.RUNNING),
        (OFFER, State.FAILED, "0.1", Answer.ACCEPT),
        (OFFER, State.GOOD, "0.2", Answer.RUNNING),
        (OFFER, State.INSTALLING, "0.1", Answer.ADOPT),
        (OFFER, State.ACTIVATED, "0.1", Answer.ADOPT),
        (OTHER, State.INSTALLING, "0.1", Answer.SUPERSEDE),
        (OTHER, State.INSTALLED, "0.1", Answer.SUPERSEDE),
        (LARGER, State.INSTALLING, "0.1", Answer.SUPERSEDE),
        (LATER, State.INSTALLING, "0.1", Answer.SUPERSEDE),
        (OTHER, State.ACTIVATED, "0.1", Answer.WAIT),
        (OTHER, State.TRIAL, "0.2", Answer.WAIT),
        (OTHER, State.ROLLING_BACK, "0.2", Answer.WAIT),
        (replace(OFFER, fw_type="mcu"), None, "0.1", Answer.ACCEPT),
    ],
)
def test_offers_are_answered_by_what_is_going_on(
    offer: Offer, current: State | None, running: str, wanted: Answer
) -> None:
    """An offer never disturbs what a reboot is about to decide."""
    now = None if current is None else session(current)
    assert answer(offer, now, running, "") is wanted


def test_a_foreign_kind_of_firmware_is_refused() -> None:
    """Firmware for another module never reaches a slot."""
    assert answer(replace(OFFER, fw_type="modem"), None, "0.1", "mcu") is Answer.REFUSE
    assert answer(replace(OFFER, fw_type="mcu"), None, "0.1", "mcu") is Answer.ACCEPT

# SPDX-License-Identifier: MIT
"""The reconciliation table: every combination has one finding, and every row is reached."""

import itertools

import pytest

from updater.core import reconcile
from updater.core.bootflow import BootState
from updater.core.machine import FellBack, InstallFailed, MarkedGood, TargetBooted, advance
from updater.core.model import Firmware, Offer, Session, State
from updater.core.reconcile import TABLE, Finding, event_of, find

ID = "5e55"
OPEN = [state for state in State if not state.is_final]


def session(state: State) -> Session:
    offer = Offer(Firmware("0.2", "0" * 32, 4096), "https://example.invalid/f")
    return Session(ID, state, offer, target="B", other="A")


def environment(primary: str, *, trial: bool = False, count: int = 0, owner: str = "") -> BootState:
    return BootState(primary, trial, count, owner)


@pytest.mark.parametrize(
    ("state", "booted", "boot", "wanted"),
    [
        (State.INSTALLING, "A", environment("A"), Finding.AS_LEFT),
        (State.INSTALLING, "B", environment("A"), Finding.WRONG_SLOT),
        (State.INSTALLED, "A", environment("A"), Finding.AS_LEFT),
        (State.INSTALLED, "B", environment("A"), Finding.WRONG_SLOT),
        (State.ACTIVATED, "A", environment("A"), Finding.AS_LEFT),
        (State.ACTIVATED, "A", environment("B", trial=True, owner=ID), Finding.AS_LEFT),
        (
            State.ACTIVATED,
            "A",
            environment("B", trial=True, count=1, owner=ID),
            Finding.FELL_THROUGH,
        ),
        (State.ACTIVATED, "A", environment("A", count=4, owner=ID), Finding.FALLBACK),
        (State.ACTIVATED, "A", environment("B"), Finding.LOST_TO_OTHERS),
        (
            State.ACTIVATED,
            "B",
            environment("B", trial=True, count=1, owner=ID),
            Finding.TARGET_BOOTED,
        ),
        (  # whosever trial it is: what booted is judged before it is kept
            State.ACTIVATED,
            "B",
            environment("B", trial=True, count=1, owner="f00"),
            Finding.TARGET_BOOTED,
        ),
        (State.ACTIVATED, "B", environment("B"), Finding.ALREADY_GOOD),
        (State.ACTIVATED, "B", environment("A"), Finding.LOST_TO_OTHERS),
        (State.TRIAL, "B", environment("B", trial=True, count=2, owner=ID), Finding.STILL_ON_TRIAL),
        (State.TRIAL, "B", environment("B"), Finding.ALREADY_GOOD),
        (State.TRIAL, "B", environment("A"), Finding.LOST_TO_OTHERS),
        (State.TRIAL, "A", environment("A", count=4, owner=ID), Finding.FALLBACK),
        (State.TRIAL, "A", environment("B", trial=True, count=2, owner=ID), Finding.FELL_THROUGH),
        (State.TRIAL, "A", environment("A"), Finding.LOST_TO_OTHERS),
        (State.ROLLING_BACK, "B", environment("B", trial=True, owner=ID), Finding.AS_LEFT),
        (State.ROLLING_BACK, "A", environment("A", count=1, owner=ID), Finding.ROLLED_BACK),
        (State.GOOD, "B", environment("B"), Finding.AS_LEFT),
        (State.FAILED, "A", environment("A", count=4, owner=ID), Finding.LEFTOVERS),
        (State.FAILED, "A", environment("B", trial=True, owner="f00"), Finding.LEFTOVERS),
        (None, "A", environment("A"), Finding.AS_LEFT),
        (None, "A", environment("B"), Finding.AWAITED),
        (None, "A", environment("B", count=1, owner=ID), Finding.RETURN_DUE),
        (State.ROLLING_BACK, "B", environment("A", count=1, owner=ID), Finding.AS_LEFT),
        (None, "B", environment("B", trial=True, count=1, owner="f00"), Finding.ORPHAN_TRIAL),
    ],
)
def test_each_combination_means_one_thing(
    state: State | None, booted: str, boot: BootState, wanted: Finding
) -> None:
    """What happened is read from journal, environment and booted slot, never from a version."""
    assert find(None if state is None else session(state), boot, booted, booted) is wanted


EVERY = [
    (state, booted, environment(primary, trial=trial, count=count, owner=owner))
    for state, booted, primary, trial, count, owner in itertools.product(
        OPEN, "AB", ["A", "B", "", "Z"], [False, True], [0, 1, 4], ["", ID, "f00"]
    )
]


def test_no_combination_is_left_undecided_and_no_event_is_illegal() -> None:
    """All of them have a finding whose event the state machine accepts."""
    for state, booted, boot in EVERY:
        for tried_first in (None, "A", "B", ""):
            event = event_of(find(session(state), boot, booted, tried_first), boot)
            if event is not None:
                advance(session(state), event)


@pytest.mark.parametrize(
    ("state", "booted", "primary", "tried_first", "wanted"),
    [
        (None, "A", "B", "B", Finding.NOT_PRIMARY),
        (None, "A", "B", None, Finding.NOT_PRIMARY),  # a script that does not say
        (None, "A", "B", "A", Finding.AWAITED),
        (None, "A", "", "", Finding.NOT_PRIMARY),
        (State.ROLLING_BACK, "B", "A", "A", Finding.NOT_RETURNED),
        (State.ROLLING_BACK, "B", "A", None, Finding.NOT_RETURNED),
        (State.ROLLING_BACK, "B", "A", "B", Finding.AS_LEFT),
        (State.ROLLING_BACK, "B", "B", "B", Finding.AS_LEFT),
    ],
)
def test_a_slot_that_did_not_load_is_told_from_one_that_was_not_tried_yet(
    state: State | None, booted: str, primary: str, tried_first: str | None, wanted: Finding
) -> None:
    """The bootloader says which slot it tried first; only a load that failed ends the waiting."""
    opened = None if state is None else session(state)
    assert find(opened, environment(primary), booted, tried_first) is wanted


def test_every_row_is_reached_and_none_is_hidden_by_an_earlier_one() -> None:
    """A row that no combination reaches first would be dead text."""
    reached = set()
    for state, booted, boot in EVERY:
        reached.add(
            next(
                i
                for i, row in enumerate(TABLE)
                if reconcile._matches(row, session(state), boot, booted)
            )
        )
    assert reached == set(range(len(TABLE)))


def test_a_machine_that_runs_the_target_never_reports_a_fallback() -> None:
    """`FellBack` by the bootloader needs the old slot to be the booted one."""
    for state, booted, boot in EVERY:
        finding = find(session(state), boot, booted, booted)
        if finding in {Finding.FALLBACK, Finding.FELL_THROUGH, Finding.ROLLED_BACK}:
            assert booted == "A"


def test_a_target_on_trial_is_never_given_up_unjudged() -> None:
    """A verdict without a judgement would end the trial, and so keep what nobody looked at."""
    for state, booted, boot in EVERY:
        if booted == boot.primary == "B" and boot.is_trial and state is not State.ROLLING_BACK:
            finding = find(session(state), boot, booted, booted)
            assert finding in {
                Finding.TARGET_BOOTED, Finding.STILL_ON_TRIAL, Finding.WRONG_SLOT,
            }  # fmt: skip


@pytest.mark.parametrize(
    ("finding", "event"),
    [
        (Finding.TARGET_BOOTED, TargetBooted),
        (Finding.ALREADY_GOOD, MarkedGood),
        (Finding.FALLBACK, FellBack),
        (Finding.FELL_THROUGH, FellBack),
        (Finding.ROLLED_BACK, FellBack),
        (Finding.LOST_TO_OTHERS, FellBack),
        (Finding.WRONG_SLOT, InstallFailed),
        (Finding.AS_LEFT, type(None)),
        (Finding.STILL_ON_TRIAL, type(None)),
        (Finding.ORPHAN_TRIAL, type(None)),
        (Finding.LEFTOVERS, type(None)),
    ],
)
def test_findings_become_events(finding: Finding, event: type) -> None:
    """Each finding is one event or none."""
    assert type(event_of(finding, environment("A", count=4))) is event


@pytest.mark.parametrize(("count", "trials"), [(4, 3), (1, 0), (0, 0)])
def test_a_fallback_says_how_often_was_tried(count: int, trials: int) -> None:
    """The count that the bootloader kept includes the boot that fell back."""
    event = event_of(Finding.FALLBACK, environment("A", count=count))
    assert isinstance(event, FellBack)
    assert event.reason == f"trial: fell back after {trials} boots without being marked good"

# SPDX-License-Identifier: MIT
"""The loop breaker's rules: what counts, how long is waited, when it is over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core import breaker
from updater.core.breaker import LINK_ALONE
from updater.core.config import OffersConfig
from updater.core.model import Failures, Firmware, Offer, Session, State

FIRMWARE = Firmware("0.2", "0" * 32, 4096)
SESSION = Session("5e55", State.FAILED, Offer(FIRMWARE, ""), "B", "A", reason="install: x")
NONE = Failures(FIRMWARE, 0, 0.0)
ONCE = Failures(FIRMWARE, 1, 500.0)
DEFAULT = OffersConfig()
MANY = OffersConfig(failures=1000)


@pytest.mark.parametrize(
    "reason", ["install: x", "trial: fell back", "superseded by version 3", ""]
)
@pytest.mark.parametrize("known", [NONE, ONCE, replace(ONCE, is_undecided=True)])
def test_whatever_ends_in_fail_counts(reason: str, known: Failures) -> None:
    """One more, and from now on."""
    wanted = Failures(FIRMWARE, known.count + 1, 700.0)
    assert breaker.after(replace(SESSION, reason=reason), known, 700.0) == wanted


@pytest.mark.parametrize("known", [NONE, ONCE, replace(ONCE, is_undecided=True)])
def test_a_cancel_is_waited_for_and_not_counted(known: Failures) -> None:
    """As long as after a first failure, or after the last one, from now on."""
    ended = replace(SESSION, reason="cancelled: not today")
    after = breaker.after(ended, known, 700.0)
    assert after == replace(known, time_s=700.0, is_cancelled=True)
    assert not after.is_none
    assert breaker.pause_s(after, DEFAULT) == DEFAULT.retry_wait_s
    assert breaker.left_s(after, DEFAULT, 800.0) == DEFAULT.retry_wait_s - 100
    again = replace(after, count=3)
    assert breaker.pause_s(again, DEFAULT) == breaker.pause_s(Failures(FIRMWARE, 3, 0.0), DEFAULT)
    assert breaker.after(SESSION, after, 900.0) == Failures(FIRMWARE, known.count + 1, 900.0)


def test_a_doubt_outlives_a_cancel() -> None:
    """What was lost for want of the link is decided all the same, and the pause stays."""
    doubt = replace(NONE, is_undecided=True, is_cancelled=True)
    assert breaker.decided(doubt, is_counted=False) == replace(NONE, is_cancelled=True)


@pytest.mark.parametrize(("is_counted", "count"), [(True, 2), (False, 1)])
def test_a_trial_without_a_link_is_decided_later(is_counted: bool, count: int) -> None:
    """It counts or it does not; the pause begins with the failure either way."""
    lost = breaker.after(replace(SESSION, reason=f"{LINK_ALONE} within 9 s"), ONCE, 700.0)
    assert lost == Failures(FIRMWARE, 1, 700.0, is_undecided=True)
    assert not lost.is_none
    assert breaker.decided(lost, is_counted=is_counted) == Failures(FIRMWARE, count, 700.0)


def test_an_acquitted_first_trial_leaves_nothing() -> None:
    """The network was away: nothing is held against the image."""
    lost = breaker.after(replace(SESSION, reason=LINK_ALONE), NONE, 700.0)
    assert lost is not None
    assert breaker.decided(lost, is_counted=False).is_none


@pytest.mark.parametrize("state", State)
def test_only_an_end_changes_what_is_known(state: State) -> None:
    """Success forgets, failure counts, and nothing in between says anything."""
    after = breaker.after(replace(SESSION, state=state), ONCE, 700.0)
    if state is State.GOOD:
        assert after is not None
        assert after.is_none
        assert breaker.after(replace(SESSION, state=state), NONE, 700.0) is None
    elif state is not State.FAILED:
        assert after is None


def test_what_is_known_is_known_of_one_identity() -> None:
    """Another version, digest or size has never failed."""
    known = [Failures(replace(FIRMWARE, md5="1" * 32), 2, 1.0), ONCE]
    assert breaker.of(FIRMWARE, known) == ONCE
    for other in ({"md5": "2" * 32}, {"version": "0.3"}, {"size_bytes": 1}):
        assert breaker.of(replace(FIRMWARE, **other), known).is_none


@pytest.mark.parametrize(
    ("count", "hours"),
    [(0, 0), (1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 24), (7, 24), (999, 24)],
)
def test_the_pause_doubles_up_to_a_day(count: int, hours: float) -> None:
    """From an hour on."""
    assert breaker.pause_s(Failures(FIRMWARE, count, 0.0), MANY) == hours * 3600


@pytest.mark.parametrize(("count", "is_refused"), [(0, False), (2, False), (3, True), (9, True)])
def test_three_failures_are_enough(count: int, is_refused: bool) -> None:
    """Then it is not tried any more."""
    assert breaker.is_refused(Failures(FIRMWARE, count, 0.0), DEFAULT) is is_refused


@pytest.mark.parametrize(
    ("now_s", "left_s"),
    [(500.0, 3600.0), (4099.0, 1.0), (4100.0, 0.0), (1e12, 0.0), (499.0, 3600.0), (0.0, 3600.0)],
)
def test_a_clock_that_is_wrong_makes_no_pause_longer(now_s: float, left_s: float) -> None:
    """Set back, or not set yet: the whole pause, and no more."""
    assert breaker.left_s(ONCE, DEFAULT, now_s) == left_s


@given(
    st.integers(0, 10_000), st.floats(0, 1e12), st.floats(0, 1e12),
    st.floats(0, 604800), st.floats(0, 604800),
)  # fmt: skip
def test_whatever_the_numbers_a_pause_has_its_bounds(
    count: int, failed_s: float, now_s: float, wait_s: float, limit_s: float
) -> None:
    """Never negative, never above the limit, and none without a failure."""
    limits = OffersConfig(failures=3, retry_wait_s=wait_s, retry_wait_limit_s=limit_s)
    left_s = breaker.left_s(Failures(FIRMWARE, count, failed_s), limits, now_s)
    assert 0.0 <= left_s <= limit_s
    assert count or left_s == 0.0

# SPDX-License-Identifier: MIT
"""When to connect next: never too soon, never too late, and slower where two use one client id."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.backoff import FLOOR_S, LIMIT_S, Backoff, doubled_s


def shortest(low: float, _high: float) -> float:
    return low


def longest(_low: float, high: float) -> float:
    return high


@given(st.floats(0, 1e6), st.integers(0, 10**9), st.floats(0, 1e6))
def test_a_doubled_pause_grows_to_its_limit(first_s: float, times: int, limit_s: float) -> None:
    """However often something has failed."""
    pause_s = doubled_s(first_s, times, limit_s)
    assert min(first_s, limit_s) <= pause_s <= limit_s
    assert doubled_s(first_s, times + 1, limit_s) >= pause_s
    assert [doubled_s(3.0, n, 20.0) for n in range(5)] == [3, 6, 12, 20, 20]


def test_the_first_attempt_is_made_at_once() -> None:
    """A device that has just booted waits for nothing."""
    assert Backoff(1000.0, longest).due_s == 1000


def test_pauses_double_from_the_floor_to_the_limit() -> None:
    """Each failure doubles the longest pause, and the shortest stays 5 s after the attempt."""
    low, high = Backoff(0.0, shortest), Backoff(0.0, longest)
    now_s, ranges = 0.0, []
    for _ in range(7):
        for each in (low, high):
            each.began(now_s)
            each.lost(now_s + 1, is_ended_by_broker=False)
        ranges.append((low.due_s - now_s, high.due_s - now_s - 1))
        now_s += 1000
    assert ranges == [(5, each) for each in (10, 20, 40, 80, 120, 120, 120)]


@given(st.lists(st.tuples(st.floats(0, 200), st.booleans(), st.floats(0, 400), st.booleans())))
def test_no_history_brings_it_out_of_its_bounds(
    history: list[tuple[float, bool, float, bool]],
) -> None:
    """5 s after the last attempt at the least (PROTOCOL.md, 2.1), 120 s from now at most."""
    chance = random.Random(1)
    backoff = Backoff(0.0, chance.uniform)
    for dialled_s, is_success, lasted_s, is_ended_by_broker in history:
        now_s = backoff.due_s
        backoff.began(now_s)
        end_s = now_s + dialled_s
        if is_success:
            backoff.connected(end_s)
            end_s += lasted_s
        backoff.lost(end_s, is_ended_by_broker=is_ended_by_broker)
        assert now_s + FLOOR_S <= backoff.due_s <= max(end_s + LIMIT_S, now_s + FLOOR_S)
        assert backoff.due_s >= end_s


def test_a_steady_connection_begins_the_row_anew() -> None:
    """What has been up for half a minute is looked for again soon; a flicker is none."""
    for lasted_s, pause_s in ((29, 80), (30, 10)):
        backoff = Backoff(0.0, longest)
        for _ in range(3):
            backoff.began(backoff.due_s)
            backoff.lost(backoff.due_s, is_ended_by_broker=False)
        backoff.began(1000)
        backoff.connected(1000)
        backoff.lost(1000 + lasted_s, is_ended_by_broker=False)
        assert backoff.due_s == 1000 + lasted_s + pause_s


def short_lives(backoff: Backoff, count: int, lasting_s: float, *, by_broker: bool = True) -> None:
    """Have *count* good connections of *lasting_s* seconds."""
    for _ in range(count):
        now_s = backoff.due_s
        backoff.began(now_s)
        backoff.connected(now_s + 1)
        backoff.lost(now_s + 1 + lasting_s, is_ended_by_broker=by_broker)


@pytest.mark.parametrize("lasting_s", [0, 60, 179])
def test_good_logins_that_end_soon_in_a_row_are_contested(lasting_s: float) -> None:
    """The third is a suspicion, and from then on the pause is 60 s at least."""
    backoff = Backoff(0.0, shortest)
    short_lives(backoff, 2, lasting_s)
    assert not backoff.is_contested
    short_lives(backoff, 1, lasting_s)
    assert backoff.is_contested
    now_s = backoff.due_s
    short_lives(backoff, 1, lasting_s)
    assert backoff.due_s == now_s + 1 + lasting_s + 60


def test_refusals_between_are_neither_a_proof_nor_its_end() -> None:
    """A network that is away for a moment does not make two devices one."""
    backoff = Backoff(0.0, shortest)
    short_lives(backoff, 2, 1)
    backoff.began(backoff.due_s)
    backoff.lost(backoff.due_s, is_ended_by_broker=True)
    assert not backoff.is_contested
    short_lives(backoff, 1, 1)
    assert backoff.is_contested


@pytest.mark.parametrize(("lasting_s", "by_broker"), [(180, True), (1, False)])
def test_another_kind_of_end_settles_it(lasting_s: float, by_broker: bool) -> None:
    """A connection that lasts, or that the network ends, is nobody's rivalry."""
    backoff = Backoff(0.0, longest)
    short_lives(backoff, 5, 1)
    short_lives(backoff, 1, lasting_s, by_broker=by_broker)
    assert not backoff.is_contested
    short_lives(backoff, 2, 1)
    assert not backoff.is_contested


def test_what_has_changed_is_tried_soon() -> None:
    """Hurrying keeps the floor, and never puts an attempt off."""
    backoff = Backoff(0.0, longest)
    backoff.began(0)
    backoff.lost(1, is_ended_by_broker=False)
    backoff.hurry(2)
    assert backoff.due_s == 5
    backoff.hurry(100)
    assert backoff.due_s == 5

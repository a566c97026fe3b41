# SPDX-License-Identifier: MIT
"""The loop: who is woken, when, and for what; and that waiting really waits."""

import os
import select
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from updater.activity import NEVER_S, Poller, step


@dataclass(eq=False)
class Recorder:
    """An activity that remembers how it was woken."""

    filenos: Mapping[int, int] = field(default_factory=dict)
    due_s: float = NEVER_S
    woken: list[Mapping[int, int]] = field(default_factory=list)

    def interests(self) -> Mapping[int, int]:
        return self.filenos

    def deadline_s(self) -> float:
        return self.due_s

    def wake(self, ready: Mapping[int, int]) -> None:
        self.woken.append(ready)


class RealClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        return time.monotonic()


@dataclass
class Stage:
    """A clock and a waiter that a test sets."""

    now_s: float = 0.0
    ready: Mapping[int, int] = field(default_factory=dict)
    asked: list[tuple[Mapping[int, int], float]] = field(default_factory=list)

    def monotonic_s(self) -> float:
        return self.now_s

    def __call__(self, interests: Mapping[int, int], until_s: float) -> Mapping[int, int]:
        self.asked.append((interests, until_s))
        return self.ready


def test_all_are_waited_for_at_once() -> None:
    """Every descriptor, and the earliest deadline."""
    stage = Stage()
    step([Recorder({3: 1}, 9.0), Recorder({4: 5}, 7.0), Recorder()], stage, stage)
    assert stage.asked == [({3: 1, 4: 5}, 7.0)]


def test_nothing_at_all_waits_for_ever() -> None:
    """An empty loop has no deadline."""
    stage = Stage()
    step([], stage, stage)
    assert stage.asked == [({}, NEVER_S)]


def test_each_is_woken_for_its_own_only() -> None:
    """By its descriptor or by its deadline; the others sleep on."""
    stage = Stage(now_s=5.0, ready={3: select.POLLIN})
    by_fileno = Recorder({3: select.POLLIN})
    by_time = Recorder({4: select.POLLIN}, 5.0)
    asleep = Recorder({5: select.POLLIN}, 5.1)
    step([by_fileno, by_time, asleep], stage, stage)
    assert by_fileno.woken == [{3: select.POLLIN}]
    assert by_time.woken == [{}]
    assert not asleep.woken


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_the_poller_returns_at_the_deadline_and_not_before(pipe: tuple[int, int]) -> None:
    """Nothing is ready then: an empty mapping."""
    poller = Poller(RealClock())
    begun_s = time.monotonic()
    assert poller({pipe[0]: select.POLLIN}, begun_s + 0.02) == {}
    assert time.monotonic() - begun_s >= 0.02


def test_the_poller_does_not_wait_for_what_is_over(pipe: tuple[int, int]) -> None:
    """A deadline in the past, however far, returns at once."""
    begun_s = time.monotonic()
    assert Poller(RealClock())({pipe[0]: select.POLLIN}, -NEVER_S) == {}
    assert Poller(RealClock())({pipe[0]: select.POLLIN}, begun_s - 9) == {}
    assert time.monotonic() - begun_s < 0.5


def test_the_poller_returns_what_is_ready(pipe: tuple[int, int]) -> None:
    """With its events, and without a deadline if there is none."""
    os.write(pipe[1], b"x")
    poller = Poller(RealClock())
    assert poller({pipe[0]: select.POLLIN}, NEVER_S) == {pipe[0]: select.POLLIN}
    assert poller({pipe[1]: select.POLLOUT}, NEVER_S) == {pipe[1]: select.POLLOUT}

# SPDX-License-Identifier: MIT
"""What the agent's loop knows of the things it runs: descriptors, a deadline, and a wake-up.

An activity never blocks and never calls another one; it tells its owner by the callables that it
was given. The loop wakes it when one of its descriptors is ready or its deadline has come.
"""

import math
import select
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

NEVER_S = math.inf


class Activity(Protocol):
    """Something that goes on beside others in the agent's one thread."""

    def interests(self) -> Mapping[int, int]:
        """Return descriptors and the ``select.POLL…`` events that it waits for now."""

    def deadline_s(self) -> float:
        """Return the monotonic time at which it wants to be woken, or ``NEVER_S``.

        A point in time, not a span from now: what moves on with the clock never comes.
        """

    def wake(self, ready: Mapping[int, int]) -> None:
        """Do what is due; *ready* maps its ready descriptors to their events."""


class Waiter(Protocol):
    """Waits for descriptors: the loop's only blocking call, injected so that tests own time."""

    def __call__(self, interests: Mapping[int, int], until_s: float) -> Mapping[int, int]:
        """Return the ready descriptors with their events; empty at *until_s*, monotonic."""


class Poller:
    """Waits with poll(2)."""

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock

    def __call__(self, interests: Mapping[int, int], until_s: float) -> Mapping[int, int]:
        """Return the ready descriptors with their events; empty at *until_s*, monotonic."""
        poll = select.poll()
        for fileno, events in interests.items():
            poll.register(fileno, events)
        timeout_ms = None
        if until_s != NEVER_S:
            timeout_ms = math.ceil(max(until_s - self._clock.monotonic_s(), 0.0) * 1000)
        return dict(poll.poll(timeout_ms))


class Clock(Protocol):
    """Where the loop takes its time from."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed point; never jumps."""


def step(activities: Sequence[Activity], clock: Clock, wait: Waiter) -> None:
    """Wait for the first thing to do among *activities*, and let those do it whose it is."""
    wanted = {activity: dict(activity.interests()) for activity in activities}
    merged: dict[int, int] = {}
    for interests in wanted.values():
        merged.update(interests)
    ready = wait(merged, min((a.deadline_s() for a in activities), default=NEVER_S))
    for activity, interests in wanted.items():
        mine = {fileno: ready[fileno] for fileno in _both(interests, ready)}
        if mine or activity.deadline_s() <= clock.monotonic_s():
            activity.wake(mine)


def _both(one: Collection[int], other: Collection[int]) -> list[int]:
    """Return what is in both."""
    return [item for item in one if item in other]

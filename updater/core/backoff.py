# SPDX-License-Identifier: MIT
"""How pauses grow, when to connect next, and whether somebody else seems to use our client id.

The n-th pause in a row is drawn evenly (full jitter) from 5 s to 5 s · 2ⁿ, at most 120 s: the cloud
takes one connect per device in 5 s, so the floor is counted from the last attempt, and the rest
from the loss. A connection that has been steady begins the row anew.

Two devices with one client id end each other's connection in turn, and each sees a good login that
the broker ends soon after. Three of these in a row are a suspicion: from then on the pause is drawn
from the upper half, 60 to 120 s, until a connection outlasts what the other one could have waited.
"""

from collections.abc import Callable

FLOOR_S = 5.0
LIMIT_S = 120.0
STEADY_S = 30.0
_LASTING_S = 180.0  # more than the longest pause of whoever would end it
_SUSPICIOUS = 3
_ENOUGH_DOUBLINGS = 30


def doubled_s(first_s: float, times: int, limit_s: float) -> float:
    """Return *first_s*, doubled so many *times*, and at most *limit_s*."""
    return min(first_s * 2.0 ** min(times, _ENOUGH_DOUBLINGS), limit_s)


class Backoff:
    """Knows the attempts so far; *draw* returns a number between two others."""

    def __init__(self, now_s: float, draw: Callable[[float, float], float]) -> None:
        """Have the first attempt at once."""
        self.due_s = now_s
        self._draw = draw
        self._began_s = now_s - FLOOR_S
        self._connected_s: float | None = None
        self._failures = 0
        self._ended_early = 0

    @property
    def is_contested(self) -> bool:
        """True while another device seems to connect with our client id."""
        return self._ended_early >= _SUSPICIOUS

    def began(self, now_s: float) -> None:
        """Note that an attempt begins."""
        self._began_s = now_s

    def connected(self, now_s: float) -> None:
        """Note that it has succeeded."""
        self._connected_s = now_s

    def lost(self, now_s: float, *, is_ended_by_broker: bool) -> None:
        """Note that the attempt, or the connection, is over, and set ``due_s``."""
        if self._connected_s is not None:
            lasted_s = now_s - self._connected_s
            is_early = is_ended_by_broker and lasted_s < _LASTING_S
            self._ended_early = self._ended_early + 1 if is_early else 0
            self._failures = 0 if lasted_s >= STEADY_S else self._failures
            self._connected_s = None
        self._failures += 1
        earliest_s = self._earliest_s(now_s)
        latest_s = now_s + doubled_s(FLOOR_S, self._failures, LIMIT_S)
        if self.is_contested:
            earliest_s, latest_s = now_s + LIMIT_S / 2, now_s + LIMIT_S
        self.due_s = self._draw(earliest_s, latest_s)

    def hurry(self, now_s: float) -> None:
        """Have the next attempt as soon as the cloud allows: what stood in its way has changed."""
        self.due_s = min(self.due_s, self._earliest_s(now_s))

    def _earliest_s(self, now_s: float) -> float:
        return max(now_s, self._began_s + FLOOR_S)

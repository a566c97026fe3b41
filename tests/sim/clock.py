# SPDX-License-Identifier: MIT
"""Time that moves only when the loop waits, and descriptors that are nothing but numbers.

Implements ``updater.activity.Clock`` and ``Waiter``. A descriptor is readable from a time on that
its owner names; waiting jumps to whatever comes first. Hours of a story take milliseconds.
"""

import select
from collections.abc import Mapping

from updater.activity import NEVER_S

_SPINNING = 1000  # turns of the loop without time moving: more than any story needs


class Clock:
    """One clock for device, cloud and test."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.limit_s = NEVER_S
        self.ahead_s = 0.0  # of what monotonic clocks say: the wall clock
        self._readable_from_s: dict[int, float] = {}
        self._last = 99
        self._turns = 0

    def monotonic_s(self) -> float:
        """Return the time."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass while nothing looks at it."""
        self.now_s += seconds

    # --- descriptors -----------------------------------------------------------------------------

    def open(self, readable_from_s: float = NEVER_S) -> int:
        """Return a new descriptor; numbers are never used again."""
        self._last += 1
        self._readable_from_s[self._last] = readable_from_s
        return self._last

    def set_readable(self, fileno: int, from_s: float) -> None:
        """Make *fileno* readable from *from_s* on; ``NEVER_S`` takes that back."""
        assert fileno in self._readable_from_s, f"descriptor {fileno} is closed"
        self._readable_from_s[fileno] = from_s

    def close(self, fileno: int) -> None:
        """Close *fileno*; again is a mistake."""
        del self._readable_from_s[fileno]

    def close_all(self) -> None:
        """Do what the end of a process does."""
        self._readable_from_s.clear()

    @property
    def open_descriptors(self) -> int:
        """How many are open: 0 after an orderly end."""
        return len(self._readable_from_s)

    # --- waiting ---------------------------------------------------------------------------------

    def __call__(self, interests: Mapping[int, int], until_s: float) -> Mapping[int, int]:
        """Jump to the first thing that happens, at most to ``limit_s``."""
        writable = {f: select.POLLOUT for f, events in interests.items() if events & select.POLLOUT}
        readable_s = min((self._readable_from_s[f] for f in interests), default=NEVER_S)
        self._jump(self.now_s if writable else min(readable_s, until_s, self.limit_s))
        readable = {f: select.POLLIN for f in interests if self._readable_from_s[f] <= self.now_s}
        return {f: writable.get(f, 0) | readable.get(f, 0) for f in {*writable, *readable}}

    def _jump(self, to_s: float) -> None:
        assert to_s != NEVER_S, "the loop would wait for ever, and nothing limits the story"
        self._turns = 0 if to_s > self.now_s else self._turns + 1
        assert self._turns < _SPINNING, "the loop spins: something is due and is not done"
        self.now_s = max(self.now_s, to_s)

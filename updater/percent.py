# SPDX-License-Identifier: MIT
"""How far an install is, as the cloud hears it: 0 first, in per cent of the firmware, then burning.

It is said at most once a second and only on change, 0 and 100 always, and never less than before.
What could not be said for want of a link is kept, the latest alone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from updater.activity import NEVER_S, Clock
from updater.core.ports import Phase, Progress

if TYPE_CHECKING:
    from updater.cloud import Cloud

PROGRESS_INTERVAL_S = 1.0
WHOLE = 100


class Percent:
    """What was said of one session, and what is to be said."""

    def __init__(self, clock: Clock, publish: Callable[[int], bool]) -> None:
        """Say by *publish*, which tells whether there is a link."""
        self._clock = clock
        self._publish = publish
        self._wanted: int | None = None
        self._said: int | None = None
        self._said_s = -NEVER_S
        self.due_s = NEVER_S

    def note(self, percent: int) -> None:
        """Say *percent* (0…100) when it is due."""
        last = self._said if self._wanted is None else self._wanted
        if last is not None and percent <= last:
            return
        self._wanted = percent
        if percent in {0, WHOLE}:
            self.say()
        else:
            self.due_s = self._said_s + PROGRESS_INTERVAL_S

    def say(self) -> None:
        """Say it now; without a link it is kept until there is one, or it has changed."""
        self.due_s = NEVER_S
        if self._wanted is None:
            return
        if not self._publish(self._wanted):
            self.due_s = self._clock.monotonic_s()
            return
        self._said, self._wanted = self._wanted, None
        self._said_s = self._clock.monotonic_s()

    def connected(self) -> None:
        """Say that all has come before the burning that follows it."""
        if self._wanted == WHOLE:
            self.say()

    def hush(self) -> None:
        """Say nothing more."""
        self.due_s, self._wanted = NEVER_S, None

    def forget(self) -> None:
        """Begin anew: the session has ended."""
        self.hush()
        self._said = None


def tell_progress(cloud: "Cloud", progress: Progress) -> None:
    """Tell *cloud* of *progress*, once bytes come; what an earlier try has left is said after 0."""
    if progress.phase is Phase.RESUMING:
        return
    tell_bytes(cloud, progress.resumed_bytes, progress.size_bytes)
    tell_bytes(cloud, progress.received_bytes, progress.size_bytes)
    if progress.phase is Phase.VERIFYING:
        cloud.burning()


def tell_bytes(cloud: "Cloud", received_bytes: int, size_bytes: int) -> None:
    """Tell *cloud* that *received_bytes* of *size_bytes* have come."""
    cloud.downloading(0)
    cloud.downloading(min(received_bytes * WHOLE // size_bytes, WHOLE))

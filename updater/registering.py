# SPDX-License-Identifier: MIT
"""A link that registers its device first, if it has no secret yet.

Stands between ``Cloud`` and the real link: until there is a secret the real one is not touched, and
what goes wrong is told as any lost connection. Tries that may succeed later are repeated after 5 to
300 s, each pause drawn from zero to that (full jitter); a definite refusal needs a person and is
tried again after an hour. A secret that somebody else stores meanwhile is noticed within a minute.
"""

import logging
import random
from collections.abc import Callable, Iterable
from typing import Protocol

from updater.activity import NEVER_S, Clock
from updater.core.backoff import doubled_s
from updater.core.errors import LinkError, UpdaterError, WrongStateError
from updater.core.link import Disconnected, Link, LinkEvent

_log = logging.getLogger(__name__)

BACKOFF_S = 5.0
BACKOFF_LIMIT_S = 300.0
REFUSED_S = 3600.0
LOOK_INTERVAL_S = 60.0


class Running(Protocol):
    """A registration under way."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable at the end."""

    def is_over(self) -> bool:
        """Tell whether it has come to its end."""

    def result(self) -> None:
        """Return if the device is registered, once it is over; raise why not."""

    def close(self) -> None:
        """End it; waits only while an answer could be lost for good."""


class Registration(Protocol):
    """Gets the device its secret; never blocks."""

    def is_registered(self) -> bool:
        """Tell whether there is a secret."""

    def start(self) -> Running:
        """Begin to register."""


class RegisteringLink:
    """The link of a device that may have to register first."""

    def __init__(
        self,
        link: Link,
        registration: Registration,
        clock: Clock,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._link = link
        self._registration = registration
        self._clock = clock
        self._draw = draw
        self._running: Running | None = None
        self._is_ready = False
        self._failures = 0
        self._ask_due_s = self._look_due_s = clock.monotonic_s()

    def fileno(self) -> int | None:
        """Return what to watch: the registration's end, or the link's socket."""
        if self._is_ready:
            return self._link.fileno()
        return None if self._running is None else self._running.fileno()

    def wants_write(self) -> bool:
        """Tell whether the link has something left to send."""
        return self._is_ready and self._link.wants_write()

    def next_deadline_s(self) -> float:
        """Return when to look for a secret, or what the link says."""
        if self._is_ready:
            return self._link.next_deadline_s()
        return NEVER_S if self._running is not None else self._look_due_s

    def pump(self, *, readable: bool, writable: bool) -> Iterable[LinkEvent]:
        """Register if that is due; once that is done, let the link work."""
        if self._is_ready:
            return self._link.pump(readable=readable, writable=writable)
        try:
            self._advance()
        except UpdaterError as error:
            return self._failed(error)
        return self._link.pump(readable=False, writable=False) if self._is_ready else ()

    def publish(self, payload: bytes, qos: int) -> int:
        """Queue *payload*; only while connected."""
        return self._link.publish(payload, qos)

    def is_connected(self) -> bool:
        """True while the link is connected."""
        return self._link.is_connected()

    def is_registering(self) -> bool:
        """True until there is a secret."""
        return not self._is_ready

    def close(self) -> None:
        """Close the link, and end a registration."""
        if self._running is not None:
            self._running.close()
        self._link.close()

    def _advance(self) -> None:
        """Take the result of what runs, or look for a secret and begin."""
        if self._running is not None:
            if not self._running.is_over():
                return
            running, self._running = self._running, None
            running.close()
            running.result()
            _log.info("cloud: this device is registered")
        now_s = self._clock.monotonic_s()
        self._is_ready = self._registration.is_registered()
        if not self._is_ready and now_s >= self._ask_due_s:
            _log.info("cloud: this device has no secret yet; it registers")
            self._running = self._registration.start()
        self._look_due_s = min(max(now_s, self._ask_due_s), now_s + LOOK_INTERVAL_S)

    def _failed(self, error: UpdaterError) -> Iterable[LinkEvent]:
        """Tell, and see to the next try."""
        now_s = self._clock.monotonic_s()
        if isinstance(error, WrongStateError):  # somebody else was faster
            pause_s = 0.0
        elif isinstance(error, LinkError):
            pause_s = REFUSED_S
        else:
            pause_s = self._draw(0.0, doubled_s(BACKOFF_S, self._failures, BACKOFF_LIMIT_S))
            self._failures += 1
        self._ask_due_s = now_s + pause_s
        self._look_due_s = min(self._ask_due_s, now_s + LOOK_INTERVAL_S)
        return [Disconnected(f"cannot register: {error}")]

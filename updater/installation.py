# SPDX-License-Identifier: MIT
"""One install under way: attempts, waiting between them, and what ends it.

Owns the running pipeline and the clock of its retries. Does not know the journal, the cloud or the
environment: it tells its listener. A failure leaves the target's head blank, whatever happens next.
"""

import random
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from updater.activity import NEVER_S, Clock
from updater.core.config import DownloadConfig
from updater.core.errors import ForbiddenError, TransportError, UpdaterError
from updater.core.ports import InstallRequest, Phase, Pipeline, Progress, RunningInstall

_POLL_S = 0.25  # how often progress is looked at while bytes flow


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom to tell.

    Attributes:
        progressed: Called with each change of progress.
        completed: Every byte was read back and matched.
        failed: It is over; the error says why.
        needs_url: The URL was refused; a fresh one is waited for.
    """

    progressed: Callable[[Progress], None]
    completed: Callable[[], None]
    failed: Callable[[UpdaterError], None]
    needs_url: Callable[[], None]


class Installation:
    """Brings one image into one slot, with retries; idle between sessions."""

    def __init__(
        self, pipeline: Pipeline, limits: DownloadConfig, clock: Clock, listener: Listener
    ) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._clock = clock
        self._listener = listener
        self._request: InstallRequest | None = None
        self._running: RunningInstall | None = None
        self._attempt = 0
        self._retry_s = NEVER_S
        self._give_up_s = NEVER_S  # set from the first 401 or 403 until bytes flow again
        self._refusal: ForbiddenError | None = None
        self.progress: Progress | None = None

    @property
    def is_waiting_for_url(self) -> bool:
        """True after a 401 or 403, until a fresh URL comes or the time for it is over."""
        return self._refusal is not None

    def start(self, request: InstallRequest) -> None:
        """Begin *request*, from its first byte and with all attempts."""
        self.stop()
        self._request = request
        self._attempt = 0
        self._open()

    def fresh_url(self, url: str) -> None:
        """Take *url* for the same image: at once if one is waited for, else at the next try."""
        if self._request is None:
            return
        self._request = replace(self._request, source=url)
        if self.is_waiting_for_url:
            self._refusal = None
            self._open()

    def stop(self) -> None:
        """Stop whatever goes on; the target's head stays blank."""
        if self._running is not None:
            self._running.close()
        self._running = None
        self._request = None
        self._refusal = None
        self._retry_s = self._give_up_s = NEVER_S
        self.progress = None

    def interests(self) -> Mapping[int, int]:
        """Wait for the pipeline's end."""
        return {} if self._running is None else {self._running.fileno(): select.POLLIN}

    def deadline_s(self) -> float:
        """Wake to look at progress, to try again, or to give up on a fresh URL."""
        return self._give_up_s if self.is_waiting_for_url else self._retry_s

    def wake(self, ready: Mapping[int, int]) -> None:
        """Look at the pipeline, or do what the clock asks for."""
        del ready
        if self._running is not None:
            self._look(self._running)
        elif self._refusal is not None:
            if self._clock.monotonic_s() >= self._give_up_s:
                self._end(self._refusal)
        elif self._clock.monotonic_s() >= self._retry_s:
            self._open()

    def _open(self) -> None:
        """Begin one attempt."""
        assert self._request is not None  # noqa: S101 - start() has set it
        self._attempt += 1
        try:
            self._running = self._pipeline.open_install(self._request)
        except UpdaterError as error:
            self._failed(error)
        else:
            self._retry_s = self._clock.monotonic_s() + _POLL_S

    def _look(self, running: RunningInstall) -> None:
        """Take the pipeline's news."""
        self._retry_s = self._clock.monotonic_s() + _POLL_S
        try:
            progress = running.step(0.0)
        except UpdaterError as error:
            self._failed(error)
            return
        if progress.received_bytes:
            self._give_up_s = NEVER_S
        if progress != self.progress:
            self.progress = progress
            self._listener.progressed(progress)
        if progress.phase is Phase.DONE:
            self.stop()
            self._listener.completed()

    def _failed(self, error: UpdaterError) -> None:
        """Decide between another attempt, a fresh URL and the end."""
        if self._running is not None:
            self._running.close()
            self._running = None
        if isinstance(error, ForbiddenError):
            self._refusal = error
            if self._give_up_s == NEVER_S:
                self._give_up_s = self._clock.monotonic_s() + self._limits.fresh_url_timeout_s
            self._listener.needs_url()
        elif isinstance(error, TransportError) and self._attempt < self._limits.attempts:
            self._retry_s = self._clock.monotonic_s() + self._backoff_s()
        else:
            self._end(error)

    def _backoff_s(self) -> float:
        """Return the pause before the next attempt: exponential with full jitter."""
        longest = min(
            self._limits.backoff_s * 2.0 ** (self._attempt - 1), self._limits.backoff_limit_s
        )
        return random.uniform(0.0, longest)  # noqa: S311 - spreads load, guards nothing

    def _end(self, error: UpdaterError) -> None:
        """Say that it is over."""
        self.stop()
        self._listener.failed(error)

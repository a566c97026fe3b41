# SPDX-License-Identifier: MIT
"""One install under way: the running pipeline, a refused URL, and what ends it.

Reconnecting, pausing and going on after a cut are the pipeline's: what it reports as failed is
final, with two exceptions. A URL that was refused is replaced by a fresh one, and what is of no use
any more is begun again at the first byte. Does not know the journal, the cloud or the environment:
it tells its listener. A failure leaves the target unbootable, whatever happens next.
"""

import logging
import random
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from updater.activity import NEVER_S, Clock
from updater.core.backoff import doubled_s
from updater.core.config import DownloadConfig
from updater.core.errors import ForbiddenError, StartOverError, UpdaterError
from updater.core.ports import InstallRequest, Phase, Pipeline, Progress, RunningInstall

_log = logging.getLogger(__name__)

_POLL_S = 0.25  # how often progress is looked at while bytes flow


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom to tell.

    Attributes:
        progressed: Called with each change of progress.
        completed: Every byte was read back and matched; with MD5 and size of the image.
        failed: It is over; the error says why, the number how many bytes of the firmware had come.
        needs_url: The URL was refused; a fresh one is waited for.
    """

    progressed: Callable[[Progress], None]
    completed: Callable[[str, int], None]
    failed: Callable[[UpdaterError, int], None]
    needs_url: Callable[[], None]


class Installation:
    """Brings one image into one slot; idle between sessions."""

    def __init__(
        self, pipeline: Pipeline, limits: DownloadConfig, clock: Clock, listener: Listener
    ) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._clock = clock
        self._listener = listener
        self._request: InstallRequest | None = None
        self._running: RunningInstall | None = None
        self._url = ""  # what was opened last; the request may have a fresher one
        self._received_bytes = 0  # by what was closed last
        self._restarts = 0
        self._look_s = NEVER_S  # at the running pipeline, or to begin again
        self._give_up_s = NEVER_S  # set from the first 401 or 403 until bytes flow again
        self._refusal: ForbiddenError | None = None
        self.progress: Progress | None = None

    @property
    def is_waiting_for_url(self) -> bool:
        """True after a 401 or 403, until a fresh URL comes or the time for it is over."""
        return self._refusal is not None

    def start(self, request: InstallRequest) -> None:
        """Begin *request*, where its checkpoint says; after a pause it is the same image's."""
        self.pause()
        self._request = request
        self._received_bytes = 0
        self._open(request)

    def fresh_url(self, url: str) -> None:
        """Take *url* for the same image: at once if one is waited for, else when it is needed."""
        if self._request is None:
            return
        self._request = replace(self._request, source=url)
        if self.is_waiting_for_url:
            self._refusal = None
            self._open(self._request)

    def stop(self) -> None:
        """Stop whatever goes on; the target stays unbootable."""
        self.pause()
        self._restarts = 0

    def pause(self) -> None:
        """Stop for now; how often it has begun anew still counts at the next start."""
        self._close()
        self._request = None
        self._refusal = None
        self._look_s = self._give_up_s = NEVER_S
        self.progress = None

    def _close(self) -> None:
        if self._running is not None:
            self._received_bytes = self._running.received_bytes()
            self._running.close()
        self._running = None

    def interests(self) -> Mapping[int, int]:
        """Wait for the pipeline's end."""
        return {} if self._running is None else {self._running.fileno(): select.POLLIN}

    def deadline_s(self) -> float:
        """Wake to look at progress, to begin again, or to give up on a fresh URL."""
        return self._give_up_s if self.is_waiting_for_url else self._look_s

    def wake(self, ready: Mapping[int, int]) -> None:
        """Look at the pipeline, or do what the clock asks for."""
        del ready
        if self._running is not None:
            self._look(self._running)
        elif self._clock.monotonic_s() < self.deadline_s():
            return
        elif self._refusal is not None:
            self._end(self._refusal)
        elif self._request is not None:
            self._open(self._request)

    def _open(self, request: InstallRequest) -> None:
        """Have the pipeline begin."""
        self._url = request.source
        try:
            self._running = self._pipeline.open_install(request)
        except UpdaterError as error:
            self._failed(error)
        else:
            self._look_s = self._clock.monotonic_s() + _POLL_S

    def _look(self, running: RunningInstall) -> None:
        """Take the pipeline's news."""
        self._look_s = self._clock.monotonic_s() + _POLL_S
        try:
            progress = running.step(0.0)
        except UpdaterError as error:
            self._failed(error)
            return
        if progress.received_bytes > progress.resumed_bytes:
            self._give_up_s = NEVER_S
        if progress != self.progress:
            self.progress = progress
            self._listener.progressed(progress)
        if progress.phase is Phase.DONE:
            self._running = None
            self.stop()
            self._listener.completed(running.image_hexdigest(), progress.written_bytes)
            running.close()  # and with it the checkpoint, now that the journal knows

    def _failed(self, error: UpdaterError) -> None:
        """Decide between a fresh URL, the first byte and the end."""
        self._close()
        if isinstance(error, ForbiddenError):
            self._refused(error)
        elif isinstance(error, StartOverError) and self._restarts < self._limits.attempts:
            _log.warning("install: %s; it begins again at the first byte", error)
            self._look_s = self._clock.monotonic_s() + self._pause_s()
            self._restarts += 1
        else:
            self._end(error)

    def _refused(self, error: ForbiddenError) -> None:
        """Go on with a URL that is fresher than the refused one, or wait for one."""
        assert self._request is not None  # noqa: S101 - somebody has begun this
        now_s = self._clock.monotonic_s()
        self._give_up_s = min(self._give_up_s, now_s + self._limits.fresh_url_timeout_s)
        _log.warning("install: %s; it needs a fresh URL", error)
        if self._request.source != self._url and now_s < self._give_up_s:
            self._open(self._request)
            return
        self._refusal = error
        self._listener.needs_url()

    def _pause_s(self) -> float:
        """Return the pause before it begins again: exponential with full jitter."""
        limits = self._limits
        longest_s = doubled_s(limits.backoff_s, self._restarts, limits.backoff_limit_s)
        return random.uniform(0.0, longest_s)  # noqa: S311 - spreads load, guards nothing

    def _end(self, error: UpdaterError) -> None:
        """Say that it is over."""
        self.stop()
        self._listener.failed(error, self._received_bytes)

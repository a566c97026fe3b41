# SPDX-License-Identifier: MIT
"""Progress for people: a live line on a terminal, now and then a plain line elsewhere.

First how much has come, then how much was read back; how fast in the last seconds, and how long the
rest takes at that pace. Shows the same objects that machines get.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TextIO

from updater.core.ports import Phase, Progress

CLEAR_LINE = "\r\x1b[K"
_MIB = 1 << 20
_BAR = 30
_COLUMNS = 80  # where a terminal does not say
_WINDOW_S = 5.0
_SETTLED_S = 0.5  # of work, before a pace is worth telling
_PLAIN_PERCENT = 10
_PLAIN_S = 2.0  # between plain lines, at least
_PLAIN_LIMIT_S = 30.0  # and at most

_WORDS = {
    Phase.RESUMING.value: "checking what is there",
    Phase.CONNECTING.value: "connecting",
    Phase.BLANKING.value: "preparing the medium",
    Phase.RECEIVING.value: "writing",
    Phase.VERIFYING.value: "reading back",
    Phase.DONE.value: "done",
}
_COMING = {Phase.RESUMING.value, Phase.CONNECTING.value, Phase.BLANKING.value}


def progress_status(progress: Progress) -> dict[str, object]:
    """Return *progress* as an object for machines."""
    return {
        "phase": progress.phase.value,
        "format": progress.format,
        "size_bytes": progress.size_bytes,
        "received_bytes": progress.received_bytes,
        "written_bytes": progress.written_bytes,
        "verified_bytes": progress.verified_bytes,
        "resumed_bytes": progress.resumed_bytes,
        "identical_bytes": progress.identical_bytes,
        "zeroed_bytes": progress.zeroed_bytes,
        "retries": progress.retries,
        "bad_blocks": progress.bad_blocks,
    }


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return *count* with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


class Pace:
    """Bytes per second over the last seconds of one phase."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase = ""
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, phase: str, done_bytes: int) -> None:
        """Take in how far *phase* is now."""
        if phase != self._phase:
            self._phase = phase
            self._seen.clear()
        now_s = self._clock()
        self._seen.append((now_s, done_bytes))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= _WINDOW_S:  # noqa: PLR2004 - two ends
            self._seen.popleft()

    def bytes_per_s(self) -> float | None:
        """Return the pace, or None while nobody can tell."""
        if not self._seen:
            return None
        (began_s, began), (now_s, now) = self._seen[0], self._seen[-1]
        return (now - began) / (now_s - began_s) if now_s - began_s >= _SETTLED_S else None


# --- one line ------------------------------------------------------------------------------------


def measure(progress: Any) -> tuple[int, int]:
    """Return how many bytes of how many are done in this phase; of 0 if nobody knows."""
    phase, size = progress["phase"], progress["size_bytes"]
    if phase == Phase.RESUMING.value:
        return progress["resumed_bytes"], size
    if phase == Phase.VERIFYING.value and progress["verified_bytes"]:
        return progress["verified_bytes"], progress["written_bytes"]
    return progress["received_bytes"], size


def progress_text(
    progress: Any, pace_bytes_per_s: float | None = None, *, bar: int = _BAR, writing: str = ""
) -> str:
    """Return one line; its bar is *bar* columns wide, and *writing* says what is being done."""
    done, size = measure(progress)
    parts = []
    if size:
        percent = min(done * 100 // size, 100)
        drawn = ("#" * (percent * bar // 100)).ljust(bar, ".") + " " if bar else ""
        parts.append(f"{drawn}{percent:3} %")
        parts.append(f"{done / _MIB:.1f} of {size / _MIB:.1f} MiB")
    else:
        parts.append(f"{done / _MIB:.1f} MiB")
    if pace_bytes_per_s is not None and progress["phase"] != Phase.DONE.value:
        parts.append(f"{pace_bytes_per_s / _MIB:.1f} MiB/s")
        if size and pace_bytes_per_s > 0 and progress["phase"] not in _COMING:
            parts.append(f"{_duration(max(size - done, 0) / pace_bytes_per_s)} left")
    parts.append(_word(progress, writing))
    if progress["retries"]:
        parts.append(counted(progress["retries"], "retry", "retries"))
    return "  ".join(parts)


def _word(progress: Any, writing: str) -> str:
    phase = progress["phase"]
    if phase == Phase.RECEIVING.value and writing:
        return writing
    if phase == Phase.VERIFYING.value and not progress["verified_bytes"]:
        return "finishing"
    return _WORDS[phase]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# --- many lines ----------------------------------------------------------------------------------


class ProgressLine:
    """Progress on a stream: one live line on a terminal, a plain line now and then elsewhere."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_live_only: bool = False,
        writing: str = "",
    ) -> None:
        """Show it on *stream*: standard error, unless told otherwise.

        Args:
            stream: Where to.
            clock: Seconds since some fixed point.
            is_live_only: Show nothing where there is no terminal.
            writing: What is being done with the bytes that come, in place of "writing".
        """
        self._stream = stream or sys.stderr
        self._is_live = self._stream.isatty()
        self._is_silent = is_live_only and not self._is_live  # nobody reads it
        self._clock = clock
        self._writing = writing
        self._pace = Pace(clock)
        self._shown = ""
        self._told: tuple[str, int, float] | None = None  # phase, per cent, when

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._shown and self._is_live and not self._is_silent:
            self._write("\n")

    def show(self, progress: Any) -> None:
        """Show *progress*, an object for machines or None, if it is news."""
        if progress is None or self._is_silent:
            return
        self._pace.note(progress["phase"], measure(progress)[0])
        if self._is_live:
            self._show_live(progress)
        elif self._is_due(progress):
            self._write(self._text(progress, 0) + "\n")

    def _show_live(self, progress: Any) -> None:
        room = _columns(self._stream) - 1  # a terminal may wrap a line that fills it
        bar = min(max(room - len(self._text(progress, 0)) - 1, 0), _BAR)
        text = self._text(progress, bar)[:room]
        if text != self._shown:
            self._write(CLEAR_LINE + text)
            self._shown = text

    def _text(self, progress: Any, bar: int) -> str:
        pace = self._pace.bytes_per_s()
        return progress_text(progress, pace, bar=bar, writing=self._writing)

    def _is_due(self, progress: Any) -> bool:
        """Tell whether a plain line is due: a new phase, a tenth further, or a long silence.

        Not at the end, of which whoever shows this has more to say.
        """
        if progress["phase"] == Phase.DONE.value:
            return False
        done, size = measure(progress)
        percent = done * 100 // size if size else 0
        now_s = self._clock()
        if self._told is not None:
            phase, told, told_s = self._told
            is_further = percent - told >= _PLAIN_PERCENT and now_s - told_s >= _PLAIN_S
            if phase == progress["phase"] and not is_further and now_s - told_s < _PLAIN_LIMIT_S:
                return False
        self._told = progress["phase"], percent, now_s
        return True

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # whoever read it has gone: that ends no write
            self._is_silent = True
            silence(self._stream)


def silence(stream: TextIO) -> None:
    """Send to nowhere what nobody reads; what is left of it would fail once more at the exit."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        os.dup2(nowhere.fileno(), stream.fileno())


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):  # no terminal behind it, whatever isatty says
        return _COLUMNS

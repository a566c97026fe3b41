# SPDX-License-Identifier: MIT
"""Windows of local time: whether one is open, and when the next one opens.

A window is of wall-clock fields, as people mean it: `Mon-Fri 22:00-05:00` is every such night, also
the one that has an hour more or less. What local time a UNIX time has is asked of an injected
function; nothing here knows a time zone. Where the clock jumps over a window it does not open on
that day; where an hour comes twice it is open twice.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from updater.core.errors import ConfigError
from updater.core.ports import LocalTime

MINUTES = 24 * 60  # of a day
_FARTHEST_S = 15 * 86400  # a weekly window that a clock's jump has swallowed comes a week later
_LONGEST_JUMP = 6 * 60  # minutes; no zone changes its clock twice within

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_TEXT = re.compile(r"(?:([A-Za-z,-]+) +)?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")

LocalClock = Callable[[float], LocalTime]  # UNIX seconds to local time


@dataclass(frozen=True, slots=True)
class Window:
    """From *begin* to *end*, minutes of the day; an end that is not after it is the next day's.

    Attributes:
        days: Of its beginning; 0 is Monday.
    """

    days: frozenset[int]
    begin: int
    end: int

    def is_open(self, now: LocalTime) -> bool:
        """Tell whether *now* is within."""
        if self.begin < self.end:
            return now.weekday in self.days and self.begin <= now.minute < self.end
        is_first = now.weekday in self.days and now.minute >= self.begin
        return is_first or ((now.weekday - 1) % 7 in self.days and now.minute < self.end)


def parse_windows(texts: Iterable[str]) -> tuple[Window, ...]:
    """Return the windows that *texts* describe.

    Raises:
        ConfigError: One of them describes none.
    """
    return tuple(map(_parse, texts))


def _parse(text: str) -> Window:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{text!r} is no window; one looks like `02:00-04:00`, `Mon-Fri 22:00-05:00` or "
            "`Sat,Sun 00:00-24:00`"
        )
    days, *clock = match.groups()
    begin_h, begin_m, end_h, end_m = map(int, clock)
    begin, end = begin_h * 60 + begin_m, end_h * 60 + end_m
    if begin_m > 59 or end_m > 59 or begin >= MINUTES or end > MINUTES:  # noqa: PLR2004 - minutes
        raise ConfigError(f"{text!r}: a day goes from 00:00 to 24:00")
    if begin == end:
        raise ConfigError(f"{text!r} begins where it ends; a whole day is 00:00-24:00")
    return Window(frozenset(range(7)) if days is None else _days(days, text), begin, end)


def _days(text: str, window: str) -> frozenset[int]:
    """Return the days of `Mon-Fri` or `Sat,Sun`; `Fri-Mon` goes over the weekend."""
    days: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not set(ends) <= set(_DAYS):  # noqa: PLR2004 - from and to
            raise ConfigError(f"{window!r}: {part!r} is no day; days are {', '.join(_DAYS)}")
        first, last = _DAYS.index(ends[0]), _DAYS.index(ends[-1])
        days.update((first + more) % 7 for more in range((last - first) % 7 + 1))
    return frozenset(days)


def is_open(windows: Sequence[Window], now: LocalTime) -> bool:
    """Tell whether one of *windows* is open; none at all means always."""
    return not windows or any(window.is_open(now) for window in windows)


def next_opening_s(windows: Sequence[Window], now_s: float, local: LocalClock) -> float | None:
    """Return when one of *windows*, shut at *now_s*, opens, UNIX seconds; None: never."""
    edges = {window.begin for window in windows} | {window.end % MINUTES for window in windows}
    return _first(now_s, local, lambda then: is_open(windows, then), edges | {0})


def next_day_s(now_s: float, local: LocalClock) -> float | None:
    """Return when the local day of *now_s* is over, UNIX seconds; None: never."""
    today = local(now_s).day
    return _first(now_s, local, lambda then: then.day != today, {0})


def _first(
    now_s: float, local: LocalClock, is_so: Callable[[LocalTime], bool], edges: Iterable[int]
) -> float | None:
    """Return the first full local minute after *now_s* of which *is_so*.

    Between two *edges* (minutes of the day) nothing changes as long as the clock goes evenly; where
    it does not, the steps become as small as a minute.
    """
    then_s = now_s // 1 + 60 - local(now_s).second
    while then_s - now_s < _FARTHEST_S:
        then = local(then_s)
        if is_so(then):
            return then_s
        jump = min(_LONGEST_JUMP, *((edge - then.minute - 1) % MINUTES + 1 for edge in edges))
        while jump > 1 and not _is_even(then, local(then_s + jump * 60), jump):
            jump //= 2
        then_s += jump * 60
    return None


def _is_even(one: LocalTime, other: LocalTime, minutes: int) -> bool:
    """Tell whether the wall clock shows as many minutes between the two as have passed."""
    return (other.day - one.day) * MINUTES + other.minute - one.minute == minutes

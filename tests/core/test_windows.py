# SPDX-License-Identifier: MIT
"""Windows of local time: what opens when, over every change of a zone's clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updater.core.errors import ConfigError
from updater.core.ports import LocalTime
from updater.core.windows import (
    LocalClock,
    Window,
    is_open,
    next_day_s,
    next_opening_s,
    parse_windows,
)

DAY_S = 86400
ZONES = [
    "UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Chatham",
    "Africa/Casablanca", "America/Santiago", "Asia/Kathmandu", "Pacific/Apia",
]  # fmt: skip
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def clock(zone: str) -> LocalClock:
    """Return what *zone* makes of UNIX times."""
    info = ZoneInfo(zone)

    def local(time_s: float) -> LocalTime:
        now = datetime.fromtimestamp(time_s, info)
        day = now.date().toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()
        return LocalTime(day, now.hour * 60 + now.minute, now.second)

    return local


def at(text: str, zone: str = "UTC") -> float:
    """Return the UNIX time of a local *text*."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


# --- what a text means ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("02:00-04:00", ["2026-03-04T02:00", "2026-03-08T03:59:59"],
         ["2026-03-04T01:59:59", "2026-03-04T04:00"]),
        # 2026-03-02 is a Monday
        ("Mon-Fri 22:00-05:00", ["2026-03-02T22:00", "2026-03-07T04:59"],
         ["2026-03-02T04:59", "2026-03-07T22:00", "2026-03-02T21:59"]),
        ("Sat,Sun 00:00-24:00", ["2026-03-07T00:00", "2026-03-08T23:59:59"],
         ["2026-03-06T23:59:59", "2026-03-09T00:00"]),
        ("Fri-Mon 10:00-11:00", ["2026-03-06T10:00", "2026-03-08T10:30", "2026-03-09T10:59"],
         ["2026-03-05T10:00", "2026-03-10T10:00"]),
        ("Sun 23:00-00:00", ["2026-03-08T23:30"], ["2026-03-09T00:00", "2026-03-08T00:30"]),
        ("Sun,Tue-Wed 22:00-24:00", ["2026-03-03T22:00", "2026-03-08T22:00"], ["2026-03-02T22:00"]),
    ],
)  # fmt: skip
def test_a_window_is_open_between_its_edges(
    text: str, inside: list[str], outside: list[str]
) -> None:
    """From its first minute on, and no longer in its last; a night belongs to its evening."""
    windows, local = parse_windows([text]), clock("UTC")
    assert all(is_open(windows, local(at(when))) for when in inside)
    assert not any(is_open(windows, local(at(when))) for when in outside)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no window"),
        ("22-05", "is no window"),
        ("2:00-4:00", "is no window"),
        ("Mon 22:00-05:00 ", "is no window"),
        ("Mon22:00-05:00", "is no window"),
        ("22:00-25:00", "a day goes from 00:00 to 24:00"),
        ("24:00-01:00", "a day goes from 00:00 to 24:00"),
        ("22:60-23:00", "a day goes from 00:00 to 24:00"),
        ("22:00-23:60", "a day goes from 00:00 to 24:00"),
        ("05:00-05:00", "begins where it ends; a whole day is 00:00-24:00"),
        ("Mo 22:00-05:00", "'Mo' is no day; days are Mon, Tue"),
        ("mon 22:00-05:00", "'mon' is no day"),
        ("Mon-Tue-Wed 22:00-05:00", "'Mon-Tue-Wed' is no day"),
        ("Mon,,Tue 22:00-05:00", "'' is no day"),
    ],
)
def test_what_is_no_window_is_refused(text: str, reason: str) -> None:
    """With a sentence that says how one looks."""
    with pytest.raises(ConfigError, match=reason):
        parse_windows(["02:00-04:00", text])


def test_no_window_at_all_is_always_open() -> None:
    """An empty list forbids nothing."""
    assert is_open((), LocalTime(0, 0))


# --- the next opening -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "texts", "now", "opens"),
    [
        ("UTC", ["02:00-04:00"], "2026-03-04T04:00", "2026-03-05T02:00"),
        ("UTC", ["02:00-04:00"], "2026-03-04T01:59:59.5", "2026-03-04T02:00"),
        ("UTC", ["Sat 02:00-04:00", "Thu 09:00-10:00"], "2026-03-04T12:00", "2026-03-05T09:00"),
        ("UTC", ["Wed 02:00-04:00"], "2026-03-04T04:00", "2026-03-11T02:00"),
        # 02:00 to 03:00 does not exist on 2026-03-29: the window opens in its second half
        ("Europe/Berlin", ["02:30-03:30"], "2026-03-29T01:00", "2026-03-29T03:00"),
        # nor does this whole window: it opens the next day, or the next week
        ("Europe/Berlin", ["02:15-02:45"], "2026-03-29T01:00", "2026-03-30T02:15"),
        ("Europe/Berlin", ["Sun 02:15-02:45"], "2026-03-29T01:00", "2026-04-05T02:15"),
        # 02:00 to 03:00 comes twice on 2026-10-25: the window opens twice
        ("Europe/Berlin", ["02:15-02:45"], "2026-10-25T02:50", "2026-10-25T02:15+01:00"),
    ],
)
def test_the_next_opening_is_told(zone: str, texts: list[str], now: str, opens: str) -> None:
    """As the wall clock says, whatever it jumps over."""
    found = next_opening_s(parse_windows(texts), at(now, zone), clock(zone))
    wanted = datetime.fromisoformat(opens)
    assert found == (wanted.timestamp() if wanted.tzinfo else at(opens, zone))


def test_a_clock_that_stands_still_opens_nothing() -> None:
    """What never comes is told as never; the search ends."""
    windows = parse_windows(["02:00-04:00"])
    assert next_opening_s(windows, 0.0, lambda _time_s: LocalTime(0, 0)) is None


edges = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 59]))
texts = st.builds(
    "{}{}-{}".format,
    st.sampled_from(["", *(f"{day} " for day in DAYS), "Mon-Fri ", "Sat,Sun "]),
    edges,
    edges,
).filter(lambda text: text[-11:-6] != text[-5:])
# around the changes of the clock in every zone above, and anywhere
moments = st.sampled_from(
    ["2026-03-08", "2026-03-29", "2026-04-05", "2026-09-05", "2026-09-27", "2026-10-04",
     "2026-10-25", "2026-11-01", "2026-02-15", "2026-03-22"],
).flatmap(
    lambda day: st.integers(-2 * DAY_S, DAY_S).map(lambda more: at(f"{day}T00:00") + more)
) | st.integers(1_704_067_200, 2_000_000_000)  # fmt: skip


@given(st.sampled_from(ZONES), st.lists(texts, min_size=1, max_size=2), moments)
@settings(deadline=None, max_examples=30)
def test_the_next_opening_is_open_and_nothing_before_it_is(
    zone: str, texts: list[str], now_s: float
) -> None:
    """Minute by minute, a day from now and a day before it, over every change of a clock."""
    windows, local = parse_windows(texts), clock(zone)
    if is_open(windows, local(now_s)):
        return
    found = next_opening_s(windows, now_s, local)
    assert found is not None
    assert found > now_s
    assert is_open(windows, local(found))
    first_s = int(now_s + 60 - local(now_s).second)
    near = [*range(first_s, int(found), 60)]
    assert not any(is_open(windows, local(then)) for then in near[:1600] + near[-1600:])


@given(st.sampled_from(ZONES), moments)
@settings(deadline=None, max_examples=60)
def test_the_next_day_is_the_next_day(zone: str, now_s: float) -> None:
    """Its first minute, an hour more or less."""
    local = clock(zone)
    found = next_day_s(now_s, local)
    assert found is not None
    today = local(now_s).day
    assert local(found).day != today
    assert local(found - 1).day == today
    assert found - now_s <= timedelta(hours=25).total_seconds()


def test_a_window_knows_its_days_by_number() -> None:
    """0 is Monday, as in a calendar's column."""
    assert parse_windows(["Mon,Sun 01:00-02:00"]) == (Window(frozenset({0, 6}), 60, 120),)
    assert LocalTime(0, 0).weekday == 3  # 1970-01-01 was a Thursday

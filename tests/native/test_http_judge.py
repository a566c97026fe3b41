# SPDX-License-Identifier: MIT
"""Answers that contradict themselves or come from another clock, under AddressSanitizer."""

import time
from collections.abc import Iterator
from email.utils import formatdate
from itertools import pairwise

import pytest
from hostile import HostileServer, Script, begin
from sanitized import IMAGE, Slot, Status
from scripts import (
    AGAIN,
    ETAG,
    LAST,
    UNSIZED,
    chunks,
    cut,
    fetch,
    in_turn,
    rest,
    said,
    status,
    whole,
)

AT = 300_001  # where the first connection breaks off
SIZE = len(IMAGE)
DATE = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"
YEAR_S = 365 * 24 * 3600


def part(of: int, sends: int) -> Script:
    """Return a script that tells of *of* bytes from where it is asked to, and sends *sends*."""

    def script(request: bytes) -> Iterator[bytes]:
        at = begin(request)
        told = f"HTTP/1.1 206 Part\r\nContent-Range: bytes {at}-{at + of - 1}/{SIZE}\r\n"
        yield f"{told}Transfer-Encoding: chunked\r\n\r\n".encode()
        yield from chunks(IMAGE[at : at + sends], 50_000)
        yield LAST

    return script


SAME: dict[str, tuple[Script, ...]] = {
    "a date, and later a tag too": (whole(DATE, sends=AT), rest(DATE, ETAG)),
    "a tag, and later a date too": (whole(ETAG, sends=AT), rest(DATE, ETAG)),
    "a date, and later a tag alone": (whole(DATE, sends=AT), rest(ETAG)),
    "both, and later the tag alone": (whole(DATE, ETAG, sends=AT), rest(ETAG)),
    "both, and later another date, which the tag outdoes": (
        whole(DATE, ETAG, sends=AT), rest(ETAG, DATE.replace("21", "22")),
    ),
    "a tag, and later the same one, weak": (whole(ETAG, sends=AT), rest('ETag: W/"one"')),
    "a part that is shorter than it tells": (
        whole(ETAG, sends=AT), part(of=200_000, sends=100_000), rest(ETAG),
    ),
}  # fmt: skip


@pytest.mark.parametrize("scripts", SAME.values(), ids=SAME.keys())
def test_an_object_is_the_same_while_nothing_says_another(
    slot: Slot, server: HostileServer, scripts: tuple[Script, ...]
) -> None:
    """A tag is compared with a tag and a date with a date."""
    outcome = fetch(slot, server, in_turn(*scripts), **AGAIN)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert len(server.requests) == len(scripts)


OTHER: dict[str, Script] = {
    "more than the part that it tells of": part(of=100, sends=200_000),
    "a byte more than that": part(of=100_000, sends=100_001),
    "parts, though it tells of one": rest(ETAG, "Content-Type: multipart/byteranges; boundary=x"),
    "another weak tag": rest('ETag: W/"two"'),
    "a tag that is none": rest("ETag: one"),
}


@pytest.mark.parametrize("script", OTHER.values(), ids=OTHER.keys())
def test_an_answer_that_contradicts_itself_starts_over(
    slot: Slot, server: HostileServer, script: Script
) -> None:
    """Also where the bytes themselves would have been right."""
    outcome = fetch(slot, server, in_turn(whole(ETAG, sends=AT), script, rest(ETAG)), **AGAIN)
    assert (outcome.status, len(server.requests)) == (Status.AGAIN, 2)


@pytest.mark.parametrize("sent", [0, AT], ids=["at first", "in the middle"])
@pytest.mark.parametrize("at", [1, 9, 13, 16, 17, 18, 30, 41, 43, 53, 60])
def test_headers_that_break_off_are_none(
    slot: Slot, server: HostileServer, at: int, sent: int
) -> None:
    """What the rest of them would have said is not taken for unsaid: it is asked for again."""
    scripts = [whole(ETAG, sends=sent)] if sent else []
    script = in_turn(*scripts, cut(rest(ETAG), at), rest(ETAG))
    outcome = fetch(slot, server, script, size=0, **AGAIN)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert len(server.requests) == len(scripts) + 2


def test_an_object_whose_end_nobody_would_know_is_refused_at_once(
    slot: Slot, server: HostileServer
) -> None:
    """No length, no chunks, no digest: another attempt would bring the same, so there is none."""
    outcome = fetch(slot, server, said(UNSIZED, IMAGE), size=0, md5=None, **AGAIN)
    assert (outcome.status, len(server.requests)) == (Status.TRANSPORT, 1)
    assert "does not say where the object ends" in outcome.message
    assert slot.is_untouched()
    assert fetch(slot, server, said(UNSIZED, IMAGE), size=0, **AGAIN).status == Status.DONE


@pytest.mark.parametrize("years", [-56, 30])
def test_a_date_is_meant_by_the_servers_clock(
    slot: Slot, server: HostileServer, years: int
) -> None:
    """This device's may be years away from it: what counts is the time between two dates."""
    now_s = time.time() + years * YEAR_S
    date, after = formatdate(now_s, usegmt=True), formatdate(now_s + 1, usegmt=True)
    later = status("503 Later", f"Retry-After: {after}", f"Date: {date}")
    began_s = time.monotonic()
    assert fetch(slot, server, in_turn(later, whole(ETAG)), **AGAIN).status == Status.DONE
    assert 1 <= time.monotonic() - began_s < 2.5


@pytest.mark.parametrize(("after", "limit_ms", "left"), [(100_000, 0, 86_400), (9, 5_500, 5)])
def test_a_time_for_which_there_is_none_is_told(
    slot: Slot, server: HostileServer, after: int, limit_ms: int, left: int
) -> None:
    """The sentence has the status, what the server asks for and what is left."""
    script = status("503 Later", f"Retry-After: {after}")
    outcome = fetch(slot, server, script, **AGAIN | {"retry_time_ms": limit_ms})
    assert (outcome.status, outcome.facts["http_status"]) == (Status.TRANSPORT, 503)
    assert f"status 503 and asks to wait {after} s: {left} s are left" in outcome.message


def test_what_a_server_asks_for_is_spread(slot: Slot, server: HostileServer) -> None:
    """A fleet that was told one time does not come back at one moment."""
    times: list[float] = []

    def later(request: bytes) -> object:
        times.append(time.monotonic())
        return status("503 Later", "Retry-After: 0")(request)

    orders = {"attempts": 9, "backoff_ms": 100, "backoff_limit_ms": 100}
    assert fetch(slot, server, later, **orders).status == Status.TRANSPORT
    pauses = [after - before for before, after in pairwise(times)]
    assert max(pauses) - min(pauses) > 0.02


def test_the_last_attempt_is_made_when_the_time_is_up(slot: Slot, server: HostileServer) -> None:
    """A long pause is cut to what is left, and not left out with the attempt behind it."""
    orders = {"attempts": 99, "backoff_ms": 3_600_000, "backoff_limit_ms": 3_600_000}
    began_s = time.monotonic()
    script = in_turn(status("503 x"), whole(ETAG))
    outcome = fetch(slot, server, script, retry_time_ms=500, **orders)
    assert (outcome.status, len(server.requests)) == (Status.DONE, 2)
    assert 0.45 < time.monotonic() - began_s < 2

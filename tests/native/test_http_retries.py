# SPDX-License-Identifier: MIT
"""When the engine tries again, how long it waits, and when it stops, under AddressSanitizer."""

import time
from collections.abc import Iterable
from email.utils import formatdate
from itertools import chain, pairwise, repeat

import pytest
from hostile import HostileServer, Script, answer, begin
from sanitized import IMAGE, Slot, Status
from scripts import (
    AGAIN,
    ETAG,
    OK,
    fetch,
    for_ever,
    in_turn,
    redirect,
    reset_after,
    rest,
    said,
    slowly,
    status,
    timed,
    whole,
)

KIB = 1024
DAY_S = 24 * 3600

PASSING: dict[str, Script] = {
    "no answer": said(),
    "a reset": reset_after(said()),
    "a reset in the headers": reset_after(said(OK)),
    "half a header": said(OK + b"Content-Le"),
    "no HTTP": said(b"what?\r\n\r\n"),
    "silence": for_ever(then=b""),
    "a header now and then": slowly(OK, then=b"X-Y: z\r\n"),
    "headers without end": for_ever(OK, then=b"X-Y: z\r\n" * 1000),
    "redirects without end": lambda _: redirect("/loop")(b""),
    "a redirect to a closed port": redirect("http://127.0.0.1:1/"),
    "a part unasked": lambda _: answer(
        IMAGE, f"Content-Range: bytes 0-{len(IMAGE) - 1}/{len(IMAGE)}", status="206 Partial"
    ),
    "416 unasked": status("416 No"),
    **{f"{n}": status(f"{n} Later") for n in (408, 429, 500, 501, 502, 503, 504, 599)},
}


@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_tried_again(slot: Slot, server: HostileServer, script: Script) -> None:
    """The second connection brings the object, and asks for all of it."""
    server.url("/loop", redirect("/loop"))
    outcome = fetch(slot, server, in_turn(script, whole(ETAG)), **AGAIN)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert outcome.facts["retries"] == 1
    assert begin(server.requests[-1]) == 0


PERMANENT = (400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 413, 414, 417, 421, 426, 451, 499)


@pytest.mark.parametrize("code", PERMANENT)
def test_what_does_not_pass_is_not(slot: Slot, server: HostileServer, code: int) -> None:
    """One request, and its status is the answer."""
    script = in_turn(status(f"{code} No"), whole(ETAG))
    outcome = fetch(slot, server, script, **AGAIN)
    assert (outcome.status, outcome.facts["http_status"]) == (Status.HTTP, code)
    assert len(server.requests) == 1
    assert slot.is_untouched()


REFUSED: dict[str, Script] = {
    "no word": said(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n"),
    "a reset": reset_after(said(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n")),
    "silence": for_ever(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n", then=b""),
    "words without end": for_ever(b"HTTP/1.1 403 No\r\n\r\n", then=b"no" * 9999),
}


@pytest.mark.parametrize("script", REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_stands_whatever_follows_it(
    slot: Slot, server: HostileServer, script: Script
) -> None:
    """The status says no, and the words that go with it are not waited for."""
    outcome = fetch(slot, server, in_turn(script, whole(ETAG)), **AGAIN)
    assert (outcome.status, outcome.facts["http_status"]) == (Status.HTTP, 403)
    assert len(server.requests) == 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_counted(slot: Slot, server: HostileServer, attempts: int) -> None:
    """So many connections, and the last one's reason."""
    scripts = [status("500 x")] * (attempts - 1)
    script = in_turn(*scripts, status("503 x"), whole(ETAG))
    outcome = fetch(slot, server, script, **AGAIN | {"attempts": attempts})
    assert (outcome.status, outcome.facts["http_status"]) == (Status.TRANSPORT, 503)
    assert len(server.requests) == attempts
    assert outcome.facts["retries"] == attempts - 1
    assert slot.is_untouched()


def test_only_attempts_in_a_row_that_bring_nothing_count(slot: Slot, server: HostileServer) -> None:
    """A line that breaks off every 64 KiB brings any object in, with two attempts."""
    orders = AGAIN | {"attempts": 2, "backoff_ms": 1}
    outcome = fetch(slot, server, rest(ETAG, sends=64 * KIB), **orders)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert outcome.facts["retries"] == len(IMAGE) // (64 * KIB)


def test_a_server_cannot_feed_the_device_crumbs(slot: Slot, server: HostileServer) -> None:
    """Connections that bring less than 64 KiB are counted as if they had brought nothing."""
    script = rest(ETAG, sends=64 * KIB - 1)
    outcome = fetch(slot, server, script, **AGAIN | {"attempts": 4})
    assert outcome.status == Status.TRANSPORT
    assert len(server.requests) == 4


def test_time_without_progress_is_limited(slot: Slot, server: HostileServer) -> None:
    """However many attempts are left."""
    began_s = time.monotonic()
    orders = {"attempts": 10000, "backoff_ms": 20, "backoff_limit_ms": 20, "retry_time_ms": 600}
    outcome = fetch(slot, server, status("503 x"), **orders)
    assert outcome.status == Status.TRANSPORT
    assert 0.5 < time.monotonic() - began_s < 2
    assert len(server.requests) > 5


def test_time_counts_from_the_last_progress(slot: Slot, server: HostileServer) -> None:
    """Longer than the limit in all is no reason to end while bytes come."""

    def spaced(request: bytes) -> chain[bytes]:
        return chain(repeat(b"", 10), rest(ETAG, sends=128 * KIB)(request))  # 0.2 s first

    began_s = time.monotonic()
    orders = {"attempts": 9, "backoff_ms": 1, "backoff_limit_ms": 1, "retry_time_ms": 700}
    outcome = fetch(slot, server, spaced, within_s=9, **orders)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert time.monotonic() - began_s > 2


def test_pauses_are_random_and_no_longer_than_they_may_be(
    slot: Slot, server: HostileServer
) -> None:
    """Full jitter, so that a fleet does not come back all at once; the longest doubles."""
    orders = {"attempts": 12, "backoff_ms": 100, "backoff_limit_ms": 400}
    times: list[float] = []
    outcome = fetch(slot, server, timed(said(), times), within_s=9, **orders)
    assert outcome.status == Status.TRANSPORT
    pauses = [later - earlier for earlier, later in pairwise(times)]
    for n, pause in enumerate(pauses):
        assert pause < min(0.1 * 2**n, 0.4) + 0.3
    assert max(pauses) > 2 * min(pauses)


AFTER: dict[str, tuple[str, bool]] = {
    "a second": ("1", True),
    "a second among blanks": (" 1 ", True),
    "none": ("0", False),
    "no number": ("soon", False),
    "a number below zero": ("-1", False),
    "half a second, which HTTP does not know": ("0.5", False),
    "a number and more": ("1 hour", False),
    "nothing": ("", False),
    "a date that is past": ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    "a date that is none": ("Wed, 99 Oct 2015 99:28:00 GMT", False),
}


@pytest.mark.parametrize("line", ["503 Later", "429 Slowly"])
@pytest.mark.parametrize(("value", "waits"), AFTER.values(), ids=AFTER.keys())
def test_a_server_that_names_a_time_is_heard(
    slot: Slot, server: HostileServer, line: str, value: str, *, waits: bool
) -> None:
    """What makes no sense is as if it were not there."""
    times: list[float] = []
    script = in_turn(status(line, f"Retry-After: {value}"), whole(ETAG))
    assert fetch(slot, server, timed(script, times), **AGAIN).status == Status.DONE
    assert (times[1] - times[0] > 0.95) == waits


def test_a_date_is_heard(slot: Slot, server: HostileServer) -> None:
    """As HTTP writes it, by this device's clock, in the middle of the object too."""
    times: list[float] = []

    def later(request: bytes) -> Iterable[bytes]:
        value = formatdate(time.time() + 2, usegmt=True)
        return status("503 Later", f"Retry-After: {value}")(request)

    script = in_turn(whole(ETAG, sends=99_999), later, rest(ETAG))
    assert fetch(slot, server, timed(script, times), within_s=4, **AGAIN).status == Status.DONE
    assert 0.9 < times[2] - times[1] < 2.5  # a date has no fractions


TOO_LONG: dict[str, tuple[str, int]] = {
    "a million seconds": ("1000000", 0),
    "a second more than a day": (str(DAY_S + 1), 0),
    "a date years away": ("Wed, 21 Oct 2099 07:28:00 GMT", 0),
    "more than the time that is left": ("2", 1500),
    "more seconds than fit into milliseconds": (str((1 << 63) // 1000), 0),
}


@pytest.mark.parametrize(("value", "limit_ms"), TOO_LONG.values(), ids=TOO_LONG.keys())
def test_a_time_that_is_too_far_away_ends_it_at_once(
    slot: Slot, server: HostileServer, value: str, limit_ms: int
) -> None:
    """The caller has better things to do than to wait for that."""
    script = in_turn(status("503 x", f"Retry-After: {value}"), whole(ETAG))
    orders = AGAIN | {"retry_time_ms": limit_ms}
    outcome = fetch(slot, server, script, within_s=1, **orders)
    assert (outcome.status, outcome.facts["http_status"]) == (Status.TRANSPORT, 503)
    assert len(server.requests) == 1


PAUSES: dict[str, tuple[Script, dict[str, int]]] = {
    "its own": (said(), {"backoff_ms": 3_600_000, "backoff_limit_ms": 3_600_000}),
    "the server's": (status("503 x", "Retry-After: 3600"), {}),
    "in the middle": (
        in_turn(whole(ETAG, sends=99_999), status("503 x", "Retry-After: 3600")), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("script", "more"), PAUSES.values(), ids=PAUSES.keys())
def test_a_cancel_does_not_wait_for_a_pause(
    slot: Slot, server: HostileServer, script: Script, more: dict[str, int]
) -> None:
    """Closing takes no longer than a blink while the next attempt is an hour away."""
    outcome = fetch(slot, server, script, **AGAIN | more, closes_at_ms=300)
    assert outcome.status == Status.MORE
    assert outcome.facts["close_ms"] < 250


def test_the_pipeline_waits_for_the_next_attempt_and_loses_nothing(
    slot: Slot, server: HostileServer
) -> None:
    """What was received before a pause is hashed and written, and so is the rest."""
    script = in_turn(whole(ETAG, sends=700_000), status("503 x", "Retry-After: 1"), rest(ETAG))
    outcome = fetch(slot, server, script, sha256="", **AGAIN)
    assert outcome.status == Status.DONE
    assert outcome.facts["received"] == outcome.facts["written"] == len(IMAGE)


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_redirects_are_limited(slot: Slot, server: HostileServer, limit: int) -> None:
    """As many as are allowed, and not one more."""
    for hop in range(limit + 1):
        server.url(f"/hop{hop}", redirect(f"/hop{hop + 1}") if hop < limit else whole())
    outcome = fetch(slot, server, redirect("/hop0"), max_redirects=limit + 1)
    assert outcome.status == Status.DONE
    slot.refresh()
    outcome = fetch(slot, server, redirect("/hop0"), max_redirects=limit)
    assert outcome.status == Status.TRANSPORT


@pytest.mark.parametrize("bandwidth", [100_000, 400_000, 1_500_000])
def test_a_bandwidth_is_kept(slot: Slot, server: HostileServer, bandwidth: int) -> None:
    """The download takes as long as it must, within 15 %, and a pause of ours is no stall."""
    image = IMAGE[: bandwidth * 2]
    url = server.url("/slow", whole(image=image))
    began_s = time.monotonic()
    outcome = slot.fill(image, source=url, bandwidth=bandwidth, stall_timeout_ms=1000)
    took_s = time.monotonic() - began_s
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    expected_s = len(image) / bandwidth
    assert 0.85 * expected_s < took_s < 1.15 * expected_s + 0.3


def test_a_server_that_is_not_there_is_asked_for_in_vain(slot: Slot) -> None:
    """Nobody listens: so many attempts, and the slot stays as it is."""
    outcome = slot.fill(source="http://127.0.0.1:1/x", **AGAIN)
    assert (outcome.status, outcome.facts["retries"]) == (Status.TRANSPORT, 2)
    assert slot.is_untouched()


def test_a_name_that_is_none_is_told(slot: Slot) -> None:
    """A host that cannot be looked up is a failure of the network, and may pass."""
    outcome = slot.fill(source="http://host.invalid/x", **AGAIN)
    assert outcome.status == Status.TRANSPORT
    assert "host" in outcome.message


def test_more_than_was_announced_ends_at_once(slot: Slot, server: HostileServer) -> None:
    """No attempt follows, though the caller allows for some."""
    outcome = fetch(slot, server, whole(image=IMAGE + b"x"), **AGAIN)
    assert outcome.status == Status.LENGTH
    assert len(server.requests) == 1

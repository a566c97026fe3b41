# SPDX-License-Identifier: MIT
"""The engine, under AddressSanitizer and UBSan, against servers that lie, dawdle and never end.

Whatever a server does, the engine ends soon, says which kind of failure it was, tells no word of
the URL and none of the server's, and leaves nothing that boots.
"""

import gzip
import hashlib
from collections.abc import Iterable
from itertools import chain
from typing import Any

import pytest
from hostile import HostileServer, Script, answer, header
from sanitized import BUFFER, IMAGE, Slot, Status
from scripts import (
    CHUNKED,
    LAST,
    OK,
    SIZE,
    SIZED,
    UNSIZED,
    chunks,
    fetch,
    for_ever,
    redirect,
    said,
    slowly,
    status,
)

COMPRESSED = gzip.compress(IMAGE, 1)
WHOLE: dict[str, Script] = {
    "a length": said(SIZED, IMAGE),
    "chunks": lambda _: chain([CHUNKED], chunks(IMAGE, 5000), [LAST]),
    "chunks of one byte": lambda _: chain(
        [CHUNKED], chunks(IMAGE[:500], 1), chunks(IMAGE[500:], len(IMAGE)), [LAST]
    ),
    "chunks with extensions and trailers": lambda _: chain(
        [CHUNKED], chunks(IMAGE, BUFFER, b";a=b"), [b"0\r\nX-Trailer: 1\r\n\r\n"]
    ),
    "chunks and a false length, which HTTP says to ignore": lambda _: chain(
        [OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"],
        chunks(IMAGE, BUFFER),
        [LAST],
    ),
    "the connection's end": said(UNSIZED, IMAGE),
    "an interim answer first": said(b"HTTP/1.1 103 Early Hints\r\n\r\n", SIZED, IMAGE),
    "an encoding that is only claimed": said(OK + SIZE + b"Content-Encoding: gzip\r\n\r\n", IMAGE),
    "more than its own length, which nobody reads": said(SIZED, IMAGE + b"x"),
    "a length that fits no number, which libcurl ignores": said(
        OK + b"Content-Length: %d\r\n\r\n" % (1 << 72), IMAGE
    ),
    "HTTP/1.0": said(b"HTTP/1.0 200 OK\r\n" + SIZE + b"\r\n", IMAGE),
    "a pause": lambda _: chain([SIZED, IMAGE[:9]], [b""] * 5, [IMAGE[9:]]),
}


@pytest.mark.parametrize("script", WHOLE.values(), ids=WHOLE.keys())
def test_every_way_to_send_an_object(slot: Slot, server: HostileServer, script: Script) -> None:
    """What HTTP allows arrives whole, as the bytes that were sent."""
    assert fetch(slot, server, script).status == Status.DONE
    assert slot.is_whole()


ANOTHER: dict[str, Script] = {
    "longer": lambda _: answer(IMAGE + b"x"),
    "shorter": lambda _: answer(IMAGE[:-1]),
    "empty": lambda _: answer(b""),
    "compressed unasked": lambda _: answer(COMPRESSED, "Content-Encoding: gzip"),
    "two lengths": said(OK + SIZE + b"Content-Length: 5\r\n\r\n", IMAGE),
    "one byte more in chunks": lambda _: chain([CHUNKED], chunks(IMAGE + b"x", BUFFER), [LAST]),
    "one byte less in chunks": lambda _: chain([CHUNKED], chunks(IMAGE[:-1], BUFFER), [LAST]),
    "chunks without end": for_ever(CHUNKED, then=b"4000\r\n" + bytes(0x4000) + b"\r\n"),
    "bytes without end": for_ever(UNSIZED, then=bytes(BUFFER)),
}
BROKEN: dict[str, Script] = {
    "no answer": said(),
    "half a header": said(OK + b"Content-Le"),
    "no body": said(SIZED),
    "a body that breaks off": said(SIZED, IMAGE[:-1]),
    "chunks that break off": lambda _: chain([CHUNKED], chunks(IMAGE, BUFFER)),
    "an end of the connection that may be too soon": said(UNSIZED, IMAGE[:-1]),
    "a chunk without a size": said(CHUNKED, b"zz\r\n"),
    "a chunk of 2^72 bytes": said(CHUNKED, b"1" + b"0" * 18 + b"\r\n", IMAGE),
    "a length below zero": said(OK + b"Content-Length: -1\r\n\r\n", IMAGE),
    "a length in words": said(OK + b"Content-Length: many\r\n\r\n", IMAGE),
    "NUL in a header": said(OK + b"X: a\0b\r\n" + SIZE + b"\r\n", IMAGE[:-1]),
    "no HTTP": said(IMAGE),
    "HTTP/0.9": said(b"<html>", IMAGE),
    "a redirect to no HTTP": lambda request: (
        [IMAGE] if b"?two" in request else redirect("/f.img?two")(request)
    ),
    "a redirect to https where none is spoken": lambda request: redirect(
        f"https://{header(request, 'Host')}/f.img"
    )(request),
    "a redirect to a closed port": redirect("http://127.0.0.1:1/"),
    "a redirect to nowhere": lambda _: answer(IMAGE, status="302 Found"),
    "redirects without end": redirect("/f.img"),
}
HOLDING: dict[str, Script] = {
    "silence": for_ever(then=b""),
    "silence after the headers": for_ever(SIZED, then=b""),
    "silence before the last byte": for_ever(SIZED, IMAGE[:-1], then=b""),
    "silence before the last chunk": for_ever(CHUNKED, *chunks(IMAGE, BUFFER), then=b""),
    "silence before the connection's end": for_ever(UNSIZED, IMAGE, then=b""),
    "a byte now and then": slowly(SIZED, then=IMAGE),
    "a byte now and then from the middle on": slowly(SIZED, IMAGE[:99999], then=IMAGE[99999:]),
    "a chunk now and then": slowly(CHUNKED, then=b"1\r\nx\r\n"),
    "a header now and then": slowly(OK, then=b"X-Y: z\r\n"),
    "a trailer now and then": slowly(CHUNKED, *chunks(IMAGE, BUFFER), b"0\r\n", then=b"X: y\r\n"),
    "an interim answer now and then": slowly(then=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers without end": for_ever(OK, then=b"X-Y: z\r\n" * 1000),
    "a header without end": for_ever(OK + b"X-Y: ", then=b"z" * BUFFER),
    "trailers without end": for_ever(
        CHUNKED, *chunks(IMAGE, BUFFER), b"0\r\n", then=b"X: y\r\n" * 1000
    ),
    "interim answers without end": for_ever(then=b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" * 500),
    "a chunk's extension without end": for_ever(CHUNKED + b"1;", then=b"z" * BUFFER),
}
UNAVAILABLE: dict[str, Script] = {
    "500 and secrets": status("500 sEcReT user"),
    "503": status("503 Service Unavailable"),
    "429": status("429 Too Many Requests"),
    "408": status("408 Request Timeout"),
    "206 unasked": lambda _: answer(IMAGE, status="206 Partial Content"),
    "204": said(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": said(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
}
DENIED: dict[str, Script] = {
    "401": status("401 Unauthorized"),
    "401 with a realm": lambda _: answer(b"", 'WWW-Authenticate: Basic realm="x"', status="401 No"),
    "403": status("403 Forbidden"),
    "404": status("404 Not Found"),
    "404 as long as the image": lambda _: answer(IMAGE, status="404 Not Found"),
    "404 without end": for_ever(b"HTTP/1.1 404 No\r\n\r\n", then=bytes(BUFFER)),
    "404 and then nothing": for_ever(b"HTTP/1.1 404 No\r\n" + SIZE + b"\r\n", then=b""),
}
ELSEWHERE: dict[str, Script] = {
    "to a file": redirect("file:///etc/hostname"),
    "to FTP": redirect("ftp://127.0.0.1/f.img"),
    "to gopher": redirect("gopher://127.0.0.1/1"),
    "to no URL": redirect("http://127.0.0.1:999999/"),
}
BIT: dict[str, Script] = {"one bit": lambda _: answer(IMAGE[:-1] + bytes([IMAGE[-1] ^ 1]))}
ROWS = [
    pytest.param(script, expected, id=name)
    for expected, scripts in (
        (Status.LENGTH, ANOTHER),
        (Status.DIGEST, BIT),
        (Status.TRANSPORT, BROKEN | HOLDING | UNAVAILABLE),
        (Status.HTTP, DENIED),
        (Status.SCHEME, ELSEWHERE),
    )
    for name, script in scripts.items()
]


@pytest.mark.parametrize(("script", "expected"), ROWS)
def test_whatever_a_server_does_the_engine_ends_and_says_what_it_was(
    slot: Slot, server: HostileServer, script: Script, expected: Status
) -> None:
    """One row is one server."""
    outcome = fetch(slot, server, script)
    assert (outcome.status, outcome.message) == (expected, outcome.message)


SHA256 = hashlib.sha256(IMAGE).hexdigest()
UNANNOUNCED: dict[str, tuple[Script, dict[str, str | None], Status]] = {
    "a length": (WHOLE["a length"], {"md5": None}, Status.DONE),
    "chunks": (WHOLE["chunks"], {"md5": None}, Status.DONE),
    "the connection's end, an MD5": (WHOLE["the connection's end"], {}, Status.DONE),
    "the connection's end, a SHA-256": (
        WHOLE["the connection's end"], {"md5": None, "sha256": SHA256}, Status.DONE,
    ),
    "the connection's end, a SHA-256 only asked for": (
        WHOLE["the connection's end"], {"md5": None, "sha256": ""}, Status.TRANSPORT,
    ),
    "the connection's end, no digest": (
        WHOLE["the connection's end"], {"md5": None}, Status.TRANSPORT,
    ),
    "an end of the connection that is too soon": (said(UNSIZED, IMAGE[:-1]), {}, Status.DIGEST),
    "chunks without an end": (
        lambda _: chain([CHUNKED], chunks(IMAGE, BUFFER)), {"md5": None}, Status.TRANSPORT,
    ),
    "a length that lies": (said(SIZED, IMAGE[:-1]), {"md5": None}, Status.TRANSPORT),
    "nothing": (lambda _: answer(b""), {"md5": None}, Status.LENGTH),
    "more than the slot holds": (
        lambda _: chain([CHUNKED], chunks(IMAGE * 2, BUFFER), [LAST]), {"md5": None}, Status.SPACE,
    ),
    "more than the slot holds, said at once": (
        lambda _: answer(IMAGE, length=1 << 40), {"md5": None}, Status.SPACE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("script", "more", "expected"), UNANNOUNCED.values(), ids=UNANNOUNCED.keys()
)
def test_the_server_may_be_the_first_to_say_how_long_it_is(
    slot: Slot, server: HostileServer, script: Script, more: dict[str, Any], expected: Status
) -> None:
    """If it does not say so either, a digest must tell whether that was all."""
    outcome = fetch(slot, server, script, size=0, **more)
    assert (outcome.status, outcome.message) == (expected, outcome.message)


def test_a_server_that_answered_is_told_from_one_that_did_not(
    slot: Slot, server: HostileServer
) -> None:
    """The status stands beside the failure also where it was a good one."""
    assert fetch(slot, server, said(SIZED, IMAGE[:9])).facts["http_status"] == 200
    assert fetch(slot, server, said()).facts["http_status"] == 0


@pytest.mark.parametrize("body", [IMAGE + b"x", IMAGE[:-1], b""], ids=len)
def test_another_length_is_refused_before_the_first_byte(
    slot: Slot, server: HostileServer, body: bytes
) -> None:
    """What Content-Length says is believed when it is bad news: nobody fetches it all in vain."""
    outcome = fetch(slot, server, lambda _: answer(body))
    assert (outcome.status, outcome.facts["received"]) == (Status.LENGTH, 0)


@pytest.mark.parametrize("code", [401, 403, 404, 410, 416, 500, 503])
def test_the_status_is_told(slot: Slot, server: HostileServer, code: int) -> None:
    """The number that decides between a fresh URL, another try and the end."""
    outcome = fetch(slot, server, status(f"{code} No"))
    assert outcome.facts["http_status"] == code
    assert f"status {code}" in outcome.message


def test_the_request_asks_for_the_object_as_it_is(slot: Slot, server: HostileServer) -> None:
    """No encoding, no range, nothing but what HTTP needs."""
    fetch(slot, server, WHOLE["a length"])
    lines = server.requests[-1].decode().split("\r\n")
    assert lines[0] == "GET /f.img?sign=sEcReT HTTP/1.1"
    assert {line.partition(":")[0] for line in lines[1:] if line} == {
        "Host", "Authorization", "User-Agent", "Accept", "Accept-Encoding",
    }  # fmt: skip
    assert "Accept-Encoding: identity" in lines


def test_a_password_does_not_follow_a_redirect(slot: Slot, server: HostileServer) -> None:
    """Another host, here another port, does not get what was meant for the first."""
    with HostileServer() as other:
        there = other.url("/other", said(SIZED, IMAGE))
        assert fetch(slot, server, redirect(there)).status == Status.DONE
        assert b"Authorization: Basic" in server.requests[-1]
        assert b"Authorization" not in other.requests[-1]
        assert b"sEcReT" not in other.requests[-1]


def test_plaintext_needs_leave(slot: Slot, server: HostileServer) -> None:
    """Plain http is refused before a connection is made."""
    assert fetch(slot, server, status("500 x"), allow_plaintext=0).status == Status.SCHEME
    assert server.requests == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/", "://", "http://"])
def test_only_http_is_fetched(slot: Slot, url: str) -> None:
    """Everything else that looks like a URL is refused."""
    assert slot.fill(source=url).status == Status.SCHEME
    assert slot.is_blank() or slot.is_untouched()


def test_a_slow_medium_is_no_stall(slot: Slot, server: HostileServer) -> None:
    """While the device is busy for longer than the time-out, nobody blames the server."""
    url = server.url("/slow-medium", WHOLE["a length"])
    outcome = slot.fill(source=url, fault="write:2:nap", buffer_size=4096, buffers=3)
    assert outcome.happened
    assert outcome.status == Status.DONE


PLACES: dict[str, Script] = {
    "before an answer": for_ever(then=b""),
    "in the headers": for_ever(OK, then=b""),
    "in the body": for_ever(SIZED, IMAGE[: 3 * BUFFER], then=b""),
    "before the end": for_ever(CHUNKED, *chunks(IMAGE, BUFFER), then=b""),
}


@pytest.mark.parametrize("script", PLACES.values(), ids=PLACES.keys())
def test_a_cancel_does_not_wait_for_the_server(
    slot: Slot, server: HostileServer, script: Script
) -> None:
    """Wherever the transfer is, closing it takes no longer than a blink."""
    outcome = fetch(slot, server, script, stall_timeout_ms=60000, closes_at_ms=150)
    assert outcome.status == Status.MORE
    assert outcome.facts["close_ms"] < 500


def test_a_failing_medium_does_not_wait_for_the_server(slot: Slot, server: HostileServer) -> None:
    """The first failure ends the transfer too, although the server says nothing any more."""
    script = for_ever(SIZED, IMAGE[:-1], then=b"")
    assert (
        fetch(slot, server, script, stall_timeout_ms=60000, fault="write:2:5").status == Status.IO
    )


def bursts(_: bytes) -> Iterable[bytes]:
    """Send 20 bytes a tick: four times the pace at which the engine gives up."""
    yield OK + b"Content-Length: 600\r\n\r\n"
    for at in range(0, 600, 20):
        yield IMAGE[at : at + 20]
        yield b""


def test_a_slow_line_is_given_its_time(slot: Slot, server: HostileServer) -> None:
    """Slow, but not as slow as to mean nothing: the object arrives."""
    url = server.url("/bursts", bursts)
    assert slot.fill(IMAGE[:600], source=url).status == Status.DONE

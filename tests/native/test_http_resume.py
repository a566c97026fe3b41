# SPDX-License-Identifier: MIT
"""Going on in the middle of an object, under AddressSanitizer and UBSan, with servers that lie.

The rest is asked for from exactly where the last connection broke off, and is taken only if it is
the rest of the same object. Everything else starts over, or ends; nothing is patched together.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hostile import HostileServer, Script, answer, begin, header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sanitized import BUFFER, HEAD, IMAGE, MIB, STALL_MS, Slot, Status, md5
from scripts import (
    AGAIN,
    ETAG,
    LAST,
    cut,
    fetch,
    for_ever,
    in_turn,
    redirect,
    reset_after,
    rest,
    said,
    status,
    whole,
)
from scripts import chunks as in_chunks

AT = 300_001  # where the first connection breaks off, unless a row says otherwise
SIZE = len(IMAGE)
END = SIZE - 1
OTHER = IMAGE[:AT] + bytes(byte ^ 1 for byte in IMAGE[AT:])
WEAK = 'ETag: W/"one"'
DATE = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"
WRONG = "0" * 32
UNANNOUNCED = b"HTTP/1.1 200 OK\r\n" + ETAG.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
LATER = "Last-Modified: Thu, 22 Oct 2015 07:28:00 GMT"
PART = "HTTP/1.1 206 Partial Content\r\n"
FIRST = whole(ETAG, sends=AT)


def told(*lines: str) -> bytes:
    return "\r\n".join([PART.rstrip(), *lines, "", ""]).encode()


def chunked(image: bytes) -> Script:
    """Return a script that sends *image* from where it is asked to, in chunks."""

    def script(request: bytes) -> Iterator[bytes]:
        at = begin(request)
        yield told(f"Content-Range: bytes {at}-{END}/{SIZE}", "Transfer-Encoding: chunked")
        yield from in_chunks(image[at:], BUFFER)
        yield LAST

    return script


def piece(length: int) -> Script:
    """Return a script that sends less of the rest than it was asked for, and says so."""

    def script(request: bytes) -> Iterable[bytes]:
        at = begin(request)
        body = IMAGE[at : at + length]
        says = f"Content-Range: bytes {at}-{at + len(body) - 1}/{SIZE}"
        return answer(body, says, status="206 Partial Content")

    return script


BOUNDARIES = {
    "in the status line": cut(whole(ETAG), 9),
    "in the headers": cut(whole(ETAG), 30),
    "before the last line of the headers": cut(whole(ETAG), 55),
    "before the body": whole(ETAG, sends=0),
    "after one byte": whole(ETAG, sends=1),
    "before the end of the first buffer": whole(ETAG, sends=BUFFER - 1),
    "at the end of the first buffer": whole(ETAG, sends=BUFFER),
    "after the end of the first buffer": whole(ETAG, sends=BUFFER + 1),
    "before the end of the head": whole(ETAG, sends=HEAD - 1),
    "at the end of the head": whole(ETAG, sends=HEAD),
    "after the end of the head": whole(ETAG, sends=HEAD + 1),
    "before the last byte": whole(ETAG, sends=END),
}


@pytest.mark.parametrize("end", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("script", BOUNDARIES.values(), ids=BOUNDARIES.keys())
def test_a_connection_may_break_off_anywhere(
    slot: Slot, server: HostileServer, script: Script, *, end: bool
) -> None:
    """One more connection brings what is missing, and it is asked for nothing else."""
    first = reset_after(script) if end else script
    outcome = fetch(slot, server, in_turn(first, rest(ETAG)), **AGAIN)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert outcome.facts["retries"] == 1
    assert len(server.requests) == 2
    if not end:  # what a reset overtakes is lost
        body = b"".join(script(b"")).partition(b"\r\n\r\n")[2]
        assert begin(server.requests[1]) == len(body)


GONE_ON: dict[str, tuple[Script, ...]] = {
    "the rest": (FIRST, rest(ETAG)),
    "the rest, with a date instead of a tag": (whole(DATE, sends=AT), rest(DATE)),
    "the rest, and nothing that names the object": (whole(sends=AT), rest()),
    "the rest, its tag not repeated": (FIRST, rest()),
    "the rest of so many": (FIRST, rest(ETAG, says=f"bytes {AT}-{END}/*")),
    "the rest in chunks": (FIRST, chunked(IMAGE)),
    "the rest in pieces": (FIRST, piece(600_000), rest(ETAG)),
    "the rest, broken off again": (FIRST, rest(ETAG, sends=100_000), rest(ETAG)),
    "the rest, reset again": (FIRST, reset_after(rest(ETAG, sends=9)), rest(ETAG)),
    "the rest elsewhere": (FIRST, redirect("/f.img"), rest(ETAG)),
    "the first bytes elsewhere": (redirect("/f.img"), FIRST, rest(ETAG)),
    "silence, then the rest": (for_ever(*FIRST(b""), then=b""), rest(ETAG)),
    "chunks that break off": (
        lambda _: chain(
            [f"HTTP/1.1 200 OK\r\n{ETAG}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()],
            in_chunks(IMAGE[:AT], AT),
        ),
        rest(ETAG),
    ),
    "no answer in the middle": (FIRST, said(), rest(ETAG)),
    "no HTTP in the middle": (FIRST, said(b"what?\r\n\r\n"), rest(ETAG)),
    "nothing of the rest": (FIRST, rest(ETAG, sends=0), rest(ETAG)),
    **{
        f"{code} in the middle": (FIRST, status(f"{code} Later"), rest(ETAG))
        for code in (408, 429, 500, 502, 503, 504, 507)
    },
    "304 in the middle": (FIRST, said(b"HTTP/1.1 304 Not Modified\r\n\r\n"), rest(ETAG)),
}


@pytest.mark.parametrize("scripts", GONE_ON.values(), ids=GONE_ON.keys())
def test_what_is_the_rest_is_taken(
    slot: Slot, server: HostileServer, scripts: tuple[Script, ...]
) -> None:
    """However it comes, and whatever came between."""
    outcome = fetch(slot, server, in_turn(*scripts), **AGAIN)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert {begin(request) for request in server.requests} >= {0, AT}


STARTED_OVER: dict[str, tuple[Script, ...]] = {
    "ranges ignored": (FIRST, whole(ETAG)),
    "another object, whole": (FIRST, whole('ETag: "two"', image=OTHER)),
    "another object's rest": (FIRST, rest('ETag: "two"')),
    "a date for a tag": (FIRST, rest(ETAG.replace("one", "1"), DATE)),
    "another date": (whole(DATE, sends=AT), rest(LATER)),
    "no Content-Range": (FIRST, rest(ETAG, says="")),
    "from the first byte": (FIRST, rest(ETAG, says=f"bytes 0-{END}/{SIZE}")),
    "from a byte later": (FIRST, rest(ETAG, says=f"bytes {AT + 1}-{END}/{SIZE}")),
    "from a byte before": (FIRST, rest(ETAG, says=f"bytes {AT - 1}-{END}/{SIZE}")),
    "a longer object": (FIRST, rest(ETAG, says=f"bytes {AT}-{END}/{SIZE + 1}")),
    "a shorter object": (FIRST, rest(ETAG, says=f"bytes {AT}-{END - 1}/{SIZE - 1}")),
    "an end behind the object": (FIRST, rest(ETAG, says=f"bytes {AT}-{SIZE}/{SIZE}")),
    "an end behind the object, its size untold": (FIRST, rest(ETAG, says=f"bytes {AT}-{SIZE}/*")),
    "an end that fits no number": (FIRST, rest(ETAG, says=f"bytes {AT}-{1 << 64}/{SIZE}")),
    "a beginning that wraps around": (
        FIRST, rest(ETAG, says=f"bytes {(1 << 64) + AT}-{END}/{SIZE}"),
    ),
    "a size that wraps around": (FIRST, rest(ETAG, says=f"bytes {AT}-{END}/{(1 << 64) + SIZE}")),
    "an end before the beginning": (FIRST, rest(ETAG, says=f"bytes {AT}-{AT - 1}/{SIZE}")),
    "a beginning below zero": (FIRST, rest(ETAG, says=f"bytes -{AT}-{END}/{SIZE}")),
    "another unit": (FIRST, rest(ETAG, says=f"items {AT}-{END}/{SIZE}")),
    "nothing satisfied": (FIRST, rest(ETAG, says=f"bytes */{SIZE}")),
    "garbage": (FIRST, rest(ETAG, says="bytes of all kinds")),
    "an empty Content-Range": (FIRST, rest(ETAG, says=" ")),
    "a length that denies the range": (FIRST, rest(ETAG, says=f"bytes {AT}-{END - 1}/{SIZE}")),
    "parts": (FIRST, rest(ETAG, "Content-Type: multipart/byteranges; boundary=x", says="")),
    "416": (FIRST, status("416 No")),
    "416 and the true size": (FIRST, status("416 No", f"Content-Range: bytes */{SIZE}")),
    "416 and a smaller size": (FIRST, status("416 No", "Content-Range: bytes */5")),
    "416 and garbage": (FIRST, status("416 No", "Content-Range: bytes */*")),
    "416 and an end where it broke off, before the announced one": (
        FIRST, status("416 No", f"Content-Range: bytes */{AT}"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("scripts", STARTED_OVER.values(), ids=STARTED_OVER.keys())
def test_what_is_not_the_rest_starts_over(
    slot: Slot, server: HostileServer, scripts: tuple[Script, ...]
) -> None:
    """The answer is enough to know: none of its bytes is taken, and no third connection is made."""
    outcome = fetch(slot, server, in_turn(*scripts, rest(ETAG)), **AGAIN)
    assert (outcome.status, outcome.message) == (Status.AGAIN, outcome.message)
    assert outcome.facts["received"] <= AT
    assert len(server.requests) == 2


DISGUISED: dict[str, tuple[Script, ...]] = {
    "the same tag, other bytes": (FIRST, rest(ETAG, image=OTHER)),
    "no tag, other bytes": (whole(sends=AT), rest(image=OTHER)),
    "a weak tag, other bytes": (whole(WEAK, sends=AT), rest(WEAK, image=OTHER)),
}


@pytest.mark.parametrize("scripts", DISGUISED.values(), ids=DISGUISED.keys())
def test_what_only_looks_like_the_rest_starts_over_too(
    slot: Slot, server: HostileServer, scripts: tuple[Script, ...]
) -> None:
    """The digest tells, and as it came in pieces, that is no verdict on the announced object."""
    outcome = fetch(slot, server, in_turn(*scripts, rest(ETAG)), **AGAIN)
    assert (outcome.status, outcome.message) == (Status.AGAIN, outcome.message)
    assert len(server.requests) == 2
    assert slot.is_blank()


IN_ONE_PIECE: dict[str, tuple[Script, ...]] = {
    "503": (status("503 Later"), whole(ETAG)),
    "no answer": (said(), whole(ETAG)),
    "an answer and no byte": (whole('ETag: "old"', sends=0), whole(ETAG)),
    "its end told later": (
        lambda _: chain([UNANNOUNCED], in_chunks(IMAGE, BUFFER)),
        status("416 No", f"Content-Range: bytes */{SIZE}"),
    ),
}


@pytest.mark.parametrize("scripts", IN_ONE_PIECE.values(), ids=IN_ONE_PIECE.keys())
def test_what_came_by_one_connection_is_judged(
    slot: Slot, server: HostileServer, scripts: tuple[Script, ...]
) -> None:
    """However many were made for it: a wrong digest is final, and both digests are told."""
    outcome = fetch(slot, server, in_turn(*scripts), md5=WRONG, **AGAIN)
    assert (outcome.status, outcome.facts["retries"]) == (Status.DIGEST, 1)
    assert outcome.message == f"MD5 is {md5(IMAGE)}, announced was {WRONG}"


@pytest.mark.parametrize("sends", [1, END])
def test_one_byte_makes_a_piece(slot: Slot, server: HostileServer, sends: int) -> None:
    """It may be another object's: the digest is no verdict on the announced one."""
    outcome = fetch(slot, server, in_turn(whole(ETAG, sends=sends), rest(ETAG)), md5=WRONG, **AGAIN)
    assert outcome.status == Status.AGAIN


ENDED: dict[str, tuple[Status, Script]] = {
    **{
        str(code): (Status.HTTP, status(f"{code} No"))
        for code in (400, 401, 403, 404, 405, 410, 412, 451)
    },
    "more than the rest": (Status.LENGTH, chunked(IMAGE + b"x")),
    "more than the rest, without end": (
        Status.LENGTH,
        for_ever(
            told(f"Content-Range: bytes {AT}-{END}/{SIZE}", "Transfer-Encoding: chunked"),
            then=b"4000\r\n" + bytes(0x4000) + b"\r\n",
        ),
    ),
    "a redirect to a file": (Status.SCHEME, redirect("file:///etc/hostname")),
}


@pytest.mark.parametrize(("expected", "script"), ENDED.values(), ids=ENDED.keys())
def test_what_no_try_cures_ends_also_in_the_middle(
    slot: Slot, server: HostileServer, expected: Status, script: Script
) -> None:
    """No third connection is made."""
    outcome = fetch(slot, server, in_turn(FIRST, script, rest(ETAG)), **AGAIN)
    assert (outcome.status, outcome.message) == (expected, outcome.message)
    assert len(server.requests) == 2


NAMES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "a tag": (('ETag: "a\'b,c"',), '"a\'b,c"'),
    "an empty tag": (('ETag: ""',), '""'),
    "a date": ((DATE,), DATE.partition(": ")[2]),
    "both": ((DATE, ETAG), '"one"'),
    "a weak tag": ((WEAK,), None),
    "a weak tag and a date": ((WEAK, DATE), DATE.partition(": ")[2]),
    "a tag without quotes": (("ETag: one",), None),
    "a tag too long to keep": ((f'ETag: "{"x" * 5000}"',), None),
    "a tag that is no ASCII": (('ETag: "\u00e4"',), None),
    "a date that is none": (("Last-Modified: yesterday",), None),
    "nothing": ((), None),
}


@pytest.mark.parametrize(("headers", "expected"), NAMES.values(), ids=NAMES.keys())
def test_the_rest_is_asked_for_on_condition(
    slot: Slot, server: HostileServer, headers: tuple[str, ...], expected: str | None
) -> None:
    """If-Range holds the strong tag, else the date, else nothing is there; the server's words."""
    script = in_turn(whole(*headers, sends=AT), rest(*headers))
    assert fetch(slot, server, script, **AGAIN).status == Status.DONE
    first, second = server.requests
    assert header(first, "If-Range") is header(first, "Range") is None
    assert header(second, "Range") == f"bytes={AT}-"
    assert header(second, "If-Range") == expected


def test_what_brought_nothing_is_asked_for_anew(slot: Slot, server: HostileServer) -> None:
    """Without a byte of the object there is nothing to go on with: another one is as good."""
    script = in_turn(whole('ETag: "old"', sends=0), whole(ETAG, sends=AT), rest(ETAG))
    assert fetch(slot, server, script, **AGAIN).status == Status.DONE
    assert header(server.requests[1], "Range") is None
    assert header(server.requests[2], "If-Range") == '"one"'


def test_an_unannounced_size_is_that_of_the_answer_that_brings_bytes(
    slot: Slot, server: HostileServer
) -> None:
    """A size that came with no byte binds nobody."""
    script = in_turn(whole(image=IMAGE + b"x", sends=0), whole())
    outcome = fetch(slot, server, script, size=0, **AGAIN)
    assert (outcome.status, outcome.facts["size"]) == (Status.DONE, SIZE)


@pytest.mark.parametrize("more", [{}, {"md5": None}], ids=["digest", "no digest"])
def test_chunks_that_break_off_at_their_end_were_whole(
    slot: Slot, server: HostileServer, more: dict[str, Any]
) -> None:
    """Nobody has said how long it is: the server says that nothing follows, by 416."""
    script = in_turn(
        lambda _: chain([UNANNOUNCED], in_chunks(IMAGE, BUFFER)),
        status("416 No", f"Content-Range: bytes */{SIZE}"),
    )
    outcome = fetch(slot, server, script, size=0, **more, **AGAIN)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert header(server.requests[1], "Range") == f"bytes={SIZE}-"


def test_a_part_of_an_unannounced_object_is_not_taken_for_all_of_it(
    slot: Slot, server: HostileServer
) -> None:
    """Where neither the server nor the caller says how long it is, a part may have a successor."""
    script = in_turn(
        lambda _: chain([UNANNOUNCED], in_chunks(IMAGE[:AT], BUFFER)),
        rest(ETAG, image=IMAGE[: 2 * AT], says=f"bytes {AT}-{2 * AT - 1}/*"),
        rest(ETAG),
    )
    outcome = fetch(slot, server, script, size=0, md5=None, **AGAIN)
    assert (outcome.status, outcome.message) == (Status.DONE, "")


def test_nothing_is_patched_together_unseen(slot: Slot, server: HostileServer) -> None:
    """Without a digest to compare and a name of the object, a cut starts over."""
    outcome = fetch(slot, server, in_turn(whole(sends=AT), rest()), md5=None, **AGAIN)
    assert outcome.status == Status.AGAIN
    outcome = fetch(slot, server, in_turn(FIRST, rest(ETAG)), md5=None, **AGAIN)
    assert outcome.status == Status.DONE


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cuts=st.lists(st.integers(0, SIZE) | st.integers(0, 5), max_size=6),
    buffer_size=st.sampled_from([4096, 65536, BUFFER]),
    size=st.sampled_from([0, SIZE]),
)
def test_any_cuts_end_in_the_right_image(
    slot: Slot, server: HostileServer, cuts: list[int], buffer_size: int, size: int
) -> None:
    """Each connection is asked for exactly what the ones before did not bring."""
    at, expected, sends = 0, [0], []
    for length in cuts:
        if at + length >= SIZE:
            break
        sends.append(rest(ETAG, sends=length))
        at += length
        expected.append(at)
    slot.refresh()
    orders = AGAIN | {"attempts": 9, "backoff_ms": 0, "buffer_size": buffer_size, "size": size}
    outcome = fetch(slot, server, in_turn(*sends, rest(ETAG)), **orders)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert [begin(request) for request in server.requests] == expected
    assert outcome.facts["retries"] == len(expected) - 1


@pytest.mark.parametrize("fault", ["write:24:die", "write:34:die", "flush:6:die", "read:40:die"])
@pytest.mark.parametrize("headers", [[ETAG], [DATE], []], ids=["tag", "date", "no name"])
def test_a_kill_costs_little_of_the_download(
    tmp_path: Path, engine: Path, server: HostileServer, fault: str, headers: list[str]
) -> None:
    """The next process asks for the rest of the same object, from a place near the cut."""
    slot = Slot(tmp_path, engine, 12 * MIB)
    image = (IMAGE * 8)[: 11 * MIB + 77]
    orders: dict[str, Any] = {"source": server.url("/kill", rest(*headers, image=image))}
    orders["checkpoint"] = str(tmp_path / "checkpoint")
    server.requests.clear()
    assert slot.die(image, fault, **orders)
    held = slot.held()
    proven = max(at for at in range(0, len(image), 4096) if held[at : at + 9] == image[at : at + 9])
    outcome = slot.fill(image, **orders)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert slot.is_whole(image)
    at = outcome.facts["resumed"]
    assert at > 0
    assert proven - at <= 8 * MIB
    assert begin(server.requests[1]) == at
    named = headers[0].partition(": ")[2] if headers else None
    assert header(server.requests[1], "If-Range") == named


def test_an_object_that_has_changed_meanwhile_is_fetched_anew(
    tmp_path: Path, engine: Path, server: HostileServer
) -> None:
    """After a kill the new object is told from the old one; the pump after that begins in front."""
    slot = Slot(tmp_path, engine, 12 * MIB)
    image = (IMAGE * 8)[: 11 * MIB + 77]
    script = in_turn(rest(ETAG, image=image), rest('ETag: "two"', image=image))
    orders: dict[str, Any] = {"source": server.url("/changed", script)}
    orders["checkpoint"] = str(tmp_path / "checkpoint")
    assert slot.die(image, "write:30:die", **orders)
    assert slot.fill(image, **orders).status == Status.AGAIN
    assert slot.is_blank()
    outcome = slot.fill(image, **orders)
    assert (outcome.status, outcome.facts["resumed"]) == (Status.DONE, 0)
    assert slot.is_whole(image)


def test_a_stall_in_the_middle_is_made_good(slot: Slot, server: HostileServer) -> None:
    """A connection that says nothing any more is left after the time-out, and not before."""
    script = in_turn(for_ever(*FIRST(b""), then=b""), rest(ETAG))
    outcome = fetch(slot, server, script, stall_timeout_ms=STALL_MS, **AGAIN)
    assert (outcome.status, outcome.facts["retries"]) == (Status.DONE, 1)

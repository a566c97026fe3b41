# SPDX-License-Identifier: MIT
"""What servers say: pieces of answers to put together, and the fetch that listens to them."""

import time
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

from hostile import RESET, HostileServer, Script, answer, begin
from sanitized import IMAGE, Outcome, Slot, Status

OK = b"HTTP/1.1 200 OK\r\n"
SIZE = b"Content-Length: %d\r\n" % len(IMAGE)
SIZED = OK + SIZE + b"\r\n"
UNSIZED = OK + b"\r\n"
LAST = b"0\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ETAG = 'ETag: "one"'
SECRET = "user:sEcReT@"
SOON_S = 3.0  # the driver's stall time-out is 0.4 s
AGAIN: dict[str, Any] = {"attempts": 3, "backoff_ms": 20, "backoff_limit_ms": 50}


def said(*pieces: bytes) -> Script:
    """Return a script that says *pieces* and closes."""
    return lambda _: pieces


def for_ever(*first: bytes, then: bytes) -> Script:
    """Return a script that says *first*, and then *then* without end."""
    return lambda _: chain(first, repeat(then))


def slowly(*first: bytes, then: bytes) -> Script:
    """Return a script that says *then* byte by byte, again and again, a tick apart."""

    def script(_: bytes) -> Iterator[bytes]:
        yield from first
        while True:
            for byte in then:
                yield bytes([byte])
                yield b""

    return script


def chunks(image: bytes, size: int, extension: bytes = b"") -> Iterator[bytes]:
    for at in range(0, len(image), size):
        piece = image[at : at + size]
        yield b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)


def redirect(to: str) -> Script:
    return lambda _: answer(b"", f"Location: {to}", "Connection: close", status="302 Found")


def status(line: str, *headers: str) -> Script:
    return lambda _: answer(b"no", *headers, status=line)


def in_turn(*scripts: Script) -> Script:
    """Return a script for each request in turn, the last one for all that follow."""
    left = chain(scripts, repeat(scripts[-1]))

    def script(request: bytes) -> Iterable[bytes]:
        return next(left)(request)

    return script


def timed(script: Script, times: list[float]) -> Script:
    """Return *script*, and let it write down when it was asked."""

    def noting(request: bytes) -> Iterable[bytes]:
        times.append(time.monotonic())
        return script(request)

    return noting


def cut(script: Script, at: int, end: bytes = b"") -> Script:
    """Return *script* with everything from byte *at* on left out, headers counted, then *end*."""

    def shortened(request: bytes) -> Iterator[bytes]:
        left = at
        for piece in script(request):
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                break
        yield from [end] if end else []

    return shortened


def whole(*headers: str, image: bytes = IMAGE, sends: int | None = None) -> Script:
    """Return a script that sends *image*, or breaks off after *sends* bytes of it."""
    return lambda _: answer(image[:sends], *headers, length=len(image))


def rest(
    *headers: str, image: bytes = IMAGE, sends: int | None = None, says: str | None = None
) -> Script:
    """Return a script that sends what was asked for of *image*.

    Args:
        headers: Beyond Content-Length and Content-Range.
        image: The object.
        sends: Break off after so many bytes.
        says: Another Content-Range; "" leaves it out.
    """

    def script(request: bytes) -> Iterable[bytes]:
        at = begin(request)
        if at == 0:
            return whole(*headers, image=image, sends=sends)(request)
        told = f"bytes {at}-{len(image) - 1}/{len(image)}" if says is None else says
        more = [f"Content-Range: {told}"] if told else []
        body = image[at:]
        return answer(body[:sends], *headers, *more, status="206 Partial Content", length=len(body))

    return script


def reset_after(script: Script) -> Script:
    """Return *script* with a reset at its end instead of an orderly close."""
    return lambda request: chain(script(request), [RESET])


def fetch(
    slot: Slot, server: HostileServer, script: Script, within_s: float = SOON_S, **more: Any
) -> Outcome:
    """Fetch from *script*, and hold what every run must hold."""
    url = server.url("/f.img", script, SECRET) + "?sign=sEcReT"
    server.requests.clear()
    began_s = time.monotonic()
    outcome = slot.fill(source=url, **more)
    assert time.monotonic() - began_s < within_s
    for secret in ("sEcReT", "user", "f.img", "127.0.0.1", str(server.port)):
        assert secret not in outcome.message
    if outcome.status == Status.DONE:
        assert slot.is_whole()
    else:
        assert slot.is_harmless()
    return outcome

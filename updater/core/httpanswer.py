# SPDX-License-Identifier: MIT
"""One answer of HTTP/1, as far as it has come: hostile bytes in, status and body out.

For the one request of a registration; http.client would keep a megabyte for as long as the agent
lives. Knows no redirects, no interim answers (none was asked for) and no headers but two.
"""

import re
from dataclasses import dataclass, field

from updater.core.errors import TransportError

MAX_BODY_BYTES = 16 * 1024
MAX_BYTES = 3 * MAX_BODY_BYTES  # with the head, and the heads of chunks
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: .*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; *body* is kept out of the representation."""

    status: int
    body: bytes = field(repr=False)


def answer_in(raw: bytes) -> Answer | None:
    """Return the answer that *raw* holds, or None if more of it must come.

    Raises:
        TransportError: It is no HTTP, or too long.
    """
    answer, is_whole = _parsed(raw)
    if len(raw) > MAX_BYTES:
        raise TransportError("the answer does not end")
    return answer if is_whole else None


def last_answer_in(raw: bytes) -> Answer:
    """Return the answer that *raw* holds, after which nothing comes any more.

    Raises:
        TransportError: It is no HTTP, too long, or not whole.
    """
    answer, is_whole = _parsed(raw)
    if answer is None or is_whole is False:
        raise TransportError("the answer breaks off" if raw else "there is no answer")
    return answer


def _parsed(raw: bytes) -> tuple[Answer | None, bool | None]:
    """Return the answer so far, and whether it is whole; None: the connection's end tells."""
    head, is_complete, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        if is_complete or lines:
            raise TransportError("what came is no HTTP")
        return None, False
    if not is_complete:
        return None, False
    body, is_whole = _body(rest, _headers(lines))
    if len(body) > MAX_BODY_BYTES:
        raise TransportError(f"the answer is longer than {MAX_BODY_BYTES} bytes")
    return Answer(int(status[1]), body), is_whole


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _colon, value in pairs}


def _body(rest: bytes, headers: dict[bytes, bytes]) -> tuple[bytes, bool | None]:
    """Return what has come of the body, and whether it is whole."""
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return _joined(rest)
    length = headers.get(b"content-length", b"")
    if not _LENGTH.fullmatch(length):
        return rest, None
    return rest[: int(length)], len(rest) >= int(length)


def _joined(rest: bytes) -> tuple[bytes, bool]:
    """Return the chunks that have come, joined, and whether the last one is among them."""
    body, at = b"", 0
    while at < len(rest):
        head = _CHUNK.match(rest, at)
        if head is None:
            if b"\n" in rest[at:]:
                raise TransportError("what came is no HTTP")
            break
        size = int(head[1], 16)
        if size == 0:
            return body, True
        body += rest[head.end() : head.end() + size]
        at = head.end() + size + len(b"\r\n")
    return body, False

# SPDX-License-Identifier: MIT
"""An answer of HTTP/1 in any pieces: when it is whole, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.errors import TransportError
from updater.core.httpanswer import MAX_BODY_BYTES, MAX_BYTES, Answer, answer_in, last_answer_in

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"


def sized(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nServer: x\r\nCONTENT-length:%d\r\n\r\n%s" % (len(body), body)


def came(raw: bytes) -> list[Answer | None]:
    """Return what is known after each byte, up to the first answer."""
    known: list[Answer | None] = []
    for end in range(len(raw) + 1):
        known.append(answer_in(raw[:end]))
        if known[-1] is not None:
            break
    return known


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (sized(b""), b""),
        (sized(b"{}\r\n\r\n"), b"{}\r\n\r\n"),
        (CHUNKED + b"0\r\n\r\n", b""),
        (CHUNKED + b"2\r\nab\r\n0a;x=y\r\n0123456789\r\n00\r\nTrailer: x\r\n\r\n", b"ab0123456789"),
    ],
)
def test_an_answer_is_whole_at_its_last_byte(raw: bytes, body: bytes) -> None:
    """With a length or in chunks, however it is cut; what follows is not looked at."""
    *before, last = came(raw)
    assert set(before) <= {None}
    assert last == Answer(200, body)
    assert answer_in(raw + b"more") == last
    assert last_answer_in(raw) == last


@pytest.mark.parametrize(
    "raw", [OPEN, OPEN.replace(b"\r\n\r\n", b"\r\nContent-Length: -5\r\n\r\n")]
)
def test_without_a_length_the_connection_s_end_tells(raw: bytes) -> None:
    """As HTTP/1.0 has it; a length that is none counts as none."""
    assert set(came(raw + b"{}")) == {None}
    assert last_answer_in(raw + b"{}") == Answer(200, b"{}")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK", 200), (b"HTTP/1.0 503 Sorry \xff", 503), (b"HTTP/1.1 404", 404),
        (b"HTTP/1.1 100 Continue", 100),
    ],
)  # fmt: skip
def test_a_status_needs_no_words(line: bytes, status: int) -> None:
    """Whatever the number is, it is told; also that of an interim answer, which nobody awaits."""
    assert last_answer_in(line + b"\r\nContent-Length: 0\r\n\r\n") == Answer(status, b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-dropbear\r\n", b"HTTP/2 200\r\n", b"HTTP/1.1 20\r\n", b"HTTP/1.1 abc\r\n\r\n",
        b"\r\n\r\n", b"HTTP/1.1 200OK\r\n", CHUNKED + b"zz\r\n", CHUNKED + b"\r\n",
        CHUNKED + b"123456789\r\n", CHUNKED + b"1\r\nab\r\n", CHUNKED + b"-1\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_told(raw: bytes) -> None:
    """As soon as a line of it is there."""
    for parse in (answer_in, last_answer_in):
        with pytest.raises(TransportError, match="no HTTP"):
            parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTT", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX", sized(b"12")[:-1], CHUNKED,
        CHUNKED + b"2", CHUNKED + b"2\r\na", CHUNKED + b"2\r\nab\r\n", CHUNKED + b"ffffffff\r\nab",
        sized(b"12").replace(b":2", b":999999999999999999"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_waited_for_and_then_told(raw: bytes) -> None:
    """Until the connection ends it may still become an answer."""
    assert answer_in(raw) is None
    with pytest.raises(TransportError, match="breaks off"):
        last_answer_in(raw)


def test_nothing_is_no_answer() -> None:
    """A connection that just ends has another sentence."""
    assert answer_in(b"") is None
    with pytest.raises(TransportError, match="there is no answer"):
        last_answer_in(b"")


@pytest.mark.parametrize("begin", [sized(b"").replace(b":0", b":16384"), OPEN])
def test_a_body_of_16_kib_is_taken_and_no_more(begin: bytes) -> None:
    """The limit is told when it is passed, not when the body ends."""
    assert last_answer_in(begin + bytes(MAX_BODY_BYTES)).body == bytes(MAX_BODY_BYTES)
    for parse in (answer_in, last_answer_in):
        with pytest.raises(TransportError, match="longer than 16384 bytes"):
            parse(begin.replace(b"16384", b"16385") + bytes(MAX_BODY_BYTES + 1))


@pytest.mark.parametrize("begin", [b"H", b"HTTP/1.1 200 OK\r\n", CHUNKED + b"1;"])
def test_a_head_without_end_is_not_waited_for(begin: bytes) -> None:
    """The whole of it has a limit too, so that memory has one."""
    assert answer_in(begin + b"x" * (MAX_BYTES - len(begin))) is None
    with pytest.raises(TransportError, match="does not end"):
        answer_in(begin + b"x" * (MAX_BYTES - len(begin) + 1))


def test_chunks_of_a_byte_are_not_waited_for() -> None:
    """What is mostly heads of chunks is over in time."""
    with pytest.raises(TransportError, match="does not end"):
        answer_in(CHUNKED + b"1\r\nx\r\n" * (MAX_BYTES // 6))


PIECES = st.lists(
    st.sampled_from([b"HTTP/1.1 ", b"200", b" OK", b"\r\n", b":", b"0", b"a", b";", b"\xff", b"5",
                     b"Content-Length", b"Transfer-Encoding", b"chunked"]) | st.binary(max_size=3),
    max_size=30,
)  # fmt: skip


@given(PIECES)
def test_any_bytes_are_an_answer_or_a_sentence(pieces: list[bytes]) -> None:
    """Never another error, and an answer that is there stays what it is when more comes."""
    raw, first = b"", None
    for piece in pieces:
        raw += piece
        try:
            known = answer_in(raw)
            last_answer_in(raw)
        except TransportError:
            known = None
        assert first is None or known == first
        first = known

# SPDX-License-Identifier: MIT
"""WebSocket's words and frames, by the standard's own examples and by every cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.errors import LinkError
from updater.core.websocket import BINARY, CLOSE, PING, Decoder, check_upgrade, frame, upgrade

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ANSWER = f"HTTP/1.1 101 Switching Protocols\r\nSEC-WebSocket-Accept:  {ACCEPT} "


def server(opcode: int, payload: bytes, fin: int = 0x80) -> bytes:
    """Return a server's frame, in the longest form of its length that is allowed here."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 300:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes([fin | opcode]) + length + payload


@pytest.mark.parametrize(
    ("host", "port", "is_tls", "place"),
    [
        ("broker.example", 443, True, "broker.example"),
        ("broker.example", 80, False, "broker.example"),
        ("broker.example", 80, True, "broker.example:80"),
        ("::1", 8080, False, "[::1]:8080"),
    ],
)
def test_the_host_is_named_as_http_names_it(host: str, port: int, is_tls: bool, place: str) -> None:
    """The scheme's own port is left out, and an IPv6 address stands in brackets."""
    request = upgrade(host, port, "/mqtt", KEY, is_tls=is_tls).decode()
    assert request.startswith(f"GET /mqtt HTTP/1.1\r\nHost: {place}\r\nUpgrade: websocket\r\n")
    assert request.endswith("\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
    assert f"\r\nSec-WebSocket-Key: {KEY}\r\n" in request


@pytest.mark.parametrize("more", ["", "\r\nSec-WebSocket-Protocol: mqtt"])
def test_the_standards_example_is_an_upgrade(more: str) -> None:
    """A server that does not repeat the subprotocol is taken at its word."""
    check_upgrade((ANSWER + more).encode(), KEY)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("", "speaks no HTTP"),
        ("HTTP/1.1", "speaks no HTTP"),
        ("HTTP/1.1 ok", "speaks no HTTP"),
        ("RTSP/1.0 101 x", "speaks no HTTP"),
        ("HTTP/1.1 404 Not Found", "answers 404 to the WebSocket upgrade"),
        ("HTTP/1.1 " + "9" * 8000, "answers 999999999 to"),
        ("HTTP/1.1 101 x", "is not for our request"),
        (ANSWER.replace(ACCEPT, ACCEPT.lower()), "is not for our request"),
        (ANSWER + "\r\nSec-WebSocket-Protocol: chat", "and no MQTT: check cloud.websocket_path"),
    ],
)
def test_every_other_answer_is_explained(answer: str, words: str) -> None:
    """Status, proof and subprotocol are judged in this order."""
    with pytest.raises(LinkError, match=words):
        check_upgrade(answer.encode(), KEY)


@given(st.binary())
def test_any_head_is_judged(head: bytes) -> None:
    """Whatever the server answers is an upgrade or a sentence."""
    with pytest.raises(LinkError):
        check_upgrade(head, KEY)


def test_the_standards_frame_is_ours() -> None:
    """RFC 6455, 5.7: a masked "Hello", but binary."""
    expected = bytes.fromhex("8285 37fa213d 7f9f4d5158")
    assert frame(BINARY, b"Hello", bytes.fromhex("37fa213d")) == expected
    assert frame(PING, b"", bytes(4)) == bytes.fromhex("898000000000")


@given(st.integers(0, 70_000), st.binary(min_size=4, max_size=4))
def test_frames_of_any_length_unmask(size: int, mask: bytes) -> None:
    """Masking twice is nothing, and the length is in its shortest form."""
    raw = frame(BINARY, bytes(size), mask)
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert (raw[1] & 0x7F) == (size if head == 2 else 126 if head == 4 else 127)
    assert len(raw) == head + 4 + size
    assert raw[head : head + 4] == mask
    assert raw[head + 4 :] == (mask * (size // 4 + 1))[:size]


@given(st.lists(st.binary(max_size=400), max_size=8), st.data())
def test_cuts_do_not_matter(payloads: list[bytes], data: st.DataObject) -> None:
    """Frames of every form of length, pings between, cut anywhere: the payload is the same."""
    raw = b"".join(server(PING, b"p") + server(BINARY, each) for each in payloads)
    decoder, payload = Decoder(), b""
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        payload += decoder.feed(raw[:size])
        raw = raw[size:]
    assert payload == b"".join(payloads)
    assert decoder.ping == (b"p" if payloads else None)
    assert not decoder.is_closed


def test_nothing_follows_a_goodbye() -> None:
    """What a server sends behind its close frame is not read."""
    decoder = Decoder()
    raw = server(BINARY, b"one", fin=0) + server(0, b"two") + server(CLOSE, b"") + b"garbage"
    assert decoder.feed(raw) == b"onetwo"
    assert decoder.is_closed
    assert decoder.feed(server(BINARY, b"three")) == b""


@pytest.mark.parametrize(
    "raw",
    [
        server(0x1, b"text"),
        server(0x3, b"reserved"),
        frame(BINARY, b"a client's", bytes(4)),
        b"\xc2\x00",
        server(PING, b"", fin=0),
        server(PING, bytes(126)),
    ],
)
def test_what_no_server_sends_for_mqtt_is_refused(raw: bytes) -> None:
    """Text, reserved bits, masks, and control frames that are too long or in pieces."""
    with pytest.raises(LinkError, match="no MQTT over WebSocket"):
        Decoder().feed(raw)


def test_an_announced_length_costs_no_memory() -> None:
    """A frame of 2^63 bytes is passed on as it comes, and nothing of it is kept."""
    decoder = Decoder()
    assert decoder.feed(b"\x82\x7f\x7f" + b"\xff" * 7 + b"x") == b"x"
    for _ in range(100):
        assert decoder.feed(bytes(1000)) == bytes(1000)
    assert len(decoder._raw) == 0


@given(st.lists(st.binary(max_size=20)))
def test_any_bytes_are_frames_or_a_sentence(chunks: list[bytes]) -> None:
    """No bytes make the decoder raise anything but its own error."""
    decoder = Decoder()
    try:
        for chunk in chunks:
            decoder.feed(chunk)
    except LinkError as error:
        assert str(error) == "what the broker sends is no MQTT over WebSocket"  # noqa: PT017

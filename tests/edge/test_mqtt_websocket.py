# SPDX-License-Identifier: MIT
"""The MQTT link over WebSocket, against mosquitto's and against servers that are none."""

import base64
import hashlib
import re
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any

import pytest
from certificates import make
from fds import descriptors
from hypothesis import given, settings
from hypothesis import strategies as st
from linkdriver import UPDATE, Driver, dialled, driver
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from sim.broker import CONNACK, CONNECT, SUBSCRIBE, RawBroker, broker, free_port, publish, suback

from updater.core.link import Acknowledged, Connected, Disconnected, Received
from updater.edge.websocketstream import WebSocketStream

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
sha1 = partial(hashlib.new, "sha1", usedforsecurity=False)
SECRET = "correct-horse"


class WebSocketBroker(RawBroker):
    """Says frames instead of packets, and hears what the device's frames carry."""

    def __init__(self) -> None:
        super().__init__()
        self._heard = b""

    def upgrade(self, *, first: bytes = b"") -> None:
        """Answer the upgrade, with *first* right behind it."""
        request = self.request()
        key = re.search(rb"Sec-WebSocket-Key: (\S+)\r\n", request)
        assert key
        accept = base64.b64encode(sha1(key[1] + GUID).digest())
        self.plain(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: upgrade\r\n"
            b"sec-websocket-accept: " + accept + b"\r\n\r\n" + first
        )

    def request(self) -> bytes:
        """Return the request."""
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += super()._exactly(1)
        return request

    def plain(self, raw: bytes) -> None:
        """Send *raw*."""
        super().say(raw)

    def say(self, raw: bytes) -> None:
        """Send *raw* in a frame."""
        self.plain(frame(0x2, raw))

    def control(self) -> tuple[int, bytes]:
        """Return the next frame's opcode and payload; it must be a client's."""
        head = super()._exactly(2)
        assert head[0] & 0x80
        assert head[1] & 0x80, "a client masks"
        size = head[1] & 0x7F
        if size > 125:
            size = int.from_bytes(super()._exactly(2 if size == 126 else 8), "big")
        mask, masked = super()._exactly(4), super()._exactly(size)
        return head[0] & 0xF, bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))

    def _exactly(self, size: int) -> bytes:
        while len(self._heard) < size:
            opcode, payload = self.control()
            assert opcode == 0x2
            self._heard += payload
        part, self._heard = self._heard[:size], self._heard[size:]
        return part


def frame(opcode: int, payload: bytes, *, fin: int = 0x80) -> bytes:
    """Return a server's frame."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes([fin | opcode]) + length + payload


@pytest.fixture
def raw() -> Iterator[WebSocketBroker]:
    with WebSocketBroker() as it:
        yield it


def linked(raw: WebSocketBroker, link: Driver) -> None:
    """Bring *link* up at *raw*."""
    dialled(raw, link)
    raw.upgrade()
    assert not link.step()
    assert raw.hear()[0] == CONNECT
    raw.say(CONNACK)
    link.step()
    link.step()
    kind, body = raw.hear()
    assert kind == SUBSCRIBE
    raw.say(suback(body))
    assert link.step() == [Connected()]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Ports of one mosquitto: plain MQTT for others, ``ws`` and ``wss`` for the device."""
    folder = tmp_path_factory.mktemp("ws")
    make(folder)
    ports = {"ws": free_port(), "wss": free_port()}
    extra = (
        f"allow_anonymous true\nlistener {ports['ws']} 127.0.0.1\nprotocol websockets\n"
        f"listener {ports['wss']} 127.0.0.1\nprotocol websockets\n"
        f"certfile {folder}/broker.pem\nkeyfile {folder}/broker.key"
    )
    with broker(extra) as plain:
        yield {"tcp": plain, "folder": folder, **ports}


# --- mosquitto -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_messages_of_every_size_flow_both_ways(places: dict[str, Any], scheme: str) -> None:
    """Frames of each length, several in one record, and QoS 1 both ways, as over TCP."""
    payloads = [bytes([size % 251]) * size for size in (0, 1, 100, 125, 126, 20_000, 3, 65_000)]
    other = Client(CallbackAPIVersion.VERSION2)
    other.connect("127.0.0.1", places["tcp"])
    other.loop_start()
    more: dict[str, Any] = {"transport": "websocket"}
    if scheme == "wss":
        more |= {"allow_plaintext": False, "ca_file": str(places["folder"] / "ca.pem")}
    try:
        with driver(places[scheme], **more) as link:
            link.until(Connected)
            for payload in payloads:
                other.publish(UPDATE, payload, 1)
            got = [event.payload == want for event, want in zip(
                link.take(Received, len(payloads)), payloads, strict=True
            )]  # fmt: skip
            assert all(got), got
            tokens = [link.link.publish(bytes(5_000), 1) for _ in range(10)]
            assert [each.token for each in link.take(Acknowledged, len(tokens))] == tokens
    finally:
        other.disconnect()
        other.loop_stop()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"transport": "websocket"}, ": check cloud.port and cloud.transport"),
        ({}, "is no MQTT 3.1.1: check cloud.port and cloud.transport"),
    ],
)
def test_the_wrong_transport_is_told(places: dict[str, Any], more: Any, words: str) -> None:
    """WebSocket where MQTT is spoken, and MQTT where WebSocket is, each have a sentence."""
    with driver(places["tcp" if more else "ws"], **more) as link:
        assert words in link.until(Disconnected).reason


# --- the upgrade ---------------------------------------------------------------------------------


def test_the_request_is_what_the_standards_ask_for(raw: WebSocketBroker) -> None:
    """Path, host and subprotocol as configured, and a key that is new each time."""
    keys = set()
    with driver(raw.port, transport="websocket", websocket_path="/a/b?c") as link:
        for _ in range(2):
            dialled(raw, link)
            request = raw.request().decode()
            assert request.startswith(f"GET /a/b?c HTTP/1.1\r\nHost: 127.0.0.1:{raw.port}\r\n")
            for line in ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"):
                assert f"\r\n{line}\r\n" in request
            assert "\r\nSec-WebSocket-Protocol: mqtt\r\n" in request
            keys.add(re.findall(r"Key: (\S+)", request)[0])
            raw.hang_up()
            link.until(Disconnected)
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "answers 404 to the WebSocket upgrade: check cloud.h"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n",
            "no proxy or log-in page stands",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "answers 200 to the WebSocket upgrade"),
        (b"HTTP/1.1 101 Ok\r\nSec-WebSocket-Accept: x\r\n\r\n", "is not for our request"),
        (b"220 mail.example ESMTP\r\n\r\n", "speaks no HTTP"),
        (b"\r\n\r\n", "speaks no HTTP"),
        (b"HTTP/1.1 " + b"x" * 9000, "speaks no WebSocket"),
    ],
)
def test_an_upgrade_that_is_none_is_explained(
    raw: WebSocketBroker, answer: bytes, words: str
) -> None:
    """Each answer that is no upgrade has its sentence, and no descriptor stays behind."""
    with driver(raw.port, transport="websocket") as link:
        before = descriptors()
        dialled(raw, link)
        raw.request()
        raw.plain(answer)
        assert words in link.until(Disconnected).reason
        raw.hang_up()
        assert descriptors() == before


def test_an_upgrade_that_never_comes_has_a_limit(raw: WebSocketBroker) -> None:
    """A server that drips, byte by byte, is given up after 20 s as a whole."""
    with driver(raw.port, transport="websocket") as link:
        dialled(raw, link)
        for byte in b"HTTP/1.1 101":
            raw.plain(bytes([byte]))
            assert not link.step()
            link.clock.now_s += 1.5
        assert link.link.next_deadline_s() == 1020.0
        assert "does not answer to WebSocket within 20 s" in link.due()[0].reason


# --- frames --------------------------------------------------------------------------------------


def test_what_comes_behind_the_upgrade_at_once_is_not_lost(raw: WebSocketBroker) -> None:
    """The socket announces nothing any more, and still the bytes are read in the next turn."""
    with driver(raw.port, transport="websocket") as link:
        dialled(raw, link)
        raw.upgrade(first=frame(0x2, CONNACK))
        link.step()
        assert link.link.next_deadline_s() == link.clock.now_s
        link.step()
        link.step()
        raw.hear()
        assert raw.hear()[0] == SUBSCRIBE


def test_frames_may_end_anywhere(raw: WebSocketBroker) -> None:
    """One packet in many frames, many packets in one, pings between: MQTT sees a stream."""
    message = publish(UPDATE.encode(), b"cut into pieces")
    with driver(raw.port, transport="websocket") as link:
        linked(raw, link)
        raw.plain(b"".join(frame(0x2, bytes([byte])) + frame(0x9, b"?") for byte in message))
        assert link.until(Received).payload == b"cut into pieces"
        raw.plain(frame(0x2, message[:5], fin=0) + frame(0x0, message[5:] + message * 40))
        assert {each.payload for each in link.take(Received, 42)} == {b"cut into pieces"}


def test_a_ping_is_answered_in_a_masked_frame(raw: WebSocketBroker) -> None:
    """A proxy that pings keeps the connection: the answer has its payload, and is a client's."""
    with driver(raw.port, transport="websocket") as link:
        linked(raw, link)
        raw.plain(frame(0x9, b"still there?"))
        link.step()
        assert raw.control() == (0xA, b"still there?")
        link.link.close()
        assert raw.hear() == (0xE0, b"")
        assert raw.control() == (0x8, b"")


def test_pings_of_a_server_that_reads_nothing_fill_no_memory() -> None:
    """Answers that it does not take are left out: only the latest ping wants one."""
    ours, theirs = socket.socketpair()
    with closing(theirs), closing(WebSocketStream(ours, b"")) as stream:
        stream.setblocking(False)
        tracemalloc.start()
        try:
            for _ in range(2000):
                theirs.sendall(frame(0x9, bytes(125)) * 8)
                with suppress(BlockingIOError):
                    stream.recv(1)
            assert stream.wants_write
            assert tracemalloc.get_traced_memory()[1] < 64 * 1024
        finally:
            tracemalloc.stop()


def test_a_server_that_reads_nothing_loses_nothing(raw: WebSocketBroker) -> None:
    """What does not fit into the socket waits as one frame, and arrives unbroken later."""
    with driver(raw.port, transport="websocket") as link:
        linked(raw, link)
        for _ in range(400):
            link.link.publish(bytes(20_000), 0)
        assert link.link.wants_write()
        for _ in range(400):
            while raw.hears_nothing():
                link.step(0)
            assert raw.hear()[0] == 0x30
            link.step(0)
        assert not link.link.wants_write()


@pytest.mark.parametrize(
    "garbage",
    [
        frame(0x1, b"text is not MQTT"),
        frame(0x3, b"a reserved opcode"),
        b"\x82\x84\0\0\0\0\x20\x02\0\0",  # masked, as only a client does
        b"\xc2\x01\0",  # a reserved bit
        frame(0x9, b"x" * 126),
        frame(0x9, b"", fin=0),
        b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x30\xff\xff\xff\x7f",  # 2^64 bytes are announced
        frame(0x8, b"\x03\xe9going away"),
    ],
)
def test_garbage_ends_the_connection_and_nothing_else(raw: WebSocketBroker, garbage: bytes) -> None:
    """What is no WebSocket, or a goodbye, costs the broker its connection; the next one stands."""
    with driver(raw.port, transport="websocket") as link:
        linked(raw, link)
        raw.plain(garbage)
        assert link.until(Disconnected).reason
        linked(raw, link)


def test_no_bytes_make_it_raise() -> None:
    """Whatever a server sends behind the upgrade is an event or nothing: never an exception."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.one_of(
        st.binary(max_size=40),
        st.builds(frame, st.integers(0, 127), st.binary(max_size=40)),
        st.builds(frame, st.just(2), st.builds(publish, st.just(UPDATE.encode()), st.binary())),
    ), max_size=6))  # fmt: skip
    def whatever(said: list[bytes]) -> None:
        with ExitStack() as stack:
            raw = stack.enter_context(WebSocketBroker())
            link = stack.enter_context(driver(raw.port, transport="websocket"))
            dialled(raw, link)
            raw.upgrade()
            link.step()
            with suppress(OSError):
                for each in said:
                    raw.plain(each)
            raw.hang_up()
            link.until(Disconnected)

    whatever()


def test_secrets_pass_by_no_proxy_of_the_environment(
    raw: WebSocketBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that steer other programs' traffic steer nothing here."""
    for name in ("http_proxy", "https_proxy", "mqtt_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with driver(raw.port, transport="websocket", password=SECRET) as link:
        linked(raw, link)

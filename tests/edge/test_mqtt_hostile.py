# SPDX-License-Identifier: MIT
"""The MQTT link where the other side refuses, is somebody else, or sends what it must not."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from certificates import make
from fds import descriptors
from hypothesis import given, settings
from hypothesis import strategies as st
from linkdriver import UPDATE, dialled, driver, handshake
from sim.broker import CONNACK, RawBroker, free_port, packet, publish, suback

from updater.core.cloudconfig import CloudConfig
from updater.core.credentials import Credentials
from updater.core.errors import ConfigError
from updater.core.link import Connected, Disconnected, Received
from updater.edge.mqtt import MqttLink

SECRET = "correct-horse"


@pytest.fixture
def raw() -> Iterator[RawBroker]:
    with RawBroker() as it:
        yield it


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "no MQTT 3.1.1"), (2, "client id"), (3, "unavailable"),
        (4, "check the secret, and the device's clock, which says 20"),
        (5, "unknown or disabled"), (77, "unspecified"),
    ],
)  # fmt: skip
def test_each_refusal_has_its_sentence(raw: RawBroker, code: int, words: str) -> None:
    """Every CONNACK that is none is explained, also the numbers that nobody has defined."""
    with driver(raw.port) as link:
        dialled(raw, link)
        raw.say(b"\x20\x02\x00" + bytes([code]))
        assert words in link.until(Disconnected).reason


def test_a_secret_that_cannot_be_read_is_a_reason(raw: RawBroker) -> None:
    """Without credentials nothing is sent, and the next attempt reads them anew."""

    def credentials() -> Credentials:
        raise ConfigError("cannot read the secret in '/nowhere'")

    config = CloudConfig(host="127.0.0.1", port=raw.port, product_id="P", device_name="D")
    link = MqttLink(config, credentials, lambda: 1000.0)
    events = list(link.pump(readable=False, writable=False))
    assert events == [Disconnected("cannot read the secret in '/nowhere'")]
    assert 1005.0 <= link.next_deadline_s() <= 1010.0


def test_without_a_thread_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no thread left for a lookup is told so, and leaks no descriptor."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with driver(free_port(), host="localhost") as link:
        before = descriptors()
        for _ in range(2):
            assert "cannot be looked up: can't start new thread" in link.until(Disconnected).reason
        assert descriptors() == before


# --- floods --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA and a certificate of it for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("ca")
    make(folder)
    return folder


@contextmanager
def flood(authority: Path) -> Iterator[int]:
    """A TLS broker that, once subscribed to, sends small messages without an end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "broker.pem", authority / "broker.key")
    message = publish(UPDATE.encode(), b"x")
    record = message[5:] + message * 500 + message[:5]  # no record ends where a message does
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def serve() -> None:
        sock, _address = listener.accept()
        with suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(CONNACK)
            subscribe = tls.recv(4096)
            tls.sendall(suback(subscribe[2:]) + message[:5])
            end_s = time.monotonic() + 2
            while time.monotonic() < end_s:
                tls.sendall(record)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        thread.join(10)
        listener.close()


def test_a_flood_does_not_hold_the_agent(authority: Path) -> None:
    """However fast a broker sends over TLS, each turn of the loop is short, and the next is due."""
    with flood(authority) as port:
        ca_file = str(authority / "ca.pem")
        with driver(port, allow_plaintext=False, ca_file=ca_file) as link:
            link.until(Connected)
            longest_s, received = 0.0, 0
            while link.link.is_connected() and received < 2000:
                began_s = time.monotonic()
                received += len(link.step())
                longest_s = max(longest_s, time.monotonic() - began_s)
    assert received >= 2000
    assert longest_s < 1


# --- what no broker should send ------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        publish(b"\xff\xfe", b"a topic that is no UTF-8"),
        publish(b"", b"no topic"),
        packet(0x36, b"\0\1t\0\1quality of service 3"),
        packet(0x34, b"\0\1t\0\1quality of service 2, kept until it is released"),
        packet(0x30, b"\xff\xffa topic longer than the packet"),
        packet(0x30, b""),
        packet(0x90, b"\0\1\x33"),
        packet(0x90, b""),
        packet(0x40, b"\1"),
        packet(0x20, b"\0"),
        packet(0x00, b""),
        packet(0xF0, b"\0\0"),
        b"\x30\xff\xff\xff\xff\x7f",
        b"\x30\xff\xff\xff\x7fthe first bytes of 256 MiB",
        b"HTTP/1.1 400 Bad Request\r\nServer: not a broker\r\n" + b"X-Header: value\r\n" * 4,
    ],
)
def test_garbage_ends_the_connection_and_nothing_else(raw: RawBroker, garbage: bytes) -> None:
    """What is no MQTT, or too much of it, costs the broker its connection, and us nothing."""
    with driver(raw.port) as link:
        handshake(raw, link)
        raw.say(garbage)
        assert link.until(Disconnected).reason
        assert not link.link.is_connected()
        handshake(raw, link)


def test_other_topics_are_nobodys(raw: RawBroker) -> None:
    """What was not subscribed for is not passed on."""
    with driver(raw.port) as link:
        handshake(raw, link)
        raw.say(publish(b"$ota/update/P/other", b"not ours") + publish(UPDATE.encode(), b"ours"))
        assert link.until(Received) == Received(b"ours")


def test_no_bytes_make_it_raise() -> None:
    """Whatever a broker sends, at whatever point, is an event or nothing: never an exception."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.booleans(),
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.builds(packet, st.integers(0, 255), st.binary(max_size=40)),
                st.builds(publish, st.just(UPDATE.encode()), st.binary(), st.integers(0, 3)),
            ),
            max_size=4,
        ),
    )
    def whatever(is_connected: bool, said: list[bytes]) -> None:
        with RawBroker() as raw, driver(raw.port) as link:
            if is_connected:
                handshake(raw, link)
            else:
                dialled(raw, link)
            with suppress(OSError):
                for each in said:
                    raw.say(each)
            raw.hang_up()
            link.until(Disconnected)

    whatever()


def test_connections_leave_no_descriptors(raw: RawBroker) -> None:
    """Hundreds of attempts of every kind, and as many descriptors as before."""
    with driver(raw.port) as link:
        before = descriptors()
        for turn in range(30):
            handshake(raw, link)
            raw.hang_up(reset=bool(turn % 2))
            link.until(Disconnected)
        assert descriptors() == before
    with driver(free_port()) as link:
        for _ in range(30):
            link.until(Disconnected)
        assert descriptors() == before

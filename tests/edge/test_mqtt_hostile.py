# SPDX-License-Identifier: MIT
"""The MQTT link where the other side refuses, is somebody else, or sends what it must not."""

import os
import resource
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
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


def test_a_login_that_the_clock_may_have_spoilt_is_tried_again_once_it_is_set(
    raw: RawBroker,
) -> None:
    """A user name that has expired, or is not valid yet, waits for no long pause then."""
    with driver(raw.port) as link:
        link.link._time_s = lambda: 12.0 + link.clock.now_s - 1000  # it was never set
        for _ in range(5):  # the pauses have grown to 80 s and more
            while link.link.fileno() is None:
                assert not link.step()
            raw.accept()
            raw.say(b"\x20\x02\x00\x04")
            assert "clock, which says 1970-01-01" in link.until(Disconnected).reason
        lost_s = link.clock.now_s
        link.link._time_s = lambda: 2e9 + link.clock.now_s
        while link.link.fileno() is None:
            assert not link.step()
        assert link.clock.now_s <= lost_s + 10


def test_a_secret_that_cannot_be_read_is_a_reason(raw: RawBroker) -> None:
    """Without credentials nothing is sent, and the next attempt reads them anew."""

    def credentials() -> Credentials:
        raise ConfigError("cannot read the secret in '/nowhere'")

    config = CloudConfig(host="127.0.0.1", port=raw.port, product_id="P", device_name="D")
    link = MqttLink(config, credentials, lambda: 1000.0)
    events = list(link.pump(readable=False, writable=False))
    assert events == [Disconnected("cannot read the secret in '/nowhere'")]
    assert 1005.0 <= link.next_deadline_s() <= 1010.0


def test_without_a_descriptor_there_is_a_reason() -> None:
    """A machine that has no descriptor left is told so: for a name, and for an address."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for host in ("localhost", "127.0.0.1"):
        with driver(free_port(), host=host) as link:
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                (event,) = link.step(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert isinstance(event, Disconnected)
            assert "Too many open files" in event.reason


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


def test_a_length_that_is_only_announced_costs_no_memory(raw: RawBroker) -> None:
    """A small device has no 256 MiB to set aside for a packet that will never come."""
    with driver(raw.port) as link:
        handshake(raw, link)
        raw.say(b"\x30\xff\xff\xff\x7fthe first bytes")
        tracemalloc.start()
        try:
            link.until(Disconnected)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(("payload", "qos"), [(bytes(20_000), 0), (b"never acknowledged", 1)])
def test_what_a_broker_does_not_take_is_no_growing_heap(
    raw: RawBroker, payload: bytes, qos: int
) -> None:
    """Whoever makes us speak and takes nothing loses the connection, before we lose the memory."""
    with driver(raw.port) as link:
        handshake(raw, link)
        for _ in range(1000):
            link.link.publish(payload, qos)
        raw.say(publish(UPDATE.encode(), b"{}"))
        assert "does not take what is sent" in link.until(Disconnected).reason


def test_a_second_handshake_is_no_busy_loop(authority: Path) -> None:
    """A broker that begins TLS anew in one connection, and stalls, costs no turn of the loop."""
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_2"]
    command += ["-cert", str(authority / "broker.pem"), "-key", str(authority / "broker.key")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        os.set_blocking(server.stdout.fileno(), False)
        try:
            ca_file = str(authority / "ca.pem")
            with driver(port, allow_plaintext=False, ca_file=ca_file) as link:
                say = partial(os.write, server.stdin.fileno())
                while b"MQTT" not in (server.stdout.read() or b""):  # shows what it hears
                    link.step(0.1)
                say(CONNACK)
                link.step()
                link.step()
                say(suback(b"\0\1"))
                link.until(Connected)
                say(b"R\n")
                select.select([link.link.fileno()], [], [], 5)  # it asks
                server.send_signal(signal.SIGSTOP)
                link.step()
                link.link.publish(b"said meanwhile", 1)
                began_s, turns = time.monotonic(), 0
                while time.monotonic() < began_s + 0.5:
                    link.step(0.5)
                    turns += 1
        finally:
            server.kill()
    assert turns < 20


# --- what no broker should send ------------------------------------------------------------------


def test_a_subscription_that_is_granted_twice_is_one(raw: RawBroker) -> None:
    """CONNACK and SUBACK that come again change nothing: what is owed is not said again."""
    with driver(raw.port) as link:
        handshake(raw, link)
        raw.say(CONNACK)
        link.step()
        link.step()
        raw.say(suback(raw.hear()[1]) + publish(UPDATE.encode(), b"{}"))
        link.until(Received)
        assert [type(event) for event in link.seen] == [Connected, Received]


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
        reason = link.until(Disconnected).reason
        assert "no MQTT 3.1.1: check cloud.port" in reason or "the broker sends too much" in reason
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

# SPDX-License-Identifier: MIT
"""The MQTT link where the other side refuses, is somebody else, or sends what it must not."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from fds import descriptors
from hypothesis import given, settings
from hypothesis import strategies as st
from linkdriver import UPDATE, driver, handshake
from paho.mqtt.client import Client
from sim.broker import CONNACK, RawBroker, broker, free_port, packet, publish, suback

from updater.core.config import CloudConfig
from updater.core.credentials import Credentials
from updater.core.errors import ConfigError
from updater.core.link import Connected, Disconnected, Received
from updater.edge import mqtt
from updater.edge.mqtt import MqttLink

SECRET = "correct-horse"


@pytest.fixture
def raw() -> Iterator[RawBroker]:
    with RawBroker() as it:
        yield it


# --- logins --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a mosquitto that knows one device, and lets it do nothing but its two topics."""
    folder = tmp_path_factory.mktemp("guarded")
    command = ["mosquitto_passwd", "-c", "-b", folder / "passwords", "device", SECRET]
    subprocess.run(command, check=True)
    with broker(f"allow_anonymous false\npassword_file {folder / 'passwords'}") as number:
        yield number


def test_a_known_device_gets_in(guarded: int) -> None:
    """User name and password of the configured login are what the broker checks."""
    with driver(guarded, password=SECRET) as link:
        link.until(Connected)


@pytest.mark.parametrize("password", ["wrong-" + SECRET, None])
def test_a_refused_login_says_what_to_check(guarded: int, password: str | None) -> None:
    """The reason is a sentence for people, names the suspects, and never the password."""
    with driver(guarded, password=password) as link:
        reason = link.until(Disconnected).reason
    assert reason.startswith("refused: not authorised: the device is unknown or disabled")
    assert SECRET not in reason


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "no MQTT 3.1.1"), (2, "client id"), (3, "unavailable"),
        (4, "password, or the device's clock"), (5, "unknown or disabled"), (77, "unspecified"),
    ],
)  # fmt: skip
def test_each_refusal_has_its_sentence(raw: RawBroker, code: int, words: str) -> None:
    """Every CONNACK that is none is explained, also the numbers that nobody has defined."""
    with driver(raw.port) as link:
        assert not link.step()
        raw.accept()
        raw.say(b"\x20\x02\x00" + bytes([code]))
        assert words in link.until(Disconnected).reason


def test_a_refused_subscription_is_no_link(tmp_path: Path) -> None:
    """A broker that lets us in and not hear gives no ``Connected``, but a reason with the topic."""
    plugin = next(Path("/usr").glob("lib*/**/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    state = tmp_path / "rules.json"
    state.write_text('{"defaultACLAccess": {"subscribe": false, "publishClientSend": true}}')
    extra = f"allow_anonymous true\nplugin {plugin}\nplugin_opt_config_file {state}"
    with broker(extra) as port, driver(port) as link:
        reason = link.until(Disconnected).reason
    assert reason == f"the broker refuses the subscription to {UPDATE}"
    assert Connected() not in link.seen


def test_a_secret_that_cannot_be_read_is_a_reason(raw: RawBroker) -> None:
    """Without credentials nothing is sent, and the next attempt reads them anew."""

    def credentials() -> Credentials:
        raise ConfigError("cannot read the secret in '/nowhere'")

    config = CloudConfig(host="127.0.0.1", port=raw.port, product_id="P", device_name="D")
    link = MqttLink(config, credentials, lambda: 1000.0)
    events = list(link.pump(readable=False, writable=False))
    assert events == [Disconnected("cannot read the secret in '/nowhere'")]
    assert 1000.0 <= link.next_deadline_s() <= 1005.0


# --- TLS -----------------------------------------------------------------------------------------


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two CAs, ours and a stranger, and a certificate of ours for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("ca")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "stranger"):
        openssl(folder, "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem",
                "-subj", f"/CN={name}", "-days", "2")  # fmt: skip
    openssl(folder, "req", *key, "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=b")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(folder, "x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "broker.pem")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def tls_port(authority: Path) -> Iterator[int]:
    extra = f"certfile {authority}/broker.pem\nkeyfile {authority}/broker.key\n"
    with broker(extra + "allow_anonymous true") as number:
        yield number


def test_tls_with_our_ca_is_a_link(tls_port: int, authority: Path) -> None:
    """A certificate that fits connects, and a message larger than a TLS record gets through."""
    ca_file = str(authority / "ca.pem")
    with driver(tls_port, allow_plaintext=False, ca_file=ca_file) as link:
        link.until(Connected)
        other = Client(mqtt.CallbackAPIVersion.VERSION2)
        other.tls_set(ca_file)
        other.connect("127.0.0.1", tls_port)
        other.loop_start()
        try:
            other.publish(UPDATE, bytes(40_000), 1)
            assert link.until(Received) == Received(bytes(40_000))
        finally:
            other.disconnect()
            other.loop_stop()


@pytest.mark.parametrize("is_hashed", [True, False])
def test_without_a_ca_file_the_systems_cas_decide(
    tls_port: int,
    authority: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_hashed: bool,
) -> None:
    """A folder of CAs is looked up in one by one where it is hashed, and the file is read else."""
    shutil.copy(authority / "ca.pem", tmp_path / "ca.pem")
    if is_hashed:
        openssl(tmp_path, "rehash", ".")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with driver(tls_port, allow_plaintext=False) as link:
        if is_hashed:
            link.until(Connected)
        else:  # the system's file does not know the test's authority
            assert "certificate is refused" in link.until(Disconnected).reason


@pytest.mark.parametrize(
    ("host", "ca", "words"),
    [
        ("127.0.0.1", "stranger.pem", "certificate is refused: unable to get local issuer"),
        ("127.0.0.1", "", "certificate is refused: unable to get local issuer"),
        ("localhost", "ca.pem", "certificate is refused: Hostname mismatch"),
        ("127.0.0.1", "none.pem", "cannot read the CA file"),
        ("127.0.0.1", "names", "cannot read the CA file"),
    ],
)
def test_a_broker_that_cannot_be_verified_gets_nothing(
    tls_port: int, authority: Path, host: str, ca: str, words: str
) -> None:
    """Unknown CA, wrong name, no CA file: no link, no descriptor left, and a reason why."""
    ca_file = str(authority / ca) if ca else ""
    with driver(tls_port, allow_plaintext=False, ca_file=ca_file, host=host) as link:
        before = descriptors()
        for _ in range(3):
            assert words in link.until(Disconnected).reason
        assert descriptors() == before


def test_tls_is_not_spoken_to_everybody(authority: Path, tls_port: int) -> None:
    """A plain broker where TLS was meant, and the other way round, are no links either."""
    ca_file = str(authority / "ca.pem")
    with broker() as plain, driver(plain, allow_plaintext=False, ca_file=ca_file) as link:
        assert "cannot connect" in link.until(Disconnected).reason
    with driver(tls_port) as link:
        assert link.until(Disconnected).reason == "the broker has closed the connection"


def test_a_tls_handshake_has_a_limit(raw: RawBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes TCP and never answers TLS holds the agent for the limit and no more."""
    monkeypatch.setattr(mqtt, "_CONNECT_TIMEOUT_S", 0.1)
    with driver(raw.port, allow_plaintext=False) as link:
        before, began_s = descriptors(), time.monotonic()
        assert "timed out" in link.until(Disconnected).reason
        assert time.monotonic() - began_s < 1
        assert descriptors() == before


def test_a_tcp_handshake_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not even answer TCP holds the agent for the limit and no more."""
    monkeypatch.setattr(mqtt, "_CONNECT_TIMEOUT_S", 0.1)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # its queue is full: what comes now is dropped
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        link = stack.enter_context(driver(listener.getsockname()[1]))
        began_s = time.monotonic()
        assert "timed out" in link.until(Disconnected).reason
        assert time.monotonic() - began_s < 1


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
                link.step()
                raw.accept()
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

# SPDX-License-Identifier: MIT
"""The MQTT link over TLS: who is let in, who is trusted, and what is said of everybody else."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import make, openssl
from fds import descriptors
from linkdriver import UPDATE, Driver, dialled, driver
from newerpython import device
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from sim.broker import RawBroker, broker, free_port

from updater.core.link import Connected, Disconnected, Received

LISTENERS = ("good", "expired", "future", "wants-certificate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates are."""
    it = tmp_path_factory.mktemp("certificates")
    make(it)
    return it


@pytest.fixture(scope="module")
def ports(folder: Path) -> Iterator[dict[str, int]]:
    """Of one mosquitto, by what its listener shows and wants."""
    numbers = {name: free_port() for name in LISTENERS}
    lines = ["allow_anonymous true"]
    for name, number in numbers.items():
        shown = name if name in {"expired", "future"} else "broker"
        lines += [f"listener {number} 127.0.0.1", f"certfile {folder}/{shown}.pem"]
        lines += [f"keyfile {folder}/broker.key"]
    lines += [
        f"cafile {folder}/ca.pem",
        f"crlfile {folder}/crl.pem",
        "require_certificate true",
        "use_identity_as_username true",
    ]
    with broker("\n".join(lines)):
        yield numbers


@pytest.fixture
def raw() -> Iterator[RawBroker]:
    with RawBroker() as it:
        yield it


@contextmanager
def secure(port: int, folder: Path, **more: Any) -> Iterator[Driver]:
    """A link that trusts our CA; a file's name stands for one in *folder*."""
    files = {"ca_file": "ca.pem", **more}
    for key, value in files.items():
        if key.endswith("_file") and value and "/" not in value:
            files[key] = str(folder / value)
    with driver(port, allow_plaintext=False, **files) as link:
        yield link


# --- the broker's certificate --------------------------------------------------------------------


def test_tls_with_our_ca_is_a_link(ports: dict[str, int], folder: Path) -> None:
    """A certificate that fits connects, and a message larger than a TLS record gets through."""
    with secure(ports["good"], folder) as link:
        link.until(Connected)
        other = Client(CallbackAPIVersion.VERSION2)
        other.tls_set(str(folder / "ca.pem"))
        other.connect("127.0.0.1", ports["good"])
        other.loop_start()
        try:
            other.publish(UPDATE, bytes(40_000), 1)
            assert link.until(Received) == Received(bytes(40_000))
        finally:
            other.disconnect()
            other.loop_stop()


def test_a_ca_of_ones_own_need_not_be_modern(
    ports: dict[str, int], folder: Path, tmp_path: Path
) -> None:
    """Python 3.13 asks certificates for extensions that a small CA does not write: we do not."""
    found = device(tmp_path, port=ports["good"], auth="none", ca_file=str(folder / "ca.pem"))
    assert found == {"acknowledged": True, "reasons": []}


@pytest.mark.parametrize("is_hashed", [True, False])
def test_without_a_ca_file_the_systems_cas_decide(
    ports: dict[str, int],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_hashed: bool,
) -> None:
    """A folder of CAs is looked up in one by one where it is hashed, and the file is read else."""
    shutil.copy(folder / "ca.pem", tmp_path / "ca.pem")
    if is_hashed:
        openssl(tmp_path, "rehash", ".")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with secure(ports["good"], folder, ca_file="") as link:
        if is_hashed:
            link.until(Connected)
        else:  # the system's file does not know the test's authority
            assert "unknown CA" in link.until(Disconnected).reason


@pytest.mark.parametrize(
    ("listener", "more", "words"),
    [
        ("good", {"ca_file": "stranger.pem"}, "is from an unknown CA: check cloud.ca_file or the"),
        ("good", {"ca_file": ""}, "is from an unknown CA: check cloud.ca_file or the"),
        ("good", {"host": "localhost"}, "is for another name than localhost: check cloud.host"),
        ("good", {"ca_file": "none.pem"}, "cannot use the CA file"),
        ("good", {"ca_file": "names"}, "cannot use the CA file"),
        ("expired", {}, "has expired, or the device's clock is wrong, which"),
        ("future", {}, "is not valid yet: the device's clock is wrong, it says"),
    ],
)
def test_a_broker_that_cannot_be_verified_gets_nothing(
    ports: dict[str, int], folder: Path, listener: str, more: dict[str, str], words: str
) -> None:
    """Each reason has its sentence and what to check, and no descriptor stays behind."""
    with secure(ports[listener], folder, **more) as link:
        before = descriptors()
        for _ in range(3):
            assert words in link.until(Disconnected).reason
        assert descriptors() == before
    assert Connected() not in link.seen


def test_a_clock_that_is_wrong_is_tried_again_once_it_is_set(
    ports: dict[str, int], folder: Path
) -> None:
    """The sentence has the clock's date; setting the clock makes the next attempt due."""
    with secure(ports["future"], folder) as link:
        link.link._time_s = lambda: 12.0 + link.clock.now_s - 1000  # it was never set
        for _ in range(5):  # the pauses have grown to 80 s and more
            assert "it says 1970-01-01 00:" in link.until(Disconnected).reason
        lost_s = link.clock.now_s
        assert not link.due()
        assert link.clock.now_s <= lost_s + 5
        link.link._time_s = lambda: 2e9 + link.clock.now_s
        assert "it says 2033-" in link.until(Disconnected).reason
        assert link.clock.now_s <= lost_s + 10


def test_tls_is_not_spoken_to_everybody(ports: dict[str, int], folder: Path) -> None:
    """A plain broker where TLS was meant, and the other way round, are no links either."""
    with broker() as plain, secure(plain, folder) as link:
        assert "check cloud.port" in link.until(Disconnected).reason
    with driver(ports["good"]) as link:
        reason = link.until(Disconnected).reason
    assert reason.startswith("the broker has closed the connection without an answer: check cloud.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "the broker speaks no TLS 1.2 or newer"),
        (("-tls1_2", "-Verify", "1", "-verify_return_error"), "it wants a device certificate"),
        (("-tls1_2", "-cipher", "PSK", "-psk", "00", "-nocert"), "or TLS-PSK (cloud.auth)"),
    ],
)
def test_a_server_that_wants_something_else_is_explained(
    folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    """TLS 1.1, a certificate of ours by TLS 1.2, and TLS-PSK are told in words."""
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", *arguments]
    if "-nocert" not in arguments:
        command += ["-cert", str(folder / "broker.pem"), "-key", str(folder / "broker.key")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            with secure(port, folder) as link:
                reason = link.until(Disconnected).reason
                while "nobody listens" in reason:
                    time.sleep(0.05)
                    reason = link.until(Disconnected).reason
        finally:
            server.kill()
    assert reason.startswith(f"cannot connect to 127.0.0.1:{port}: TLS: ")
    assert words in reason


# --- limits --------------------------------------------------------------------------------------


def test_a_tls_handshake_has_a_limit(raw: RawBroker) -> None:
    """A broker that takes TCP and never answers TLS holds nobody, and is given up after 20 s."""
    with driver(raw.port, allow_plaintext=False) as link:
        before, began_s = descriptors(), time.monotonic()
        dialled(raw, link)
        assert link.link.next_deadline_s() == 1020.0
        [lost] = link.due()
        assert lost == Disconnected(
            f"cannot connect to 127.0.0.1:{raw.port}: TLS: the broker does not answer within 20 s"
        )
        raw.hang_up()
        assert time.monotonic() - began_s < 1
        assert descriptors() == before


def test_a_dripping_handshake_has_the_same_limit(raw: RawBroker) -> None:
    """However long a broker drips a record byte by byte, the limit is for the whole handshake."""
    with driver(raw.port, allow_plaintext=False) as link:
        dialled(raw, link)
        for byte in b"\x16\x03\x03\x0f\xff" + bytes(20):
            raw.say(bytes([byte]))
            assert not link.step()
            link.clock.now_s += 0.75
        assert link.link.next_deadline_s() == 1020.0
        assert "within 20 s" in link.due()[0].reason


def test_a_tcp_handshake_has_a_limit() -> None:
    """A host that does not even answer TCP holds nobody, and is given up after 10 s."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (one, two):  # its queue is full: what comes now is dropped
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        with driver(listener.getsockname()[1]) as link:
            began_s = time.monotonic()
            assert not link.step()
            assert link.link.next_deadline_s() == 1010.0
            assert not link.step(0.05)
            assert "timed out: check the network" in link.due()[0].reason
            assert time.monotonic() - began_s < 1


# --- the device's certificate --------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        {"client_cert_file": "device.pem", "client_key_file": "device.key"},
        {"client_cert_file": "device-both.pem"},
    ],
)
@pytest.mark.parametrize("auth", ["certificate", "none"])
def test_a_device_certificate_lets_the_device_in(
    ports: dict[str, int], folder: Path, files: dict[str, str], auth: str
) -> None:
    """The certificate is the user, the key beside it or within it (PROTOCOL.md, 2.3)."""
    with secure(ports["wants-certificate"], folder, auth=auth, **files) as link:
        link.until(Connected)


def test_a_certificate_does_not_stand_in_the_way_of_a_password(
    ports: dict[str, int], folder: Path
) -> None:
    """A broker that asks for both gets both."""
    files = {"client_cert_file": "device-both.pem"}
    with secure(ports["wants-certificate"], folder, password="x", **files) as link:
        link.until(Connected)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "TLS: the broker wants a device certificate: see cloud.client_cert_file"),
        (
            {"client_cert_file": "device-strange.pem", "client_key_file": "device.key"},
            "TLS: the broker does not know the authority of the device's certificate",
        ),
        (
            {"client_cert_file": "device-expired.pem", "client_key_file": "device.key"},
            "TLS: the broker says that the device's certificate has expired",
        ),
        (
            {"client_cert_file": "device-revoked.pem", "client_key_file": "device.key"},
            "TLS: the broker says that the device's certificate is revoked",
        ),
        (
            {"client_cert_file": "device.pem", "client_key_file": "broker.key"},
            "hold no device certificate with its unencrypted key: key values mismatch",
        ),
        (
            {"client_cert_file": "device.pem", "client_key_file": "locked.key"},
            "hold no device certificate with its unencrypted key",
        ),
        ({"client_cert_file": "device.pem"}, "hold no device certificate with its unencrypted key"),
        ({"client_cert_file": "names"}, "hold no device certificate with its unencrypted key"),
        ({"client_cert_file": "none.pem"}, "cannot read the device certificate or its key in"),
    ],
)
def test_a_device_certificate_that_does_not_fit_is_explained(
    ports: dict[str, int], folder: Path, files: dict[str, str], words: str
) -> None:
    """None, a stranger's, an old one, and files that hold none each have their sentence."""
    with secure(ports["wants-certificate"], folder, **files) as link:
        before = descriptors()
        assert words in link.until(Disconnected).reason
        assert descriptors() == before
    assert Connected() not in link.seen


def test_the_key_may_be_a_systemd_credential(
    ports: dict[str, int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key's name without a slash is looked for where systemd has put the service's secrets."""
    with driver(
        ports["wants-certificate"],
        allow_plaintext=False,
        ca_file=str(folder / "ca.pem"),
        client_cert_file=str(folder / "device.pem"),
        client_key_file="device.key",
    ) as link:
        assert "was given none" in link.until(Disconnected).reason
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
        link.until(Connected)

# SPDX-License-Identifier: MIT
"""One device and the gateway in small: what is asked, what is stored, and in which order."""

import logging
import os
import resource
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sim.cloud import DEVICE, PRODUCT
from sim.gateway import PRODUCT_SECRET, Gateway, answer, hidden

from updater.core.cloudconfig import CloudConfig
from updater.core.errors import (
    BusyError,
    CancelledError,
    ConfigError,
    LinkError,
    StorageError,
    TransportError,
    UpdaterError,
    WrongStateError,
)
from updater.edge.secret import CredentialSource
from updater.edge.secretfile import SecretFile
from updater.registrar import Attempt, Registrar

REAL_FSYNC = os.fsync


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as serving:
        yield serving


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the device secret goes; the product's is beside it."""
    (tmp_path / "product").write_text(f"{PRODUCT_SECRET}\n")
    (tmp_path / "product").chmod(0o600)
    return tmp_path / "secret"


@pytest.fixture
def settings(gateway: Gateway, path: Path) -> CloudConfig:
    return cloud(gateway, path)


def cloud(gateway: Gateway, path: Path, **more: str) -> CloudConfig:
    known = {
        "host": "h", "product_id": PRODUCT, "device_name": DEVICE, "secret_file": str(path),
        "product_secret_file": str(path.with_name("product")), "registration_url": gateway.url,
    }  # fmt: skip
    return CloudConfig(**{**known, **more}, allow_plaintext=True)


def fails(call: Callable[[], None], kind: type[UpdaterError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        call()
    assert PRODUCT_SECRET not in str(caught.value)


def test_without_a_descriptor_there_is_a_reason(settings: CloudConfig) -> None:
    """A machine that has no descriptor left for an attempt is told so, and tries again later."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(TransportError, match="cannot register now: Too many open files"):
            Registrar(settings).start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- one after the other -------------------------------------------------------------------------


@pytest.mark.parametrize("digest", ["sha256", "sha1"])
def test_the_secret_that_is_granted_signs(gateway: Gateway, path: Path, digest: str) -> None:
    """By either digest the device gets its secret, stores it, and signs by it."""
    settings = cloud(gateway, path, hmac=digest)
    registrar = Registrar(settings)
    assert not registrar.is_registered()
    registrar.register()
    assert registrar.is_registered()
    assert path.read_text() == gateway.granted[DEVICE] + "\n"
    assert gateway.requests[0].headers["x-tc-algorithm"] == f"hmac{digest}"
    password = CredentialSource(settings)().password
    assert password is not None
    assert password.endswith(f";hmac{digest}")


def test_each_request_is_new(gateway: Gateway, settings: CloudConfig, path: Path) -> None:
    """A nonce is never used again, and the time is the time."""
    for _ in range(5):
        path.unlink(missing_ok=True)
        gateway.reset()
        Registrar(settings).register()
    headers = [request.headers for request in gateway.requests]
    assert len({each["x-tc-nonce"] for each in headers}) == 5
    assert all(each["x-tc-nonce"].isdigit() for each in headers)
    assert all(abs(int(each["x-tc-timestamp"]) - time.time()) < 10 for each in headers)


def test_who_has_a_secret_asks_nobody(gateway: Gateway, settings: CloudConfig, path: Path) -> None:
    """What is there stays, whatever it is, until somebody says: again."""
    path.write_text("")
    fails(Registrar(settings).register, WrongStateError, "has a secret already.*--again")
    assert gateway.requests == []
    Registrar(settings).register(again=True)
    assert path.read_text() == gateway.granted[DEVICE] + "\n"


def test_an_old_secret_survives_a_refusal(settings: CloudConfig, path: Path) -> None:
    """Asking again without a reset in the console changes nothing here."""
    Registrar(settings).register()
    before = path.read_bytes()
    again = Registrar(settings)
    fails(lambda: again.register(again=True), LinkError, "reset the device in the console")
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["product", "secret"]


def test_what_is_wrong_here_is_found_out_before_the_cloud_is_asked(
    gateway: Gateway, path: Path
) -> None:
    """The cloud answers once; a file that cannot be read or written must not use that up."""
    missing = cloud(gateway, path, product_secret_file="/no/such/file")
    fails(Registrar(missing).register, ConfigError, "cannot read the secret in '/no/such/file'")
    none = cloud(gateway, path, product_secret_file="")
    fails(Registrar(none).register, ConfigError, "needs cloud.product_secret_file")
    nowhere = cloud(gateway, path, secret_file="/dev/null/secret")
    fails(Registrar(nowhere).register, StorageError, "cannot store a secret in /dev/null/secret")
    path.with_name("product").write_text("short")
    fails(Registrar(cloud(gateway, path)).register, ConfigError, "16 characters")
    assert gateway.requests == []
    assert [p.name for p in path.parent.iterdir()] == ["product"]


def test_another_product_s_secret_is_refused(settings: CloudConfig, path: Path) -> None:
    """The gateway checks the signature, and the sentence says what to compare."""
    path.with_name("product").write_text("x" + PRODUCT_SECRET)
    fails(Registrar(settings).register, LinkError, "code 1010")
    assert not path.exists()


def test_a_clock_that_is_wrong_is_told(gateway: Gateway, settings: CloudConfig) -> None:
    """The cloud refuses the time, the device says what its clock shows, and may try again."""
    gateway.ahead_s = 3600.0
    today = time.strftime("%Y-%m-%d", time.gmtime())
    fails(Registrar(settings).register, TransportError, rf"clock has, {today} .* UTC: set it")
    gateway.ahead_s = 0.0
    Registrar(settings).register()


@pytest.mark.parametrize(
    "response",
    [
        hidden(b'{"encryptionType":2,"psk":"AAAA"}', "another product's secret"),
        hidden(b'{"encryptionType":2,"psk":"not base64"}'),
        hidden(b"x" * 6000),
        {"Payload": "AAAA", "Len": 3},
        {},
    ],
)
def test_an_answer_that_lies_stores_nothing(
    gateway: Gateway, settings: CloudConfig, path: Path, response: object
) -> None:
    """Only what can sign gets the file's name."""
    gateway.script = lambda _: [answer(response)]
    fails(Registrar(settings).register, TransportError, "gateway")
    assert [p.name for p in path.parent.iterdir()] == ["product"]


def test_a_secret_that_cannot_be_stored_is_not_lost(
    gateway: Gateway, settings: CloudConfig, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A medium that fails after the answer: the next try stores what has come, and asks nobody."""
    registrar = Registrar(settings)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", _broken)
        fails(registrar.register, StorageError, "Input/output error")
    assert not path.exists()
    assert not registrar.is_registered()
    registrar.register()
    assert path.read_text() == gateway.granted[DEVICE] + "\n"
    assert len(gateway.requests) == 1


def test_a_secret_that_may_not_last_is_stored_again(
    gateway: Gateway, settings: CloudConfig, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be flushed: the name is there, and nobody counts on it yet."""
    registrar = Registrar(settings)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _flush_no_folder)
        fails(registrar.register, StorageError, "Input/output error")
    assert path.exists()
    assert not registrar.is_registered()
    registrar.register()
    assert registrar.is_registered()
    assert len(gateway.requests) == 1


def _flush_no_folder(fileno: int) -> None:
    if stat.S_ISDIR(os.fstat(fileno).st_mode):
        raise OSError(5, "Input/output error")
    REAL_FSYNC(fileno)


def _broken(*_args: object, **_more: object) -> None:
    raise OSError(5, "Input/output error")


def test_a_cut_between_answer_and_file_leaves_a_sentence(
    gateway: Gateway, settings: CloudConfig, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes before the rename: no file, and the next start hears how to go on."""

    class Cut(BaseException):
        pass

    def cut(*_args: object, **_more: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", cut)
        with pytest.raises(Cut):
            Registrar(settings).register()
    assert not path.exists()
    after = Registrar(settings)
    fails(after.register, LinkError, "gives its secret only once: reset the device in the console")
    gateway.reset()
    after.register()
    assert path.read_text() == gateway.granted[DEVICE] + "\n"


def test_no_secret_is_logged(
    gateway: Gateway, settings: CloudConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """At any level, neither the product's nor the device's."""
    with caplog.at_level(logging.DEBUG):
        Registrar(settings).register()
    assert PRODUCT_SECRET not in caplog.text
    assert gateway.granted[DEVICE] not in caplog.text


# --- beside the loop -----------------------------------------------------------------------------


def ended(attempt: Attempt) -> bool:
    """Wait for the end through the descriptor, as the loop does."""
    return bool(select.select([attempt.fileno()], [], [], 10)[0])


def test_the_loop_is_woken_at_the_end(gateway: Gateway, settings: CloudConfig, path: Path) -> None:
    """Beginning takes no time; the descriptor tells of the end, which is a success or an error."""
    go = threading.Event()
    gateway.script = lambda request: (go.wait(10) and gateway.honest(request)) or []
    began_s = time.monotonic()
    with closing(Registrar(settings).start()) as attempt:
        assert time.monotonic() - began_s < 0.2
        assert not select.select([attempt.fileno()], [], [], 0.1)[0]
        assert not attempt.is_over()
        with pytest.raises(TransportError, match="ended early"):
            attempt.result()
        go.set()
        assert ended(attempt)
        assert attempt.is_over()
        attempt.result()
    assert path.read_text() == gateway.granted[DEVICE] + "\n"
    path.unlink()
    with closing(Registrar(settings).start()) as attempt:
        assert ended(attempt)
        fails(attempt.result, LinkError, "code 1021")


def test_closing_waits_for_an_answer_that_would_be_lost(
    gateway: Gateway, settings: CloudConfig, path: Path
) -> None:
    """The cloud has been asked: its answer is stored before the program ends."""
    gateway.script = lambda request: [0.4, *gateway.honest(request)]
    attempt = Registrar(settings).start()
    assert gateway.arrived.wait(10)
    attempt.close()
    attempt.close()
    assert attempt.is_over()
    assert path.read_text() == gateway.granted[DEVICE] + "\n"


def test_closing_does_not_wait_for_a_connection(gateway: Gateway, path: Path) -> None:
    """Before the question nothing can be lost: the thread gives up by itself, unheard."""
    os.mkfifo(path.with_name("slow"))  # whoever opens it waits for a writer, as for a lookup
    settings = cloud(gateway, path, product_secret_file=str(path.with_name("slow")))
    attempt = Registrar(settings).start()
    began_s = time.monotonic()
    attempt.close()
    assert time.monotonic() - began_s < 0.2
    path.with_name("slow").write_text(PRODUCT_SECRET)
    deadline_s = time.monotonic() + 10
    while not attempt.is_over():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    fails(attempt.result, CancelledError, "the program ends")
    assert gateway.requests == []
    assert not path.exists()


def test_two_at_a_time_ask_once(gateway: Gateway, settings: CloudConfig, path: Path) -> None:
    """Whoever comes second, by hand or as an agent, is told, and the first one's secret holds."""
    gateway.script = lambda request: [0.3, *gateway.honest(request)]
    with closing(Registrar(settings).start()) as attempt:
        assert gateway.arrived.wait(10)
        fails(lambda: Registrar(settings).register(again=True), BusyError, "somebody else")
        assert ended(attempt)
        attempt.result()
    assert len(gateway.requests) == 1
    assert SecretFile(str(path)).exists()

# SPDX-License-Identifier: MIT
"""The engine's TLS, under AddressSanitizer and UBSan: whom it trusts, and that it stays there."""

import datetime as dt
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import HostileServer, answer
from sanitized import IMAGE, Slot, Status
from scripts import AGAIN, ETAG, in_turn, redirect, reset_after, rest, whole

AUTHORITY = """
[ca]
default_ca = here
[here]
database = index
rand_serial = yes
new_certs_dir = .
default_md = sha256
unique_subject = no
copy_extensions = copy
policy = any
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""


def command(folder: Path, words: str) -> None:
    subprocess.run(words.split(), check=True, capture_output=True, cwd=folder)


def issue(folder: Path, name: str, address: str, days: tuple[int, int] = (-1, 2)) -> None:
    """Make a key and a certificate that signs itself, valid between these days from now."""
    (folder / "authority").write_text(AUTHORITY)
    (folder / "index").write_text("")
    command(
        folder,
        f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key "
        f"-out {name}.request -subj /CN={name} -addext subjectAltName=IP:{address} "
        "-config authority",
    )
    now = dt.datetime.now(dt.UTC)
    begin, end = (f"{now + dt.timedelta(n):%Y%m%d%H%M%SZ}" for n in days)
    command(
        folder,
        f"openssl ca -batch -notext -selfsign -config authority -in {name}.request "
        f"-keyfile {name}.key -out {name}.pem -startdate {begin} -enddate {end}",
    )


def certificate(
    folder: Path, name: str, address: str, days: tuple[int, int] = (-1, 2)
) -> ssl.SSLContext:
    """Issue a certificate and return a server's context for it."""
    issue(folder, name, address, days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[HostileServer]:
    with HostileServer(certificate(folder, "good", "127.0.0.1")) as serving:
        yield serving


def url(server: HostileServer) -> str:
    return server.url("/image", lambda _: answer(IMAGE))


def test_a_server_of_the_given_authority_is_trusted(
    slot: Slot, secure: HostileServer, folder: Path
) -> None:
    """Its image arrives, without leave for plaintext."""
    outcome = slot.fill(source=url(secure), ca_file=folder / "good.pem", allow_plaintext=0)
    assert outcome.status == Status.DONE
    assert slot.is_whole()


UNTRUSTED: dict[str, tuple[str, tuple[int, int], str]] = {
    "expired": ("127.0.0.1", (-9, -1), "has expired: check this device's clock"),
    "not yet valid": ("127.0.0.1", (1, 9), "is not valid yet: check this device's clock"),
    "for another host": ("127.0.0.2", (-1, 2), "is for another host"),
}


@pytest.mark.parametrize(("address", "days", "expected"), UNTRUSTED.values(), ids=UNTRUSTED.keys())
def test_a_certificate_that_does_not_count_is_told_with_what_to_check(
    slot: Slot, folder: Path, address: str, days: tuple[int, int], expected: str
) -> None:
    """Signed well, by the right one, and of no use here and now."""
    with HostileServer(certificate(folder, "other", address, days)) as other:
        outcome = slot.fill(source=url(other), ca_file=folder / "other.pem")
        assert outcome.status == Status.TRANSPORT
        assert expected in outcome.message
        assert other.requests == []
    assert slot.is_untouched()


def test_a_server_of_no_known_authority_is_not_trusted(slot: Slot, secure: HostileServer) -> None:
    """The system's authorities do not know it."""
    outcome = slot.fill(source=url(secure))
    assert outcome.status == Status.TRANSPORT
    assert "of an authority that is not trusted here" in outcome.message
    assert slot.is_untouched()


def test_another_authority_of_the_same_name_is_not_trusted(
    slot: Slot, secure: HostileServer, folder: Path, tmp_path: Path
) -> None:
    """Names are free for everybody; the signature decides."""
    issue(tmp_path, "good", "127.0.0.1")
    outcome = slot.fill(source=url(secure), ca_file=tmp_path / "good.pem")
    assert outcome.status == Status.TRANSPORT
    assert slot.is_untouched()
    assert slot.fill(source=url(secure), ca_file=folder / "good.pem").status == Status.DONE


def test_a_certificate_is_judged_at_every_attempt(slot: Slot, folder: Path) -> None:
    """A clock may be set meanwhile: it is one of the failures that may pass."""
    with HostileServer(certificate(folder, "early", "127.0.0.1", (1, 9))) as other:
        outcome = slot.fill(
            source=url(other), ca_file=folder / "early.pem", attempts=3, backoff_ms=5,
            backoff_limit_ms=5,
        )  # fmt: skip
        assert (outcome.status, outcome.facts["retries"]) == (Status.TRANSPORT, 2)


@pytest.fixture(scope="module")
def demanding(folder: Path) -> Iterator[HostileServer]:
    """A server that demands a certificate of its clients."""
    context = certificate(folder, "strict", "127.0.0.1")
    for name in ("client", "unknown"):
        issue(folder, name, "127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "client.pem")
    with HostileServer(context) as serving:
        yield serving


CLIENTS: dict[str, tuple[tuple[str, ...], Status]] = {
    "its own": (("client.pem", "client.key"), Status.DONE),
    "none": ((), Status.TRANSPORT),
    "an unknown one": (("unknown.pem", "unknown.key"), Status.TRANSPORT),
    "one with another key": (("client.pem", "unknown.key"), Status.TRANSPORT),
    "one without its key": (("client.pem",), Status.TRANSPORT),
    "one that is not there": (("nowhere.pem", "nowhere.key"), Status.TRANSPORT),
    "one that is none": (("authority", "authority"), Status.TRANSPORT),
}


@pytest.mark.parametrize(("names", "expected"), CLIENTS.values(), ids=CLIENTS.keys())
def test_a_server_may_demand_a_certificate_of_the_device(
    slot: Slot, demanding: HostileServer, folder: Path, names: tuple[str, ...], expected: Status
) -> None:
    """With the right one the image arrives, and with any other nothing does."""
    orders: dict[str, Any] = {"ca_file": folder / "strict.pem"}
    orders |= zip(("client_cert", "client_key"), [folder / name for name in names], strict=False)
    demanding.requests.clear()
    outcome = slot.fill(source=url(demanding), **orders)
    assert outcome.status == expected
    assert str(folder) not in outcome.message
    assert slot.is_whole() if expected == Status.DONE else slot.is_untouched()
    assert len(demanding.requests) == (1 if expected == Status.DONE else 0)


def test_the_rest_comes_by_tls_too(slot: Slot, secure: HostileServer, folder: Path) -> None:
    """An end without TLS's own is a cut like any other, and so is a reset."""
    script = in_turn(whole(ETAG, sends=400_000), reset_after(rest(ETAG, sends=9)), rest(ETAG))
    source = secure.url("/rest", script)
    outcome = slot.fill(source=source, ca_file=folder / "good.pem", **AGAIN)
    assert (outcome.status, outcome.facts["retries"]) == (Status.DONE, 2)
    assert slot.is_whole()


@pytest.mark.root
def test_a_given_authority_is_the_only_one(
    slot: Slot, secure: HostileServer, folder: Path, tmp_path: Path
) -> None:
    """A server whom the system trusts is trusted, unless another authority was named."""
    for name in ("ca-certificates.crt", "good.pem"):
        (tmp_path / name).write_text((folder / "good.pem").read_text())
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True, capture_output=True)
    certificate(folder, "stranger", "127.0.0.1")
    before = f"mount --bind {tmp_path} /etc/ssl/certs"
    assert slot.fill(source=url(secure), before=before).status == Status.DONE
    stranger = folder / "stranger.pem"
    outcome = slot.fill(source=url(secure), before=before, ca_file=stranger)
    assert outcome.status == Status.TRANSPORT


def test_a_missing_bundle_is_told(slot: Slot, secure: HostileServer, folder: Path) -> None:
    """The sentence points to the file of authorities."""
    outcome = slot.fill(source=url(secure), ca_file=folder / "none.pem")
    assert outcome.status == Status.TRANSPORT
    assert "CA cert" in outcome.message


def test_https_is_not_left_again(
    slot: Slot, secure: HostileServer, server: HostileServer, folder: Path
) -> None:
    """A redirect from https to http is refused, also where plaintext is allowed."""
    there = url(server)
    here = secure.url("/down", lambda _: answer(b"", f"Location: {there}", status="302 Found"))
    outcome = slot.fill(source=here, ca_file=folder / "good.pem", allow_plaintext=1)
    assert outcome.status == Status.SCHEME


def test_https_is_not_left_in_the_middle(
    slot: Slot, secure: HostileServer, server: HostileServer, folder: Path
) -> None:
    """Nor is it for the rest of an object, and what came before does not boot."""
    there = server.url("/rest", rest(ETAG))
    here = secure.url("/middle", in_turn(whole(ETAG, sends=400_000), redirect(there)))
    server.requests.clear()
    outcome = slot.fill(source=here, ca_file=folder / "good.pem", **AGAIN)
    assert outcome.status == Status.SCHEME
    assert server.requests == []
    assert slot.is_blank()


def test_http_may_lead_to_https(
    slot: Slot, secure: HostileServer, server: HostileServer, folder: Path
) -> None:
    """The other way round is fine."""
    there = url(secure)
    here = server.url("/up", lambda _: answer(b"", f"Location: {there}", status="302 Found"))
    outcome = slot.fill(source=here, ca_file=folder / "good.pem", allow_plaintext=1)
    assert outcome.status == Status.DONE


PERMISSIVE = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = old
[old]
MinProtocol = TLSv1
CipherString = ALL:@SECLEVEL=0
"""


@pytest.mark.root
def test_old_tls_is_not_spoken(slot: Slot, folder: Path) -> None:
    """TLS 1.1 and older are refused, although the system's configuration would allow them."""
    (folder / "openssl.cnf").write_text(PERMISSIVE)
    context = certificate(folder, "old", "127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what Python says of TLS 1.1
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    before = f"export OPENSSL_CONF={folder / 'openssl.cnf'}"
    with HostileServer(context) as old:
        outcome = slot.fill(source=url(old), ca_file=folder / "old.pem", before=before)
        assert outcome.status == Status.TRANSPORT

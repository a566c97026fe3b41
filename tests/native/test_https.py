# SPDX-License-Identifier: MIT
"""The engine's TLS, under AddressSanitizer and UBSan: whom it trusts, and that it stays there."""

import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import HostileServer, answer
from sanitized import IMAGE, Slot, Status


def certificate(folder: Path, name: str, address: str) -> ssl.SSLContext:
    """Make a key and a certificate that signs itself, and return a server's context for them."""
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        f"-keyout {name}.key -out {name}.pem -subj /CN={name} -addext subjectAltName=IP:{address}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, cwd=folder)
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
    outcome = slot.fill(source=url(secure), ca_file=folder / "good.pem", plaintext=0)
    assert outcome.status == Status.DONE
    assert slot.is_whole()


def test_a_server_of_no_known_authority_is_not(slot: Slot, secure: HostileServer) -> None:
    """The system's authorities do not know it."""
    assert slot.fill(source=url(secure)).status == Status.TRANSPORT


def test_a_certificate_for_another_name_is_not(slot: Slot, folder: Path) -> None:
    """Signed well, by the right one, for somebody else."""
    with HostileServer(certificate(folder, "other", "127.0.0.2")) as other:
        assert slot.fill(source=url(other), ca_file=folder / "other.pem").status == Status.TRANSPORT


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
    assert slot.fill(source=here, ca_file=folder / "good.pem", plaintext=1).status == Status.SCHEME


def test_http_may_lead_to_https(
    slot: Slot, secure: HostileServer, server: HostileServer, folder: Path
) -> None:
    """The other way round is fine."""
    there = url(secure)
    here = server.url("/up", lambda _: answer(b"", f"Location: {there}", status="302 Found"))
    assert slot.fill(source=here, ca_file=folder / "good.pem", plaintext=1).status == Status.DONE


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

# SPDX-License-Identifier: MIT
"""Certificates for the tests of TLS: two CAs, and what they have signed, good and bad."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_CA = """
[ca]
default_ca = it
[it]
database = index
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = names
unique_subject = no
default_crl_days = 2
[names]
commonName = supplied
"""
_TIMES = {
    "valid": ("20200101000000Z", "20991231000000Z"),
    "expired": ("20200101000000Z", "20210101000000Z"),
    "future": ("20900101000000Z", "20991231000000Z"),
}


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make(folder: Path, addresses: Sequence[str] = ("127.0.0.1",)) -> None:
    """Fill *folder*: ``ca`` and ``stranger``; the broker's and devices' certificates with keys.

    Those are for *addresses*.
    """
    (folder / "ca.conf").write_text(_CA)
    (folder / "index").touch()
    names = ",".join(f"IP:{address}" for address in addresses)
    (folder / "names").write_text(f"subjectAltName={names}\n")
    for name in ("ca", "stranger"):
        openssl(folder, "req", "-x509", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem",
                "-subj", f"/CN={name}", "-days", "2")  # fmt: skip
    for name, subject in (("broker", "b"), ("device", "PD")):
        request = f"{name}.csr"
        openssl(folder, "req", *_KEY, "-keyout", f"{name}.key", "-out", request,
                "-subj", f"/CN={subject}")  # fmt: skip
        sign(folder, request, f"{name}.pem")
    sign(folder, "broker.csr", "expired.pem", when="expired")
    sign(folder, "broker.csr", "future.pem", when="future")
    sign(folder, "device.csr", "device-expired.pem", when="expired")
    sign(folder, "device.csr", "device-strange.pem", by="stranger")
    sign(folder, "device.csr", "device-revoked.pem")
    authority = ("ca", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key")
    openssl(folder, *authority, "-revoke", "device-revoked.pem")
    openssl(folder, *authority, "-gencrl", "-out", "crl.pem")
    both = (folder / "device.pem").read_text() + (folder / "device.key").read_text()
    (folder / "device-both.pem").write_text(both)
    openssl(folder, "pkcs8", "-topk8", "-in", "device.key", "-out", "locked.key",
            "-passout", "pass:tops3cret")  # fmt: skip


def sign(folder: Path, request: str, to: str, *, when: str = "valid", by: str = "ca") -> None:
    start, end = _TIMES[when]
    openssl(folder, "ca", "-batch", "-notext", "-config", "ca.conf", "-cert", f"{by}.pem",
            "-keyfile", f"{by}.key", "-in", request, "-out", to, "-startdate", start,
            "-enddate", end, "-extfile", "names")  # fmt: skip

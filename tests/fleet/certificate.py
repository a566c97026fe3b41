# SPDX-License-Identifier: MIT
"""A broker's certificate, and the CA that its devices trust."""

import subprocess
from pathlib import Path

CA = "broker.pem"  # it has signed itself


def make(folder: Path) -> Path:
    """Put ``broker.pem`` and its key into *folder*, and return the former."""
    shown = folder / CA
    command: list[str | Path] = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "2", "-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", shown.with_suffix(".key"), "-out", shown,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return shown

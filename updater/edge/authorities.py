# SPDX-License-Identifier: MIT
"""Whom a server's certificate must come from: the system's CAs, or a file of one's own."""

import os
import re
import ssl
from pathlib import Path

from updater.core.errors import ConfigError

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # how a folder of CAs names each of them


def verifying(ca_file: str) -> ssl.SSLContext:
    """Return a context that verifies a server's certificate and name; nothing below TLS 1.2.

    Args:
        ca_file: PEM bundle in place of the system's CAs; "" for those.

    Raises:
        ConfigError: It cannot be used.
    """
    try:
        folder = None if ca_file else _system_authorities()
        made = ssl.create_default_context(cafile=ca_file or None, capath=folder)
    except OSError as error:
        reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"cannot use the CA file {ca_file!r}: {reason}") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:  # Python 3.13 is strict, and a CA of one's own need not know RFC 5280
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return made


def _system_authorities() -> str | None:
    """Return the folder of the system's CAs if OpenSSL can look one up in it, else None.

    The one file with all of them would stand in memory, a megabyte, for as long as the agent lives.
    """
    folder = ssl.get_default_verify_paths().capath
    if folder is None or "SSL_CERT_FILE" in os.environ:
        return None
    try:
        is_hashed = any(_HASHED.fullmatch(path.name) for path in Path(folder).iterdir())
    except OSError:
        return None
    return folder if is_hashed else None

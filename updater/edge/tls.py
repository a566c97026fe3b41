# SPDX-License-Identifier: MIT
"""TLS as the broker is spoken to: the CAs that prove it, and what proves the device.

Two kinds of context: one verifies the broker's certificate and name, and shows the device's own
certificate if it has one; the other, TLS-PSK, knows no certificates: whoever has the same secret is
the broker. Nothing below TLS 1.2.
"""

import os
import re
import ssl
import sys
from typing import Any

from updater.core import refusals
from updater.core.cloudconfig import CloudConfig
from updater.core.credentials import Credentials, place
from updater.core.errors import ConfigError, LinkError
from updater.edge.authorities import verifying

# Forward secrecy first; the cloud's own list is the last two, PSK-AES{256,128}-CBC-SHA.
_PSK_CIPHERS = "kECDHEPSK+AES:kPSK+AES:!eNULL"
WAITING = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def context(settings: CloudConfig, credentials: Credentials) -> ssl.SSLContext:
    """Return the context for one connection.

    Raises:
        ConfigError: A file cannot be read or is none, or this Python has no TLS-PSK.
    """
    if credentials.psk is not None:
        made = _psk(credentials.client_id, credentials.psk)
    else:
        made = verifying(settings.ca_file)
    if settings.client_cert_file:
        _show_certificate(made, settings.client_cert_file, settings.client_key_file)
    # While a second handshake stalls, what is to be sent would wait for something to read.
    made.options |= ssl.OP_NO_RENEGOTIATION
    return made


def refusal(error: OSError, host: str, clock: str) -> LinkError:
    """Return in words why *error* has ended TLS with *host*; *clock* is the device's time."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return refusals.certificate(error.verify_code, error.verify_message, host=host, clock=clock)
    if isinstance(error, ssl.SSLEOFError):
        return refusals.tls("EOF")
    if isinstance(error, ssl.SSLError):
        return refusals.tls(error.reason or _name(error.strerror or ""))
    return refusals.network(error.errno or 0, error.strerror or str(error))


def _name(text: str) -> str:
    """Return the name of an error that this Python knows only in OpenSSL's words."""
    return re.sub(r"^\[.*?\] | \(_ssl.*$", "", text).upper().replace(" ", "_")


def _show_certificate(made: ssl.SSLContext, certificate: str, key: str) -> None:
    """Have *made* show the device's certificate to a broker that asks."""
    key = place(key, os.environ.get("CREDENTIALS_DIRECTORY"))
    names = f"{certificate} and {key}" if key else certificate
    try:
        # Without a password OpenSSL would ask for it at the terminal.
        made.load_cert_chain(certificate, key or None, password="")
    except ssl.SSLError as error:
        words = (error.reason or "no PEM").lower().replace("_", " ")
        raise ConfigError(
            f"{names} hold no device certificate with its unencrypted key: {words}"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read the device certificate or its key in {names}: {error.strerror}"
        ) from error


def _psk(identity: str, key: bytes) -> ssl.SSLContext:
    """Return a context that takes for the broker whoever has the same *key*."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    set_callback: Any = getattr(made, "set_psk_client_callback", None)
    if set_callback is None or not getattr(ssl, "HAS_PSK", False):
        raise ConfigError(
            "cloud.auth = psk needs Python 3.13 or newer with TLS-PSK, and this is Python "
            f"{sys.version_info.major}.{sys.version_info.minor}: use tencent or certificate"
        )
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(_PSK_CIPHERS)
    set_callback(lambda _hint: (identity, key))
    return made

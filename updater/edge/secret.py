# SPDX-License-Identifier: MIT
"""Where the device's secret comes from: a file, read for each connection and kept nowhere.

Draws what a signature needs to be new each time, and judges whether the clock can be trusted: a
device whose clock has not been set signs without an expiry. That others may read a secret is said
once, of all files of secrets alike.
"""

import logging
import os
import secrets
import stat
import string
import time
from contextlib import suppress
from pathlib import Path

from updater.core.cloudconfig import CloudConfig
from updater.core.config import Config
from updater.core.credentials import (
    NO_CLOCK_EXPIRY_S,
    Credentials,
    decode,
    place,
    sign,
    user_name,
)
from updater.core.errors import ConfigError

_log = logging.getLogger(__name__)

_CLOCK_IS_SET_S = 1_700_000_000  # before this program was written
_MAX_SECRET_BYTES = 4096
_ALPHABET = string.ascii_letters + string.digits


class CredentialSource:
    """Makes credentials for one connection after the other."""

    def __init__(self, settings: CloudConfig) -> None:
        self._settings = settings

    def __call__(self) -> Credentials:
        """Return credentials for the next connection.

        Raises:
            ConfigError: The secret cannot be read or is none.
        """
        cloud = self._settings
        client_id = cloud.product_id + cloud.device_name
        connid = "".join(secrets.choice(_ALPHABET) for _ in range(5))
        if cloud.auth == "none":
            return Credentials(client_id, None, None)
        if cloud.auth == "password":
            return Credentials(client_id, cloud.username, read_secret(cloud.password_file))
        if cloud.auth == "tencent":
            return sign(
                cloud.product_id,
                cloud.device_name,
                read_secret(cloud.secret_file),
                connid=connid,
                expiry_s=self._expiry_s(),
                sdkappid=cloud.sdkappid,
                digest=cloud.hmac,
            )
        username = user_name(
            client_id, sdkappid=cloud.sdkappid, connid=connid, expiry_s=self._expiry_s()
        )
        psk = decode(read_secret(cloud.secret_file)) if cloud.auth == "psk" else None
        return Credentials(client_id, username, None, psk)

    def _expiry_s(self) -> int:
        """Return when the user name expires, UNIX seconds."""
        now_s, lifetime_s = time.time(), self._settings.signature_lifetime_s
        if not lifetime_s or now_s < _CLOCK_IS_SET_S:
            return NO_CLOCK_EXPIRY_S
        return min(int(now_s) + lifetime_s, NO_CLOCK_EXPIRY_S)


def warn_of_open_files(settings: Config) -> None:
    """Warn of each file of a secret or a private key that others may read; call this once.

    What systemd keeps as a credential is its own affair, and what is not there yet has no mode.
    """
    cloud, download = settings.cloud, settings.download
    files = (
        cloud.secret_file,
        cloud.product_secret_file,
        cloud.password_file,
        cloud.client_key_file or cloud.client_cert_file,
        download.client_key_file or download.client_cert_file,
    )
    for path in dict.fromkeys(path for path in files if "/" in path):
        with suppress(OSError):
            if stat.S_IMODE(Path(path).stat().st_mode) & 0o077:
                _log.warning("%s holds a secret and can be read by others: chmod 600", path)


def read_secret(path: str) -> str:
    """Return the text of a secret's file.

    Raises:
        ConfigError: It cannot be read, or holds none.
    """
    where = Path(place(path, os.environ.get("CREDENTIALS_DIRECTORY")))
    try:
        with where.open("rb") as file:
            raw = file.read(_MAX_SECRET_BYTES + 1).strip()
    except OSError as error:
        raise ConfigError(f"cannot read the secret in {path!r}: {error.strerror}") from error
    if not raw or len(raw) > _MAX_SECRET_BYTES or not raw.isascii():
        raise ConfigError(
            f"{path} holds no secret: it must be 1 to {_MAX_SECRET_BYTES} bytes of ASCII text"
        )
    return raw.decode("ascii")

# SPDX-License-Identifier: MIT
"""Who the device is to the cloud: topics, client id, and a user name signed by the device secret.

Nothing here is random or knows the time: the caller draws ``connid`` and says when the signature
expires. Source: Tencent Cloud IoT Hub, MQTT device authentication.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from updater.core.errors import ConfigError

_DIGESTS = {"sha256": hashlib.sha256, "sha1": hashlib.sha1}
NO_CLOCK_EXPIRY_S = 2147483647


@dataclass(frozen=True, slots=True)
class Credentials:
    """What CONNECT carries, and TLS-PSK's key; secrets are kept out of the representation."""

    client_id: str
    username: str | None
    password: str | None = field(repr=False)
    psk: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Topics:
    """The two topics of the device."""

    report: str
    update: str


def topics(product_id: str, device_name: str) -> Topics:
    """Return the device's topics."""
    return Topics(
        report=f"$ota/report/{product_id}/{device_name}",
        update=f"$ota/update/{product_id}/{device_name}",
    )


def sign(  # noqa: PLR0913 - the parts of the user name
    product_id: str,
    device_name: str,
    secret: str,
    *,
    connid: str,
    expiry_s: int,
    sdkappid: str = "12010126",
    digest: str = "sha256",
) -> Credentials:
    """Return credentials for one connection.

    Args:
        product_id: As the console shows it.
        device_name: The same.
        secret: The device secret, base64 text as the console shows it.
        connid: Five random letters or digits, new for each connection.
        expiry_s: UNIX seconds after which the signature is refused.
        sdkappid: A constant of the cloud.
        digest: ``sha256`` or ``sha1``.

    Raises:
        ConfigError: The secret is empty or no base64.
    """
    key = decode(secret)
    client_id = product_id + device_name
    username = user_name(client_id, sdkappid=sdkappid, connid=connid, expiry_s=expiry_s)
    token = hmac.new(key, username.encode("utf-8"), _DIGESTS[digest]).hexdigest()
    return Credentials(client_id, username, f"{token};hmac{digest}")


def user_name(client_id: str, *, sdkappid: str, connid: str, expiry_s: int) -> str:
    """Return the cloud's form of a user name, which is all that a certificate or a PSK needs."""
    return f"{client_id};{sdkappid};{connid};{expiry_s}"


def decode(secret: str) -> bytes:
    """Return the key that the device secret stands for.

    Raises:
        ConfigError: The secret is empty or no base64.
    """
    try:
        key = base64.b64decode(secret.strip(), validate=True)
    except ValueError:  # binascii's error is one
        key = b""
    if not key:
        raise ConfigError("the device secret is empty or not base64 text")
    return key


def place(path: str, directory: str | None) -> str:
    """Return where a file is: a name without a slash is that of a systemd credential.

    Args:
        path: As configured; may be empty.
        directory: That of the service's credentials, if it has one.

    Raises:
        ConfigError: The service has no credentials.
    """
    if not path or "/" in path:
        return path
    if not directory:
        raise ConfigError(
            f"{path} has no slash, so it is a systemd credential, and the service was given none: "
            "write a path, or use LoadCredential="
        )
    return f"{directory}/{path}"

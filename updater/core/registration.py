# SPDX-License-Identifier: MIT
"""Dynamic registration: a device that has only its product's secret asks for a secret of its own.

The request is signed over its exact bytes. The answer is hostile until it is decrypted and every
part of it has the type and the size that it must have. No sentence of this module holds a part of
the answer's payload, and no error is chained to one that does. What is not understood may pass and
is a ``TransportError``; a definite refusal is a ``LinkError`` that says what to check.

The cloud answers a device once: from then on it refuses it (1021) until somebody resets the device
in the console. Source: Tencent Cloud IoT Hub, dynamic registration and signature algorithm.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from updater.core.errors import ConfigError, LinkError, TransportError, UpdaterError
from updater.core.gateway import Gateway
from updater.core.httpanswer import Answer

_DIGESTS = {"sha256": hashlib.sha256, "sha1": hashlib.sha1}
_KEY_BYTES = 16  # the cloud's key is so much of the product secret's text
_IV = b"0" * 16
_MAX_SECRET_BYTES = 64  # decoded; the cloud's have 16
_MAX_WORDS = 128  # of the cloud's own, in a sentence of ours
_HTTP_OK = 200

Decrypt = Callable[[bytes, bytes, bytes], bytes]  # key, iv, hidden text


@dataclass(frozen=True, slots=True)
class Registrant:
    """Who registers; the product secret is kept out of the representation.

    Raises:
        ConfigError: The product secret is too short to be one.
    """

    product_id: str
    device_name: str
    product_secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.product_secret) < _KEY_BYTES or not self.product_secret.isascii():
            raise ConfigError(
                f"the product secret is ASCII text of {_KEY_BYTES} characters at least: copy it "
                "from the product's page in the console"
            )


# --- the request ---------------------------------------------------------------------------------


def body_of(registrant: Registrant) -> bytes:
    """Return the body: exactly these bytes are signed."""
    body = {"ProductId": registrant.product_id, "DeviceName": registrant.device_name}
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def sign(  # noqa: PLR0913 - the parts of the text that is signed
    registrant: Registrant,
    *,
    host: str,
    path: str,
    timestamp_s: int,
    nonce: int,
    digest: str,
) -> str:
    """Return the signature; its key is the product secret's text as it stands."""
    algorithm = _DIGESTS[digest]
    hexdigest = algorithm(body_of(registrant)).hexdigest()
    parts = ("POST", host, path, "", f"hmac{digest}", str(timestamp_s), str(nonce), hexdigest)
    key = registrant.product_secret.encode("ascii")
    signed = hmac.new(key, "\n".join(parts).encode("ascii"), algorithm)
    return base64.b64encode(signed.digest()).decode("ascii")


def request(
    registrant: Registrant,
    gateway: Gateway,
    *,
    timestamp_s: int,
    nonce: int,
    digest: str = "sha256",
) -> bytes:
    """Return the whole request as it goes over the wire.

    Args:
        registrant: Who asks.
        gateway: Who is asked.
        timestamp_s: UNIX seconds; the cloud refuses what is too far from its own.
        nonce: A random number, new for each request.
        digest: ``sha256`` or ``sha1``.
    """
    signature = sign(
        registrant,
        host=gateway.host,
        path=gateway.path,
        timestamp_s=timestamp_s,
        nonce=nonce,
        digest=digest,
    )
    body = body_of(registrant)
    lines = (
        f"POST {gateway.path} HTTP/1.1",
        f"Host: {gateway.authority}",
        "Connection: close",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"X-TC-Algorithm: hmac{digest}",
        f"X-TC-Timestamp: {timestamp_s}",
        f"X-TC-Nonce: {nonce}",
        f"X-TC-Signature: {signature}",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


# --- the answer ----------------------------------------------------------------------------------


def parse(answer: Answer, registrant: Registrant, timestamp_s: int, decrypt: Decrypt) -> str:
    """Return the device secret: base64 text, as the console shows it.

    Args:
        answer: What has come, whatever it is.
        registrant: Who has asked.
        timestamp_s: What the request has said of the time.
        decrypt: AES-128-CBC.

    Raises:
        LinkError: The cloud refuses this device, or has something else than a secret for it.
        TransportError: The answer is none: another try may bring one.
    """
    response = _object(answer.body).get("Response")
    if not isinstance(response, dict):
        raise TransportError(
            f"the gateway has answered with HTTP status {answer.status} and no response: is "
            "cloud.registration_url right, and does nothing else answer in its place?"
        )
    if response.get("Error") is not None:
        raise _refusal(response["Error"], timestamp_s)
    if answer.status != _HTTP_OK:
        raise TransportError(f"the gateway has answered with HTTP status {answer.status}")
    return _secret(_object(_opened(response, registrant, decrypt)))


def _object(text: bytes) -> Mapping[str, object]:
    """Return the JSON object that *text* is, or an empty one: an error of json's would hold it."""
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):  # json's and the codec's own are ValueErrors
        return {}
    return value if isinstance(value, dict) else {}


def _opened(response: Mapping[str, object], registrant: Registrant, decrypt: Decrypt) -> bytes:
    """Return the payload, decrypted and without its padding."""
    payload, length = response.get("Payload"), response.get("Len")
    hidden = _unbase64(payload)
    if not hidden or len(hidden) % _KEY_BYTES:
        raise TransportError("the gateway's answer has no payload that could be decrypted")
    key = registrant.product_secret[:_KEY_BYTES].encode("ascii")
    plain = decrypt(key, _IV, hidden)
    if type(length) is int and 0 < length <= len(plain):  # else the zeros tell where it ends
        plain = plain[:length]
    return plain.rstrip(b"\0")


def _secret(granted: Mapping[str, object]) -> str:
    match granted:
        case {"encryptionType": 2 | "2", "psk": str(secret)}:
            if not 0 < len(_unbase64(secret)) <= _MAX_SECRET_BYTES:
                raise TransportError("what the gateway has granted is no device secret")
            return secret
        case {"encryptionType": 1 | "1"}:
            raise LinkError(
                "the cloud grants a certificate, and this device has asked for a secret: let the "
                "product authenticate by key, or download certificate and key from the console"
            )
    raise TransportError(
        "the gateway's answer cannot be decrypted by this product secret, or grants nothing"
    )


def _unbase64(value: object) -> bytes:
    """Return the bytes that *value* is base64 text of, or none."""
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:  # binascii's error is one
        return b""


# --- refusals ------------------------------------------------------------------------------------

_KNOWN_ALREADY = (
    "the cloud has registered this device before, and gives its secret only once: reset the device "
    "in the console, then it registers by itself, or put the secret that the console shows into "
    "cloud.secret_file (code 1021)"
)
_WRONG_SIGNATURE = (
    "the cloud refuses the signature: compare cloud.product_id and the text in "
    "cloud.product_secret_file with the product's page in the console, where dynamic registration "
    "must be on (code 1010)"
)


def _refusal(error: object, timestamp_s: int) -> UpdaterError:
    """Return what the cloud's error means; its form is not sure, its numbers and words are."""
    words = _words(error)
    codes = set(re.findall(r"[0-9]+", words))
    if "1021" in codes:
        return LinkError(_KNOWN_ALREADY)
    if "timestamp" in words.lower():
        return TransportError(
            f"the cloud refuses the time that this device's clock has, {_time(timestamp_s)}: set it"
        )
    if "1010" in codes:
        return LinkError(_WRONG_SIGNATURE)
    return TransportError(f"the cloud refuses the registration and says {words[:_MAX_WORDS]!r}")


def _words(error: object) -> str:
    """Return the texts and numbers of *error* in ASCII."""
    parts = list(error.values()) if isinstance(error, dict) else [error]
    text = " ".join(str(part) for part in parts if type(part) in {str, int})
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _time(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"

# SPDX-License-Identifier: MIT
"""The cloud's messages: hostile bytes in, checked values out, and the exact bytes of our own.

Limits come first: size, encoding, types, charsets. Unknown keys and unknown message types
are ignored, as the protocol may grow. No sentence of this module ever holds a URL: it is signed.
Source: Tencent Cloud IoT Hub, device OTA protocol.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from updater.core.errors import OfferError, ResultCode
from updater.core.model import Firmware, Offer

MAX_PAYLOAD_BYTES = 16 * 1024
MAX_RESULT_MSG = 128
_MAX_SIZE_BYTES = (1 << 63) - 1

_VERSION = re.compile(r"[A-Za-z0-9._-]{1,32}")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_SIZE = re.compile(r"[0-9]{1,19}")
_URL = re.compile(r"https?://[!-~]{1,2040}")
_WORD = re.compile(r"[!-~]{1,64}")


UNKNOWN_VERSION = "unknown"  # what runs has no version that could be reported


class _Ambiguous(dict[str, object]):
    """A JSON object that names something twice."""


@dataclass(frozen=True, slots=True)
class VersionResponse:
    """``report_version_rsp``: the cloud's answer to ``report_version``."""

    result_code: int


def parse_downlink(payload: bytes) -> Offer | VersionResponse | None:
    """Return what a message on the update topic says, or None if its type is not known.

    Raises:
        OfferError: The message breaks a limit or a type; nothing of it is to be used.
    """
    message = _object(payload)
    match message.get("type"):
        case "update_firmware":
            return _offer(message)
        case "report_version_rsp":
            return VersionResponse(_result_code(message.get("result_code")))
        case _:
            return None


def check_version(value: object) -> str:
    """Return *value* if it is a version: 1 to 32 letters, digits, dots, dashes, underscores."""
    return _matched(value, _VERSION, "version")


def is_version(value: str) -> bool:
    """Tell whether *value* is a version."""
    return _VERSION.fullmatch(value) is not None


def check_md5(value: object) -> str:
    """Return *value* in lower case if it is an MD5 in hexadecimal."""
    return _matched(value, _MD5, "md5sum").lower()


def check_size_bytes(value: object) -> int:
    """Return *value* if it is a size: a positive whole number, also as digits in a string."""
    size = -1
    if type(value) is int:
        size = value
    elif isinstance(value, str) and _SIZE.fullmatch(value):
        size = int(value)
    if not 0 < size <= _MAX_SIZE_BYTES:
        raise OfferError("file_size is not a positive whole number")
    return size


def report_version(version: str, fw_type: str | None = None) -> bytes:
    """Return the message that names the running version and pulls what the cloud has for us.

    Raises:
        OfferError: That is no version, and the cloud would not take it for one.
    """
    check_version(version)
    report = {"version": version} if fw_type is None else {"version": version, "fw_type": fw_type}
    return _bytes({"type": "report_version", "report": report})


def downloading(offer: Offer, percent: int) -> bytes:
    """Return a progress message; *percent* is 0 to 100."""
    return _progress(offer, {"state": "downloading", "percent": str(percent)}, ResultCode.OK, "")


def burning(offer: Offer) -> bytes:
    """Return the message that the last byte has come and the slot is being finished or tried."""
    return _progress(offer, {"state": "burning"}, ResultCode.OK, "")


def done(offer: Offer) -> bytes:
    """Return the terminal message of success."""
    return _progress(offer, {"state": "done"}, ResultCode.OK, "")


def fail(offer: Offer, code: ResultCode, message: str) -> bytes:
    """Return the terminal message of failure; *message* is cut to short ASCII."""
    text = "".join(char if " " <= char <= "~" else "?" for char in message)[:MAX_RESULT_MSG]
    return _progress(offer, {"state": "fail"}, code, text)


def _progress(offer: Offer, state: dict[str, str], code: ResultCode, text: str) -> bytes:
    progress = {**state, "result_code": str(int(code)), "result_msg": text}
    report: dict[str, object] = {"progress": progress, "version": offer.firmware.version}
    if offer.task_id is not None:
        report["task_id"] = offer.task_id
    if offer.fw_type is not None:
        report["fw_type"] = offer.fw_type
    return _bytes({"type": "report_progress", "report": report})


def _bytes(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode("ascii")


def _object(payload: bytes) -> Mapping[str, object]:
    """Return the JSON object that *payload* is."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise OfferError(f"{len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} are taken")
    try:
        message = json.loads(
            payload.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_named_once
        )
    except (ValueError, RecursionError) as error:  # also no UTF-8, numbers of too many digits
        raise OfferError(f"no JSON: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise OfferError("no JSON object")
    if isinstance(message, _Ambiguous):
        raise OfferError("a key stands there twice")
    return message


def _named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return *pairs* as an object that knows whether a name stands in it twice."""
    message = dict(pairs)
    return message if len(message) == len(pairs) else _Ambiguous(message)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _offer(message: Mapping[str, object]) -> Offer:
    return Offer(
        Firmware(
            version=check_version(message.get("version")),
            md5=check_md5(message.get("md5sum")),
            size_bytes=check_size_bytes(message.get("file_size")),
        ),
        url=_matched(message.get("url"), _URL, "url"),
        task_id=_task_id(message.get("task_id")),
        fw_type=_optional_word(message.get("fw_type"), "fw_type"),
    )


def _matched(value: object, pattern: re.Pattern[str], name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise OfferError(f"{name} is missing or not of its form")
    return value


def _task_id(value: object) -> int | str | None:
    if type(value) is int and abs(value) <= _MAX_SIZE_BYTES:
        return value
    return _optional_word(value, "task_id")


def _optional_word(value: object, name: str) -> str | None:
    return None if value is None else _matched(value, _WORD, name)


def _result_code(value: object) -> int:
    if type(value) is int and abs(value) <= _MAX_SIZE_BYTES:
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value):
        return int(value)
    raise OfferError("result_code is missing or no whole number")

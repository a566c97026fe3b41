# SPDX-License-Identifier: MIT
"""What people give, on the command line or through the control socket, within its limits.

What can be known to fail later is refused here, before the first write.
"""

from collections.abc import Mapping
from pathlib import Path

from updater.core import messages
from updater.core.errors import DigestError, NotFoundError, SchemeError, UsageError
from updater.core.model import Firmware, Offer

HISTORY_LIMIT = 500
_MAX_SOURCE = 4096


def check_scheme(source: str, *, allow_plaintext: bool) -> None:
    """Refuse what would be refused later, when the target's head is blank already.

    Raises:
        SchemeError: *source* is a URL, and neither of https nor of an allowed http.
    """
    scheme, separator, _rest = source.partition("://")
    if separator and scheme.lower() not in {"http", "https"}:
        raise SchemeError("the URL is neither https nor http")
    if separator and scheme.lower() == "http" and not allow_plaintext:
        raise SchemeError("the URL is http, and download.allow_plaintext is not set")


def checked_file(text: str, size_bytes: int) -> str:
    """Return the path of a file that is there and as long as announced; 0: nothing was announced.

    Raises:
        NotFoundError: There is no such file.
        DigestError: Its length is another one.
    """
    path = Path(text).resolve()
    if not path.is_file():
        raise NotFoundError(f"there is no file {text}")
    held = path.stat().st_size
    if held == 0 or (size_bytes and held != size_bytes):
        announced = f", announced were {size_bytes}" if size_bytes else ": that is no image"
        raise DigestError(f"{text} has {held} bytes{announced}")
    return str(path)


def local_offer(parameters: Mapping[str, object]) -> Offer:
    """Return the offer that a person makes, within the same limits as the cloud's.

    Raises:
        UsageError: Something is missing.
        OfferError: Something is out of its limits.
    """
    missing = [key for key in ("source", "version", "md5", "size_bytes") if key not in parameters]
    if missing:
        raise UsageError(f"install needs {', '.join(missing)}")
    firmware = Firmware(
        version=messages.check_version(parameters["version"]),
        md5=messages.check_md5(parameters["md5"]),
        size_bytes=messages.check_size_bytes(parameters["size_bytes"]),
    )
    return Offer(firmware, _source(parameters["source"]), is_local=True)


def _source(value: object) -> str:
    """Return *value* if it can be where an image is: not every text can name a file."""
    if not isinstance(value, str) or len(value) > _MAX_SOURCE or not value.isprintable():
        raise UsageError(f"source is a text of at most {_MAX_SOURCE} printable characters")
    if "://" not in value and not value.startswith("/"):
        raise UsageError("source is an http(s) URL or an absolute path")
    return value


def history_limit(value: object) -> int:
    """Return *value* if it is a number of lines that may be asked for."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= HISTORY_LIMIT:
        raise UsageError(f"limit is a number from 1 to {HISTORY_LIMIT}")
    return value

# SPDX-License-Identifier: MIT
"""Words of the command line as values, within the limits that the cloud's messages have too.

Each function raises ``argparse.ArgumentTypeError`` with a sentence that says what the word is not.
"""

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

from updater.core import messages
from updater.core.errors import OfferError, UsageError
from updater.inputs import HISTORY_LIMIT, history_limit

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")


def md5(text: str) -> str:
    """Return an MD5 in lower case."""
    return _checked(messages.check_md5, text, "an MD5: 32 hexadecimal digits")


def sha256(text: str) -> str:
    """Return a SHA-256, or "" for one that is only asked for."""
    if text and not _SHA256.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a SHA-256: 64 hexadecimal digits")
    return text.lower()


def size_bytes(text: str) -> int:
    """Return a size."""
    return _checked(messages.check_size_bytes, text, "a size: bytes, as a whole number")


def version(text: str) -> str:
    """Return a version."""
    return _checked(
        messages.check_version, text, "a version: 1 to 32 letters, digits, '.', '-' and '_'"
    )


def limit(text: str) -> int:
    """Return a number of lines of history."""
    try:
        return history_limit(int(text))
    except (ValueError, UsageError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number from 1 to {HISTORY_LIMIT}"
        ) from None


def _checked(check: Callable[[object], T], text: str, what: str) -> T:
    """Return *text* within the limits that the cloud's messages have too."""
    try:
        return check(text)
    except OfferError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None

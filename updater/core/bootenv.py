# SPDX-License-Identifier: MIT
"""U-Boot's environment as bytes: copies, which one wins, and how variables change in them.

Theory of operation. A copy is ``crc32 (4 bytes, little endian) | flag (1 byte) | data``, without
the flag if there is only one copy. The CRC covers the data alone: ``name=value`` entries that end
in a zero byte each, then one more zero byte, then padding. Of two copies the flag says which one
wins:

    SERIAL    the newer serial number modulo 256, so 0 wins over 255; a tie goes to copy 0
    BOOLEAN   NOR flash, where a bit can be cleared without an erase: 1 active, 0 obsolete

A store writes the copy that does not win, whole, with the flag that makes it win. A cut in it
leaves a bad CRC there and the old copy wins; afterwards the new one does. With BOOLEAN flags there
is one more write, which makes the old copy obsolete; between the two either copy may win, and
both are whole. Entries that nobody asked to change keep their bytes and their order.

Source: U-Boot's env/common.c (``env_check_redund``), env/flash.c, include/env_internal.h.
"""

import enum
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from updater.core.errors import EnvironmentStoreError

_CRC_BYTES = 4
_ERASED = 0xFF
ACTIVE = 1
OBSOLETE = 0
FLAG_OFFSET = _CRC_BYTES


class Flags(enum.Enum):
    """What the flag byte means; NONE: there is no such byte and one copy only."""

    NONE = "single copy"
    SERIAL = "serial number"
    BOOLEAN = "active or obsolete"

    @property
    def header_bytes(self) -> int:
        """Bytes before the data."""
        return _CRC_BYTES if self is Flags.NONE else _CRC_BYTES + 1


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy as found on the medium.

    Attributes:
        is_valid: Its CRC is right.
        flag: The flag byte; 0 if there is none.
        data: The bytes that the CRC covers.
    """

    is_valid: bool
    flag: int
    data: bytes


def parse(raw: bytes, flags: Flags) -> Copy:
    """Return the copy that *raw*, the whole of it as read, holds."""
    data = raw[flags.header_bytes :]
    crc = int.from_bytes(raw[:_CRC_BYTES], "little")
    flag = raw[FLAG_OFFSET] if flags is not Flags.NONE else 0
    return Copy(zlib.crc32(data) == crc, flag, data)


def build(data: bytes, flag: int, flags: Flags) -> bytes:
    """Return the bytes of a valid copy."""
    head = zlib.crc32(data).to_bytes(_CRC_BYTES, "little")
    return head + data if flags is Flags.NONE else head + bytes((flag,)) + data


def winner(copies: Sequence[Copy], flags: Flags) -> int | None:
    """Return the index of the copy that U-Boot uses, or None: it takes its compiled default."""
    valid = [index for index, copy in enumerate(copies) if copy.is_valid]
    if len(valid) < len(copies) or len(copies) == 1:
        return valid[0] if valid else None
    first, second = copies[0].flag, copies[1].flag
    if flags is Flags.BOOLEAN:
        return _boolean_winner(first, second)
    if (first, second) == (_ERASED, 0):
        return 1
    if (first, second) == (0, _ERASED):
        return 0
    return 1 if second > first else 0


def _boolean_winner(first: int, second: int) -> int:
    is_newer = (first, second) == (OBSOLETE, ACTIVE)
    return 1 if is_newer or (second == _ERASED and first != _ERASED) else 0


def next_flag(copy: Copy, flags: Flags) -> int:
    """Return the flag that makes another copy win over *copy*."""
    return ACTIVE if flags is Flags.BOOLEAN else (copy.flag + 1) % 256


def variables(data: bytes) -> dict[str, str]:
    """Return the variables in *data*; bytes that are no UTF-8 come back unharmed from ``apply``."""
    pairs = (entry.split(b"=", 1) for entry in _entries(data) if b"=" in entry)
    return {_text(name): _text(value) for name, value in pairs}


def apply(data: bytes, changes: Mapping[str, str | None]) -> bytes:
    """Return *data* with *changes* (None deletes), of the same length.

    Raises:
        EnvironmentStoreError: A name or value cannot be stored, or there is no room.
    """
    for name, value in changes.items():
        if not name or "=" in name or "\0" in name or "\0" in (value or ""):
            raise EnvironmentStoreError(f"variable {name!r} cannot be stored: zero byte or '='")
    wanted = dict(changes)
    entries = []
    for entry in _entries(data):
        name = _text(entry.split(b"=", 1)[0])
        if b"=" not in entry or name not in changes:
            entries.append(entry)
        elif name in wanted:  # a name that stands there twice is stored once
            _add(entries, name, wanted.pop(name))
    for name, value in wanted.items():
        _add(entries, name, value)
    body = b"".join(entry + b"\0" for entry in entries) + b"\0"
    if len(body) > len(data):
        raise EnvironmentStoreError(
            f"environment needs {len(body)} bytes, a copy holds {len(data)}"
        )
    return body.ljust(len(data), b"\0")


def _add(entries: list[bytes], name: str, value: str | None) -> None:
    if not value:
        return  # U-Boot has no empty variables: storing "" deletes
    try:
        entries.append(f"{name}={value}".encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise EnvironmentStoreError(f"variable {name!r} cannot be stored: no text") from None


def _entries(data: bytes) -> list[bytes]:
    """Return the entries before the first empty one."""
    entries = []
    for entry in data.split(b"\0"):
        if not entry:
            break
        entries.append(entry)
    return entries


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")

# SPDX-License-Identifier: MIT
"""Where a copy of the boot environment lies: a block device, a plain file, or an MTD partition.

Each medium reads what it really holds, past the page cache where there is one, and returns from a
write when the device says that it is there. Knows bytes and places, nothing of their meaning.
Source: linux/include/uapi/mtd/mtd-abi.h.
"""

import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from updater.core.bootenv import FLAG_OFFSET, OBSOLETE, Flags
from updater.core.errors import EnvironmentStoreError
from updater.core.fwenvconfig import Place

_PAGE_BYTES = 4096  # covers every logical sector size
_FLAG_WORDS_BYTES = 8
_MTD_MAJOR = 90
_MEMGETINFO = 0x80204D01
_MEMERASE = 0x40084D02
_MEMUNLOCK = 0x40084D06
_MEMGETBADBLOCK = 0x40084D0B
_MTD_INFO = struct.Struct("=B3xIIIIIQ")  # type, flags, size, erasesize, writesize, oobsize
_MTD_NORFLASH = 3
_MTD_DATAFLASH = 6


class Medium(Protocol):
    """One copy's place.

    Attributes:
        place: The same as in ``fw_env.config``.
        flags: What its flag byte means.
        unit_bytes: What a write replaces at least, and a cut may therefore lose.
    """

    place: Place
    flags: Flags
    unit_bytes: int

    def read(self) -> bytes:
        """Return the copy as the medium holds it."""

    def write(self, raw: bytes) -> None:
        """Replace the copy; returns when it is on the medium."""

    def make_obsolete(self) -> None:
        """Clear the copy's flag byte (BOOLEAN flags only)."""


def open_medium(place: Place) -> Medium:
    """Return the medium for *place*.

    Raises:
        EnvironmentStoreError: There is no such device.
    """
    with _translated(place, "look at"):
        status = Path(place.device).stat()
        if stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _MTD_MAJOR:
            return MtdMedium(place)
    return BlockMedium(place)


@contextmanager
def _translated(place: Place, action: str) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise EnvironmentStoreError(
            f"cannot {action} the environment at {place.device}+{place.offset_bytes:#x}: "
            f"{error.strerror or error}"
        ) from error


class BlockMedium:
    """A block device, or a file that stands for one; O_DIRECT wherever that is possible."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.flags = Flags.SERIAL
        self.unit_bytes = _PAGE_BYTES

    def read(self) -> bytes:
        """Return the copy as the medium holds it."""
        with _translated(self.place, "read"), self._opened(os.O_RDONLY) as fileno:
            start, window = self._window(fileno)
            with window:
                self._fill(fileno, window, start)
                offset = self._offset(fileno) - start
                return window[offset : offset + self.place.size_bytes]

    def write(self, raw: bytes) -> None:
        """Replace the copy; what shares its first and last page is written back as it is."""
        with _translated(self.place, "write"), self._opened(os.O_RDWR) as fileno:
            start, window = self._window(fileno)
            with window:
                offset = self._offset(fileno) - start
                if offset or len(window) != len(raw):
                    self._fill(fileno, window, start)
                window[offset : offset + len(raw)] = raw
                written = os.pwritev(fileno, [window], start)
                if written != len(window):
                    raise OSError(errno.EIO, f"{written} of {len(window)} bytes written")
                os.fsync(fileno)

    def make_obsolete(self) -> None:
        """Serial numbers make nothing obsolete."""
        raise EnvironmentStoreError(f"{self.place.device} has serial numbers, not flags")

    @contextmanager
    def _opened(self, mode: int) -> Iterator[int]:
        """Open past the page cache; a file system that cannot do so is read through it."""
        try:
            fileno = os.open(self.place.device, mode | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fileno = os.open(self.place.device, mode | os.O_CLOEXEC)
        try:
            yield fileno
        finally:
            os.close(fileno)

    def _offset(self, fileno: int) -> int:
        """Return where the copy begins, from the device's start."""
        offset = self.place.offset_bytes
        return offset if offset >= 0 else os.lseek(fileno, 0, os.SEEK_END) + offset

    def _window(self, fileno: int) -> tuple[int, mmap.mmap]:
        """Return the pages around the copy: where they begin, and aligned memory for them."""
        offset = self._offset(fileno)
        end = offset + self.place.size_bytes
        if offset < 0 or end > os.lseek(fileno, 0, os.SEEK_END):
            raise OSError(errno.ENXIO, "it lies beyond the end of the device")
        start = offset - offset % _PAGE_BYTES
        return start, mmap.mmap(-1, -(-(end - start) // _PAGE_BYTES) * _PAGE_BYTES)

    def _fill(self, fileno: int, window: mmap.mmap, start: int) -> None:
        """Read the pages; the last one may end with the device."""
        wanted = self._offset(fileno) + self.place.size_bytes - start
        got = os.preadv(fileno, [window], start)
        if got < wanted:
            raise OSError(errno.EIO, f"{got} of {wanted} bytes read")
        if got < len(window):
            window.resize(got)


class MtdMedium:
    """An MTD partition through its character device; bad erase blocks are skipped."""

    def __init__(self, place: Place) -> None:
        self.place = place
        with self._opened(os.O_RDONLY) as fileno:
            info = _MTD_INFO.unpack(fcntl.ioctl(fileno, _MEMGETINFO, bytes(_MTD_INFO.size)))
        kind, _flags, self._device_bytes, erase_bytes = info[:4]
        self.unit_bytes = place.sector_bytes or erase_bytes
        if self.unit_bytes % erase_bytes:
            raise EnvironmentStoreError(
                f"{place.device}: sectors of {self.unit_bytes} bytes do not fit erase blocks "
                f"of {erase_bytes}"
            )
        is_nor = kind in {_MTD_NORFLASH, _MTD_DATAFLASH}
        self.flags = Flags.BOOLEAN if is_nor else Flags.SERIAL

    def read(self) -> bytes:
        """Return the copy, in pieces of one erase block."""
        with _translated(self.place, "read"), self._opened(os.O_RDONLY) as fileno:
            raw = b"".join(os.pread(fileno, size, offset) for offset, size in self._pieces(fileno))
            if len(raw) != self.place.size_bytes:
                raise OSError(errno.EIO, f"{len(raw)} of {self.place.size_bytes} bytes read")
            return raw

    def write(self, raw: bytes) -> None:
        """Erase and write, block by block; what else is in a block is written back."""
        with _translated(self.place, "write"), self._opened(os.O_RDWR | os.O_SYNC) as fileno:
            done = 0
            for offset, size in self._pieces(fileno):
                base = offset - offset % self.unit_bytes
                sector = bytearray(os.pread(fileno, self.unit_bytes, base))
                sector[offset - base : offset - base + size] = raw[done : done + size]
                self._erase(fileno, base)
                if os.pwrite(fileno, sector, base) != len(sector):
                    raise OSError(errno.EIO, "the write ended early")
                done += size

    def make_obsolete(self) -> None:
        """Clear the flag byte without an erase: NOR flash clears bits in place."""
        with _translated(self.place, "write"), self._opened(os.O_RDWR | os.O_SYNC) as fileno:
            offset, _size = next(self._pieces(fileno))
            self._unlock(fileno, offset - offset % self.unit_bytes)
            # as U-Boot does: whole words, for a driver pads a lone byte, and not every chip then
            # leaves its neighbours as they were
            words = bytearray(os.pread(fileno, _FLAG_WORDS_BYTES, offset))
            words[FLAG_OFFSET] = OBSOLETE
            os.pwrite(fileno, words, offset)

    @contextmanager
    def _opened(self, mode: int) -> Iterator[int]:
        fileno = os.open(self.place.device, mode | os.O_CLOEXEC)
        try:
            yield fileno
        finally:
            os.close(fileno)

    def _pieces(self, fileno: int) -> Iterator[tuple[int, int]]:
        """Return offset and size of the copy's pieces, one in each good erase block."""
        offset = self.place.offset_bytes
        offset += self._device_bytes if offset < 0 else 0
        left = self.place.size_bytes
        needed = -(-(offset % self.unit_bytes + left) // self.unit_bytes)
        end = offset - offset % self.unit_bytes
        end += max(self.place.sectors, needed) * self.unit_bytes
        while left:
            base = offset - offset % self.unit_bytes
            if base + self.unit_bytes > min(end, self._device_bytes):
                raise OSError(errno.ENOSPC, "not enough good erase blocks for it")
            if not self._is_bad(fileno, base):
                size = min(left, base + self.unit_bytes - offset)
                yield offset, size
                left -= size
            offset = base + self.unit_bytes

    @staticmethod
    def _is_bad(fileno: int, base: int) -> bool:
        position = bytearray(struct.pack("=q", base))
        try:
            return bool(fcntl.ioctl(fileno, _MEMGETBADBLOCK, position) == 1)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return False  # NOR flash has no bad blocks
            raise

    @staticmethod
    def _unlock(fileno: int, base: int) -> None:
        try:
            fcntl.ioctl(fileno, _MEMUNLOCK, struct.pack("=II", base, 1))
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL}:
                raise

    def _erase(self, fileno: int, base: int) -> None:
        self._unlock(fileno, base)
        fcntl.ioctl(fileno, _MEMERASE, struct.pack("=II", base, self.unit_bytes))

# SPDX-License-Identifier: MIT
"""The file that a device secret is stored in: whole or not there, whenever the power goes.

The secret is written to a file beside it, flushed, renamed over it, and the folder is flushed; only
then does ``store`` return. What can fail is tried before anybody is asked for a secret: the folder
is made, the room is taken, and one process at a time may do so. What a cut leaves beside it is
never read.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from updater.core.errors import BusyError, StorageError

_ROOM_BYTES = 4096  # more than any secret


class SecretFile:
    """The place of one secret."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def exists(self) -> bool:
        """Tell whether something is stored there.

        Raises:
            StorageError: Nobody can tell.
        """
        with _translated(self._path):
            return self._path.exists()

    @contextmanager
    def reserved(self) -> "Iterator[Reservation]":
        """Take room for a secret, so that ``store`` has little left that could fail.

        Raises:
            BusyError: Somebody else is about to store one.
            StorageError: There is no room, or no permission.
        """
        folder = -1
        try:
            with _translated(self._path):
                _make_folder(self._path.parent)
                folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.closing(Reservation(self._path, folder)) as reservation:
                yield reservation
        finally:
            if folder >= 0:
                os.close(folder)


class Reservation:
    """Room for one secret, until ``close``."""

    def __init__(self, path: Path, folder: int) -> None:
        """Take the folder's lock, and the room; *folder* is the descriptor of *path*'s folder."""
        self._path = path
        self._folder = folder
        self._new = f".{path.name}.new"
        with _translated(path):
            _lock(folder, path)
            if path.is_dir():  # the rename would find out too late
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(self._new, flags, 0o600, dir_fd=folder)
        try:
            with _translated(path):
                _write(self._file, bytes(_ROOM_BYTES))
                os.fsync(self._file)  # until then some file systems only hope for room
        except StorageError:
            self.close()
            raise

    def store(self, secret: str) -> None:
        """Store *secret*; it survives a power cut once this returns.

        Raises:
            StorageError: It is not sure that it does.
        """
        raw = f"{secret}\n".encode("ascii")
        with _translated(self._path):
            _write(self._file, raw)
            os.ftruncate(self._file, len(raw))
            os.fsync(self._file)
            os.rename(self._new, self._path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)

    def close(self) -> None:
        """Give back the room that was not used."""
        os.close(self._file)
        with contextlib.suppress(OSError):  # the next one does it
            self._unlink()

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._new, dir_fd=self._folder)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot store a secret in {path}: {error.strerror}") from error


def _make_folder(folder: Path) -> None:
    """Make *folder* and what leads there, so that it survives a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _lock(folder: int, path: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError(f"somebody else is about to store a secret in {path}") from None


def _write(file: int, raw: bytes) -> None:
    """Write *raw* at the beginning, all of it."""
    written = os.pwrite(file, raw, 0)
    if written != len(raw):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

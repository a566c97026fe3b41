# SPDX-License-Identifier: MIT
"""The lock of whoever writes: one process on the machine, for as long as it lives.

An flock(2), so that a killed process leaves nothing behind. The file's content is for people only.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from updater.core.errors import BusyError, NotPermittedError


class Lock:
    """Held from construction to ``close``, or to the end of the process."""

    def __init__(self, path: str) -> None:
        """Take the lock.

        Raises:
            BusyError: Another process holds it; the message has its process id.
            NotPermittedError: The file cannot be made or opened.
        """
        try:
            Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._fileno = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NotPermittedError(
                f"cannot open the lock {path}: {error.strerror}; run as root"
            ) from error
        try:
            fcntl.flock(self._fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fileno, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fileno)
            raise BusyError(
                f"another updater works on this device (process {holder or 'unknown'})"
            ) from None
        with contextlib.suppress(OSError):  # a full medium does not keep us from working
            os.ftruncate(self._fileno, 0)
            os.pwrite(self._fileno, f"{os.getpid()}\n".encode("ascii"), 0)

    def close(self) -> None:
        """Let others in."""
        os.close(self._fileno)

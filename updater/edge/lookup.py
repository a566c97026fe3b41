# SPDX-License-Identifier: MIT
"""Names to addresses: getaddrinfo(3), which blocks as long as it likes, in a thread of its own.

At most one thread at a time: a lookup that was given up is still the one that the next attempt
waits for. It is a daemon, so a resolver that hangs keeps no process from ending.
"""

import os
import socket
import threading
from typing import Any

from updater.core import refusals
from updater.core.errors import LinkError

Address = tuple[int, int, int, Any]  # family, kind, protocol, and what connect(2) takes


class Lookup:
    """One lookup under way; its end makes ``fileno`` readable.

    Attributes:
        is_done: There is a result.
    """

    def __init__(self, host: str, port: int) -> None:
        """Begin.

        Raises:
            LinkError: There is no thread to be had, or no descriptor.
        """
        self.is_done = False
        self._addresses: list[Address] = []
        self._error: LinkError | None = None
        try:
            self._reader, writer = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise LinkError(f"the name cannot be looked up: {error.strerror}") from error
        thread = threading.Thread(target=self._run, args=(host, port, writer), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            os.close(writer)
            self.close()
            raise LinkError(f"the name cannot be looked up: {error}") from error

    def _run(self, host: str, port: int, writer: int) -> None:
        try:
            self._addresses = resolve(host, port)
        except LinkError as error:
            self._error = error
        finally:
            self.is_done = True
            os.close(writer)

    def fileno(self) -> int:
        """Return what becomes readable."""
        return self._reader

    def result(self) -> list[Address]:
        """Return the addresses, once done.

        Raises:
            LinkError: The name has none, or nobody could tell.
        """
        if self._error is not None:
            raise self._error
        return self._addresses

    def close(self) -> None:
        """Give up; the thread ends by itself."""
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1


def resolve(host: str, port: int, *, is_numeric: bool = False) -> list[Address]:
    """Return the addresses of *host*; only with *is_numeric*, which asks nobody, without blocking.

    Raises:
        LinkError: It has none.
    """
    flags, name = socket.AI_NUMERICHOST if is_numeric else 0, plain(host)
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as error:
        raise refusals.lookup(error.errno or 0, error.strerror or "") from error
    except (OSError, ValueError) as error:  # a label of more than 63 letters is a ValueError
        raise LinkError(f"the name cannot be looked up: {error}") from error
    return [(family, kind, protocol, place) for family, kind, protocol, _name, place in found]


def plain(host: str) -> str | bytes:
    """Return *host* so that Python imports no IDNA for it, 300 KiB, unless it is needed."""
    return host.encode("ascii") if host.isascii() else host

# SPDX-License-Identifier: MIT
"""What paho reads and writes: one connected socket that never blocks and remembers its end.

It is TCP or TLS; ``websocketstream`` carries the same bytes in frames over either. Both hold what
paho does not care for: the error that ended them, bytes that the socket no longer announces, and
bytes that it has not taken yet.
"""

import socket
import ssl

from updater.core.errors import LinkError
from updater.edge.tls import WAITING

MAX_READ_BYTES = 4096  # at once, whatever length a broker has announced: it would be set aside


class Stream:
    """A connected socket.

    Attributes:
        failure: What ended it, unless the other side has closed it.
        wants_write: It is to be watched for writing, whatever paho says.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Take over *sock*."""
        self.failure: OSError | LinkError | None = None
        self.wants_write = False
        self._sock = sock

    def recv(self, size: int) -> bytes:
        """Return up to *size* bytes, or ``MAX_READ_BYTES``, none at the end.

        Raises:
            OSError: There is nothing now, or it is over.
        """
        try:
            return self._sock.recv(min(size, MAX_READ_BYTES))
        except OSError as error:
            self._note(error)
            raise

    def send(self, data: bytes | bytearray) -> int:
        """Send what the socket takes of *data* and return how much that is.

        Raises:
            OSError: It takes nothing now, or it is over.
        """
        try:
            return self._sock.send(data)
        except (ssl.SSLEOFError, ConnectionError) as error:
            self._note(self._farewell() or error)
            raise
        except OSError as error:
            self._note(error)
            raise

    def flush(self) -> None:
        """Send what an earlier ``send`` has left; errors show at the next ``recv``."""
        self.wants_write = False

    def pending(self) -> bool:
        """Tell whether there are bytes that the socket no longer announces."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """Set the socket to non-blocking; nothing here blocks."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Close it; again is harmless."""
        self._sock.close()

    def _farewell(self) -> OSError | None:
        """Return the alert that the other side has sent before it closed, if there is one."""
        try:
            self._sock.recv(1)
        except OSError as error:
            is_alert = isinstance(error, ssl.SSLError) and not isinstance(error, WAITING)
            return error if is_alert else None
        return None

    def _note(self, error: OSError) -> None:
        if isinstance(error, ssl.SSLWantWriteError):
            self.wants_write = True
        if not isinstance(error, WAITING):
            self.failure = error

# SPDX-License-Identifier: MIT
"""What paho reads and writes: one connected socket that never blocks and remembers its end.

``Stream`` is TCP or TLS; ``WebSocketStream`` carries the same bytes in frames over either. Both
hold what paho does not care for: the error that ended them, bytes that the socket no longer
announces, and bytes that it has not taken yet.
"""

import os
import socket
import ssl
from contextlib import suppress

from updater.core.errors import LinkError
from updater.core.websocket import BINARY, CLOSE, PONG, Decoder, frame
from updater.edge.tls import WAITING

_READ_BYTES = 4096


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
        """Return up to *size* bytes, none at the end.

        Raises:
            OSError: There is nothing now, or it is over.
        """
        try:
            return self._sock.recv(size)
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


class WebSocketStream(Stream):
    """The same in WebSocket frames."""

    def __init__(self, sock: socket.socket, head: bytes) -> None:
        """Take over *sock*, of which *head* has been read behind the upgrade.

        Raises:
            LinkError: *head* is no WebSocket.
        """
        super().__init__(sock)
        self._decoder = Decoder()
        self._payload = bytearray(self._decoder.feed(head))
        self._unsent = bytearray()

    def recv(self, size: int) -> bytes:
        """As in ``Stream``; answers a ping on the way."""
        if not self._payload and not self._decoder.is_closed:
            raw = super().recv(_READ_BYTES)
            if not raw:
                return b""
            self._feed(raw)
        part = bytes(self._payload[:size])
        del self._payload[:size]
        if not part and not self._decoder.is_closed:
            raise BlockingIOError
        return part

    def send(self, data: bytes | bytearray) -> int:
        """Take all of *data* or nothing; what the socket does not take now waits for ``flush``."""
        self._flush()
        if self._unsent:
            raise BlockingIOError
        self._queue(BINARY, bytes(data))
        self._flush()
        return len(data)

    def flush(self) -> None:
        """Send what an earlier ``send`` has left; errors show at the next ``recv``."""
        with suppress(OSError):
            self._flush()

    def pending(self) -> bool:
        """Tell whether there are bytes that the socket no longer announces."""
        return bool(self._payload) or self._decoder.is_closed or super().pending()

    def close(self) -> None:
        """Say goodbye, and close it."""
        if not self._unsent and self.fileno() >= 0:
            self._queue(CLOSE, b"")
            self.flush()
        super().close()

    def _feed(self, raw: bytes) -> None:
        try:
            self._payload += self._decoder.feed(raw)
        except LinkError as error:
            self.failure = error
            raise ConnectionAbortedError from error
        ping, self._decoder.ping = self._decoder.ping, None
        if ping is not None and not self._unsent:
            self._queue(PONG, ping)
            self.flush()

    def _queue(self, opcode: int, payload: bytes) -> None:
        self._unsent += frame(opcode, payload, os.urandom(4))

    def _flush(self) -> None:
        """Send what the socket takes."""
        try:
            while self._unsent:
                del self._unsent[: super().send(self._unsent)]
        except WAITING:
            pass
        finally:
            self.wants_write = bool(self._unsent)

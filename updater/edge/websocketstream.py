# SPDX-License-Identifier: MIT
"""A stream whose bytes travel in WebSocket frames, for networks that let nothing else out."""

import os
import socket
from contextlib import suppress

from updater.core.errors import LinkError
from updater.core.websocket import BINARY, CLOSE, PONG, Decoder, frame
from updater.edge.stream import MAX_READ_BYTES, Stream
from updater.edge.tls import WAITING


class WebSocketStream(Stream):
    """As ``Stream``, in frames."""

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
            raw = super().recv(MAX_READ_BYTES)
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

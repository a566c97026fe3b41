# SPDX-License-Identifier: MIT
"""Brokers of one's own on a free port of the loopback: mosquitto, and one that says what it must.

``RawBroker`` has no thread: the kernel takes the connection, and the test says each packet itself.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Self

from sim.mosquitto import Mosquitto

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x30, 0x82, 0xC0, 0xE0
CONNACK = b"\x20\x02\x00\x00"
PINGRESP = b"\xd0\x00"
_TIMEOUT_S = 10


def free_port() -> int:
    """Return a TCP port of the loopback that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def broker(extra: str = "allow_anonymous true", port: int = 0) -> Iterator[int]:
    """Run mosquitto for as long as the context lasts, and return its port.

    Args:
        extra: Lines for its configuration.
        port: Which port; 0: a free one.
    """
    port = port or free_port()
    with Mosquitto(f"listener {port} 127.0.0.1\n{extra}", port=port):
        yield port


class RawBroker:
    """Says and hears bytes; a context manager."""

    def __init__(self) -> None:
        """Listen; whoever connects waits for ``accept``."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_TIMEOUT_S)
        self.port = int(self._listener.getsockname()[1])
        self.sock: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.hang_up()
        self._listener.close()

    def accept(self) -> None:
        """Take the next connection, in place of the one before."""
        self.hang_up()
        self.sock, _address = self._listener.accept()
        self.sock.settimeout(_TIMEOUT_S)

    def hang_up(self, *, reset: bool = False) -> None:
        """End the connection; with *reset* the other side's next word fails at once."""
        if self.sock is not None:
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
            self.sock = None

    def say(self, raw: bytes) -> None:
        """Send *raw*."""
        assert self.sock is not None
        self.sock.sendall(raw)

    def hear(self) -> tuple[int, bytes]:
        """Return the next packet's first byte and its body; 0 at the end of the connection."""
        head = self._exactly(1)
        if not head:
            return 0, b""
        size, shift = 0, 0
        while True:
            byte = self._exactly(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return head[0], self._exactly(size)

    def hears_nothing(self) -> bool:
        """Tell whether there is nothing to hear now."""
        assert self.sock is not None
        self.sock.setblocking(False)
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(_TIMEOUT_S)

    def _exactly(self, size: int) -> bytes:
        assert self.sock is not None
        raw = b""
        while len(raw) < size:
            got = self.sock.recv(size - len(raw))
            if not got:
                return b""
            raw += got
        return raw


def packet(kind: int, body: bytes) -> bytes:
    """Return a packet whose body is below 16 KiB."""
    if len(body) < 0x80:
        return bytes([kind, len(body)]) + body
    return bytes([kind, len(body) & 0x7F | 0x80, len(body) >> 7]) + body


def suback(subscribe: bytes, code: int = 1) -> bytes:
    """Return the answer to the SUBSCRIBE whose body is *subscribe*."""
    return packet(0x90, subscribe[:2] + bytes([code]))


def publish(topic: bytes, payload: bytes, qos: int = 0, mid: int = 1) -> bytes:
    """Return a PUBLISH."""
    number = struct.pack("!H", mid) if qos else b""
    return packet(PUBLISH | qos << 1, struct.pack("!H", len(topic)) + topic + number + payload)

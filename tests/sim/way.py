# SPDX-License-Identifier: MIT
"""The way between a device and its broker, as bad as a test wants it: bytes, whatever they mean.

It can stand still in one direction or both, let bytes trickle, reset connections, and take none.
What stands still is kept and passed on later, as TCP would send it again, the end of a connection
too: a broker may hear late from a device that has long given up. Or it does not, if the way forgets
connections as a router does that was switched off.
"""

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

_TICK_S = 0.02
_CHUNK_BYTES = 1 << 16
_AT_ONCE_BYTES = 1 << 18  # kept for one side; the other one's kernel keeps the rest

UP, DOWN = "up", "down"
BOTH = frozenset({UP, DOWN})


class _Connection:
    """Two sockets, and what is kept for each."""

    def __init__(self, device: socket.socket, broker: socket.socket) -> None:
        self.sources = {UP: device, DOWN: broker}
        self.sinks = {UP: broker, DOWN: device}
        self.kept = {UP: b"", DOWN: b""}
        self.ended: set[str] = set()  # whose source has said its last
        self.is_reset = False
        for sock in (device, broker):
            sock.setblocking(False)

    def close(self) -> None:
        """End both ends, with a reset if one was asked for."""
        for sock in self.sources.values():
            if self.is_reset:
                with suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()


class Way:
    """A context manager; devices connect to ``port`` of the loopback."""

    def __init__(self, broker_port: int, *, forgets: bool = False) -> None:
        """Lead to the broker at *broker_port* of the loopback; perhaps *forgets* what waits."""
        self.stalled: frozenset[str] = frozenset()
        self.bytes_per_s: float | None = None
        self.is_shut = False  # whoever comes is hung up on
        self.accepted_s: list[float] = []  # when a device came, monotonic
        self._broker_port = broker_port
        self._forgets = forgets  # what was said by a device that has given up
        self._living: set[_Connection] = set()
        self._is_over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.2)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    @contextmanager
    def stalling(self, directions: frozenset[str]) -> Iterator[None]:
        """Let nothing through in *directions* for as long as the context lasts."""
        self.stalled = directions
        try:
            yield
        finally:
            self.stalled = frozenset()

    def shut(self) -> None:
        """End every connection, and hang up on whoever comes."""
        self.is_shut = True

    def open(self) -> None:
        """Let devices through again."""
        self.is_shut = False

    def holds(self, direction: str) -> bool:
        """Tell whether anything waits to be passed on in *direction*."""
        return any(each.kept[direction] for each in list(self._living))

    def reset(self) -> None:
        """Have both sides see a reset, at once; new connections can be made."""
        for each in list(self._living):
            each.is_reset = True

    def _accept(self) -> None:
        while not self._is_over:
            try:
                device, _address = self._listener.accept()
            except OSError:
                continue
            self.accepted_s.append(time.monotonic())
            thread = threading.Thread(target=self._carry, args=[device], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, device: socket.socket) -> None:
        with device, suppress(OSError):
            if self.is_shut:
                return
            with socket.create_connection(("127.0.0.1", self._broker_port), 5) as broker:
                connection = _Connection(device, broker)
                self._living.add(connection)
                try:
                    while self._turn(connection):
                        pass
                finally:
                    self._living.discard(connection)
                    connection.close()

    def _turn(self, connection: _Connection) -> bool:
        """Pass on what there is and may pass; False at the end."""
        if self._is_over or self.is_shut or connection.is_reset:
            return False
        open_ones = [
            each
            for each in (UP, DOWN)
            if each not in connection.ended and len(connection.kept[each]) < _AT_ONCE_BYTES
        ]
        select.select([connection.sources[each] for each in open_ones], [], [], _TICK_S)
        for each in open_ones:
            _take(connection, each)
        if self._forgets and UP in connection.ended & self.stalled:
            connection.kept[UP] = b""
        flowing = BOTH - self.stalled
        for each in flowing:
            self._pass(connection, each)
        over = {each for each in connection.ended & flowing if not connection.kept[each]}
        return not over and not connection.is_reset

    def _pass(self, connection: _Connection, direction: str) -> None:
        kept = connection.kept[direction]
        if not kept:
            return
        rate = self.bytes_per_s
        if rate is not None:
            time.sleep(_TICK_S)
            kept = kept[: max(1, int(rate * _TICK_S))]
        try:
            sent = connection.sinks[direction].send(kept)
        except BlockingIOError:
            return
        except OSError:  # nobody hears it any more
            sent = len(connection.kept[direction])
            connection.ended |= BOTH
        connection.kept[direction] = connection.kept[direction][sent:]


def _take(connection: _Connection, direction: str) -> None:
    """Keep what has come."""
    try:
        chunk = connection.sources[direction].recv(_CHUNK_BYTES)
    except BlockingIOError:
        return
    except OSError:
        chunk = b""
    connection.kept[direction] += chunk
    if not chunk:
        connection.ended.add(direction)

# SPDX-License-Identifier: MIT
"""Hears every packet between a device and its broker, and passes each on as it came.

The device connects to the tap's port; what it said and heard stands in ``packets``, in order, and
is there before the broker gets it. The way can be shut: that is a broker that has gone.
"""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

KINDS = (
    "?", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
    "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "?",
)  # fmt: skip
REBOOT = "reboot"  # no packet: between two boots any time may pass


@dataclass(frozen=True)
class Connect:
    """What a CONNECT says; a password is told by its form."""

    protocol: str
    level: int
    is_clean: bool
    has_will: bool
    keep_alive_s: int
    client_id: str
    username: str | None
    password: str | None = field(repr=False)


@dataclass(frozen=True)
class Packet:
    """One packet, or a reboot.

    Attributes:
        time_s: When it came, monotonic seconds.
        connection: Which of the device's connections, from 1 on.
        is_uplink: True if the device says it.
        kind: One of ``KINDS``, or ``REBOOT``.
        mid: Its message id, if it has one.
        filters: Topic filters of a SUBSCRIBE, each with its QoS.
        connect: What a CONNECT says.
    """

    time_s: float
    connection: int
    is_uplink: bool
    kind: str
    mid: int = 0
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    is_retained: bool = False
    is_duplicate: bool = False
    filters: tuple[tuple[str, int], ...] = ()
    connect: Connect | None = None


class Tap:
    """A context manager; listens on ``port`` of the loopback."""

    def __init__(self, broker_port: int) -> None:
        """Pass on to the broker at *broker_port* of the loopback."""
        self.packets: list[Packet] = []
        self.drops: Callable[[Packet], bool] | None = None  # what is lost on the way
        self._broker_port = broker_port
        self._is_open = True
        self._connections = 0
        self._living: list[_Ends] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._acceptor, *self._threads):
            thread.join(10)

    def shut(self) -> None:
        """End every connection, and hang up on whoever comes."""
        with self._lock:
            self._is_open = False
            for ends in self._living:
                for sock in (ends.device, ends.broker):
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        """Let devices through again."""
        with self._lock:
            self._is_open = True

    def reboot(self) -> None:
        """Note that the device has rebooted."""
        self._note(Packet(time.monotonic(), self._connections, is_uplink=True, kind=REBOOT))

    def _note(self, packet: Packet) -> None:
        with self._lock:
            self.packets.append(packet)

    def _accept(self) -> None:
        while True:
            try:
                device, _address = self._listener.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._pass, args=[device], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pass(self, device: socket.socket) -> None:
        """Carry one connection to its end."""
        address = ("127.0.0.1", self._broker_port)
        with device, suppress(OSError), socket.create_connection(address, 5) as broker:
            broker.settimeout(None)
            with self._lock:
                if not self._is_open:
                    return
                self._connections += 1
                ends = _Ends(device, broker, self._connections)
                self._living.append(ends)
            try:
                self._carry(ends)
            finally:
                with self._lock:
                    self._living.remove(ends)

    def _carry(self, ends: "_Ends") -> None:
        held = {ends.device: b"", ends.broker: b""}
        sinks = {ends.device: ends.broker, ends.broker: ends.device}
        while True:
            for source in select.select(list(sinks), [], [])[0]:
                chunk = source.recv(1 << 16)
                if not chunk:
                    return
                held[source] += chunk
                while (found := split(held[source])) is not None:
                    head, body, rest = found
                    raw, held[source] = held[source][: -len(rest) or None], rest
                    packet = parse(head, body, ends.number, is_uplink=source is ends.device)
                    if self.drops is None or not self.drops(packet):
                        self._note(packet)
                        sinks[source].sendall(raw)


@dataclass(frozen=True, eq=False)
class _Ends:
    """Both ends of one connection."""

    device: socket.socket
    broker: socket.socket
    number: int


def split(raw: bytes) -> tuple[int, bytes, bytes] | None:
    """Return the first packet's first byte and body, and what follows; None if it is not whole."""
    size, shift, at = 0, 0, 1
    while at < len(raw):
        size |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return (
                (raw[0], raw[at : at + size], raw[at + size :]) if at + size <= len(raw) else None
            )
        shift += 7
    return None


def parse(head: int, body: bytes, number: int, *, is_uplink: bool) -> Packet:
    """Return what a packet says."""
    kind, now_s = KINDS[head >> 4], time.monotonic()
    if kind == "CONNECT":
        return Packet(now_s, number, is_uplink, kind, connect=_connect(body))
    if kind == "PUBLISH":
        topic, rest = _text(body)
        qos = head >> 1 & 3
        mid, payload = (_number(rest), rest[2:]) if qos else (0, rest)
        is_retained, is_duplicate = bool(head & 0x01), bool(head & 0x08)
        words = (topic, payload, qos, is_retained, is_duplicate)
        return Packet(now_s, number, is_uplink, kind, mid, *words)
    if kind == "SUBSCRIBE":
        filters = tuple(_filters(body[2:]))
        return Packet(now_s, number, is_uplink, kind, _number(body), filters=filters)
    mid = _number(body) if kind in {"PUBACK", "SUBACK"} else 0
    return Packet(now_s, number, is_uplink, kind, mid)


def _connect(body: bytes) -> Connect:
    protocol, rest = _text(body)
    level, flags, keep_alive_s = struct.unpack("!BBH", rest[:4])
    client_id, rest = _text(rest[4:])
    if flags & 0x04:
        _topic, rest = _text(rest)
        _message, rest = _text(rest)
    username, rest = _text(rest) if flags & 0x80 else (None, rest)
    password = _text(rest)[0] if flags & 0x40 else None
    is_clean, has_will = bool(flags & 0x02), bool(flags & 0x04)
    return Connect(
        protocol, level, is_clean, has_will, keep_alive_s, client_id, username, password
    )  # fmt: skip


def _filters(body: bytes) -> Iterator[tuple[str, int]]:
    while body:
        topic, rest = _text(body)
        yield topic, rest[0]
        body = rest[1:]


def _number(body: bytes) -> int:
    return int(struct.unpack("!H", body[:2])[0])


def _text(body: bytes) -> tuple[str, bytes]:
    size = _number(body)
    return body[2 : 2 + size].decode(), body[2 + size :]

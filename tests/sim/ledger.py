# SPDX-License-Identifier: MIT
"""What the broker itself says of a device, as the packets that ``sim.audit`` judges.

mosquitto's log tells each packet that it has taken or sent, whatever carried it: TLS, WebSocket, a
line that lost half of it. Their payloads come from whoever is subscribed at the same broker, or has
published. A connection of somebody else with the device's client id is told by its keep-alive.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence

from sim.cloud import DEVICE, PRODUCT, Cloud
from sim.mosquitto import Line
from sim.tap import REBOOT, Connect, Packet

TYPES = ("error", "warning", "notice", "information", "debug", "subscribe")  # what is to be logged

_CONNECT = re.compile(
    r"New client connected from \S+ as (\S+) \(p(\d), c([01]), k(\d+)(?:, u.*)?\)\."
)
_PUBLISH = re.compile(
    r"(Received|Sending|Denied) PUBLISH (?:from|to) (\S+) "
    r"\(d([01]), q([0-2]), r([01]), m(\d+), '(.*)', \.\.\. \((\d+) bytes\)\)"
)
_PUBACK = re.compile(r"Sending PUBACK to (\S+) \(m(\d+), rc\d+\)")
_FILTER = re.compile(r"\t(.*) \(QoS ([0-2])\)")
_LEVELS = {"1": ("MQIsdp", 3), "2": ("MQTT", 4), "5": ("MQTT", 5)}


class UnheardError(Exception):
    """The broker has taken something that the cloud has not heard, or not yet."""


class Ledger:
    """The account of one device at one broker."""

    def __init__(self, lines: Sequence[Line], cloud: Cloud, impostor_keep_alive_s: int) -> None:
        """Read *lines*, which may still grow, and have payloads from *cloud*."""
        self._lines = lines
        self._cloud = cloud
        self._impostor_s = impostor_keep_alive_s
        self._client = PRODUCT + DEVICE
        self.starts: list[float] = []  # of new processes

    def reboot(self) -> None:
        """Note that the device's next connection is that of a new process."""
        self.starts.append(time.monotonic())

    def packets(self) -> list[Packet]:
        """Return every packet of the device so far, in the broker's order.

        Raises:
            UnheardError: The cloud lacks one of them.
        """
        return list(_Reading(self._client, self._cloud, self._impostor_s, self.starts)(self._lines))


class _Reading:
    """One reading of a log from its beginning."""

    def __init__(self, client: str, cloud: Cloud, impostor_s: int, starts: Sequence[float]) -> None:
        self._client = client
        self._heard = iter(list(cloud.heard))
        self._sent = list(cloud.sent)
        self._impostor_s = impostor_s
        self._starts = list(starts)
        self._number = 0
        self._is_subscribing = False

    def __call__(self, lines: Sequence[Line]) -> Iterator[Packet]:
        for line in list(lines):
            if found := _CONNECT.fullmatch(line.text):
                yield from self._connect(line, *found.groups())
            elif found := _PUBLISH.fullmatch(line.text):
                yield from self._publish(line, *found.groups())
            elif found := _PUBACK.fullmatch(line.text):
                if found[1] == self._client:
                    yield self._packet(line, "PUBACK", is_uplink=False, mid=int(found[2]))
            elif line.text == f"Received SUBSCRIBE from {self._client}":
                self._is_subscribing = True
            elif self._is_subscribing and (found := _FILTER.fullmatch(line.text)):
                self._is_subscribing = False
                yield self._packet(line, "SUBSCRIBE", filters=((found[1], int(found[2])),))
            elif line.text == f"Sending SUBACK to {self._client}":
                yield self._packet(line, "SUBACK", is_uplink=False)

    def _packet(self, line: Line, kind: str, *, is_uplink: bool = True, **more: object) -> Packet:
        make: Callable[..., Packet] = Packet
        return make(line.time_s, self._number, is_uplink, kind, **more)

    def _connect(
        self, line: Line, client: str, protocol: str, clean: str, keep_alive_s: str
    ) -> Iterator[Packet]:
        if client != self._client or int(keep_alive_s) == self._impostor_s:
            return
        while self._starts and self._starts[0] <= line.time_s:
            self._starts.pop(0)
            yield self._packet(line, REBOOT)
        self._number += 1
        words = Connect(
            *_LEVELS[protocol], clean == "1", False, int(keep_alive_s), client, None, None
        )
        yield self._packet(line, "CONNECT", connect=words)

    def _publish(self, line: Line, verb: str, client: str, *facts: str) -> Iterator[Packet]:
        duplicate, qos, retained, mid, topic, size = facts
        if client != self._client:
            return
        is_uplink = verb != "Sending"
        payload = self._payload(verb, line.time_s, int(size))
        yield self._packet(
            line, "PUBLISH", is_uplink=is_uplink, mid=int(mid), topic=topic, payload=payload,
            qos=int(qos), is_retained=retained == "1", is_duplicate=duplicate == "1",
        )  # fmt: skip

    def _payload(self, verb: str, time_s: float, size: int) -> bytes:
        """Return what was said: up, the next that the cloud has heard; down, its last of *size*."""
        if verb == "Denied":
            return b"denied"
        if verb == "Received":
            payload = next(self._heard, None)
            if payload is None:
                raise UnheardError(f"the cloud has not heard of {size} bytes")
            assert len(payload) == size, f"the cloud has heard {payload!r}, the broker {size} bytes"
            return payload
        before = [each for sent_s, each in self._sent if sent_s <= time_s and len(each) == size]
        return before[-1] if before else b""

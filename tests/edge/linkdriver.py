# SPDX-License-Identifier: MIT
"""Drives an MQTT link as the agent's loop does, in a time of the test's own."""

import select
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sim.broker import CONNACK, CONNECT, SUBSCRIBE, RawBroker, suback

from updater.core.cloudconfig import CloudConfig
from updater.core.credentials import Credentials
from updater.core.link import Connected, LinkEvent
from updater.edge.mqtt import MqttLink

UPDATE, REPORT = "$ota/update/P/D", "$ota/report/P/D"
E = TypeVar("E")
_PATIENCE_S = 10.0


@dataclass
class Clock:
    """Time that passes when a test says so."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Driver:
    """Drives a link as the agent's loop does; while there is no socket, time flies."""

    link: MqttLink
    clock: Clock
    seen: list[LinkEvent] = field(default_factory=list)

    def step(self, wait_s: float = 2.0) -> list[LinkEvent]:
        """Wait for the socket and let the link work."""
        fileno, flags = self.link.fileno(), 0
        if fileno is None:
            self.clock.now_s = max(self.clock.now_s, self.link.next_deadline_s())
        else:
            poll = select.poll()
            poll.register(fileno, select.POLLIN | (select.POLLOUT * self.link.wants_write()))
            late = self.link.next_deadline_s() <= self.clock.now_s
            flags = dict(poll.poll(0 if late else wait_s * 1000)).get(fileno, 0)
        events = list(
            self.link.pump(
                readable=bool(flags & (select.POLLIN | select.POLLHUP | select.POLLERR)),
                writable=bool(flags & select.POLLOUT),
            )
        )
        self.seen += events
        return events

    def until(self, kind: type[E]) -> E:
        """Drive until an event of *kind*, and return it."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            for event in self.step(0.5):
                if isinstance(event, kind):
                    return event
        raise AssertionError(f"no {kind.__name__}, but {self.seen}")

    def take(self, kind: type[E], count: int) -> list[E]:
        """Drive until there are *count* events of *kind*, and return all there ever were."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while len(found := [event for event in self.seen if isinstance(event, kind)]) < count:
            assert time.monotonic() < deadline_s, f"{len(found)} of {count} {kind.__name__}"
            self.step(0.5)
        return found

    def due(self) -> list[LinkEvent]:
        """Let time pass to the next deadline, and let the link work."""
        self.clock.now_s = max(self.clock.now_s, self.link.next_deadline_s())
        return self.step(0)


@contextmanager
def driver(port: int, **more: Any) -> Iterator[Driver]:
    """A link to the broker at *port*; ``password`` logs in with it."""
    password = more.pop("password", None)
    known = {"host": "127.0.0.1", "product_id": "P", "device_name": "D", "allow_plaintext": True}
    login = Credentials("PD", None if password is None else "device", password)
    clock = Clock()
    link = MqttLink(CloudConfig(**{**known, "port": port, **more}), lambda: login, clock)
    with closing(link):
        yield Driver(link, clock)


def dialled(raw: RawBroker, link: Driver) -> None:
    """Bring *link* to *raw* by TCP."""
    assert not link.step()
    assert not link.step()
    raw.accept()


def handshake(raw: RawBroker, link: Driver) -> None:
    """Bring *link* up at *raw*."""
    dialled(raw, link)
    assert raw.hear()[0] == CONNECT
    raw.say(CONNACK)
    link.step()
    link.step()
    kind, body = raw.hear()
    assert kind == SUBSCRIBE
    raw.say(suback(body))
    assert link.step() == [Connected()]

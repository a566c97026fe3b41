# SPDX-License-Identifier: MIT
"""The link in memory, and the cloud at its other end.

``MemoryLink`` implements ``Link`` of ``updater.core.link`` and dies with the process;
``MemoryCloud`` lives on, keeps every message that reached it, answers as the protocol says, and
ends its task at the first terminal report or when the device runs its version.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sim.clock import Clock
from sim.cloud import Message
from sim.instants import Instants
from updater.activity import NEVER_S
from updater.core.link import Acknowledged, Connected, Disconnected, LinkEvent, Received
from updater.core.model import Firmware

CONNECTING_S = 0.5
RECONNECTING_S = 5.0


class MemoryCloud:
    """One device's cloud."""

    def __init__(self, clock: Clock) -> None:
        self.messages: list[Message] = []
        self.is_reachable = True
        self.acknowledges = True
        self.result_code: int | None = 0  # of its answers; None: it does not answer
        self.task: dict[str, Any] | None = None
        self.checks: list[Callable[[Message, bytes], None]] = []  # of each message that arrives
        self.acknowledged: set[bytes] = set()  # what the running agent has the PUBACK of
        self.link: MemoryLink | None = None
        self._clock = clock

    def offer(self, firmware: Firmware, url: str, **more: Any) -> None:
        """Start a task: offer now, and again at each report of another version."""
        self.task = {
            "file_size": firmware.size_bytes,
            "md5sum": firmware.md5,
            "type": "update_firmware",
            "url": url,
            "version": firmware.version,
            **more,
        }
        self.send(self.task)

    def send(self, body: Mapping[str, Any] | bytes) -> None:
        """Send *body* at QoS 0: a device that is not there never gets it."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        if self.link is not None:
            self.link.bring(Received(payload))

    def hear(self, payload: bytes, qos: int) -> None:
        """Take a message of the device, and answer it."""
        message = Message(self._clock.now_s, qos, json.loads(payload))
        self.messages.append(message)
        for check in self.checks:
            check(message, payload)
        is_of_task = self.task is not None and message.version == self.task["version"]
        if is_of_task and (is_terminal(message) or message.type == "report_version"):
            self.task = None
        if message.type == "report_version":
            self._answer(message.version)

    def _answer(self, version: str) -> None:
        if self.result_code is not None:
            answer = {"type": "report_version_rsp", "result_code": self.result_code}
            self.send({**answer, "result_msg": "", "version": version})
        if self.task is not None:
            self.send(self.task)


class MemoryLink:
    """One process's link: connects by itself, brings what the cloud sends."""

    def __init__(self, clock: Clock, instants: Instants, cloud: MemoryCloud) -> None:
        self._clock = clock
        self._instants = instants
        self._cloud = cloud
        self._due_s = clock.now_s + CONNECTING_S
        self._fileno: int | None = None
        self._events: list[LinkEvent] = []
        self._has_output = False
        self._token = 0
        self._unacknowledged: dict[int, bytes] = {}
        self.given: set[int] = set()  # rows of the journal, in this connection

    def fileno(self) -> int | None:
        """Return the descriptor of the connection, if there is one."""
        return self._fileno

    def wants_write(self) -> bool:
        """True after a ``publish``, until the next writing ``pump``."""
        return self._has_output

    def is_connected(self) -> bool:
        """True while there is a connection."""
        return self._fileno is not None

    def is_registering(self) -> bool:
        """Never."""
        return False

    def next_deadline_s(self) -> float:
        """Return when to connect."""
        return NEVER_S if self.is_connected() else self._due_s

    def pump(self, *, readable: bool, writable: bool) -> Iterable[LinkEvent]:
        """Connect or notice a loss if that is due, and return what was brought."""
        if not self.is_connected() and self._clock.now_s >= self._due_s:
            self._connect()
        if writable:
            self._has_output = False
        if readable and self._fileno is not None:
            self._clock.set_readable(self._fileno, NEVER_S)
            if self._cloud.link is not self:
                self._hang_up()
        events, self._events = self._events, []
        for event in events:
            if isinstance(event, Acknowledged):
                self._cloud.acknowledged.add(self._unacknowledged.pop(event.token))
        return events

    def publish(self, payload: bytes, qos: int) -> int:
        """Deliver *payload* at once, unless the connection is lost already."""
        assert self.is_connected(), "only while connected"
        self._token += 1
        token, self._has_output = self._token, True
        with self._instants.durable(f"publish: {_subject(payload)}"):
            if self._cloud.link is self:
                self._cloud.hear(payload, qos)
        if self._cloud.link is self and qos and self._cloud.acknowledges:
            self._unacknowledged[token] = payload
            self.bring(Acknowledged(token))
        return token

    def bring(self, event: LinkEvent) -> None:
        """Have *event* come out of the next ``pump``."""
        self._events.append(event)
        self._wake_reader()

    def drop(self, reason: str) -> None:
        """Lose the connection; the agent learns of it at the next ``pump``, as with a socket."""
        if self._cloud.link is self:
            self._cloud.link = None
            self._events = [Disconnected(reason)]
            self._wake_reader()

    def close(self) -> None:
        """Say goodbye."""
        self._cloud.link = None
        self._hang_up()

    def _connect(self) -> None:
        if not self._cloud.is_reachable:
            self._due_s = self._clock.now_s + RECONNECTING_S
            self._events.append(Disconnected("cannot connect"))
            return
        self._fileno = self._clock.open()
        self._token = 0  # as each connection of the real link has a client of its own
        self.given.clear()
        self._cloud.link = self
        self.bring(Connected())

    def _wake_reader(self) -> None:
        if self._fileno is not None:
            self._clock.set_readable(self._fileno, self._clock.now_s)

    def _hang_up(self) -> None:
        if self._fileno is not None:
            self._clock.close(self._fileno)
        self._fileno, self._has_output = None, False
        self._due_s = self._clock.now_s + RECONNECTING_S


def is_terminal(message: Message) -> bool:
    """Tell whether *message* ends something."""
    return message.state in {"done", "fail"}


def spoken(message: Message) -> str:
    """Return *message* in two or three words."""
    match message.state:
        case "":
            return f"report_version {message.version}"
        case "downloading":
            return f"downloading {message.percent}"
        case "fail":
            return f"fail {message.code}"
        case state:
            return state


def _subject(payload: bytes) -> str:
    """Return what *payload* is about, for the names of instants."""
    report = json.loads(payload)["report"]
    progress = report.get("progress", {"state": "report_version"})
    return f"{progress['state']} {progress.get('percent', report['version'])}"

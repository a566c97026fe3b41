# SPDX-License-Identifier: MIT
"""The cloud's side of the conversation, as its documents and its SDKs' logs show it.

Answers each ``report_version``, pushes its one task until that has ended, and keeps every message
in order. Says nothing that the real cloud would not say, unless a test asks for it. How a task
stands is ``sim.task``'s, where its firmware lies ``sim.bucket``'s; whether the device keeps to the
protocol is seen on the wire: ``sim.tap`` and ``sim.audit``.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from sim.task import PATIENT, State, Task, Terms

PRODUCT, DEVICE = "PRODUCT001", "board-1"
CLIENT = "the-cloud"  # its own client id
_TICK_S = 0.05


@dataclass(frozen=True)
class Message:
    """One message of the device: when it came (monotonic seconds), its QoS, and what it says."""

    time_s: float
    qos: int
    body: Mapping[str, Any]

    @property
    def type(self) -> str:
        """``report_version`` or ``report_progress``."""
        return str(self.body["type"])

    @property
    def version(self) -> str:
        """The version that it speaks of."""
        return str(self.body["report"]["version"])

    @property
    def state(self) -> str:
        """The state of a ``report_progress``, else ""."""
        return str(self.body["report"].get("progress", {}).get("state", ""))

    @property
    def percent(self) -> int | None:
        """The per cent of a ``downloading``; nothing else has one."""
        percent = self.body["report"].get("progress", {}).get("percent")
        return None if percent is None else int(percent)

    @property
    def code(self) -> int:
        """The result code of a ``report_progress``."""
        return int(self.body["report"]["progress"]["result_code"])

    @property
    def reason(self) -> str:
        """The result_msg of a ``report_progress``."""
        return str(self.body["report"]["progress"]["result_msg"])


class _Client(paho.Client):
    """paho over TCP, or over a Unix socket, which it would leave open where nobody listens."""

    def __init__(self, address: tuple[str, int], path: str) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id=CLIENT)
        self._address = address
        self._path = path

    def _create_socket(self) -> socket.socket:
        """Return a connected socket."""
        if not self._path:
            return socket.create_connection(self._address, 5)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        return sock


class Cloud:
    """One product with one device; a context manager."""

    def __init__(
        self, port: int, product: str = PRODUCT, device: str = DEVICE, *, path: str = ""
    ) -> None:
        """Use the broker at *port* of the loopback, or at the Unix socket *path*."""
        self.heard: list[bytes] = []  # every payload, in order
        self.sent: list[tuple[float, bytes]] = []  # the same, and when
        self.messages: list[Message] = []
        self.ignored: list[Message] = []  # progress of no task, or of another
        self.garbage: list[bytes] = []  # what is no message at all
        self.task: Task | None = None
        self.result_code: int | str | None = 0  # of its answers; None: it does not answer
        self.pushes = 0
        self.listener: Callable[[Message], None] | None = None
        self._news = threading.Condition()
        self._update_topic = f"$ota/update/{product}/{device}"
        self._report_topic = f"$ota/report/{product}/{device}"
        self._subscribed = threading.Event()
        self._client = _Client(("127.0.0.1", port), path)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe(self._report_topic, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._is_over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1")
        self._client.loop_start()
        self.wait_until_subscribed()
        self._ticker.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._ticker.join()
        farewell(self._client)

    def wait_until_subscribed(self, timeout_s: float = 20.0) -> None:
        """Wait until the broker, perhaps a new one, brings what the device says."""
        assert self._subscribed.wait(timeout_s), "the cloud itself is not connected"

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self.heard.append(bytes(message.payload))
        try:
            said = Message(time.monotonic(), message.qos, json.loads(message.payload))
            self._take(said)
        except (ValueError, LookupError, TypeError, AttributeError):
            self.garbage.append(bytes(message.payload))
            return
        if self.listener is not None:
            self.listener(said)

    def _take(self, said: Message) -> None:
        _facts = said.type, said.version, said.state, said.percent  # of what is no message, none
        with self._news:
            self.messages.append(said)
            is_known = self.task is not None and self.task.hear(said, said.time_s)
            if said.type == "report_version":
                self._answer(said.version)
            elif not is_known:
                self.ignored.append(said)
            self._news.notify_all()

    def _answer(self, version: str) -> None:
        if self.result_code is not None:
            self.send(
                {
                    "result_code": self.result_code,
                    "result_msg": "success",
                    "type": "report_version_rsp",
                    "version": version,
                }
            )
        if self.task is not None and self.task.is_open:
            self._push(self.task)

    def _push(self, task: Task) -> None:
        self.pushes += 1
        self.send(task.push(time.monotonic()))

    def _tick(self) -> None:
        while not self._is_over.wait(_TICK_S):
            with self._news:
                if self.task is not None and self.task.tick(time.monotonic()):
                    self._push(self.task)
                self._news.notify_all()

    def send(self, body: Mapping[str, Any] | bytes) -> None:
        """Send *body*, QoS 0 and never retained, as the cloud does: compact, its keys sorted."""
        if not isinstance(body, bytes):
            body = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
        self.sent.append((time.monotonic(), body))
        self._client.publish(self._update_topic, body, 0)

    # --- the console -----------------------------------------------------------------------------

    def offer(
        self,
        version: str,
        url: str | Callable[[], str],
        md5: str,
        size_bytes: int,
        *,
        terms: Terms = PATIENT,
        **more: Any,
    ) -> Task:
        """Start a task, which covers the one before: push it now, and until it has ended.

        Args:
            version: The version that the device is to run.
            url: Where it is, or what signs a URL for each push.
            md5: As the message says it.
            size_bytes: The same.
            terms: When it times out, and how often it is tried again.
            more: Further keys of the message.
        """
        body = {
            "file_size": size_bytes,
            "md5sum": md5,
            "type": "update_firmware",
            "version": version,
            **more,
        }
        task = Task(body, url if callable(url) else lambda: url, terms)
        with self._news:
            self.end_task("covered by another task")
            self.task = task
            self._push(task)
        return task

    def push(self) -> None:
        """Offer the task once more, as the console's retry does."""
        with self._news:
            assert self.task is not None
            self._push(self.task)

    def end_task(self, reason: str = "cancelled") -> None:
        """Cancel the task, of which the device hears nothing; offer nothing any more."""
        with self._news:
            if self.task is not None:
                self.task.cancel(reason)

    def wait_for_task(self, *states: State, timeout_s: float = 60.0) -> None:
        """Wait until the task has been in all of *states*, in this order."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                task = self.task
                been = [] if task is None else list(task.states)
                if all(state in been for state in states):
                    return
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(f"not within {timeout_s:g} s: {states}, but {been}")
                self._news.wait(left_s)

    # --- what a test waits for -------------------------------------------------------------------

    def mark(self) -> int:
        """Return a position: the messages so far are before it."""
        return len(self.messages)

    def wait_for(
        self, wanted: Callable[[Message], bool], *, since: int = 0, timeout_s: float = 60.0
    ) -> Message:
        """Return the first message after *since* that is *wanted*; raise if none comes in time."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                for message in self.messages[since:]:
                    if wanted(message):
                        return message
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    said = "\n".join(json.dumps(m.body) for m in self.messages[since:][-20:])
                    raise TimeoutError(f"not within {timeout_s:g} s; the device said:\n{said}")
                self._news.wait(left_s)

    def wait_for_version(self, version: str, *, since: int = 0, timeout_s: float = 60.0) -> Message:
        """Wait until the device reports that it runs *version*."""
        return self.wait_for(
            lambda m: m.type == "report_version" and m.version == version,
            since=since,
            timeout_s=timeout_s,
        )

    def wait_for_state(self, state: str, *, since: int = 0, timeout_s: float = 60.0) -> Message:
        """Wait until the device reports progress *state*."""
        return self.wait_for(lambda m: m.state == state, since=since, timeout_s=timeout_s)


def farewell(client: paho.Client) -> None:
    """Say goodbye and end the client's thread; ``loop_stop`` stumbles if that is quicker."""
    thread = client._thread
    client.disconnect()
    if thread is not None:
        thread.join()

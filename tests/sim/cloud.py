# SPDX-License-Identifier: MIT
"""The cloud's side of the conversation, as its documents and its SDKs' logs show it.

Answers each ``report_version``, offers what a task holds until the device runs it, and keeps every
message in order. Says nothing that the real cloud would not say, unless a test asks for it.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

PRODUCT, DEVICE = "PRODUCT001", "board-1"


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


class Cloud:
    """One product with one device; a context manager."""

    def __init__(self, port: int, product: str = PRODUCT, device: str = DEVICE) -> None:
        """Use the broker at *port* of the loopback."""
        self.messages: list[Message] = []
        self.listener: Callable[[Message], None] | None = None
        self._task: dict[str, Any] | None = None
        self._news = threading.Condition()
        self._update_topic = f"$ota/update/{product}/{device}"
        self._report_topic = f"$ota/report/{product}/{device}"
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="the-cloud")
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe(self._report_topic, 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._port = port

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._subscribed.wait(10)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        said = Message(time.monotonic(), message.qos, json.loads(message.payload))
        with self._news:
            self.messages.append(said)
            self._news.notify_all()
        if said.type == "report_version":
            self._answer(said.version)
        if self.listener is not None:
            self.listener(said)

    def _answer(self, version: str) -> None:
        self.send(
            {
                "result_code": 0,
                "result_msg": "success",
                "type": "report_version_rsp",
                "version": version,
            }
        )
        task = self._task
        if task is not None and task["version"] != version:
            self.send(task)

    def send(self, body: Mapping[str, Any] | bytes) -> None:
        """Send *body*, QoS 0 and never retained, as the cloud does."""
        payload = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":"))
        self._client.publish(self._update_topic, payload, 0)

    def offer(self, version: str, url: str, md5: str, size_bytes: int, **more: Any) -> None:
        """Start a task: offer the firmware now, and at each report of another version."""
        self._task = {
            "file_size": size_bytes,
            "md5sum": md5,
            "type": "update_firmware",
            "url": url,
            "version": version,
            **more,
        }
        self.send(self._task)

    def end_task(self) -> None:
        """Offer nothing any more."""
        self._task = None

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

# SPDX-License-Identifier: MIT
"""The cloud of many devices: answers each ``report_version``, and offers one firmware to all.

It only says what ``sim.cloud`` would, in one connection for all of them.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from sim.cloud import PRODUCT, Message
from sim.settings import NEW
from sim.uplink import spoken

from fleet.broker import CLOUD, Broker
from fleet.device import URL

_AGAIN_S = 0.05


class ManyCloud:
    """A context manager; its subscription outlives its connections, and the broker's death.

    Attributes:
        said: How often each device has said what, since somebody has taken it.
        versions: What each device has reported last.
    """

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.said: dict[str, Counter[str]] = {}
        self.versions: dict[str, str] = {}
        self._task: dict[str, Any] | None = None
        self._open: set[str] = set()  # devices that have not ended it
        self._subscribed = threading.Event()
        self._lock = threading.Lock()
        self._port = broker.cloud_port
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=CLOUD, clean_session=False
        )
        self._client.username_pw_set(CLOUD, (folder / CLOUD).read_text())
        again_s: Any = _AGAIN_S  # the whole seconds of its annotation are not needed
        self._client.reconnect_delay_set(again_s, again_s)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("$ota/report/+/+", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._subscribed.wait(20), "the cloud itself is not connected"
        return self

    def __exit__(self, *_exception: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def take(self) -> dict[str, Counter[str]]:
        """Return what was said, and forget it."""
        with self._lock:
            said, self.said = self.said, {}
            return said

    def offer(self, devices: Sequence[str], interval_s: float) -> None:
        """Offer the new image to each of *devices*, again at each report of another version."""
        firmware = NEW.firmware
        with self._lock:
            self._task = {
                "file_size": firmware.size_bytes,
                "md5sum": firmware.md5,
                "type": "update_firmware",
                "url": URL,
                "version": firmware.version,
            }
        for device in devices:
            with self._lock:
                self._open.add(device)
            self._send(device, self._task)
            time.sleep(interval_s)

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        device = message.topic.rpartition("/")[2]
        said = Message(time.monotonic(), message.qos, json.loads(message.payload))
        with self._lock:
            self.said.setdefault(device, Counter())[said.state or said.type] += 1
            if said.type == "report_version":
                self.versions[device] = said.version
                self._answer(device, said.version)
            elif spoken(said) == "done":
                self._open.discard(device)

    def _answer(self, device: str, version: str) -> None:
        answer = {"result_code": 0, "result_msg": "success", "type": "report_version_rsp"}
        self._send(device, {**answer, "version": version})
        if device in self._open:
            assert self._task is not None
            self._send(device, self._task)

    def _send(self, device: str, body: dict[str, Any]) -> None:
        payload = json.dumps(body, separators=(",", ":"), sort_keys=True)
        self._client.publish(f"$ota/update/{PRODUCT}/{device}", payload, 0)

# SPDX-License-Identifier: MIT
"""One connection to the broker, from CONNECT to its end: paho-mqtt, without its thread.

paho gets a stream that is connected already and never opens a socket itself. What happens becomes
events; the end is a fact that whoever drives the client finds, however it came about.
"""

import math
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from updater.core import refusals
from updater.core.cloudconfig import CloudConfig
from updater.core.credentials import Credentials, topics
from updater.core.errors import LinkError
from updater.core.link import Acknowledged, Connected, LinkEvent, Received
from updater.edge import tls
from updater.edge.stream import Stream

_HANDSHAKE_TIMEOUT_S = 20.0  # CONNACK and SUBACK
_PUBACK_TIMEOUT_S = 60.0  # MQTT repeats what was lost in a new connection only
_FIRST_REFUSAL = 128  # of a SUBACK
_MAX_PACKET_BYTES = 1 << 16
_PACKETS_AT_ONCE = 32
# As paho names them: of QoS 2, not released; not read by the broker; not acknowledged by it.
_MAX_HELD = {"_in_messages": 0, "_out_packet": 256, "_out_messages": 256}
NO_TOKEN = 0  # paho counts from 1
_GARBAGE = (ValueError, LookupError, struct.error)  # what paho's parser, or its topic, may raise

_CONNACK_CODES = {132: 1, 133: 2, 136: 3, 134: 4, 135: 5}  # by paho's reasons, which are MQTT 5's
_BAD_LOGIN = 4
_NO_MQTT = "what the broker sends is no MQTT 3.1.1: check cloud.port and cloud.transport"
_SILENT = "the broker is silent"
_LOSSES = {
    130: _NO_MQTT,
    141: _SILENT,
}


@dataclass(frozen=True, slots=True)
class End:
    """How a connection has ended.

    Attributes:
        reason: A sentence for people.
        is_by_broker: The broker has ended it, without saying why.
        is_clock_suspect: A device's clock that is wrong would explain it.
    """

    reason: str
    is_by_broker: bool = False
    is_clock_suspect: bool = False


class _Paho(paho.Client):
    """paho over a stream that is connected already."""

    def __init__(self, stream: Stream, client_id: str) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self._stream = stream

    def _create_socket(self) -> Any:
        """Return it, where paho would look up, connect and wait."""
        return self._stream


class Client:
    """One connection's MQTT.

    Attributes:
        events: What has happened and nobody has taken yet.
        end: How it has ended, or None.
        is_connected: CONNACK and SUBACK are there, and it has not ended.
    """

    def __init__(
        self,
        settings: CloudConfig,
        credentials: Credentials,
        stream: Stream,
        monotonic_s: Callable[[], float],
        clock: Callable[[], str],
    ) -> None:
        """Send CONNECT over *stream*; *clock* tells the device's time in words."""
        self.events: list[LinkEvent] = []
        self.end: End | None = None
        self.is_connected = False
        self._settings = settings
        self._topics = topics(settings.product_id, settings.device_name)
        self._stream = stream
        self._monotonic_s = monotonic_s
        self._clock = clock
        self._is_greeted = False
        self._unacknowledged: dict[int, float] = {}  # by token: until when that is no loss
        self._sent_s = self._heard_s = monotonic_s()
        self._handshake_due_s = self._sent_s + _HANDSHAKE_TIMEOUT_S
        self._pong_due_s = math.inf
        self._paho = mqtt = _Paho(stream, credentials.client_id)
        if credentials.username is not None:
            mqtt.username_pw_set(credentials.username, credentials.password)
        mqtt.on_connect = self._on_connect
        mqtt.on_subscribe = self._on_subscribe
        mqtt.on_message = self._on_message
        mqtt.on_publish = self._on_publish
        mqtt.on_disconnect = self._on_disconnect
        mqtt.connect(settings.host, settings.broker_port, settings.keep_alive_s)

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._stream.fileno()

    def wants_write(self) -> bool:
        """Tell whether something is left to send."""
        return self._paho.want_write() or self._stream.wants_write

    def deadline_s(self) -> float:
        """Return when to tell what happened, to give up, or to ping."""
        if self.events or self.end is not None or self._stream.pending():
            return self._monotonic_s()
        if not self.is_connected:
            return self._handshake_due_s
        return min(self._ping_s() + 0.1, self._pong_due_s, self._answer_due_s())

    def serve(self, *, readable: bool, writable: bool) -> None:
        """Read, write and ping as is due now."""
        try:
            result = self._exchange(readable=readable, writable=writable)
        except _GARBAGE:
            result = MQTTErrorCode.MQTT_ERR_PROTOCOL
            self._finish(_NO_MQTT)
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._finish(f"connection lost: {paho.error_string(result)}")
        elif self._monotonic_s() >= self._pong_due_s:
            self._finish(_SILENT)
        elif self._monotonic_s() >= self._answer_due_s():
            limit_s = _PUBACK_TIMEOUT_S if self.is_connected else _HANDSHAKE_TIMEOUT_S
            self._finish(f"no answer from the broker within {limit_s:g} s")

    def publish(self, payload: bytes, qos: int) -> int:
        """Queue *payload* on the report topic and return its token."""
        if self.end is not None:
            return NO_TOKEN
        message = self._paho.publish(self._topics.report, payload, qos)
        self._sent_s = self._monotonic_s()
        if qos:
            self._unacknowledged[message.mid] = self._sent_s + _PUBACK_TIMEOUT_S
        return message.mid

    def close(self) -> None:
        """Say goodbye to the broker and free everything."""
        self._paho.on_disconnect = None
        self._paho.disconnect()
        self._stream.close()

    def _exchange(self, *, readable: bool, writable: bool) -> MQTTErrorCode:
        """Read, write and ping; what is left to read is due at once, in the next turn."""
        result = MQTTErrorCode.MQTT_ERR_SUCCESS
        if writable and self._stream.wants_write:
            self._stream.flush()
            readable = True  # TLS may have had to write before it could read on
        if readable or self._stream.pending():
            result = self._read()
            self._heard_s = self._monotonic_s()
        if writable and self.end is None:
            result = self._paho.loop_write() or result
            self._sent_s = self._monotonic_s()
        if self.end is None:
            is_ping_due = self._monotonic_s() >= self._ping_s()
            result = self._paho.loop_misc() or result
            if is_ping_due:
                self._sent_s = self._heard_s = self._monotonic_s()
            self._note_ping()
        return result

    def _read(self) -> MQTTErrorCode:
        """Read one packet, and those held beside it; no flood keeps the agent for ever."""
        result = MQTTErrorCode.MQTT_ERR_SUCCESS
        for _ in range(_PACKETS_AT_ONCE):
            result = self._paho.loop_read()
            is_over = result != MQTTErrorCode.MQTT_ERR_SUCCESS or self.end is not None
            if is_over or not self._stream.pending():
                break
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and _is_excessive(self._paho):
            self._finish("the broker sends too much, or does not take what is sent")
        return result

    def _ping_s(self) -> float:
        """Return when paho pings: a keep-alive after the last word of either side."""
        return min(self._sent_s, self._heard_s) + self._settings.keep_alive_s

    def _note_ping(self) -> None:
        """See to it that a ping is answered within half a keep-alive.

        The broker itself gives up after one and a half without a word; paho would wait for two.
        """
        if not getattr(self._paho, "_ping_t", 0.0):
            self._pong_due_s = math.inf
        elif self._pong_due_s == math.inf:
            self._pong_due_s = self._monotonic_s() + self._settings.keep_alive_s / 2

    def _answer_due_s(self) -> float:
        """Return when the broker must have answered CONNECT and SUBSCRIBE, or what was said."""
        if not self.is_connected:
            return self._handshake_due_s
        return min(self._unacknowledged.values(), default=math.inf)

    def _finish(self, reason: str, **more: bool) -> None:
        """Note the end; the first reason is the true one."""
        if self.end is None:
            self.end = End(reason, **more)
            self.is_connected = False

    # --- paho's callbacks, all within ``serve`` and ``publish`` ----------------------------------

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: Any, _properties: object
    ) -> None:
        if reason.value:
            code = _CONNACK_CODES.get(reason.value, 0)
            words = refusals.connack(code, self._clock())
            self._finish(words, is_clock_suspect=code == _BAD_LOGIN)
            return
        self._is_greeted = True
        client.subscribe(self._topics.update, qos=1)

    def _on_subscribe(
        self, _client: object, _data: object, _mid: int, reasons: Any, _properties: object
    ) -> None:
        if any(reason.value >= _FIRST_REFUSAL for reason in reasons):
            self._finish(refusals.subscription(self._topics.update))
        elif self.end is None and not self.is_connected:  # it may come twice
            self.is_connected = True
            self.events.append(Connected())

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        if message.qos:
            self._sent_s = self._monotonic_s()  # paho acknowledges it now
        if message.topic == self._topics.update:
            self.events.append(Received(bytes(message.payload)))

    def _on_publish(
        self, _client: object, _data: object, mid: int, _reason: object, _properties: object
    ) -> None:
        if self._unacknowledged.pop(mid, None) is not None:
            self.events.append(Acknowledged(mid))

    def _on_disconnect(
        self, _client: object, _data: object, _flags: object, reason: Any, _properties: object
    ) -> None:
        failure = self._stream.failure
        if reason.value in _LOSSES:
            self._finish(_LOSSES[reason.value])
        elif isinstance(failure, LinkError):
            self._finish(f"connection lost: {failure}")
        elif isinstance(failure, ssl.SSLError):  # in TLS 1.3 it may come after the handshake
            self._finish(str(tls.refusal(failure, self._settings.host, self._clock())))
        else:
            code, text = (failure.errno or 0, failure.strerror or "") if failure else (0, "")
            words = refusals.loss(code, text, is_greeted=self._is_greeted)
            self._finish(words, is_by_broker=code in {0, *refusals.ENDED_BY_PEER})


def _is_excessive(client: paho.Client) -> bool:
    """Tell whether the broker fills the memory: paho itself sets no such limit."""
    arriving: Any = getattr(client, "_in_packet", {})
    is_too_long = arriving.get("remaining_length", 0) > _MAX_PACKET_BYTES
    return is_too_long or any(len(getattr(client, q, ())) > most for q, most in _MAX_HELD.items())

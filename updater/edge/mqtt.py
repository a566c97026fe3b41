# SPDX-License-Identifier: MIT
"""The link behind ``core.ports.Link``: paho-mqtt without its thread, and reconnecting by itself.

Each connection has a client of its own, so that nothing of an earlier one is ever sent again behind
the agent's back: what must arrive is owed in the journal. ``Connected`` means CONNACK and SUBACK.
Pauses between attempts grow from 5 to 120 s, each drawn from zero to that (full jitter).
"""

import random
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from updater.core.config import CloudConfig
from updater.core.credentials import Credentials, topics
from updater.core.errors import UpdaterError
from updater.core.ports import Acknowledged, Connected, Disconnected, LinkEvent, Received

_CONNECT_TIMEOUT_S = 10.0
_HANDSHAKE_TIMEOUT_S = 20.0  # CONNACK and SUBACK
_BACKOFF_S = 5.0
_BACKOFF_LIMIT_S = 120.0
_FIRST_REFUSAL = 128  # of a SUBACK

_REFUSALS = {
    128: "unspecified error",
    132: "the broker does not speak MQTT 3.1.1",
    133: "the broker refuses the client id",
    134: "bad user name or password, or the device's clock is wrong",
    135: "not authorised: the device is unknown or disabled",
    136: "the broker is unavailable",
}


class MqttLink:
    """One device's session with one broker."""

    def __init__(
        self,
        settings: CloudConfig,
        credentials: Callable[[], Credentials],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect at the first ``pump``."""
        self._settings = settings
        self._credentials = credentials
        self._monotonic_s = monotonic_s
        self._topics = topics(settings.product_id, settings.device_name)
        self._client: paho.Client | None = None
        self._events: list[LinkEvent] = []
        self._acknowledgeable: set[int] = set()
        self._is_connected = False
        self._failures = 0
        self._due_s = monotonic_s()  # next connect, or the handshake's deadline
        self._active_s = 0.0

    def fileno(self) -> int | None:
        """Return the socket to watch, or None while there is none."""
        sock = None if self._client is None else self._client.socket()
        return None if sock is None else int(sock.fileno())

    def wants_write(self) -> bool:
        """Tell whether paho has something left to send."""
        return self._client is not None and bool(self._client.want_write())

    def is_connected(self) -> bool:
        """True from ``Connected`` to ``Disconnected``."""
        return self._is_connected

    def next_deadline_s(self) -> float:
        """Return when to connect, when to give a handshake up, or when to ping."""
        if not self._is_connected:
            return self._due_s
        return self._active_s + self._settings.keep_alive_s + 0.1

    def pump(self, *, readable: bool, writable: bool) -> Iterable[LinkEvent]:
        """Connect, read, write and ping as is due now, and return what happened."""
        if self._client is None:
            if self._monotonic_s() >= self._due_s:
                self._connect()
        else:
            self._serve(self._client, readable=readable, writable=writable)
        events, self._events = self._events, []
        return events

    def publish(self, payload: bytes, qos: int) -> int:
        """Queue *payload* on the report topic and return its token."""
        assert self._client is not None  # noqa: S101 - only while connected
        message = self._client.publish(self._topics.report, payload, qos)
        self._active_s = self._monotonic_s()
        if qos:
            self._acknowledgeable.add(message.mid)
        return message.mid

    def close(self) -> None:
        """Say goodbye to the broker and free everything."""
        self._drop()

    # --- one connection --------------------------------------------------------------------------

    def _connect(self) -> None:
        """Open a connection; blocks at most for the name's lookup and ``_CONNECT_TIMEOUT_S``."""
        self._due_s = self._monotonic_s() + _HANDSHAKE_TIMEOUT_S
        self._active_s = self._monotonic_s()
        try:
            credentials = self._credentials()
            client = self._new_client(credentials)
            self._client = client
            client.connect(self._settings.host, self._settings.port, self._settings.keep_alive_s)
        except UpdaterError as error:
            self._lost(str(error))
        except ssl.SSLCertVerificationError as error:
            self._lost(f"TLS: the broker's certificate is refused: {error.verify_message}")
        except (OSError, ValueError) as error:
            self._lost(f"cannot connect to {self._settings.host}:{self._settings.port}: {error}")

    def _new_client(self, credentials: Credentials) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=credentials.client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        if credentials.username is not None:
            client.username_pw_set(credentials.username, credentials.password)
        if not self._settings.allow_plaintext:
            client.tls_set_context(_tls(self._settings.ca_file))
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    def _serve(self, client: paho.Client, *, readable: bool, writable: bool) -> None:
        result = MQTTErrorCode.MQTT_ERR_SUCCESS
        if readable:
            self._active_s = self._monotonic_s()
            result = client.loop_read()
            while result == MQTTErrorCode.MQTT_ERR_SUCCESS and _pending(client):
                result = client.loop_read()
        if writable and client is self._client:
            self._active_s = self._monotonic_s()
            result = client.loop_write() or result
        if client is self._client:
            if self._monotonic_s() >= self._active_s + self._settings.keep_alive_s:
                self._active_s = self._monotonic_s()
            result = client.loop_misc() or result
        if client is not self._client:
            return  # a callback has ended it
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lost(f"connection lost: {paho.error_string(result)}")
        elif not self._is_connected and self._monotonic_s() >= self._due_s:
            self._lost(f"no answer from the broker within {_HANDSHAKE_TIMEOUT_S:g} s")

    def _lost(self, reason: str) -> None:
        """End the connection, tell, and see to the next one."""
        self._drop()
        longest = min(_BACKOFF_S * 2.0**self._failures, _BACKOFF_LIMIT_S)
        self._failures = min(self._failures + 1, 10)
        self._due_s = self._monotonic_s() + random.uniform(0.0, longest)  # noqa: S311 - spreads load
        self._events.append(Disconnected(reason))

    def _drop(self) -> None:
        client, self._client = self._client, None
        self._is_connected = False
        self._acknowledgeable.clear()
        if client is None:
            return
        client.on_disconnect = None
        client.disconnect()
        sock = client.socket()
        if sock is not None:
            sock.close()

    # --- paho's callbacks, all within ``pump`` ---------------------------------------------------

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: Any, _properties: object
    ) -> None:
        if reason.value:
            self._lost(f"refused: {_REFUSALS.get(reason.value, reason)}")
            return
        client.subscribe(self._topics.update, qos=1)

    def _on_subscribe(
        self, _client: object, _data: object, _mid: int, reasons: Any, _properties: object
    ) -> None:
        if any(reason.value >= _FIRST_REFUSAL for reason in reasons):
            self._lost(f"the broker refuses the subscription to {self._topics.update}")
            return
        self._is_connected = True
        self._failures = 0
        self._events.append(Connected())

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        if message.topic == self._topics.update:
            self._events.append(Received(bytes(message.payload)))

    def _on_publish(
        self, _client: object, _data: object, mid: int, _reason: object, _properties: object
    ) -> None:
        if mid in self._acknowledgeable:
            self._acknowledgeable.discard(mid)
            self._events.append(Acknowledged(mid))

    def _on_disconnect(
        self, client: paho.Client, _data: object, _flags: object, reason: Any, _properties: object
    ) -> None:
        if client is self._client:
            self._lost(f"the broker has closed the connection: {reason}")


def _tls(ca_file: str) -> ssl.SSLContext:
    """Return a context that verifies the broker's certificate and name."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _pending(client: paho.Client) -> bool:
    """Tell whether TLS holds bytes that the socket no longer announces."""
    sock: Any = client.socket()
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

# SPDX-License-Identifier: MIT
"""The link behind ``core.link.Link``: paho-mqtt without its thread, and reconnecting by itself.

Each connection has a client of its own, so that nothing of an earlier one is ever sent again behind
the agent's back: what must arrive is owed in the journal. ``Connected`` means CONNACK and SUBACK.
Pauses between attempts grow from 5 to 120 s, each drawn from zero to that (full jitter).
"""

import os
import random
import re
import ssl
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from updater.core.config import CloudConfig
from updater.core.credentials import Credentials, topics
from updater.core.errors import ConfigError, UpdaterError
from updater.core.link import Acknowledged, Connected, Disconnected, LinkEvent, Received

_CONNECT_TIMEOUT_S = 10.0
_HANDSHAKE_TIMEOUT_S = 20.0  # CONNACK and SUBACK
_BACKOFF_S = 5.0
_BACKOFF_LIMIT_S = 120.0
_FIRST_REFUSAL = 128  # of a SUBACK
_MAX_PACKET_BYTES = 1 << 16
_PACKETS_AT_ONCE = 32
_NO_TOKEN = 0  # paho counts from 1
_GARBAGE = (ValueError, LookupError, struct.error)  # what paho's parser, or its topic, may raise

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # how a folder of CAs names each of them

_REFUSALS = {
    128: "unspecified error",
    133: "the broker refuses the client id",
    134: "bad user name or password, or the device's clock is wrong",
    135: "not authorised: the device is unknown or disabled",
    136: "the broker is unavailable",
}
_LOSSES = {
    128: "the broker has closed the connection",
    130: "what the broker sends is no MQTT 3.1.1",
    141: "the broker is silent",
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
        self._sent_s = self._heard_s = 0.0

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
        """Return when to tell what happened, to connect, to give a handshake up, or to ping."""
        if self._events or (self._client is not None and _pending(self._client)):
            return self._monotonic_s()
        if not self._is_connected:
            return self._due_s
        return self._ping_s() + 0.1

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
        """Queue *payload* on the report topic and return its token.

        A link that is lost in the same turn takes it and never acknowledges it: the caller learns
        of the loss by the next ``pump``.
        """
        client = self._client
        if client is None:
            return _NO_TOKEN
        message = client.publish(self._topics.report, payload, qos)
        self._sent_s = self._monotonic_s()
        if qos and client is self._client:
            self._acknowledgeable.add(message.mid)
        return message.mid

    def close(self) -> None:
        """Say goodbye to the broker and free everything."""
        self._drop()

    # --- one connection --------------------------------------------------------------------------

    def _connect(self) -> None:
        """Open a connection.

        Blocks for the name's lookup, and up to ``_CONNECT_TIMEOUT_S`` for each of its addresses
        and once more for TLS.
        """
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
        if self._client is not None:
            self._sent_s = self._heard_s = self._monotonic_s()
            self._due_s = self._sent_s + _HANDSHAKE_TIMEOUT_S

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
        try:
            result = self._exchange(client, readable=readable, writable=writable)
        except _GARBAGE:
            result = MQTTErrorCode.MQTT_ERR_PROTOCOL
        if client is not self._client:
            return  # a callback has ended it
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lost(f"connection lost: {paho.error_string(result)}")
        elif not self._is_connected and self._monotonic_s() >= self._due_s:
            self._lost(f"no answer from the broker within {_HANDSHAKE_TIMEOUT_S:g} s")

    def _exchange(self, client: paho.Client, *, readable: bool, writable: bool) -> MQTTErrorCode:
        """Read, write and ping; what is left to read is due at once, in the next turn."""
        result = MQTTErrorCode.MQTT_ERR_SUCCESS
        if readable or _pending(client):
            result = _read(client)
            self._heard_s = self._monotonic_s()
        if writable and client is self._client:
            result = client.loop_write() or result
            self._sent_s = self._monotonic_s()
        if client is self._client:
            is_ping_due = self._monotonic_s() >= self._ping_s()
            result = client.loop_misc() or result
            if is_ping_due:
                self._sent_s = self._heard_s = self._monotonic_s()
        return result

    def _ping_s(self) -> float:
        """Return when paho pings: a keep-alive after the last word of either side."""
        return min(self._sent_s, self._heard_s) + self._settings.keep_alive_s

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
        if message.qos:
            self._sent_s = self._monotonic_s()  # paho acknowledges it now
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
            self._lost(_LOSSES.get(reason.value, f"connection lost: {reason}"))


class _TlsSocket(ssl.SSLSocket):
    """Closes itself if the handshake fails, for paho then forgets it."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls(ca_file: str) -> ssl.SSLContext:
    """Return a context that verifies the broker's certificate and name."""
    try:
        folder = None if ca_file else _system_authorities()
        context = ssl.create_default_context(cafile=ca_file or None, capath=folder)
    except OSError as error:
        raise ConfigError(f"cannot read the CA file {ca_file}: {error.strerror}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TlsSocket
    return context


def _system_authorities() -> str | None:
    """Return the folder of the system's CAs if OpenSSL can look one up in it, else None.

    The one file with all of them would stand in memory, a megabyte, for as long as the agent lives.
    """
    folder = ssl.get_default_verify_paths().capath
    if folder is None or "SSL_CERT_FILE" in os.environ:
        return None
    try:
        is_hashed = any(_HASHED.fullmatch(path.name) for path in Path(folder).iterdir())
    except OSError:
        return None
    return folder if is_hashed else None


def _read(client: paho.Client) -> MQTTErrorCode:
    """Read one packet, and those that TLS holds beside it; no flood keeps the agent for ever."""
    result = MQTTErrorCode.MQTT_ERR_SUCCESS
    for _ in range(_PACKETS_AT_ONCE):
        result = client.loop_read()
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or not _pending(client):
            break
    if result == MQTTErrorCode.MQTT_ERR_SUCCESS and _is_excessive(client):
        return MQTTErrorCode.MQTT_ERR_PAYLOAD_SIZE
    return result


def _is_excessive(client: paho.Client) -> bool:
    """Tell whether the broker fills the memory: paho takes 256 MiB, and QoS 2 without an end."""
    arriving: Any = getattr(client, "_in_packet", {})
    kept: Any = getattr(client, "_in_messages", ())
    return arriving.get("remaining_length", 0) > _MAX_PACKET_BYTES or len(kept) > 0


def _pending(client: paho.Client) -> bool:
    """Tell whether TLS holds bytes that the socket no longer announces."""
    sock: Any = client.socket()
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

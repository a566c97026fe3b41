# SPDX-License-Identifier: MIT
"""The link behind ``core.link.Link``: one attempt after the other, one connection at a time.

Each connection has a client of its own, so that nothing of an earlier one is ever sent again behind
the agent's back: what must arrive is owed in the journal. ``Connected`` means CONNACK and SUBACK.
Nothing blocks: names are looked up in a thread, and ``dial`` connects step by step.

The first attempt is made at once, the later ones as ``core.backoff`` says: never sooner than 5 s
after the last one, never later than 120 s after a loss. If a clock that is wrong may have been the
reason, the next one is made as soon as the clock has been set.
"""

import random
import select
import time
from collections.abc import Callable, Iterable

from updater.core.backoff import Backoff
from updater.core.cloudconfig import CloudConfig
from updater.core.credentials import Credentials
from updater.core.errors import LinkError, UpdaterError
from updater.core.link import Connected, Disconnected, LinkEvent
from updater.edge import tls
from updater.edge.dial import Dial, Dialler, Wait
from updater.edge.mqttclient import NO_TOKEN, Client, End
from updater.edge.stream import Stream

_LOOK_AT_CLOCK_S = 5.0
_CLOCK_JUMP_S = 60.0  # no drift: somebody has set it
_CONTESTED = (
    ", again shortly after it let us in: perhaps another device connects with this client id; "
    "check cloud.device_name on both"
)


class MqttLink:
    """One device's link to one broker."""

    def __init__(
        self,
        settings: CloudConfig,
        credentials: Callable[[], Credentials],
        monotonic_s: Callable[[], float] = time.monotonic,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        """Connect at the first ``pump``."""
        self._settings = settings
        self._credentials = credentials
        self._monotonic_s = monotonic_s
        self._time_s = time_s
        self._dialler = Dialler(settings, monotonic_s, self._clock)
        self._backoff = Backoff(monotonic_s(), random.uniform)
        self._login: Credentials | None = None  # of the attempt under way
        self._dial: Dial | None = None
        self._wait: Wait | None = None
        self._client: Client | None = None
        self._events: list[LinkEvent] = []
        self._clock_offset_s: float | None = None  # to the monotonic one, while it is a suspect
        self._look_at_clock_s = 0.0

    def fileno(self) -> int | None:
        """Return the descriptor to watch, or None while there is none."""
        if self._wait is not None:
            return self._wait.fileno
        fileno = -1 if self._client is None else self._client.fileno()
        return fileno if fileno >= 0 else None

    def wants_write(self) -> bool:
        """Tell whether something is left to send, or a connection is being made."""
        if self._wait is not None:
            return bool(self._wait.events & select.POLLOUT)
        return self._client is not None and self._client.wants_write()

    def is_connected(self) -> bool:
        """True from ``Connected`` to ``Disconnected``."""
        return self._client is not None and self._client.is_connected

    def is_registering(self) -> bool:
        """Never: whoever has this link has what it needs, or says why not."""
        return False

    def next_deadline_s(self) -> float:
        """Return when to tell what happened, to connect, to give up, or to ping."""
        if self._events:
            return self._monotonic_s()
        if self._client is not None:
            return self._client.deadline_s()
        if self._wait is not None:
            return self._wait.until_s
        due_s = self._backoff.due_s
        return due_s if self._clock_offset_s is None else min(due_s, self._look_at_clock_s)

    def pump(self, *, readable: bool, writable: bool) -> Iterable[LinkEvent]:
        """Connect, read, write and ping as is due now, and return what happened."""
        if self._client is not None:
            self._serve(self._client, readable=readable, writable=writable)
        elif self._dial is not None:
            self._advance(self._dial)
        else:
            self._await_turn()
        events, self._events = self._events, []
        return events

    def publish(self, payload: bytes, qos: int) -> int:
        """Queue *payload* on the report topic and return its token.

        A link that is lost in the same turn takes it and never acknowledges it: the caller learns
        of the loss by the next ``pump``.
        """
        return NO_TOKEN if self._client is None else self._client.publish(payload, qos)

    def close(self) -> None:
        """Say goodbye to the broker and free everything."""
        self._drop()
        self._dialler.close()

    def _serve(self, client: Client, *, readable: bool, writable: bool) -> None:
        """Let the connection work, and see to its end."""
        if client.end is None:
            client.serve(readable=readable, writable=writable)
        if Connected() in client.events:
            self._backoff.connected(self._monotonic_s())
        self._events += client.events
        client.events.clear()
        if client.end is not None:
            self._lost(client.end)

    def _await_turn(self) -> None:
        """Begin the next attempt once it is due, or the clock has been set."""
        now_s = self._monotonic_s()
        if self._clock_offset_s is not None and now_s >= self._look_at_clock_s:
            self._look_at_clock_s = now_s + _LOOK_AT_CLOCK_S
            if abs(self._time_s() - now_s - self._clock_offset_s) > _CLOCK_JUMP_S:
                self._backoff.hurry(now_s)
        if now_s >= self._backoff.due_s:
            self._clock_offset_s = None
            self._backoff.began(now_s)
            self._begin()

    def _begin(self) -> None:
        try:
            self._login = self._credentials()
            is_plain = self._settings.allow_plaintext
            context = None if is_plain else tls.context(self._settings, self._login)
        except UpdaterError as error:
            self._lost(End(str(error)))
        else:
            self._dial = self._dialler.dial(context)
            self._advance(self._dial)

    def _advance(self, dial: Dial) -> None:
        """Go on with the attempt; once it has succeeded, MQTT begins."""
        try:
            self._wait = next(dial)
        except StopIteration as done:
            self._greet(done.value)
        except LinkError as error:
            place = f"{self._settings.host}:{self._settings.broker_port}"
            reason = f"cannot connect to {place}: {error}"
            self._lost(End(reason, is_clock_suspect=error.is_clock_suspect))

    def _greet(self, stream: Stream) -> None:
        assert self._login is not None  # noqa: S101 - the attempt began with it
        login, self._login = self._login, None
        self._dial = self._wait = None
        self._client = Client(self._settings, login, stream, self._monotonic_s, self._clock)

    def _lost(self, end: End) -> None:
        """End the connection or the attempt, tell, and see to the next one."""
        self._drop()
        now_s = self._monotonic_s()
        self._backoff.lost(now_s, is_ended_by_broker=end.is_by_broker)
        if end.is_clock_suspect:
            self._clock_offset_s = self._time_s() - now_s
            self._look_at_clock_s = now_s + _LOOK_AT_CLOCK_S
        is_contested = end.is_by_broker and self._backoff.is_contested
        self._events.append(Disconnected(end.reason + (_CONTESTED if is_contested else "")))

    def _drop(self) -> None:
        if self._dial is not None:
            self._dial.close()
        if self._client is not None:
            self._client.close()
        self._client = self._dial = self._wait = self._login = None

    def _clock(self) -> str:
        """Return the device's time for people."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self._time_s()))

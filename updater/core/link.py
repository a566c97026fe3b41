# SPDX-License-Identifier: MIT
"""The seam to the cloud: one MQTT session, and what happens on it.

``edge.mqtt`` implements it; tests implement it over memory. Errors as in ``ports``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Connected:
    """CONNACK and SUBACK are there: messages flow both ways from now on."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The link is down; it comes back by itself. *reason* is a sentence for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message on the device's update topic; hostile until parsed."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker has acknowledged the QoS 1 message that ``publish`` gave *token* for."""

    token: int


LinkEvent = Connected | Disconnected | Received | Acknowledged


class Link(Protocol):
    """The MQTT session, driven by the agent's own selector; reconnects with back-off by itself."""

    def fileno(self) -> int | None:
        """Return the descriptor to watch, or None while there is none; may change at any call."""

    def wants_write(self) -> bool:
        """Tell whether it should be watched for writing."""

    def next_deadline_s(self) -> float:
        """Return the monotonic time at which ``pump`` must be called though nothing is readable."""

    def pump(self, *, readable: bool, writable: bool) -> Iterable[LinkEvent]:
        """Do what is due now, and return what happened; never blocks."""

    def publish(self, payload: bytes, qos: int) -> int:
        """Queue *payload* on the report topic and return its token; only while connected."""

    def is_connected(self) -> bool:
        """True from ``Connected`` to ``Disconnected``."""

    def is_registering(self) -> bool:
        """True while the device has to get its secret first: until then nothing connects."""

    def close(self) -> None:
        """Say goodbye to the broker and free everything."""

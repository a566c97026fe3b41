# SPDX-License-Identifier: MIT
"""One task of the cloud for one device: what it offers, how it stands, when it is tried again.

Knows no wire and no clock: it is told what the device said, and what time it is. As the cloud's
documents have it: a task is pushed until it ends; progress that names another version or task is
ignored; a task without progress times out, and may be tried again; a cancelled one has failed, and
nobody tells the device.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.cloud import Message

NEVER_S = float("inf")


class State(enum.Enum):
    """How a task stands, as the console shows it."""

    PENDING = "pending"
    PUSHED = "pushed"
    UPGRADING = "upgrading"
    SUCCESS = "success"
    FAILED = "failed"


@dataclass(frozen=True)
class Terms:
    """How patient the cloud is: 120 to 900 s, and minutes, in reality.

    Attributes:
        timeout_s: TimeoutInterval: so long without progress, and the task has failed.
        retries: MaxRetryNum: how often it is then tried again.
        retry_interval_s: RetryInterval: after which pause.
    """

    timeout_s: float = NEVER_S
    retries: int = 0
    retry_interval_s: float = 0.0


PATIENT = Terms()


class Task:
    """A task; ``states`` is everything it has been, in order."""

    def __init__(self, offer: Mapping[str, Any], url: Callable[[], str], terms: Terms) -> None:
        """Offer *offer* with a URL that *url* signs anew for each push."""
        self.states = [State.PENDING]
        self.reason = ""
        self.due_s = NEVER_S  # when time itself changes something
        self.version = str(offer["version"])
        self._offer = dict(offer)
        self._url = url
        self._terms = terms
        self._retries = terms.retries

    @property
    def state(self) -> State:
        """How it stands."""
        return self.states[-1]

    @property
    def is_open(self) -> bool:
        """True while it is pushed at each report of another version."""
        return self.state not in {State.SUCCESS, State.FAILED}

    def push(self, now_s: float) -> Mapping[str, Any]:
        """Return the message that offers it, with a fresh URL."""
        if self.state is State.PENDING:
            self._become(State.PUSHED, now_s)
        return {**self._offer, "url": self._url()}

    def hear(self, message: "Message", now_s: float) -> bool:
        """Take what the device reports; False if that is about another task, or about none."""
        report = message.body["report"]
        if message.version != self.version or not self.is_open:
            return False
        if message.type == "report_version":
            self._become(State.SUCCESS, now_s)
        elif any(report.get(key) != self._offer.get(key) for key in ("task_id", "fw_type")):
            return False
        elif message.state == "done":
            self._become(State.SUCCESS, now_s)
        elif message.state == "fail":
            self.fail(f"{message.code}: {message.reason}", now_s)
        else:
            self._become(State.UPGRADING, now_s)
        return True

    def fail(self, reason: str, now_s: float) -> None:
        """End it as failed; if a retry is left, it is pending again after the pause."""
        self.reason = reason
        self._become(State.FAILED, now_s)
        if self._retries:
            self._retries -= 1
            self.due_s = now_s + self._terms.retry_interval_s

    def cancel(self, reason: str = "cancelled") -> None:
        """End it for good; the device is not told."""
        self._retries = 0
        if self.is_open or self.due_s != NEVER_S:
            self.fail(reason, 0.0)
        self.due_s = NEVER_S

    def tick(self, now_s: float) -> bool:
        """Do what is due at *now_s*, and tell whether it is to be pushed."""
        if now_s < self.due_s:
            return False
        if self.is_open:
            self.due_s = NEVER_S
            self.fail("timed out", now_s)
            return False
        self._become(State.PENDING, now_s)
        return True

    def _become(self, state: State, now_s: float) -> None:
        is_waiting = state in {State.PUSHED, State.UPGRADING}
        self.due_s = now_s + self._terms.timeout_s if is_waiting else NEVER_S
        if state is not self.state:
            self.states.append(state)

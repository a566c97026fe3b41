# SPDX-License-Identifier: MIT
"""When a session takes its next step: at once, unless ``[policy]`` is configured (``paced``)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from updater.activity import NEVER_S
from updater.core.errors import WrongStateError
from updater.core.model import Session, Slot
from updater.core.policyconfig import PolicyConfig
from updater.core.ports import Progress

if TYPE_CHECKING:
    from updater.agent import Agent


class AtOnce:
    """Waits for nothing."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def install(self, session: Session, target: Slot) -> None:
        """Have *session*'s firmware brought into *target*."""
        self._agent._installation.start(self._agent.device.request_for(session, target))

    def progressed(self, progress: Progress) -> None:
        """Take note of how far that is."""

    def activate(self, session: Session) -> None:
        """Have *session*, which is installed, activated."""
        del session
        self._agent._baseline.start()

    def request(self) -> None:
        """Activate what is installed, as a person asks for it.

        Raises:
            WrongStateError: Nothing waits for that.
        """
        raise WrongStateError("no installed firmware waits to be activated")

    def waiting(self) -> dict[str, object] | None:
        """Return what the session waits for, for people and machines."""
        return None

    def stop(self) -> None:
        """Forget the session: it has moved on, or this process ends."""

    def interests(self) -> Mapping[int, int]:
        """Wait for nothing."""
        return {}

    def deadline_s(self) -> float:
        """Never by itself."""
        return NEVER_S

    def wake(self, ready: Mapping[int, int]) -> None:
        """Do nothing."""


def pace_of(agent: "Agent") -> AtOnce:
    """Return what the configuration asks for."""
    if agent.device.config.policy == PolicyConfig():
        return AtOnce(agent)
    from updater.paced import Paced  # noqa: PLC0415 - few devices need it

    return Paced(agent)

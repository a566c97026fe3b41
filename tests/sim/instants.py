# SPDX-License-Identifier: MIT
"""The instants of a story at which something could go away: before and after each durable write.

Numbered from 0 as they pass, so that a story told once can be told again with a cut at any of them.
What the cut takes away (power, process, network) is an action; one that raises ends the process at
that very instant, as nothing in the product catches these exceptions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class PowerCut(BaseException):
    """The supply is gone; what was durable before is all that is left."""


class ProcessKilled(BaseException):
    """The agent's process is gone; the machine itself runs on."""


def cut_power() -> NoReturn:
    """Be the action that takes the supply away."""
    raise PowerCut


def kill_process() -> NoReturn:
    """Be the action that kills the agent."""
    raise ProcessKilled


class Instants:
    """Counts the instants and acts at those that a test has chosen."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._actions: dict[int, Callable[[], None]] = {}
        self._awaited: dict[str, Callable[[], None]] = {}

    def at(self, number: int, action: Callable[[], None]) -> None:
        """Perform *action* when instant *number* passes."""
        self._actions[number] = action

    def on(self, beginning: str, action: Callable[[], None]) -> None:
        """Perform *action* when an instant first passes whose name begins like this."""
        self._awaited[beginning] = action

    @contextmanager
    def durable(self, what: str) -> Iterator[None]:
        """Make the body one durable write: it takes as a whole, between two instants."""
        self._pass(f"before {what}")
        yield
        self._pass(f"after {what}")

    def _pass(self, name: str) -> None:
        self.names.append(name)
        action = self._actions.get(len(self.names) - 1)
        if action is not None:
            action()
        for beginning in [each for each in self._awaited if name.startswith(each)]:
            self._awaited.pop(beginning)()

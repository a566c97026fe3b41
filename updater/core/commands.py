# SPDX-License-Identifier: MIT
"""The seam to commands that an administrator has configured: how one is run, and how it ends.

``edge.commands`` implements it; tests implement it over memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command has ended.

    Attributes:
        status: Its exit status; None if it has none: not started, killed, or out of time.
        detail: That in words, short ASCII.
        line: The first line that it has said, cut, printable ASCII; "" if that was not asked for.
    """

    status: int | None
    detail: str
    line: str = ""


class RunningCommand(Protocol):
    """One command that runs in a process group of its own; never blocks."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to look at."""

    def poll(self) -> Outcome | None:
        """Return how it has ended, once it has; past its time-out it is killed."""

    def close(self) -> None:
        """Kill what still runs; again is allowed."""


class Commands(Protocol):
    """Starts commands that an administrator has configured."""

    def start(
        self, argv: Sequence[str], timeout_s: float, environment: Mapping[str, str]
    ) -> RunningCommand:
        """Start *argv*, and listen to what it says.

        Args:
            argv: Program and arguments.
            timeout_s: When it is killed.
            environment: What it knows of this program, and all besides ``PATH`` and ``LANG``.
        """

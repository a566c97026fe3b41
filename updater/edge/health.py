# SPDX-License-Identifier: MIT
"""Health checks behind ``core.ports.Health``: configured commands; exit status 0 is healthy.

``edge.commands`` runs them; a check past its time-out, or one that cannot be started, has failed.
"""

from collections.abc import Collection, Sequence

from updater.core.config import HealthCommand, HealthConfig
from updater.core.ports import HealthCheck, Verdict
from updater.edge.commands import Running


class CommandHealth:
    """Starts the configured commands."""

    def __init__(self, settings: HealthConfig) -> None:
        self._settings = settings

    def start(self, names: Collection[str]) -> Sequence[HealthCheck]:
        """Start the configured commands that *names* has, and return them."""
        return [_Check(command) for command in self._settings.command if command.name in names]


class _Check:
    """One command that runs, or could not be started."""

    def __init__(self, command: HealthCommand) -> None:
        self.name = command.name
        self._running = Running(command.argv, command.timeout_s)
        self._process = self._running.process

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the command has ended."""
        return self._running.fileno()

    def poll(self) -> Verdict | None:
        """Return the verdict once there is one."""
        ended = self._running.poll()
        if ended is None:
            return None
        return Verdict(self.name, is_passed=ended.status == 0, detail=ended.detail)

    def close(self) -> None:
        """Kill what still runs; again is allowed."""
        self._running.close()

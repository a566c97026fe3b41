# SPDX-License-Identifier: MIT
"""Health checks behind ``core.ports.Health``: configured commands, watched through a pidfd.

A command runs in a process group of its own, without input; exit status 0 is healthy. Past its
time-out the whole group is killed and the check has failed.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Sequence

from updater.core.config import HealthCommand, HealthConfig
from updater.core.ports import HealthCheck, Verdict

_KILL_WAIT_S = 0.2  # a killed command that hangs in the kernel is left to its end


class CommandHealth:
    """Starts the configured commands."""

    def __init__(self, settings: HealthConfig) -> None:
        self._settings = settings

    def start(self, names: Collection[str]) -> Sequence[HealthCheck]:
        """Start the configured commands that *names* has, and return them."""
        return [_Running(command) for command in self._settings.command if command.name in names]


class _Running:
    """One command that runs, or could not be started."""

    def __init__(self, command: HealthCommand) -> None:
        self.name = command.name
        self._timeout_s = command.timeout_s
        self._deadline_s = time.monotonic() + command.timeout_s
        self._problem = ""
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:  # also no argv, and a zero byte in it
            self._problem = f"cannot start: {getattr(error, 'strerror', None) or error}"
            self._fileno = os.eventfd(1)
        else:
            self._fileno = _watch(self._process.pid)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the command has ended."""
        return self._fileno

    def poll(self) -> Verdict | None:
        """Return the verdict once there is one."""
        if self._process is None:
            return Verdict(self.name, is_passed=False, detail=self._problem)
        status = self._process.poll()
        if status is not None:
            detail = f"exit status {status}" if status >= 0 else f"killed by signal {-status}"
            return Verdict(self.name, is_passed=status == 0, detail=detail)
        if time.monotonic() >= self._deadline_s:
            self._kill(self._process)
            detail = f"no result within {self._timeout_s:g} s"
            return Verdict(self.name, is_passed=False, detail=detail)
        return None

    def close(self) -> None:
        """Kill what still runs; again is allowed."""
        if self._process is not None:
            self._kill(self._process)
        if self._fileno >= 0:
            os.close(self._fileno)
            self._fileno = -1

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_KILL_WAIT_S)


def _watch(pid: int) -> int:
    """Return a descriptor that becomes readable when the process ends."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return os.eventfd(0)  # a kernel before 5.3: whoever waits looks again from time to time

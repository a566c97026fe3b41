# SPDX-License-Identifier: MIT
"""Configured commands behind ``core.ports.Commands``: started, watched through a pidfd, killed.

A command runs in a process group of its own, without input and without any descriptor of this
program. Past its time-out the whole group is killed. Of what it says, if that is asked for at all,
the beginning is kept and the rest is read and dropped, so that nobody has to wait for a reader.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from updater.core.commands import Outcome

# All that a policy's command inherits: no credentials, no proxy, nothing that its start has set.
PLAIN = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}

_KILL_WAIT_S = 0.2  # a killed command that hangs in the kernel is left to its end
_KEPT_BYTES = 1024  # of what a command says
_MOST_READS = 64  # in one look: one that never stops talking holds nobody up
_LINE_LIMIT = 100  # characters


class CommandRunner:
    """Starts commands in a plain environment and listens to them."""

    def start(
        self, argv: Sequence[str], timeout_s: float, environment: Mapping[str, str]
    ) -> "Running":
        """Start *argv*; what it is told comes to ``PLAIN``."""
        return Running(argv, timeout_s, {**PLAIN, **environment}, is_heard=True)


class Running:
    """One command that runs, or could not be started."""

    def __init__(
        self,
        argv: Sequence[str],
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
        *,
        is_heard: bool = False,
    ) -> None:
        """Start *argv*.

        Args:
            argv: Program and arguments.
            timeout_s: When it is killed.
            environment: All that it gets; None: that of this process.
            is_heard: Keep the first line that it says.
        """
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._problem = ""
        self._said = b""
        self._output = -1
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_heard else subprocess.DEVNULL,
                stderr=subprocess.STDOUT if is_heard else subprocess.DEVNULL,
                env=environment,
                cwd="/" if is_heard else None,
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:  # also no argv, and a zero byte in it
            self._problem = f"cannot start: {getattr(error, 'strerror', None) or error}"
            self._ended = os.eventfd(1)
        else:
            self._ended = _watch(self._process.pid)
        self._either: select.epoll | None = None
        if self._process is not None and self._process.stdout is not None:
            self._listen(self._process.stdout.fileno())

    def _listen(self, output: int) -> None:
        """Have one descriptor for the end and for what is said until then."""
        self._output = output
        os.set_blocking(output, False)
        self._either = select.epoll()
        self._either.register(self._ended, select.EPOLLIN)
        self._either.register(output, select.EPOLLIN)

    @property
    def process(self) -> "subprocess.Popen[bytes] | None":
        """The process, for those who have to wait for its end."""
        return self._process

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the command has ended, or says something.

        A kernel before 5.3 does not tell of the end: look from time to time.
        """
        return self._ended if self._either is None else self._either.fileno()

    def poll(self) -> Outcome | None:
        """Return how the command has ended, once it has."""
        if self._process is None:
            return Outcome(None, self._problem)
        status = self._process.poll()
        self._hear()
        if status is not None:
            if status < 0:
                return Outcome(None, f"killed by signal {-status}", self._line())
            return Outcome(status, f"exit status {status}", self._line())
        if time.monotonic() >= self._deadline_s:
            self._kill(self._process)
            return Outcome(None, f"no result within {self._timeout_s:g} s", self._line())
        return None

    def close(self) -> None:
        """Kill what still runs; again is allowed."""
        if self._process is not None:
            self._kill(self._process)
            if self._process.stdout is not None:
                self._process.stdout.close()
        if self._either is not None:
            self._either.close()
            self._either = None
        self._output = -1
        if self._ended >= 0:
            os.close(self._ended)
            self._ended = -1

    def _hear(self) -> None:
        """Take what the command has said meanwhile."""
        for _ in range(_MOST_READS):
            if self._output < 0:
                return
            try:
                part = os.read(self._output, 1 << 16)
            except BlockingIOError:
                return
            self._said += part[: _KEPT_BYTES - len(self._said)]
            if not part:  # it has closed its output: an end that would be readable for ever
                assert self._either is not None  # noqa: S101 - there was an output to listen to
                self._either.unregister(self._output)
                self._output = -1

    def _line(self) -> str:
        """Return the first line that says something, in printable ASCII."""
        lines = self._said.decode("ascii", "replace").splitlines()
        said = next(filter(None, map(str.strip, lines)), "")
        return "".join(char if " " <= char <= "~" else "?" for char in said)[:_LINE_LIMIT]

    @staticmethod
    def _kill(process: "subprocess.Popen[bytes]") -> None:
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

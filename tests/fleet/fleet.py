# SPDX-License-Identifier: MIT
"""A fleet: one broker, one cloud, and processes full of devices.

Everything that it starts ends with it: the broker dies with its parent, a flock with the pipe that
brings it orders.
"""

import json
import os
import resource
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fleet import certificate
from fleet.broker import CLOUD, Broker
from fleet.cloud import ManyCloud
from fleet.device import ANSWERED, device_name
from fleet.flock import READY

_REPOSITORY = Path(__file__).parents[2]
_LOOK_S = 0.05
_DESCRIPTORS = 256  # beside a socket for each device


@dataclass(frozen=True)
class Event:
    """What has happened to a device: monotonic seconds, its number, the word for it."""

    time_s: float
    number: int
    word: str


class Process:
    """One flock."""

    def __init__(self, facts: dict[str, object], hear: Callable[[Event], None]) -> None:
        """Start it; its devices are *facts*."""
        self.facts = facts
        self._hear = hear
        path = f"{_REPOSITORY}:{_REPOSITORY / 'tests'}"
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "fleet.flock", json.dumps(facts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def runs(self) -> bool:
        """True until it has ended."""
        return self._popen.poll() is None

    def order(self, text: str) -> None:
        """Give it an order."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{text}\n".encode())
        self._popen.stdin.flush()

    def close(self) -> None:
        """Have it switch its devices off; end it if it does not."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with self._popen:  # closes the pipe
            try:
                self._popen.stdin.close()
                with suppress(subprocess.TimeoutExpired):
                    self._popen.wait(20)
            finally:
                self._popen.kill()
                self._reader.join()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._hear(Event(*json.loads(line)))


class Fleet:
    """A context manager.

    Attributes:
        events: All that has happened, by the devices' own account.
        processes: Those that the devices are in.
        names: Every device's, by number.
        folder: Its files; the password of whoever may log in is in the file of that name.
    """

    def __init__(  # noqa: PLR0913 - who they are and how they come
        self,
        folder: Path,
        count: int,
        *,
        processes: int,
        pace: float = 1.0,
        is_tls: bool = False,
        guests: Sequence[str] = (),
    ) -> None:
        """Have *count* devices in *processes*.

        Args:
            folder: For files.
            count: A multiple of *processes*.
            processes: How many.
            pace: Seconds that pass for a device in each second.
            is_tls: The devices connect by TLS.
            guests: User names of further devices, which are none of the fleet's.
        """
        self.count = count
        self.events: list[Event] = []
        self.processes: list[Process] = []
        self.names = [device_name(number) for number in range(count)]
        self.folder = folder
        self._guests = guests
        self._pace = pace
        self._is_tls = is_tls
        self._each = count // processes
        self._flocks = processes
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        allow_descriptors(self.count + _DESCRIPTORS)
        logins = (*self.names, *self._guests)
        for name in (*logins, CLOUD):
            secret = self.folder / name
            secret.touch(0o600)
            secret.write_text(secrets.token_hex(16))
        shown = certificate.make(self.folder) if self._is_tls else None
        with ExitStack() as stack:
            self.broker = stack.enter_context(Broker(self.folder, logins, shown))
            self.cloud = stack.enter_context(ManyCloud(self.broker, self.folder))
            self.broker.save()
            for number in range(self._flocks):
                process = Process(self._facts(number), self._take)
                stack.callback(process.close)
                self.processes.append(process)
            self.wait(lambda: self._heard(READY) == self._flocks, "processes that run")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _facts(self, number: int) -> dict[str, object]:
        ca_file = str(self.folder / certificate.CA) if self._is_tls else ""
        share = {"first": number * self._each, "count": self._each, "folder": str(self.folder)}
        return {**share, "port": self.broker.port, "pace": self._pace, "ca_file": ca_file}

    def _take(self, event: Event) -> None:
        with self._lock:
            self.events.append(event)

    def _heard(self, word: str) -> int:
        return sum(event.word == word for event in self.events)

    def build(self) -> None:
        """Make the devices, switched off."""
        self._have_done("build")

    def switch_on(self, each: int | None = None) -> None:
        """Switch *each* more devices of each process on, or all; wait until they were answered."""
        each = self._each if each is None else each
        before = len(self.answered(0.0))
        for process in self.processes:
            process.order(f"on {each}")
        wanted = before + each * self._flocks
        self.wait(lambda: len(self.answered(0.0)) == wanted, "devices that were answered")

    def skip(self, seconds: float) -> None:
        """Have *seconds* of the devices' time be over."""
        self._have_done(f"skip {seconds}")

    def _have_done(self, order: str) -> None:
        before = self._heard(READY)
        for process in self.processes:
            process.order(order)
        self.wait(lambda: self._heard(READY) == before + self._flocks, order)

    def lose_broker(self) -> float:
        """Kill the broker, and return when that began, monotonic."""
        now_s = time.monotonic()
        self.broker.kill()
        return now_s

    def answered(self, since_s: float) -> dict[int, float]:
        """Return when each device was first answered after *since_s*, monotonic."""
        with self._lock:
            events = list(self.events)
        found: dict[int, float] = {}
        for event in events:
            if event.word == ANSWERED and event.time_s >= since_s:
                found.setdefault(event.number, event.time_s)
        return found

    def told(self, word: str, since_s: float) -> Sequence[Event]:
        """Return the events of that *word* since then."""
        with self._lock:
            return [e for e in self.events if e.word == word and e.time_s >= since_s]

    def wait(self, is_so: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Wait until *is_so*; ask now and then, for the cloud's thread needs the processor.

        Raises:
            TimeoutError: It is not so in time.
        """
        deadline_s = time.monotonic() + timeout_s
        while not is_so():
            assert all(process.runs for process in self.processes), f"a process has ended: {what}"
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"not within {timeout_s:g} s: {what}")
            time.sleep(_LOOK_S)


def allow_descriptors(count: int) -> None:
    """Let this process, and what it starts, have *count* files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in {-1, resource.RLIM_INFINITY} and hard < count:
        raise RuntimeError(f"{count} open files are needed, and the limit is {hard}: ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))

# SPDX-License-Identifier: MIT
"""One boot of the machine in memory: its slots, its clock and reboot, its health.

Implement ``SlotFinder``, ``System`` and ``Health`` of ``updater.core.ports``; die with the boot.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sim.clock import Clock
from sim.flash import Image
from updater.activity import NEVER_S
from updater.core.commands import Outcome
from updater.core.config import HealthCommand, HealthConfig
from updater.core.errors import SlotError
from updater.core.model import Slots
from updater.core.ports import HealthCheck, LocalTime, Verdict

CHECKING_S = 0.5


@dataclass(frozen=True)
class Boot:
    """What the bootloader started, and when."""

    time_s: float
    slot: str
    image: Image
    is_trial: bool
    primary: str = ""


class MemoryFinder:
    """Finds the slots."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.error: SlotError | None = None

    def find(self) -> Slots:
        """Return them, unless they cannot be told."""
        if self.error is not None:
            raise self.error
        return self.slots


class MemorySystem:
    """The machine as a whole."""

    def __init__(self, clock: Clock, image: Image, ids: Iterator[str], reboot_s: float) -> None:
        """Take *reboot_s* from the request of a reboot to the reboot."""
        self._clock = clock
        self._image = image
        self._ids = ids
        self.reboot_s = reboot_s
        self.reboot_at_s = NEVER_S
        self.is_trial_over = False

    def monotonic_s(self) -> float:
        """Return the time."""
        return self._clock.now_s

    def time_s(self) -> float:
        """Return the same, this world began in 1970, unless the clock is wrong."""
        return self._clock.now_s + self._clock.ahead_s

    def local_time(self, time_s: float) -> LocalTime:
        """Return the local time, which is UTC here."""
        day, rest_s = divmod(int(time_s), 86400)
        return LocalTime(day, rest_s // 60, rest_s % 60)

    def random_id(self) -> str:
        """Return the next id."""
        return next(self._ids)

    def version(self) -> str:
        """Return what the running image's version file says."""
        return self._image.version

    def trial_over(self) -> None:
        """Stop the dead-man timer."""
        self.is_trial_over = True

    def reboot(self) -> None:
        """Reboot soon; until then the process runs on."""
        self.reboot_at_s = min(self.reboot_at_s, self._clock.now_s + self.reboot_s)


class MemoryCheck:
    """One running health check."""

    def __init__(self, clock: Clock, command: HealthCommand, problem: str, *, hangs: bool) -> None:
        self.name = command.name
        self._clock = clock
        self._problem = problem
        self._end_s = NEVER_S if hangs else clock.now_s + CHECKING_S
        self._timeout_s = clock.now_s + command.timeout_s
        self._fileno = clock.open(self._end_s)

    def fileno(self) -> int:
        """Return a descriptor that says nothing of a time-out, like a pidfd."""
        return self._fileno

    def poll(self) -> Verdict | None:
        """Return the verdict once there is one."""
        if self._clock.now_s >= self._end_s:
            return Verdict(self.name, is_passed=not self._problem, detail=self._problem)
        if self._clock.now_s >= self._timeout_s:
            return Verdict(self.name, is_passed=False, detail="no result in time")
        return None

    def close(self) -> None:
        """Kill it."""
        self._clock.close(self._fileno)


class MemoryHealth:
    """Starts the configured checks."""

    def __init__(
        self, clock: Clock, settings: HealthConfig, problem: Callable[[str], str | None]
    ) -> None:
        """Ask *problem* what is wrong with a check: "" is healthy, None hangs."""
        self._clock = clock
        self._settings = settings
        self._problem = problem

    def start(self, names: Collection[str]) -> Sequence[HealthCheck]:
        """Start those that *names* has."""
        return [self._check(c) for c in self._settings.command if c.name in names]

    def _check(self, command: HealthCommand) -> MemoryCheck:
        problem = self._problem(command.name)
        return MemoryCheck(self._clock, command, problem or "", hangs=problem is None)


class MemoryCommand:
    """One running command."""

    def __init__(self, clock: Clock, outcome: Outcome | None, timeout_s: float) -> None:
        self._clock = clock
        self._outcome = outcome
        self._end_s = NEVER_S if outcome is None else clock.now_s + CHECKING_S
        self._timeout_s = clock.now_s + timeout_s
        self._fileno = clock.open(self._end_s)
        self._is_open = True

    def fileno(self) -> int:
        """Return a descriptor that says nothing of a time-out, like a pidfd."""
        return self._fileno

    def poll(self) -> Outcome | None:
        """Return how it has ended."""
        if self._clock.now_s >= self._end_s:
            return self._outcome
        if self._clock.now_s >= self._timeout_s:
            return Outcome(None, "no result in time")
        return None

    def close(self) -> None:
        """Kill it; again is allowed."""
        if self._is_open:
            self._clock.close(self._fileno)
        self._is_open = False


class MemoryCommands:
    """Runs what a policy asks: each program is answered by its name."""

    def __init__(self, clock: Clock, answer: Callable[[str], Outcome | None]) -> None:
        """Ask *answer* how a program ends; None hangs."""
        self._clock = clock
        self._answer = answer
        self.asked: list[tuple[str, Mapping[str, str]]] = []  # program and environment

    def start(
        self, argv: Sequence[str], timeout_s: float, environment: Mapping[str, str]
    ) -> MemoryCommand:
        """Start one."""
        self.asked.append((argv[0], dict(environment)))
        return MemoryCommand(self._clock, self._answer(argv[0]), timeout_s)

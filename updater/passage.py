# SPDX-License-Identifier: MIT
"""What has to be so before one step is taken: gone through in order, and again after each wait.

``core.policy`` lists and judges; this module keeps time, runs the commands and tells the verdict.
Imported only where ``[policy]`` is configured.
"""

import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from updater.activity import NEVER_S
from updater.core import policy
from updater.core.commands import RunningCommand
from updater.core.errors import JournalError
from updater.core.model import Offer, Session, Slot
from updater.core.policy import Ask, Condition, Facts, Go, Kind, Point, Step, Verdict, Wait
from updater.device import Device

_LOOK_S = 1.0  # how often a command is looked at that may run out of time without a sign


@dataclass(frozen=True, slots=True)
class Subject:
    """What the step is about.

    Attributes:
        is_local: A person has asked for it.
        environment: What its hooks get to know.
        need_bytes: What still has to come.
        is_whole: All of that in one piece.
    """

    is_local: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    need_bytes: int = 0
    is_whole: bool = False


def subject_of(
    device: Device, offer: Offer, target: Slot, session: Session | None = None
) -> Subject:
    """Return the step's subject: *offer*, which comes or has come into *target*."""
    firmware = offer.firmware
    environment = {
        "UPDATER_VERSION": firmware.version,
        "UPDATER_RUNNING_VERSION": device.running_version(),
        "UPDATER_MD5": firmware.md5,
        "UPDATER_SIZE_BYTES": str(firmware.size_bytes),
        "UPDATER_SLOT": target.bootname,
        "UPDATER_DEVICE": target.device,
    }
    if session is not None:
        environment["UPDATER_SESSION"] = session.id
    is_whole = is_to_come_whole(device, target)
    return Subject(offer.is_local, environment, firmware.size_bytes, is_whole)


def is_to_come_whole(device: Device, target: Slot) -> bool:
    """Tell whether nothing that comes into *target* can be gone on with, whatever it is."""
    volumes = {each.bootname for each in device.board.slot if each.ubi_volume}
    return not device.checkpoint or target.bootname in volumes


class Passage:
    """The way to one step; idle while nobody wants to take it."""

    def __init__(self, device: Device, told: Callable[[Verdict], None]) -> None:
        """Tell by *told* whatever is found after ``start`` has returned."""
        self._device = device
        self._policy = device.config.policy
        self._told = told
        self._point = Point.INSTALL
        self._subject = Subject(is_local=False)
        self._steps: tuple[Step, ...] = ()
        self._left: list[Step] = []
        self._answered: set[Step] = set()  # for good
        self._running: RunningCommand | None = None
        self._is_metered = self._is_requested = False
        self._look_s = NEVER_S
        self.wait: Wait | None = None

    @property
    def is_busy(self) -> bool:
        """True while it waits, or asks."""
        return self._look_s != NEVER_S

    def start(self, point: Point, subject: Subject) -> Verdict | None:
        """Begin to go through what *point* asks for; None: a command is being asked."""
        self.stop()
        self._point, self._subject = point, subject
        self._steps = policy.steps(self._policy, point, is_local=subject.is_local)
        return self._begin()

    def request(self) -> None:
        """Take note that a person has asked for the activation."""
        self._is_requested = True
        if self.wait is not None:
            self._tell(self._begin())

    def stop(self) -> None:
        """Forget it, and end what is being asked."""
        self._hang_up()
        self._steps, self._left, self._answered = (), [], set()
        self._is_requested = False
        self._look_s = NEVER_S
        self.wait = None

    def told(self) -> dict[str, object]:
        """Return why it goes no further, and until when if that is known, UNIX seconds."""
        if self.wait is None:
            name = self._left[0].name if self._left and isinstance(self._left[0], Ask) else ""
            reason = f"{name} is asked"
            return {"reason": reason, "until_s": None, "left_s": None, "is_asking": True}
        until_s = self.wait.until_s
        left_s = None if until_s is None else max(until_s - self._device.system.time_s(), 0.0)
        return {
            "reason": self.wait.reason,
            "until_s": until_s,
            "left_s": None if left_s is None else round(left_s),
            "is_asking": False,
        }

    # --- activity --------------------------------------------------------------------------------

    def interests(self) -> Mapping[int, int]:
        """Wait for the command's end."""
        return {} if self._running is None else {self._running.fileno(): select.POLLIN}

    def deadline_s(self) -> float:
        """Wake to look at the command, or to begin again."""
        return self._look_s

    def wake(self, ready: Mapping[int, int]) -> None:
        """Take the command's answer, or begin again."""
        del ready
        verdict: Verdict | None = None
        if self._running is not None:
            verdict = self._look(self._running)
        elif self._now_s() >= self._look_s:
            verdict = self._begin()
        self._tell(verdict)

    def _tell(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._told(verdict)

    # --- one step after the other ----------------------------------------------------------------

    def _begin(self) -> Verdict | None:
        """Go through everything that has no answer for good."""
        self._left = [step for step in self._steps if step not in self._answered]
        self._is_metered = not self._policy.metered_command
        return self._go_on()

    def _go_on(self) -> Verdict | None:
        while self._left:
            step = self._left[0]
            if isinstance(step, Ask):
                self.wait = None
                self._running = self._device.commands.start(
                    step.argv, step.timeout_s, self._subject.environment
                )
                self._look_s = self._now_s() + _LOOK_S
                return None
            verdict = self._check(step)
            if not isinstance(verdict, Go):
                return self._end(verdict)
            del self._left[0]
        return self._end(Go(self._is_metered))

    def _check(self, condition: Condition) -> Verdict:
        system = self._device.system
        facts = Facts(
            system.time_s(),
            system.local_time,
            need_bytes=self._subject.need_bytes,
            is_whole=self._subject.is_whole,
            is_metered=self._is_metered,
            is_requested=self._is_requested,
        )
        has_budget = self._policy.daily_budget_bytes > 0 and self._subject.need_bytes > 0
        if condition is Condition.BUDGET and has_budget:
            try:
                return self._check_budget(facts)
            except JournalError as error:
                return Wait(str(error), self._policy.retry_s)
        return policy.check(condition, self._policy, facts)

    def _check_budget(self, facts: Facts) -> Verdict:
        """Judge what the journal knows of this day, if it can take what comes."""
        journal, day = self._device.journal, facts.local(facts.time_s).day
        spent_bytes = journal.spent_bytes(day)
        facts = replace(facts, spent_bytes=spent_bytes)
        verdict = policy.check(Condition.BUDGET, self._policy, facts)
        if self._point is Point.DOWNLOAD and facts.is_metered and isinstance(verdict, Go):
            journal.spend(day, spent_bytes)
        return verdict

    def _look(self, running: RunningCommand) -> Verdict | None:
        """Take what the command answers, if it has ended."""
        self._look_s = self._now_s() + _LOOK_S
        outcome = running.poll()
        if outcome is None:
            return None
        self._hang_up()
        step = self._left.pop(0)
        assert isinstance(step, Ask)  # noqa: S101 - nothing else runs
        verdict = policy.judge(step, outcome, self._policy.retry_s)
        if not isinstance(verdict, Go):
            return self._end(verdict)
        if step.kind is Kind.METERED:
            self._is_metered = verdict.is_metered
        if step.is_once:
            self._answered.add(step)
        return self._go_on()

    def _end(self, verdict: Verdict) -> Verdict:
        """Stand still here, for good or until it is looked at again."""
        self._look_s, self.wait = NEVER_S, None
        if isinstance(verdict, Wait):
            self._look_s, self.wait = self._now_s() + verdict.look_s, verdict
        return verdict

    def _hang_up(self) -> None:
        if self._running is not None:
            self._running.close()
        self._running = None

    def _now_s(self) -> float:
        return self._device.system.monotonic_s()

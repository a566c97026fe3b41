# SPDX-License-Identifier: MIT
"""Counts what a download brings on a metered link, against the budget of the local day.

What is about to come is noted as spent before it comes, ``NOTE_BYTES`` at a time: a power cut may
count so much too much, and never too little. Each day that the clock has ever shown has a budget of
its own, so that a clock which is set back finds what it had spent, and one that was far ahead does
not bar the days until then. Bytes are those of the firmware; what carries them is not counted.
"""

import logging

from updater.core import policy
from updater.core.errors import JournalError
from updater.core.model import Session
from updater.core.policy import NOTE_BYTES, Condition, Facts, Go
from updater.core.ports import Phase, Progress
from updater.device import Device

_log = logging.getLogger(__name__)


class Meter:
    """Counts for one download."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._policy = device.config.policy
        self._is_counting = False  # there is a budget, and the cloud has asked for this
        self._size_bytes = 0
        self._came_bytes = 0  # by the pipeline that runs
        self._day: int | None = None
        self._spent_bytes = self._noted_bytes = 0  # of that day
        self.is_metered = False
        self.is_whole = False
        self.need_bytes = 0

    def aim(self, session: Session, *, is_whole: bool) -> None:
        """Take note of what is to come."""
        self._is_counting = self._policy.daily_budget_bytes > 0 and not session.offer.is_local
        self.need_bytes = self._size_bytes = session.offer.firmware.size_bytes
        self.is_whole = is_whole

    def begin(self, go: Go) -> None:
        """Begin to count, from where the day is."""
        self.is_metered = go.is_metered
        self._came_bytes = self._spent_bytes = self._noted_bytes = 0
        self._day = None  # is looked up with the first progress

    def count(self, progress: Progress) -> bool:
        """Tell whether the download may go on after *progress*."""
        if not self._is_counting or progress.phase is Phase.RESUMING:
            return True
        came_bytes = max(progress.received_bytes - progress.resumed_bytes, 0)
        before = self._came_bytes if came_bytes >= self._came_bytes else 0  # it has begun anew
        self._came_bytes = came_bytes
        self.need_bytes = self._size_bytes - progress.received_bytes
        if not self.is_metered:
            return True
        if progress.phase is Phase.RECEIVING and progress.format != "raw":
            self.is_whole = True
        try:
            self._spend(came_bytes - before)
        except JournalError as error:
            _log.error("%s; what the download brings cannot be noted", error)
            return False
        return self._may_go_on()

    def _spend(self, more_bytes: int) -> None:
        system = self._device.system
        today = system.local_time(system.time_s()).day
        if today != self._day:
            self.end()
            self._day = today
            self._spent_bytes = self._noted_bytes = self._device.journal.spent_bytes(today)
        self._spent_bytes += more_bytes
        left_bytes = max(self._policy.daily_budget_bytes - self._spent_bytes, 0)
        ahead_bytes = min(NOTE_BYTES, self.need_bytes, left_bytes)
        if self._spent_bytes >= self._noted_bytes and ahead_bytes > 0:
            self._note(today, self._spent_bytes + ahead_bytes)

    def _note(self, day: int, spent_bytes: int) -> None:
        self._device.journal.spend(day, spent_bytes)
        self._noted_bytes = spent_bytes

    def _may_go_on(self) -> bool:
        system = self._device.system
        facts = Facts(
            system.time_s(),
            system.local_time,
            self._spent_bytes,
            self.need_bytes,
            is_whole=self.is_whole,
        )
        may = isinstance(policy.check(Condition.BUDGET, self._policy, facts), Go)
        if not may and self.is_whole:
            self.need_bytes = self._size_bytes  # it begins at the first byte
        return may

    def end(self) -> None:
        """Note exactly what was spent."""
        if self._day is not None and self._noted_bytes != self._spent_bytes:
            try:
                self._note(self._day, self._spent_bytes)
            except JournalError as error:
                _log.error("%s; the day's budget counts more than was spent", error)

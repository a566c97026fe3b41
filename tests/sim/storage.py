# SPDX-License-Identifier: MIT
"""Boot environment and journal in memory: durable across every cut, and able to fail.

Implement ``Environment`` and ``Journal`` of ``updater.core.ports``. Each write is one instant that
takes as a whole; how the real stores make it so is proven by the tests of ``edge``.
"""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from sim.instants import Instants
from updater.core.errors import EnvironmentStoreError, JournalError
from updater.core.journal import REFUSALS_LIMIT
from updater.core.journalrows import REFUSAL, refusal_key, refusals_of
from updater.core.model import (
    Failures,
    Firmware,
    HistoryEntry,
    Offer,
    OwedReport,
    Session,
    SlotRecord,
)


class Fault(enum.Enum):
    """How a store of the environment goes wrong."""

    REFUSED = "it reads back unchanged"
    UNDECIDED_LOST = "nobody can tell, and it did not take"
    UNDECIDED_TAKEN = "nobody can tell, and it took"


class MemoryEnvironment:
    """U-Boot's variables."""

    def __init__(self, instants: Instants, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        self.is_readable = True
        self.faults: Iterator[Fault] = iter(())  # of the next stores, one each
        self._instants = instants

    def read(self) -> Mapping[str, str]:
        """Return the variables, unless no copy is valid."""
        if not self.is_readable:
            raise EnvironmentStoreError("no copy of the environment is valid")
        return dict(self.variables)

    def store(self, changes: Mapping[str, str | None]) -> None:
        """Apply *changes* in one instant, unless nothing changes or a fault is due."""
        merged = {**self.read(), **changes}
        wanted = {name: value for name, value in merged.items() if value}
        if wanted == self.variables:
            return
        fault = next(self.faults, None)
        if fault in {None, Fault.UNDECIDED_TAKEN}:
            self.overwrite("environment", wanted)
        if fault is not None:
            raise EnvironmentStoreError(
                f"environment: {fault.value}", undecided=fault is not Fault.REFUSED
            )

    def overwrite(self, who: str, variables: Mapping[str, str]) -> None:
        """Store *variables* whole, as the bootloader does too."""
        with self._instants.durable(f"{who}: {_difference(self.variables, variables)}"):
            self.variables = dict(variables)


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return " ".join(f"{name}={new.get(name, '')}" for name in names)


class MemoryJournal:
    """Sessions, slot records, owed reports and history, by the rules of the real journal."""

    def __init__(self, instants: Instants) -> None:
        self.sessions: dict[str, Session] = {}
        self.records: dict[str, SlotRecord] = {}
        self.rows: list[OwedReport] = []  # of the outbox: all there ever were
        self.settled: set[int] = set()
        self.failed: dict[Firmware, Failures] = {}
        self.budgets: dict[int, int] = {}  # spent bytes by day
        self.lines: list[HistoryEntry] = []
        self.began: Callable[[Session], None] = lambda _session: None  # sees each new one
        self.spent: Callable[[int], None] = lambda _spent_bytes: None  # sees each note
        self.can_be_opened = self.is_readable = self.is_writable = True
        self._instants = instants

    @property
    def reports(self) -> list[OwedReport]:
        """Every terminal report that ever was owed."""
        return [row for row in self.rows if row.is_terminal]

    @property
    def undelivered(self) -> list[OwedReport]:
        """What is owed, whether or not the journal can be read."""
        ended = {row.session_id for row in self.reports if row.id in self.settled}
        left = [row for row in self.rows if row.id not in self.settled]
        return [row for row in left if row.is_terminal or row.session_id not in ended]

    def current(self) -> Session | None:
        """Return the newest session."""
        self._refuse_unless(self.is_readable)
        return next(reversed(self.sessions.values()), None)

    def save(  # noqa: PLR0913 - what is one transaction
        self,
        session: Session,
        text: str,
        *,
        report: bytes | None = None,
        record: SlotRecord | None = None,
        void: str | None = None,
        failures: Failures | None = None,
    ) -> None:
        """Store everything that is given in one instant."""
        self._refuse_unless(self.is_writable)
        if session.id not in self.sessions:
            self.began(session)
        with self._instants.durable(f"journal: {session.state.value}: {text}"):
            offer = replace(session.offer, url="") if session.state.is_final else session.offer
            self.sessions[session.id] = replace(session, offer=offer)
            version, state = offer.firmware.version, session.state.value
            self.lines.append(HistoryEntry(0.0, session.id, version, state, text))
            if void is not None:
                self.records.pop(void, None)
            if record is not None:
                self.records[record.bootname] = record
            if report is not None and session.id not in {r.session_id for r in self.reports}:
                self.rows.append(OwedReport(len(self.rows) + 1, session.id, report))
            if failures is not None:
                self._put(failures)
            if not session.state.is_final and not session.offer.is_local:
                void = self._refusals(refusals_of(session.offer))
                self.settled.update(row.id for row in void)

    def owe(self, session_id: str, payload: bytes) -> None:
        """Owe the first burning of a session."""
        self._refuse_unless(self.is_writable)
        with self._instants.durable("journal: burning owed"):
            if all(row.is_terminal or row.session_id != session_id for row in self.rows):
                row = OwedReport(len(self.rows) + 1, session_id, payload, is_terminal=False)
                self.rows.append(row)

    def owe_refusal(self, offer: Offer, payload: bytes) -> None:
        """Owe a refusal, once at a time; the oldest give way."""
        self._refuse_unless(self.is_writable)
        with self._instants.durable("journal: refusal owed"):
            if not self._refusals(refusal_key(offer)):
                key = refusal_key(offer)
                self.rows.append(OwedReport(len(self.rows) + 1, key, payload, is_terminal=False))
            self.settled.update(row.id for row in self._refusals(REFUSAL)[:-REFUSALS_LIMIT])

    def _refusals(self, key: str) -> list[OwedReport]:
        """Return the owed refusals whose key begins with *key*, oldest first."""
        return [row for row in self.undelivered if row.session_id.startswith(key)]

    def owed(self) -> Sequence[OwedReport]:
        """Return what is not settled, oldest first."""
        self._refuse_unless(self.is_readable)
        return self.undelivered

    def failures(self) -> Sequence[Failures]:
        """Return every firmware that has failed, the latest last."""
        self._refuse_unless(self.is_readable)
        return list(self.failed.values())

    def note(self, failures: Failures) -> None:
        """Store what is known of one firmware."""
        self._refuse_unless(self.is_writable)
        with self._instants.durable("journal: failures noted"):
            self._put(failures)

    def forgive(self) -> None:
        """Forget every failure."""
        self._refuse_unless(self.is_writable)
        with self._instants.durable("journal: failures forgotten"):
            self.failed = {}

    def _put(self, failures: Failures) -> None:
        self.failed.pop(failures.firmware, None)
        if not failures.is_none:
            self.failed[failures.firmware] = failures

    def settle(self, report: OwedReport) -> None:
        """Note that *report* was acknowledged."""
        self._refuse_unless(self.is_writable)
        with self._instants.durable("journal: report settled"):
            self.settled.add(report.id)

    def spent_bytes(self, day: int) -> int:
        """Return what was spent on *day*."""
        self._refuse_unless(self.is_readable)
        return self.budgets.get(day, 0)

    def spend(self, day: int, spent_bytes: int) -> None:
        """Store what was spent on *day*."""
        self._refuse_unless(self.is_writable)
        self.spent(spent_bytes)
        with self._instants.durable(f"journal: {spent_bytes} bytes of a budget"):
            self.budgets[day] = spent_bytes

    def record(self, bootname: str) -> SlotRecord | None:
        """Return what *bootname* is known to hold."""
        self._refuse_unless(self.is_readable)
        return self.records.get(bootname)

    def void(self, bootname: str) -> None:
        """Forget what *bootname* holds."""
        self._refuse_unless(self.is_writable)
        with self._instants.durable(f"journal: record of slot {bootname} voided"):
            self.records.pop(bootname, None)

    def history(self, limit: int) -> Sequence[HistoryEntry]:
        """Return the newest lines, newest first."""
        self._refuse_unless(self.is_readable)
        return self.lines[: -limit - 1 : -1]

    def close(self) -> None:
        """Do nothing: what is durable stays."""

    def lose(self) -> None:
        """Be the empty journal of a new data partition."""
        self.sessions, self.records, self.lines = {}, {}, []
        self.rows, self.settled, self.failed, self.budgets = [], set(), {}, {}

    @staticmethod
    def _refuse_unless(is_possible: bool) -> None:
        if not is_possible:
            raise JournalError("journal: database or disk is full")

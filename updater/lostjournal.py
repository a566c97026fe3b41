# SPDX-License-Identifier: MIT
"""What stands in for a journal that cannot be opened: it remembers nothing, and says so."""

from collections.abc import Sequence

from updater.core.errors import JournalError
from updater.core.model import Failures, HistoryEntry, Offer, OwedReport, Session, SlotRecord


class LostJournal:
    """Stands in for a journal that cannot be opened: nothing is begun, verdicts still fall."""

    def __init__(self, error: JournalError) -> None:
        """Give *error* as the reason for everything that is refused."""
        self._error = error

    def current(self) -> Session | None:
        """Know of no session: a trial that is under way is an orphan's."""
        return None

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
        """Refuse."""
        del session, text, report, record, void, failures
        raise self._error

    def owe(self, session_id: str, payload: bytes) -> None:
        """Refuse."""
        del session_id, payload
        raise self._error

    def owe_refusal(self, offer: Offer, payload: bytes) -> None:
        """Refuse."""
        del offer, payload
        raise self._error

    def owed(self) -> Sequence[OwedReport]:
        """Owe nothing that is known."""
        return ()

    def settle(self, report: OwedReport) -> None:
        """Refuse."""
        del report
        raise self._error

    def failures(self) -> Sequence[Failures]:
        """Refuse: that nothing has failed would be a lie."""
        raise self._error

    def note(self, failures: Failures) -> None:
        """Refuse."""
        del failures
        raise self._error

    def forgive(self) -> None:
        """Refuse."""
        raise self._error

    def record(self, bootname: str) -> SlotRecord | None:
        """Know of no slot."""
        del bootname
        return None

    def void(self, bootname: str) -> None:
        """Refuse."""
        del bootname
        raise self._error

    def history(self, limit: int) -> Sequence[HistoryEntry]:
        """Refuse: an empty history would be a lie."""
        del limit
        raise self._error

    def close(self) -> None:
        """Nothing is open."""

# SPDX-License-Identifier: MIT
"""What stands in for a journal that cannot be opened: it remembers nothing, and says so."""

from collections.abc import Sequence
from typing import NoReturn

from updater.core.errors import JournalError
from updater.core.model import OwedReport, Session, SlotRecord


class LostJournal:
    """Stands in for a journal that cannot be opened: nothing is begun, verdicts still fall."""

    def __init__(self, error: JournalError) -> None:
        """Give *error* as the reason for everything that is refused."""
        self._error = error

    def _refuse(self, *_parameters: object, **_more: object) -> NoReturn:
        raise self._error

    save = owe = owe_refusal = settle = note = forgive = spend = void = _refuse
    failures = spent_bytes = history = _refuse  # that there is nothing would be a lie

    def current(self) -> Session | None:
        """Know of no session: a trial that is under way is an orphan's."""
        return None

    def owed(self) -> Sequence[OwedReport]:
        """Owe nothing that is known."""
        return ()

    def record(self, bootname: str) -> SlotRecord | None:
        """Know of no slot."""
        del bootname
        return None

    def close(self) -> None:
        """Nothing is open."""

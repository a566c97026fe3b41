# SPDX-License-Identifier: MIT
"""The seam to the journal: what must survive a power cut.

``edge.journal`` implements it; tests implement it over memory. Errors as in ``ports``.
"""

from collections.abc import Sequence
from typing import Protocol

from updater.core.model import Failures, HistoryEntry, Offer, OwedReport, Session, SlotRecord

REFUSALS_LIMIT = 8  # that are owed at a time: whoever makes more offers is no cloud of ours


class Journal(Protocol):
    """What must survive a power cut. Each method is one durable transaction."""

    def current(self) -> Session | None:
        """Return the session that has not ended, or the last one that has, or None."""

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
        """Store *session* as it stands now, with *text* as a line of history.

        Args:
            session: New, or known by its id.
            text: What happened, for people.
            report: A terminal report that is owed from now on.
            record: What a slot is now known to hold.
            void: Bootname of a slot whose record no longer holds.
            failures: What is now known of how its firmware fails.

        What is owed as a refusal of the same offer is void while the session is open.
        """

    def owe(self, session_id: str, payload: bytes) -> None:
        """Owe the cloud that a session is burning; the first time is the only one."""

    def owe_refusal(self, offer: Offer, payload: bytes) -> None:
        """Owe the cloud that *offer* is refused, once at a time; the oldest of many give way."""

    def owed(self) -> Sequence[OwedReport]:
        """Return the reports that the broker has not acknowledged, in the order of their being."""

    def settle(self, report: OwedReport) -> None:
        """Note that the broker has acknowledged *report*."""

    def failures(self) -> Sequence[Failures]:
        """Return every firmware that has failed, the latest last."""

    def note(self, failures: Failures) -> None:
        """Store what is known of one firmware, in place of what was."""

    def forgive(self) -> None:
        """Forget every failure."""

    def spent_bytes(self, day: int) -> int:
        """Return what downloads have brought on *day*, a local one counted from 1970-01-01."""

    def spend(self, day: int, spent_bytes: int) -> None:
        """Store what downloads have brought on *day*, in place of what was."""

    def record(self, bootname: str) -> SlotRecord | None:
        """Return what *bootname* is known to hold."""

    def void(self, bootname: str) -> None:
        """Forget what *bootname* holds; it is about to be written."""

    def history(self, limit: int) -> Sequence[HistoryEntry]:
        """Return the newest *limit* lines of history, newest first."""

    def close(self) -> None:
        """Close the journal."""

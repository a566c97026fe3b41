# SPDX-License-Identifier: MIT
"""What must reach the cloud: in the journal before it is said, in it until the broker has it.

A session owes the cloud its first ``burning`` and how it has ended; an offer that never becomes one
is owed its refusal. Rows go out in the order in which they came to be, one by one: the next one
waits for the PUBACK of the one before. Each is handed to the link once in a connection, which
repeats it within; a new connection begins at the oldest that is left. That the broker has a row is
noted in the journal, and in memory for as long as the journal cannot take the note: only a restart
in just that time says it again.

A hostile cloud may make any number of offers that are refused, and must wear no flash by it: few
refusals are owed at a time, and few are written in ten minutes. The others are said, and not owed.
"""

import logging
from collections import deque

from updater.activity import NEVER_S, Clock
from updater.core import messages
from updater.core.errors import JournalError
from updater.core.journal import REFUSALS_LIMIT, Journal
from updater.core.journalrows import refusal_key
from updater.core.model import Offer, OwedReport, Session

_log = logging.getLogger(__name__)

SETTLE_INTERVAL_S = 60.0
REFUSALS_S = 600.0  # in which ``REFUSALS_LIMIT`` of them are written at most
_MOST_OWED = 64  # rows: a cloud that acknowledges has one or two of them


class Outbox:
    """The journal's rows on their way to the broker."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._sent: dict[int, OwedReport] = {}  # in this connection, by token
        self._known: list[OwedReport] = []  # as the journal could be read last
        self._unsettled: list[OwedReport] = []  # acknowledged, and the journal could not take note
        self._refusals_s: deque[float] = deque(maxlen=REFUSALS_LIMIT)  # when they were written
        self.settle_due_s = NEVER_S

    @property
    def is_waiting(self) -> bool:
        """True while a row is on its way in this connection."""
        return bool(self._sent)

    def is_full(self) -> bool:
        """Tell whether so much is owed that nothing should be begun which would owe more."""
        return len(self._undelivered()) >= _MOST_OWED

    def owe_burning(self, session: Session) -> bool:
        """Owe the cloud that *session* is burning, once; False if the journal cannot remember."""
        try:
            self._journal.owe(session.id, messages.burning(session.offer))
        except JournalError as error:
            _log.error("%s; that a session is burning is said, and not owed", error)
            return False
        return True

    def owe_refusal(self, offer: Offer, payload: bytes) -> bool:
        """Owe the cloud that *offer* is refused; False if that can only be said."""
        now_s, written_s = self._clock.monotonic_s(), self._refusals_s
        if self._owes(refusal_key(offer)):
            return True
        if len(written_s) == REFUSALS_LIMIT and now_s < written_s[0] + REFUSALS_S:
            _log.warning("many offers are refused: this refusal is said, and not owed")
            return False
        try:
            self._journal.owe_refusal(offer, payload)
        except JournalError as error:
            _log.error("%s; that an offer is refused is said, and not owed", error)
            return False
        written_s.append(now_s)
        return self._owes(refusal_key(offer))  # else the journal takes it and cannot say it

    def _owes(self, key: str) -> bool:
        return any(report.session_id == key for report in self._undelivered())

    def owes_end(self, session_id: str) -> bool:
        """Tell whether the broker has not acknowledged yet how a session has ended."""
        ends = (report for report in self._undelivered() if report.is_terminal)
        return any(report.session_id == session_id for report in ends)

    def oldest(self) -> OwedReport | None:
        """Return the row that is to go out next, if there is one."""
        return next(iter(self._undelivered()), None)

    def look(self) -> None:
        """See what is owed while the journal can say it."""
        self._undelivered()

    def connected(self) -> None:
        """Begin anew: what a lost connection was given may not have arrived."""
        self._sent.clear()

    def sent(self, report: OwedReport, token: int) -> None:
        """Take note that the link was given *report*."""
        self._sent[token] = report

    def acknowledged(self, token: int) -> bool:
        """Take note of a PUBACK; tell whether it was that of a row."""
        report = self._sent.pop(token, None)
        if report is None:
            return False
        self._unsettled.append(report)
        self.settle()
        return True

    def settle(self) -> None:
        """Have the journal take note of what was acknowledged, now or later."""
        self.settle_due_s = NEVER_S
        try:
            while self._unsettled:
                self._journal.settle(self._unsettled[0])
                settled = self._unsettled.pop(0)
                self._known = [report for report in self._known if report != settled]
        except JournalError as error:
            _log.error("%s; after a restart the report would be delivered again", error)
            self.settle_due_s = self._clock.monotonic_s() + SETTLE_INTERVAL_S

    def _undelivered(self) -> list[OwedReport]:
        """Return the reports that the broker has not acknowledged, oldest first."""
        try:
            self._known = list(self._journal.owed())
        except JournalError as error:
            _log.error("%s; what is owed to the cloud is told as far as it is known", error)
        return [report for report in self._known if report not in self._unsettled]

# SPDX-License-Identifier: MIT
"""The conversation with the cloud: what is said when, and what was acknowledged.

Owns the link. Its rules are the protocol's: owed terminal reports have their PUBACK before the next
``report_version``; in a trial no version is reported, for the cloud could take it for success, and
a ``burning`` proves the link instead; versions are reported at most once a minute, and again after
10, 20, 40 s while unanswered; progress is said at most once a second and only on change.
"""

import enum
import logging
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from updater.activity import NEVER_S, Clock
from updater.core import messages
from updater.core.errors import JournalError, OfferError, UpdaterError
from updater.core.link import Acknowledged, Connected, Disconnected, Link, LinkEvent, Received
from updater.core.model import Offer, OwedReport
from updater.core.ports import Journal

_log = logging.getLogger(__name__)

VERSION_INTERVAL_S = 60.0
UNANSWERED_S = (10.0, 20.0, 40.0, VERSION_INTERVAL_S)
PROGRESS_INTERVAL_S = 1.0
BURNING_INTERVAL_S = 60.0
SETTLE_INTERVAL_S = 60.0


class Mode(enum.Enum):
    """What may be said now."""

    OPEN = "owed reports, then the version"
    TRIAL = "burning only: the booted slot has not been judged"
    SILENT = "nothing: a reboot is under way"


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom to tell.

    Attributes:
        offered: The cloud offers a firmware.
        proven: A message of this boot has been acknowledged, or at least subscribed for.
    """

    offered: Callable[[Offer], None]
    proven: Callable[[], None]


class Cloud:
    """Speaks with the cloud over one link."""

    def __init__(  # noqa: PLR0913, PLR0917 - its ports
        self,
        link: Link,
        journal: Journal,
        clock: Clock,
        version: Callable[[], str],
        fw_type: str,
        listener: Listener,
    ) -> None:
        """Report the version that *version* returns when it is asked."""
        self._link = link
        self._journal = journal
        self._clock = clock
        self._version = version
        self._fw_type = fw_type
        self._listener = listener
        self._mode = Mode.OPEN
        self._session_offer: Offer | None = None
        self._owed: dict[int, OwedReport] = {}  # on their way, by token
        self._unsettled: list[OwedReport] = []  # acknowledged, and the journal could not take note
        self._settle_due_s = NEVER_S
        self._proof: int | None = None
        self.is_proven = False
        self._version_due_s = NEVER_S
        self._version_said_s = -NEVER_S
        self._unanswered = 0
        self._is_asking = False
        self._burning_due_s = NEVER_S
        self._burning_qos = 1  # of the next one: the first is sure to arrive
        self._percent: int | None = None  # to be said
        self._percent_said: int | None = None
        self._progress_due_s = NEVER_S
        self._progress_said_s = -NEVER_S

    @property
    def is_connected(self) -> bool:
        """True while messages flow."""
        return self._link.is_connected()

    # --- what the agent says ---------------------------------------------------------------------

    def enter(self, mode: Mode, offer: Offer | None) -> None:
        """Say from now on what *mode* allows, about *offer* if a session is open."""
        self._mode = mode
        self._session_offer = None if offer is None or offer.is_local else offer
        if mode is Mode.TRIAL:
            self._prove()
        elif mode is Mode.SILENT:
            self._burning_due_s = self._progress_due_s = NEVER_S

    def downloading(self, percent: int) -> None:
        """Report *percent* (0…100): 0 and 100 always, between them when it is due, never less."""
        last = self._percent_said if self._percent is None else self._percent
        if self._session_offer is None or (last is not None and percent <= last):
            return
        self._percent = percent
        if percent in {0, 100}:
            self._say_percent()
        else:
            self._progress_due_s = self._progress_said_s + PROGRESS_INTERVAL_S

    def burning(self) -> None:
        """Report burning, now or once connected, and each minute until the session moves on."""
        if self._burning_due_s == NEVER_S:
            self._burning_due_s = self._clock.monotonic_s()
            self._burning_qos = 1
            if self._link.is_connected():
                self._say_burning()

    def settled(self) -> None:
        """Deliver what is owed, then report the version: a session has ended."""
        self._burning_due_s = self._progress_due_s = NEVER_S
        self._percent = self._percent_said = None
        self._version_said_s = -NEVER_S
        self._unanswered = 0
        self._open()

    def owes(self, session_id: str) -> bool:
        """Tell whether the broker has not acknowledged yet how a session has ended."""
        return any(report.session_id == session_id for report in self._undelivered())

    def refuse(self, offer: Offer, error: UpdaterError) -> None:
        """Answer an offer that never becomes a session."""
        if self._link.is_connected():
            self._link.publish(messages.fail(offer, error.result_code, str(error)), 1)

    def ask(self) -> None:
        """Pull: report the version soon; the cloud then repeats its offer with a fresh URL."""
        self._is_asking = True
        self._version_due_s = min(self._version_due_s, self._version_allowed_s())

    def close(self) -> None:
        """Say goodbye."""
        self._link.close()

    # --- activity --------------------------------------------------------------------------------

    def interests(self) -> Mapping[int, int]:
        """Wait for the link's socket."""
        fileno = self._link.fileno()
        if fileno is None:
            return {}
        return {fileno: select.POLLIN | (select.POLLOUT if self._link.wants_write() else 0)}

    def deadline_s(self) -> float:
        """Wake for the link's own timers and for what is due to be said."""
        if not self._link.is_connected():
            return self._link.next_deadline_s()
        return min(
            self._link.next_deadline_s(),
            self._version_due_s,
            self._burning_due_s,
            self._progress_due_s,
            self._settle_due_s,
        )

    def wake(self, ready: Mapping[int, int]) -> None:
        """Let the link work, take what it brings, and say what is due."""
        events = 0
        for flags in ready.values():
            events |= flags
        readable = bool(events & (select.POLLIN | select.POLLHUP | select.POLLERR))
        writable = bool(events & select.POLLOUT)
        for event in self._link.pump(readable=readable, writable=writable):
            self._take(event)
        if self._link.is_connected():
            self._say_due()

    # --- what the link brings --------------------------------------------------------------------

    def _take(self, event: LinkEvent) -> None:
        match event:
            case Connected():
                _log.info("cloud: connected and subscribed")
                self._owed.clear()
                self._opened()
            case Disconnected(reason):
                _log.warning("cloud: %s", reason)
            case Acknowledged(token):
                self._acknowledged(token)
            case Received(payload):
                self._received(payload)

    def _opened(self) -> None:
        if self._mode is Mode.TRIAL:
            self._prove()
        else:
            self._open()

    def _acknowledged(self, token: int) -> None:
        if token == self._proof:
            self._proof = None
            self.is_proven = True
            self._listener.proven()
        report = self._owed.pop(token, None)
        if report is not None:
            self._unsettled.append(report)
            self._settle()
            self._open()

    def _received(self, payload: bytes) -> None:
        try:
            message = messages.parse_downlink(payload)
        except OfferError as error:
            _log.warning("cloud: message ignored: %s", error)
            return
        if isinstance(message, Offer):
            self._listener.offered(message)
        elif isinstance(message, messages.VersionResponse):
            self._answered(message)

    def _answered(self, response: messages.VersionResponse) -> None:
        if response.result_code == 0:
            self._unanswered = 0
            self._version_due_s = self._version_allowed_s() if self._is_asking else NEVER_S
        else:
            _log.warning("cloud: report_version refused with code %d", response.result_code)

    # --- what is said ----------------------------------------------------------------------------

    def _open(self) -> None:
        """Publish the oldest owed report; once none is left, the version is due."""
        if self._mode is not Mode.OPEN or not self._link.is_connected() or self._owed:
            return
        owed = self._undelivered()
        if owed:
            self._owed[self._link.publish(owed[0].payload, 1)] = owed[0]
        else:
            self.is_proven = True
            self._version_due_s = min(self._version_due_s, self._version_allowed_s())

    def _undelivered(self) -> list[OwedReport]:
        """Return the reports that the broker has not acknowledged, oldest first."""
        try:
            owed = self._journal.owed()
        except JournalError as error:
            _log.error("%s; what is owed to the cloud is not known", error)
            return []
        return [report for report in owed if report not in self._unsettled]

    def _settle(self) -> None:
        """Have the journal take note of what was acknowledged, now or later."""
        self._settle_due_s = NEVER_S
        try:
            while self._unsettled:
                self._journal.settle(self._unsettled[0])
                del self._unsettled[0]
        except JournalError as error:
            _log.error("%s; after a restart the report would be delivered again", error)
            self._settle_due_s = self._clock.monotonic_s() + SETTLE_INTERVAL_S

    def _prove(self) -> None:
        """Send what proves the link in a trial; an orphan has only its subscription to show."""
        if not self._link.is_connected():
            return
        self._burning_due_s = self._clock.monotonic_s() + BURNING_INTERVAL_S
        self._burning_qos = 0
        if self._session_offer is None:
            self.is_proven = True
            self._listener.proven()
        else:
            self._proof = self._link.publish(messages.burning(self._session_offer), 1)

    def _say_due(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._version_due_s:
            self._say_version(now_s)
        if now_s >= self._progress_due_s:
            self._say_percent()
        if now_s >= self._burning_due_s:
            self._say_burning()
        if now_s >= self._settle_due_s:
            self._settle()

    def _say_burning(self) -> None:
        self._burning_due_s = self._clock.monotonic_s() + BURNING_INTERVAL_S
        if self._session_offer is not None:
            self._link.publish(messages.burning(self._session_offer), self._burning_qos)
        self._burning_qos = 0

    def _version_allowed_s(self) -> float:
        """Return when the version may be reported again though it was answered."""
        return max(self._clock.monotonic_s(), self._version_said_s + VERSION_INTERVAL_S)

    def _say_version(self, now_s: float) -> None:
        if self._mode is not Mode.OPEN or self._owed:
            self._version_due_s = NEVER_S
            return
        self._link.publish(messages.report_version(self._version(), self._fw_type or None), 1)
        self._version_said_s = now_s
        self._is_asking = False
        pause_s = UNANSWERED_S[min(self._unanswered, len(UNANSWERED_S) - 1)]
        self._unanswered += 1
        self._version_due_s = now_s + pause_s

    def _say_percent(self) -> None:
        self._progress_due_s = NEVER_S
        if self._percent is None or self._session_offer is None:
            return
        if self._link.is_connected():
            self._link.publish(messages.downloading(self._session_offer, self._percent), 0)
        self._percent_said, self._percent = self._percent, None
        self._progress_said_s = self._clock.monotonic_s()

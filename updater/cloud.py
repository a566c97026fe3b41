# SPDX-License-Identifier: MIT
"""The conversation with the cloud: what is said when, and what was acknowledged.

Owns the link. Its rules are the protocol's: what is owed (the first ``burning`` of a session, how
it has ended, the refusal of an offer) is journalled before it is said, goes out in order, one by
one, and has its PUBACK before the next ``report_version``; in a trial no version is reported, for
the cloud could take it for success, and a ``burning`` proves the link instead; versions are
reported at most once a minute, again after 10, 20, 40 s while unanswered, and ever less often while
refused. How far a download is, ``percent`` says.
"""

import enum
import logging
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from updater.activity import NEVER_S, Clock
from updater.core import messages
from updater.core.backoff import doubled_s
from updater.core.errors import OfferError, UpdaterError
from updater.core.journal import Journal
from updater.core.link import Acknowledged, Connected, Disconnected, Link, LinkEvent, Received
from updater.core.model import Offer, OwedReport, Session
from updater.outbox import Outbox
from updater.percent import Percent

_log = logging.getLogger(__name__)

VERSION_INTERVAL_S = 60.0
UNANSWERED_S = (10.0, 20.0, 40.0, VERSION_INTERVAL_S)
REFUSED_LIMIT_S = 3600.0
BURNING_INTERVAL_S = 60.0


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
        connected: Messages flow from now on.
    """

    offered: Callable[[Offer], None]
    proven: Callable[[], None]
    connected: Callable[[], None]


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
        self._clock = clock
        self._version = version
        self._fw_type = fw_type
        self._listener = listener
        self._mode = Mode.OPEN
        self._session: Session | None = None  # that is open and the cloud's
        self._outbox = Outbox(journal, clock)
        self._proof: int | None = None  # token of what proves the link
        self._is_proof_said = False  # in this connection
        self.is_proven = False
        self._is_version_wanted = False  # once nothing is owed
        self._version_due_s = NEVER_S
        self._version_said_s = -NEVER_S
        self._unanswered = 0  # versions in a row
        self._refused = 0  # likewise
        self._is_asking = False
        self._burning_due_s = NEVER_S  # the next one that shows no more than life
        self._percent = Percent(clock, self._say_percent)

    @property
    def is_connected(self) -> bool:
        """True while messages flow."""
        return self._link.is_connected()

    @property
    def is_registering(self) -> bool:
        """True while the device has no secret to connect with."""
        return self._link.is_registering()

    # --- what the agent says ---------------------------------------------------------------------

    def enter(self, mode: Mode, session: Session | None) -> None:
        """Say from now on what *mode* allows, about *session* if one is open."""
        self._mode = mode
        self._session = None if session is None or session.offer.is_local else session
        if mode is Mode.TRIAL:
            self._go_on()
        elif mode is Mode.SILENT:
            self._burning_due_s = NEVER_S
            self._percent.hush()
        elif self._burning_due_s != NEVER_S:
            self._owe_burning()  # a person's session may have become the cloud's

    def downloading(self, percent: int) -> None:
        """Report *percent* (0…100): 0 and 100 always, between them when it is due, never less."""
        if self._session is not None:
            self._percent.note(percent)

    def burning(self) -> None:
        """Owe the cloud a burning, and show life each minute until the session moves on."""
        if self._burning_due_s == NEVER_S:
            self._burning_due_s = self._clock.monotonic_s() + BURNING_INTERVAL_S
            self._owe_burning()

    def settled(self) -> None:
        """Deliver what is owed, then report the version: a session has ended."""
        self._burning_due_s = NEVER_S
        self._percent.forget()
        self._version_said_s = -NEVER_S
        self._unanswered = self._refused = 0
        self._is_version_wanted = True
        self._outbox.look()
        self._go_on()

    def owes(self, session_id: str) -> bool:
        """Tell whether the broker has not acknowledged yet how a session has ended."""
        return self._outbox.owes_end(session_id)

    def is_backlogged(self) -> bool:
        """Tell whether the broker has to take what it was told before there is more to tell."""
        return self._outbox.is_full()

    def refuse(self, offer: Offer, error: UpdaterError) -> None:
        """Answer an offer that never becomes a session, now or as soon as there is a link."""
        payload = messages.fail(offer, error.result_code, str(error))
        if self._outbox.owe_refusal(offer, payload):
            self._go_on()
        elif self._link.is_connected():
            self._link.publish(payload, 1)

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
            self._percent.due_s,
            self._outbox.settle_due_s,
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
                self._connected()
            case Disconnected(reason):
                _log.warning("cloud: %s", reason)
            case Acknowledged(token):
                self._acknowledged(token)
            case Received(payload):
                self._received(payload)

    def _connected(self) -> None:
        self._outbox.connected()
        self._proof, self._is_proof_said = None, False
        self._is_version_wanted = True
        self._listener.connected()
        self._percent.connected()
        self._go_on()

    def _acknowledged(self, token: int) -> None:
        if token == self._proof:
            self._proof = None
            self._proven()
        if self._outbox.acknowledged(token):
            self._go_on()

    def _proven(self) -> None:
        self.is_proven = True
        self._listener.proven()

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
            self._unanswered = self._refused = 0
            self._version_due_s = self._version_allowed_s() if self._is_asking else NEVER_S
            return
        _log.warning("cloud: report_version refused with code %d", response.result_code)
        if self._unanswered:  # else nobody has asked
            pause_s = doubled_s(VERSION_INTERVAL_S, self._refused, REFUSED_LIMIT_S)
            self._refused += 1
            self._unanswered = 0
            self._version_due_s = self._version_said_s + pause_s

    # --- what is said ----------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Publish what is owed, one by one; then prove the link, or have the version due.

        An orphan's trial has only its subscription to show.
        """
        if self._mode is Mode.SILENT or not self._link.is_connected():
            return
        if self._mode is Mode.TRIAL and self._session is None and not self._is_proof_said:
            self._is_proof_said = True
            self._burning_due_s = self._clock.monotonic_s() + BURNING_INTERVAL_S
            self._proven()
        if self._outbox.is_waiting:
            return
        owed = self._outbox.oldest()
        if owed is not None:
            self._publish(owed)
        elif self._mode is Mode.TRIAL:
            self._prove()
        else:
            self._want_version()

    def _publish(self, report: OwedReport) -> None:
        """Hand *report* to the link, once in each connection."""
        token = self._link.publish(report.payload, 1)
        self._outbox.sent(report, token)
        session = self._session
        if session is not None and session.id == report.session_id and not report.is_terminal:
            self._burning_due_s = self._clock.monotonic_s() + BURNING_INTERVAL_S
            if self._mode is Mode.TRIAL:
                self._proof, self._is_proof_said = token, True

    def _prove(self) -> None:
        """Send what proves the link in a trial: a burning whose PUBACK is waited for."""
        if self._session is not None and not self._is_proof_said:
            self._is_proof_said = True
            self._burning_due_s = self._clock.monotonic_s() + BURNING_INTERVAL_S
            self._proof = self._link.publish(messages.burning(self._session.offer), 1)

    def _want_version(self) -> None:
        """Have the version due, if a connection or a session's end has asked for it."""
        self.is_proven = True
        if self._is_version_wanted:
            self._is_version_wanted = False
            self._version_due_s = min(self._version_due_s, self._version_allowed_s())

    def _owe_burning(self) -> None:
        """Journal that the session is burning, then say it; once for each session."""
        if self._session is None:
            return
        if not self._outbox.owe_burning(self._session):
            self._burning_due_s = self._clock.monotonic_s()
        self._go_on()

    def _say_due(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._version_due_s:
            self._say_version(now_s)
        if now_s >= self._percent.due_s:
            self._percent.say()
        if now_s >= self._burning_due_s:
            self._say_burning()
        if now_s >= self._outbox.settle_due_s:
            self._outbox.settle()

    def _say_burning(self) -> None:
        self._burning_due_s = self._clock.monotonic_s() + BURNING_INTERVAL_S
        if self._session is not None:
            self._link.publish(messages.burning(self._session.offer), 0)

    def _version_allowed_s(self) -> float:
        """Return when the version may be reported again though it was answered."""
        return max(self._clock.monotonic_s(), self._version_said_s + VERSION_INTERVAL_S)

    def _say_version(self, now_s: float) -> None:
        self._version_due_s = NEVER_S
        if self._mode is not Mode.OPEN or self._outbox.is_waiting:
            self._is_version_wanted = True  # once it may be said
            return
        version = self._version()
        if not messages.is_version(version):
            _log.warning("cloud: version %r cannot be reported: it is no version", version)
            version = messages.UNKNOWN_VERSION
        self._link.publish(messages.report_version(version, self._fw_type or None), 1)
        self._version_said_s = now_s
        self._is_asking = False
        pause_s = UNANSWERED_S[min(self._unanswered, len(UNANSWERED_S) - 1)]
        self._unanswered += 1
        self._version_due_s = now_s + pause_s

    def _say_percent(self, percent: int) -> bool:
        if not self._link.is_connected():
            return False
        if self._session is not None:
            self._link.publish(messages.downloading(self._session.offer, percent), 0)
        return True

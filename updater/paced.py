# SPDX-License-Identifier: MIT
"""A session that waits: for its download's budget, and for the time of its activation.

The session stays in its state while it waits, and the journal has a line of why. A restart, or a
power cut, begins to wait anew. A download that has spent the day's budget is stopped; its
checkpoint stays, and the next day goes on from there. Whatever moves the session on ends the wait.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from updater.activity import NEVER_S
from updater.core import machine
from updater.core.errors import JournalError, UpdaterError, WrongStateError
from updater.core.model import Session, Slot, State
from updater.core.policy import Go, Point, Refuse, Verdict, Wait
from updater.core.ports import InstallRequest, Progress
from updater.meter import Meter
from updater.pace import AtOnce
from updater.passage import Passage, Subject, is_to_come_whole, subject_of

if TYPE_CHECKING:
    from updater.agent import Agent

_log = logging.getLogger(__name__)


class Paced(AtOnce):
    """Keeps one session to the policy; idle while none is open."""

    def __init__(self, agent: "Agent") -> None:
        super().__init__(agent)
        self._policy = agent.device.config.policy
        self._passage = Passage(agent.device, self._told)
        self._meter = Meter(agent.device)
        self._point = Point.DOWNLOAD
        self._reason = ""  # why it waits, as the journal has it
        self._is_running = False  # the download
        self._cleared: Go | None = None  # the way is free: begin
        self._again_s = NEVER_S  # the link may have become metered

    # --- the download ----------------------------------------------------------------------------

    def install(self, session: Session, target: Slot) -> None:
        """Have *session*'s firmware brought into *target*, once the link may be used for it."""
        go, self._cleared = self._cleared, None
        if go is not None:
            self._begin(session, target, go)
            return
        is_whole = self._meter.is_whole or is_to_come_whole(self._agent.device, target)
        self._meter.aim(session, is_whole=is_whole)
        self._point = Point.DOWNLOAD
        verdict = self._passage.start(Point.DOWNLOAD, self._still_to_come(session))
        if isinstance(verdict, Go):
            self._begin(session, target, verdict)
        elif verdict is not None:
            self._told(verdict)

    def _begin(self, session: Session, target: Slot, go: Go) -> None:
        self._is_running = True
        self._meter.begin(go)
        self._reason = ""
        request = self._agent.device.request_for(session, target)
        if not session.offer.is_local:
            request = self._capped(request, go)
            self._again_s = self._next_s()
        self._agent._installation.start(request)

    def _capped(self, request: InstallRequest, go: Go) -> InstallRequest:
        """Return *request* within what a metered link may carry."""
        caps = {request.bandwidth_bytes_per_s, self._policy.metered_bandwidth_bytes_per_s} - {0}
        if not go.is_metered or not caps:
            return request
        return replace(request, bandwidth_bytes_per_s=min(caps))

    def _next_s(self) -> float:
        """Return when to ask again whether the link is metered."""
        return self._now_s() + self._policy.retry_s if self._policy.metered_command else NEVER_S

    def _still_to_come(self, session: Session) -> Subject:
        return Subject(
            session.offer.is_local,
            need_bytes=self._meter.need_bytes,
            is_whole=self._meter.is_whole,
        )

    def progressed(self, progress: Progress) -> None:
        """Count what has come; past the budget the download stops here, and waits."""
        if not self._is_running or self._meter.count(progress):
            return
        session = self._agent.session
        assert session is not None  # noqa: S101 - a download belongs to a session
        self._pause()
        self._start(Point.DOWNLOAD, self._still_to_come(session))

    def _pause(self) -> None:
        self._agent._installation.pause()
        self._meter.end()
        self._is_running = False
        self._again_s = NEVER_S

    # --- the activation --------------------------------------------------------------------------

    def activate(self, session: Session) -> None:
        """Have *session* activated, once its hooks and the time for it have come."""
        try:
            target = self._agent.slots.target
        except UpdaterError as error:
            self._agent.fail(error, machine.InstallFailed, "policy")
            return
        device = self._agent.device
        self._start(Point.ACTIVATION, subject_of(device, session.offer, target, session))

    def request(self) -> None:
        """Activate what is installed, as a person asks for it.

        Raises:
            WrongStateError: Nothing waits for that.
        """
        session = self._agent.session
        if session is None or session.state is not State.INSTALLED:
            raise WrongStateError("no installed firmware waits to be activated")
        self._passage.request()

    # --- what is found ---------------------------------------------------------------------------

    def _start(self, point: Point, subject: Subject) -> None:
        self._point = point
        verdict = self._passage.start(point, subject)
        if verdict is not None:
            self._told(verdict)

    def _told(self, verdict: Verdict) -> None:
        match verdict:
            case Refuse(reason):
                self._agent.fail(UpdaterError(reason), machine.InstallFailed, "policy")
            case Wait():
                if self._is_running:
                    self._pause()
                self._wait(verdict)
            case Go() if self._point is Point.ACTIVATION:
                self._agent._baseline.start()
            case Go():
                self._free(verdict)

    def _free(self, go: Go) -> None:
        """Begin the download, or let it go on if the link is as it was."""
        is_other = go.is_metered != self._meter.is_metered
        if self._is_running and not (is_other and self._policy.metered_bandwidth_bytes_per_s):
            self._meter.is_metered = go.is_metered
            self._again_s = self._next_s()
            return
        if self._is_running:
            self._pause()
        self._cleared = go
        self._agent.perform()

    def _wait(self, wait: Wait) -> None:
        """Have people see why nothing goes on."""
        session = self._agent.session
        if wait.reason == self._reason or session is None:
            return
        self._reason = wait.reason
        _log.info("session %s: the %s waits: %s", session.id, self._point.value, wait.reason)
        try:
            text = f"the {self._point.value} waits: {wait.reason}"
            self._agent.device.journal.save(session, text)
        except JournalError as error:
            _log.warning("%s; history does not have it", error)

    def waiting(self) -> dict[str, object] | None:
        """Return what the session waits for, for people and machines."""
        session = self._agent.session
        if session is None or self._is_running or not self._passage.is_busy:
            return None
        version = session.offer.firmware.version
        return {"what": self._point.value, "version": version, **self._passage.told()}

    def stop(self) -> None:
        """Forget the session: it has moved on, or this process ends."""
        self._passage.stop()
        if self._is_running:
            self._meter.end()
        self._meter.is_whole = self._is_running = False
        self._cleared = None
        self._reason = ""
        self._again_s = NEVER_S

    # --- activity --------------------------------------------------------------------------------

    def interests(self) -> Mapping[int, int]:
        """Wait for the commands that are asked."""
        return self._passage.interests()

    def deadline_s(self) -> float:
        """Wake for what is asked, or to ask again what the link is."""
        return min(self._passage.deadline_s(), self._again_s)

    def wake(self, ready: Mapping[int, int]) -> None:
        """Do what is due."""
        if self._now_s() >= self._again_s:
            self._again_s = NEVER_S
            self._start(Point.DOWNLOAD, Subject(is_local=False))  # the budget is the meter's
        else:
            self._passage.wake(ready)

    def _now_s(self) -> float:
        return self._agent.device.system.monotonic_s()

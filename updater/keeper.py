# SPDX-License-Identifier: MIT
"""The offer that may not be begun yet: at most one is kept, for one reason.

Kept in memory alone, and in silence: a restart reports the version, and a cloud that still means
its offer makes it again. What keeps it is that it has failed before (``retries``), or the policy: a
window, a budget, power, a hook (``passage``). When the time has come it is offered again, and goes
the way of any other offer. A person's install is never kept: the person is told why not now.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from updater.activity import NEVER_S
from updater.core.errors import (
    BusyError,
    CancelledError,
    OfferError,
    UpdaterError,
    WrongStateError,
)
from updater.core.model import Offer, Slots
from updater.core.policyconfig import PolicyConfig
from updater.device import Device
from updater.retries import Retries

if TYPE_CHECKING:
    from updater.core.policy import Verdict

_log = logging.getLogger(__name__)

FAILED_BEFORE = "it has failed, or was cancelled (updater offers)"


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom to tell.

    Attributes:
        offered: What was kept may be begun: it is offered again.
        refused: It is not begun at all; the error says why.
        slots_for: Returns the slots, or raises why the offer cannot be installed whatever the time.
    """

    offered: Callable[[Offer], None]
    refused: Callable[[Offer, UpdaterError], None]
    slots_for: Callable[[Offer], Slots]


class Keeper:
    """Keeps what has to wait; idle while nothing has."""

    def __init__(self, device: Device, retries: Retries, listener: Listener) -> None:
        self._device = device
        self._retries = retries
        self._listener = listener
        self.held: Offer | None = None
        self._granted: Offer | None = None  # this very one has passed
        self._reason = ""
        self._answer: Callable[[UpdaterError | None], None] | None = None  # a person who waits
        self._asked: Offer | None = None  # by that person
        self._has_policy = device.config.policy != PolicyConfig()
        if self._has_policy:
            from updater.passage import Passage  # noqa: PLC0415 - few devices need it

            self._passage = Passage(device, self._told)
            self._personal = Passage(device, self._person_told)

    # --- an offer of the cloud -------------------------------------------------------------------

    def admit(self, offer: Offer) -> bool:
        """Tell whether *offer* may be begun now; if not, it is kept until it may.

        Raises:
            OfferError: It has failed too often, or the policy says no.
            JournalError: Nobody knows whether it has.
        """
        if self._retries.left_s(offer) > 0:
            self.drop()
            self.held = offer
            return False
        if not self._has_policy or offer is self._granted:
            self.held = None
            return True
        if self.held is not None and self.held.firmware == offer.firmware and self._is_asking:
            self.held = offer  # with a fresh URL, perhaps of another task
            return False
        self.drop()
        return self._passes(offer)

    def _passes(self, offer: Offer) -> bool:
        from updater.core.policy import Go, Point, Refuse  # noqa: PLC0415 - few devices need it
        from updater.passage import subject_of  # noqa: PLC0415

        try:
            slots = self._listener.slots_for(offer)
        except UpdaterError:
            return True  # it is refused at once, for a graver reason
        verdict = self._passage.start(Point.INSTALL, subject_of(self._device, offer, slots.target))
        if isinstance(verdict, Refuse):
            raise OfferError(f"offer: {verdict.reason}")
        if isinstance(verdict, Go):
            return True
        self.held = offer
        self._say(verdict)
        return False

    def drop(self) -> None:
        """Keep nothing any more."""
        self.held = self._granted = None
        self._reason = ""
        if self._has_policy:
            self._passage.stop()

    def cancel(self) -> Offer | None:
        """Return the kept offer, if there is one, and keep it no more: a person cancels it.

        Made again it waits anew.
        """
        offer = self.held
        self.drop()
        if offer is not None:
            self._retries.cancelled(offer.firmware)
        return offer

    def _told(self, verdict: "Verdict") -> None:
        """Do what the policy says of the kept offer by now."""
        from updater.core.policy import Go, Refuse  # noqa: PLC0415 - few devices need it

        offer = self.held
        if offer is None:
            return
        if isinstance(verdict, Go):
            self.drop()
            self._granted = offer
            self._listener.offered(offer)
        elif isinstance(verdict, Refuse):
            self.drop()
            self._listener.refused(offer, OfferError(f"offer: {verdict.reason}"))
        else:
            self._say(verdict)

    def _say(self, verdict: "Verdict | None") -> None:
        reason = getattr(verdict, "reason", self._reason)
        if reason != self._reason and self.held is not None:
            self._reason = reason
            _log.info("offer of version %s waits: %s", self.held.firmware.version, reason)

    @property
    def _is_asking(self) -> bool:
        return self._has_policy and self._passage.is_busy

    def waiting(self) -> dict[str, object] | None:
        """Return what is kept, and why, for people and machines."""
        if self.held is None:
            return None
        told: dict[str, object] = {"what": "install", "version": self.held.firmware.version}
        if self._is_asking:
            return {**told, **self._passage.told()}
        left_s = max(self._retries.due_s(self.held.firmware) - self._now_s(), 0.0)
        told |= {"reason": FAILED_BEFORE, "until_s": None, "left_s": round(left_s)}
        return {**told, "is_asking": False}

    # --- a person's ------------------------------------------------------------------------------

    def ask(self, offer: Offer, answer: Callable[[UpdaterError | None], None]) -> None:
        """Have *answer* told whether a person's *offer* may be begun now: None, or why not.

        Raises:
            BusyError: Another one is being asked about.
            UpdaterError: It cannot be installed, whatever the time.
        """
        if not self._has_policy:
            answer(None)
            return
        from updater.core.policy import Point  # noqa: PLC0415 - few devices need it
        from updater.passage import subject_of  # noqa: PLC0415

        if self._answer is not None:
            raise BusyError("another install is being asked about")
        target = self._listener.slots_for(offer).target
        self._answer, self._asked = answer, offer
        verdict = self._personal.start(Point.INSTALL, subject_of(self._device, offer, target))
        if verdict is not None:
            self._person_told(verdict)

    def _person_told(self, verdict: "Verdict") -> None:
        from updater.core.policy import Refuse, Wait  # noqa: PLC0415 - few devices need it

        match verdict:
            case Refuse(reason):
                self._reply(OfferError(f"offer: {reason}"))
            case Wait(reason):
                self._reply(WrongStateError(f"not now: {reason}"))
            case _:
                self._reply(None)

    def _reply(self, refusal: UpdaterError | None) -> None:
        """Answer who waits, if anybody does: that is asked about no more."""
        answer, self._answer, self._asked = self._answer, None, None
        if answer is not None:
            self._personal.stop()
            answer(refusal)

    def cancel_asked(self, reason: str) -> Offer | None:
        """Return what a person asks about, if anything, and ask no more: a person cancels it."""
        offer = self._asked
        self._reply(CancelledError(reason))
        return offer

    def close(self) -> None:
        """Ask nothing any more."""
        self.drop()
        if self._has_policy:
            self._personal.stop()

    # --- activity --------------------------------------------------------------------------------

    def interests(self) -> Mapping[int, int]:
        """Wait for the commands that are asked."""
        if not self._has_policy:
            return {}
        return {**self._passage.interests(), **self._personal.interests()}

    def deadline_s(self) -> float:
        """Wake to offer again what is kept, or for what is asked."""
        asked_s = NEVER_S
        if self._has_policy:
            asked_s = min(self._passage.deadline_s(), self._personal.deadline_s())
        return min(asked_s, self._failed_until_s())

    def wake(self, ready: Mapping[int, int]) -> None:
        """Do what is due."""
        if self._now_s() >= self._failed_until_s() and self.held is not None:
            offer, self.held = self.held, None
            self._listener.offered(offer)
        elif self._has_policy:
            self._passage.wake(ready)
            self._personal.wake(ready)

    def _failed_until_s(self) -> float:
        if self.held is None or self._is_asking:
            return NEVER_S
        return self._retries.due_s(self.held.firmware)

    def _now_s(self) -> float:
        return self._device.system.monotonic_s()

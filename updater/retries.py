# SPDX-License-Identifier: MIT
"""The offers that have failed before: which is tried now, which later, which not at all.

``core.breaker`` decides; this module keeps its facts in the journal. Pauses go by the monotonic
clock, and by the wall clock only for what an earlier process has left: nobody knows how wrong that
was, or will be. The offer that has to wait is kept by ``keeper``.

An offer that a person makes here is not asked about.
"""

import logging
from collections.abc import Mapping

from updater.activity import NEVER_S
from updater.core import breaker
from updater.core.errors import JournalError, OfferError
from updater.core.model import Failures, Firmware, Offer
from updater.device import Device

_log = logging.getLogger(__name__)

_DECIDE_AGAIN_S = 60.0

_Key = tuple[Firmware, int, float]  # how often it has failed, and when last


def _key(failures: Failures) -> _Key:
    return failures.firmware, failures.count, failures.time_s


class Retries:
    """Holds back what has failed; idle while nothing has."""

    def __init__(self, device: Device, *, has_link: bool) -> None:
        self._has_link = has_link  # else no time is long enough to connect
        self._device = device
        self._due_s: dict[_Key, float] = {}
        self._decide_s = NEVER_S  # what was lost for want of the link alone
        self._has_connected = False

    def left_s(self, offer: Offer) -> float:
        """Return how many seconds are left until *offer* may be begun; none: 0.

        Raises:
            OfferError: It has failed too often.
            JournalError: Nobody knows.
        """
        limits = self._device.config.offers
        known = breaker.of(offer.firmware, self._refreshed())
        if breaker.is_refused(known, limits):
            raise OfferError(
                f"offer: version {offer.firmware.version} has failed {known.count} times; "
                "only another image is taken, or: updater offers clear"
            )
        left_s = self._due_of(known) - self._now_s()
        if left_s > 0:
            _log.warning(
                "offer of version %s: it has failed, or was cancelled; the next try is in %.0f s",
                offer.firmware.version,
                left_s,
            )
        return max(left_s, 0.0)

    def due_s(self, firmware: Firmware) -> float:
        """Return the monotonic time from which on *firmware* may be tried."""
        known = (due_s for key, due_s in self._due_s.items() if key[0] == firmware)
        return max(known, default=-NEVER_S)

    def cancelled(self, firmware: Firmware) -> None:
        """Have *firmware* wait from now on: a person has cancelled an offer of it.

        As far as the journal can take note of that.
        """
        try:
            known = breaker.of(firmware, self._refreshed())
            self._device.journal.note(breaker.cancelled(known, self._device.system.time_s()))
            self._refreshed()
        except JournalError as error:
            _log.error("%s; how long the cancelled offer waits is as it was", error)

    def refresh(self) -> None:
        """Take note of what has failed since: a session has ended, or this process begins."""
        try:
            known = self._refreshed()
        except JournalError as error:
            _log.error("%s; what has failed before is not known", error)
            return
        is_doubtful = self._has_link and any(each.is_undecided for each in known)
        if is_doubtful and self._decide_s == NEVER_S:
            self._has_connected = False
            self._decide_s = self._now_s() + self._device.config.health.link_deadline_s

    def connected(self) -> None:
        """Count what was lost for want of the link alone: the old slot has one."""
        if self._decide_s != NEVER_S:
            self._has_connected = True
            self._decide()

    def clear(self) -> int:
        """Forget every failure, and return how many firmwares had any.

        Raises:
            JournalError: Nothing was forgotten.
        """
        known = self._device.journal.failures()
        self._device.journal.forgive()
        self._due_s.clear()
        self._decide_s = NEVER_S
        return len(known)

    def listing(self, held: Offer | None = None) -> list[dict[str, object]]:
        """Return every firmware that has failed, the latest last; *held* is the offer that waits.

        Raises:
            JournalError: Nobody knows.
        """
        return [
            listed(self._device, each, max(self._due_of(each) - self._now_s(), 0.0), held)
            for each in self._refreshed()
        ]

    # --- activity --------------------------------------------------------------------------------

    def interests(self) -> Mapping[int, int]:
        """Wait for nothing but time."""
        return {}

    def deadline_s(self) -> float:
        """Wake to acquit what had no link."""
        return self._decide_s

    def wake(self, ready: Mapping[int, int]) -> None:
        """Do what is due."""
        del ready
        if self._now_s() >= self._decide_s:
            self._decide()

    # --- time ------------------------------------------------------------------------------------

    def _now_s(self) -> float:
        return self._device.system.monotonic_s()

    def _refreshed(self) -> list[Failures]:
        """Return what the journal knows; from now on each pause goes by the monotonic clock."""
        known = list(self._device.journal.failures())
        before = self._due_s
        self._due_s = {}
        for each in known:
            left_s = breaker.left_s(each, self._device.config.offers, self._device.system.time_s())
            self._due_s[_key(each)] = before.get(_key(each), self._now_s() + left_s)
        return known

    def _due_of(self, failures: Failures) -> float:
        return self._due_s.get(_key(failures), -NEVER_S)

    def _decide(self) -> None:
        """Settle every doubt, now or a little later."""
        self._decide_s = NEVER_S
        try:
            for each in self._device.journal.failures():
                if each.is_undecided:
                    self._device.journal.note(breaker.decided(each, is_counted=self._has_connected))
            self._refreshed()
        except JournalError as error:
            _log.error("%s; whether a lost trial counts is decided later", error)
            self._decide_s = self._now_s() + _DECIDE_AGAIN_S


def listed(
    device: Device, failures: Failures, left_s: float, held: Offer | None = None
) -> dict[str, object]:
    """Return one firmware that has failed as an object for machines."""
    firmware = failures.firmware
    is_refused = breaker.is_refused(failures, device.config.offers)
    return {
        "version": firmware.version,
        "md5": firmware.md5,
        "size_bytes": firmware.size_bytes,
        "failures": failures.count,
        "undecided": failures.is_undecided,
        "cancelled": failures.is_cancelled,
        "refused": is_refused,
        "next_try_s": None if is_refused else round(left_s),
        "kept": held is not None and held.firmware == firmware,
    }


def listed_alone(device: Device) -> list[dict[str, object]]:
    """Return the same where no agent runs: by the wall clock.

    Raises:
        JournalError: Nobody knows.
    """
    now_s, limits = device.system.time_s(), device.config.offers
    known = device.journal.failures()
    return [listed(device, each, breaker.left_s(each, limits, now_s)) for each in known]

# SPDX-License-Identifier: MIT
"""How a session ends: what is journalled with it, and an end that the journal does not take.

No terminal report is told before it is journalled, for after a restart the session could go on and
end differently. What the journal refuses is held in memory and saved again until it is taken; a
restart forgets it, and finds the session where the journal left it.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from updater.activity import NEVER_S, Clock
from updater.core import breaker, messages
from updater.core.errors import JournalError
from updater.core.model import Failures, Session, SlotRecord, State
from updater.device import Device

_log = logging.getLogger(__name__)

_RETRY_S = 10.0


def report_of(session: Session) -> bytes | None:
    """Return the terminal report that *session* owes the cloud, if it has ended."""
    if session.offer.is_local or not session.state.is_final:
        return None
    if session.state is State.GOOD:
        return messages.done(session.offer)
    return messages.fail(session.offer, session.code, session.reason)


def saving(
    device: Device, before: Session, session: Session, text: str, record: SlotRecord | None
) -> Callable[[], None]:
    """Return what stores *session*, as it stands after *before*, and all that goes with it."""
    is_written = before.state is not State.INSTALLING  # until then it was voided, or not touched
    is_spoilt = session.state is State.FAILED and is_written  # failed, or was never tried
    return partial(
        device.journal.save,
        session,
        text,
        report=report_of(session),
        record=record,
        void=session.target if is_spoilt else None,
        failures=_failures(device, session) if session.state.is_final else None,
    )


def _failures(device: Device, session: Session) -> Failures | None:
    """Return what is known of the firmware of *session*, now that it has ended."""
    try:
        known = breaker.of(session.offer.firmware, device.journal.failures())
    except JournalError as error:
        _log.error("%s; how often this firmware has failed is not known", error)
        return None
    return breaker.after(session, known, device.system.time_s())


class UnsavedEnd:
    """The end of one session that is not journalled yet; usually there is none."""

    def __init__(self, clock: Clock, taken: Callable[[], None]) -> None:
        """Tell by *taken* once the journal has it."""
        self._clock = clock
        self._taken = taken
        self._save: Callable[[], None] | None = None
        self._retry_s = NEVER_S

    @property
    def is_held(self) -> bool:
        """True while the journal does not know how the last session ended."""
        return self._save is not None

    def hold(self, save: Callable[[], None]) -> None:
        """Call *save*, which has just failed, until it no longer raises ``JournalError``."""
        self._save = save
        self._retry_s = self._clock.monotonic_s() + _RETRY_S

    def flush(self) -> None:
        """Save what is held, if anything is.

        Raises:
            JournalError: The journal still refuses it.
        """
        if self._save is not None:
            self._save()
            self._save = None
            self._retry_s = NEVER_S
            self._taken()

    def interests(self) -> Mapping[int, int]:
        """Wait for nothing but time."""
        return {}

    def deadline_s(self) -> float:
        """Wake to save again."""
        return self._retry_s

    def wake(self, ready: Mapping[int, int]) -> None:
        """Save again."""
        del ready
        try:
            self.flush()
        except JournalError as error:
            _log.error("%s; how the session ended is not told yet", error)
            self._retry_s = self._clock.monotonic_s() + _RETRY_S

# SPDX-License-Identifier: MIT
"""The return to the other slot that a person asks for, outside of a trial.

The other slot must have a record, and what its medium holds now must match that record: it may have
lain there for months. Only then one store makes it primary. Nothing is written to any slot, and no
session is open meanwhile: one that begins takes the record away, and with it the way back.
"""

import select
from collections.abc import Callable, Mapping

from updater.activity import NEVER_S, Clock
from updater.core import bootflow
from updater.core.errors import BusyError, DigestError, UpdaterError, WrongStateError
from updater.core.model import SlotRecord
from updater.core.ports import Phase, RunningInstall
from updater.device import Device

_POLL_S = 1.0


class Rollback:
    """Reads the other slot back and makes it primary; idle unless asked."""

    def __init__(self, device: Device, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._running: RunningInstall | None = None
        self._record: SlotRecord | None = None
        self._look_s = NEVER_S
        self._told: Callable[[UpdaterError | None], None] = lambda _error: None

    @property
    def is_running(self) -> bool:
        """True while a slot is being read back."""
        return self._running is not None

    def start(self, told: Callable[[UpdaterError | None], None]) -> str:
        """Begin, and return the bootname of the slot to return to; the end comes by *told*.

        Raises:
            BusyError: A session is open, and the other slot is its target.
            WrongStateError: Nothing is known of what the other slot holds.
        """
        session = self._device.journal.current()
        if session is not None and not session.state.is_final:
            raise BusyError(f"session {session.id} is {session.state.value}; it must end first")
        target = self._device.finder.find().target
        record = self._device.journal.record(target.bootname)
        if record is None:
            raise WrongStateError(
                f"slot {target.bootname} holds no image that this device verified"
            )
        self._running = self._device.pipeline.open_digest(target.device, record.image_size_bytes)
        self._record, self._told = record, told
        self._look_s = self._clock.monotonic_s() + _POLL_S
        return target.bootname

    def interests(self) -> Mapping[int, int]:
        """Wait for the read-back's end."""
        return {} if self._running is None else {self._running.fileno(): select.POLLIN}

    def deadline_s(self) -> float:
        """Look again soon while reading."""
        return NEVER_S if self._running is None else self._look_s

    def wake(self, ready: Mapping[int, int]) -> None:
        """Look at the read-back; at its end compare, store and tell."""
        del ready
        if self._running is None:
            return
        self._look_s = self._clock.monotonic_s() + _POLL_S
        error: UpdaterError | None = None
        try:
            if self._running.step(0.0).phase is not Phase.DONE:
                return
            self._store(self._running.hexdigest())
        except UpdaterError as reason:
            error = reason
        self._running.close()
        self._running = None
        self._told(error)

    def _store(self, hexdigest: str) -> None:
        """Make the other slot primary if it still holds what the record says."""
        assert self._record is not None  # noqa: S101 - start() has set it
        if self._device.journal.record(self._record.bootname) != self._record:
            raise BusyError(f"slot {self._record.bootname} is being written meanwhile")
        if hexdigest != self._record.image_md5:
            raise DigestError(
                f"slot {self._record.bootname} no longer holds version "
                f"{self._record.firmware.version}: its MD5 is {hexdigest}"
            )
        self._device.environment.store(bootflow.roll_back(self._record.bootname))

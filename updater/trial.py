# SPDX-License-Identifier: MIT
"""The trial of the booted slot: checks, verdict, and the one store that makes the verdict hold.

Needs only the environment, the booted slot and its health, never the journal: an orphan trial,
whose session was lost with the data partition, is judged like any other. The order is that of the
design: *marked good* is told after the store is proven, *rejected* before the store is made.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from updater.activity import NEVER_S
from updater.checks import Rounds
from updater.core import bootflow
from updater.core.errors import EnvironmentStoreError, UpdaterError
from updater.device import Device

_log = logging.getLogger(__name__)

_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom to tell.

    Attributes:
        marked_good: The store that ends the trial is proven.
        rejected: The slot is not healthy; the text says why.
    """

    marked_good: Callable[[], None]
    rejected: Callable[[str], None]


class Trial:
    """Judges the booted slot and stores the verdict."""

    def __init__(self, device: Device, listener: Listener) -> None:
        self._device = device
        self._listener = listener
        self._rounds = Rounds(
            device.health, device.config.health, device.system, self._judged
        )  # fmt: skip
        self._again_s = NEVER_S

    def start(self, excused: Collection[str], *, is_link_up: bool) -> None:
        """Begin to judge; *excused* checks had failed before the update already."""
        self._rounds.start(excused, is_link_up=is_link_up)

    def link_proven(self) -> None:
        """Take note that the broker has acknowledged a message of this boot."""
        self._rounds.link_proven()

    def stop(self) -> None:
        """Stop judging, without a verdict."""
        self._rounds.stop()
        self._again_s = NEVER_S

    def mark_good(self) -> str:
        """Keep the booted slot, in one store, and return its bootname.

        Raises:
            WrongStateError: The booted slot is not on trial.
            EnvironmentStoreError: The store did not take; the trial goes on.
        """
        booted = mark_good(self._device)
        self._kept()
        return booted

    def _kept(self) -> None:
        """End the trial: the environment is proven to keep the booted slot."""
        self._device.system.trial_over()
        self.stop()
        self._listener.marked_good()

    def reject(self, reason: str) -> None:
        """End the trial against the booted slot.

        Raises:
            WrongStateError: The booted slot is not on trial.
        """
        self._device.refuse_without_trial()
        self.stop()
        self._listener.rejected(reason)

    def interests(self) -> Mapping[int, int]:
        """Wait for the checks."""
        return self._rounds.interests()

    def deadline_s(self) -> float:
        """Wake for the checks, or to store a verdict again."""
        return min(self._rounds.deadline_s(), self._again_s)

    def wake(self, ready: Mapping[int, int]) -> None:
        """Go on with the checks, or store again what the environment did not take."""
        if self._again_s <= self._device.system.monotonic_s():
            self._judged("")
        else:
            self._rounds.wake(ready)

    def _judged(self, reason: str) -> None:
        """Act on the verdict; "" is healthy. The dead-man timer bounds how often this is tried."""
        if reason:
            self._listener.rejected(reason)
            return
        try:
            if not is_kept(self._device):  # a store that nobody could read back may have taken
                mark_good(self._device)
        except UpdaterError as error:
            _log.error("mark good: %s; tried again", error)
            self._again_s = self._device.system.monotonic_s() + _RETRY_S
        else:
            self._kept()


def mark_good(device: Device) -> str:
    """Keep the booted slot, in one store, and return its bootname; see ``Trial.mark_good``."""
    booted = device.refuse_without_trial()
    device.environment.store(bootflow.mark_good(booted))
    device.system.trial_over()  # for a person's command, which has no agent
    return booted


def is_kept(device: Device) -> bool:
    """Tell whether the booted slot boots for good: it is the primary one and on no trial."""
    state = device.boot_state()
    return not state.is_trial and state.primary == device.finder.find().booted.bootname


def roll_back(device: Device, other: str) -> None:
    """Make *other* primary, in one store; if that does not take, the bootloader's count will."""
    try:
        device.environment.store(bootflow.roll_back(other))
    except EnvironmentStoreError as error:
        _log.error("%s; the bootloader falls back by its count", error)

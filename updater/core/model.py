# SPDX-License-Identifier: MIT
"""The nouns: slots, firmware, offers, sessions. Frozen values without behaviour of their own."""

import enum
from dataclasses import dataclass

from updater.core.errors import ResultCode


@dataclass(frozen=True, slots=True)
class Slot:
    """A partition that can be updated, as found on this machine.

    Attributes:
        bootname: What the bootloader calls it.
        device: Path of the device node.
        number: Its device number; the booted slot is told by this and never by a name.
        size_bytes: Its capacity.
    """

    bootname: str
    device: str
    number: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Slots:
    """The slot table as found: the one we run from, and the one that is written.

    Attributes:
        tried_first: Bootname of the slot that the bootloader tried first at this boot; None if its
            script does not say so.
    """

    booted: Slot
    target: Slot
    tried_first: str | None = None


@dataclass(frozen=True, slots=True)
class Firmware:
    """The identity of a firmware: same version, digest and size means the same bytes."""

    version: str
    md5: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Offer:
    """The cloud's ``update_firmware``, checked.

    Attributes:
        url: Signed and therefore secret: never logged, never shown.
        task_id: Echoed in reports if it was sent, in the JSON type it had.
        fw_type: The same.
        is_local: True if a person asked for it here: the cloud gets no report of it.
    """

    firmware: Firmware
    url: str
    task_id: int | str | None = None
    fw_type: str | None = None
    is_local: bool = False

    def __repr__(self) -> str:
        """Show all but the URL."""
        return f"Offer({self.firmware}, task_id={self.task_id!r}, fw_type={self.fw_type!r})"


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What the journal knows to be in a slot: written, read back and matched.

    Attributes:
        firmware: What the cloud has named.
        image_md5: MD5 of what the slot holds: another one if the firmware was compressed.
        image_size_bytes: How much that is.
    """

    bootname: str
    firmware: Firmware
    image_md5: str
    image_size_bytes: int


class State(enum.Enum):
    """Where one session stands; the value is what the journal stores."""

    INSTALLING = "installing"  # target slot is being written and cannot boot
    INSTALLED = "installed"  # every byte read back and matched; nothing activated yet
    ACTIVATED = (
        "activated"  # the store that makes the target primary is due or done; reboot pending
    )
    TRIAL = "trial"  # running from the target slot, not yet marked good
    ROLLING_BACK = "rolling-back"  # the trial failed; the old slot is made primary, reboot pending
    GOOD = "good"  # marked good; `done` is owed or was delivered
    FAILED = "failed"  # ended without effect; `fail` is owed or was delivered

    @property
    def is_final(self) -> bool:
        """True if the session has ended."""
        return self in {State.GOOD, State.FAILED}


@dataclass(frozen=True, slots=True)
class Session:
    """One attempt to bring one offer in; survives reboots.

    Attributes:
        id: Random, hexadecimal; also stored in the environment as ``updater_session``.
        target: Bootname of the slot that is written.
        other: Bootname of the slot that was booted when the session began.
        code: The result code once it has failed, else OK.
        reason: Why it failed: step and fact, ASCII.
        baseline: Names of health checks that had failed before activation.
    """

    id: str
    state: State
    offer: Offer
    target: str
    other: str
    code: ResultCode = ResultCode.OK
    reason: str = ""
    baseline: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OwedReport:
    """A report that the broker has not acknowledged yet.

    Attributes:
        id: Of its own among those of its kind.
        session_id: Or which offer it refuses, which never became a session.
        is_terminal: It tells how a session has ended, else that the session is burning, or that
            an offer is refused.
    """

    id: int
    session_id: str
    payload: bytes
    is_terminal: bool = True


@dataclass(frozen=True, slots=True)
class Failures:
    """How one firmware has failed on this device.

    Attributes:
        count: Sessions of it that have failed since one that has not.
        time_s: When the last of them did, UNIX seconds.
        is_undecided: One more has failed for want of the link alone: whether that counts is not
            known yet.
        is_cancelled: A person has ended the last one: it waits as after a failure and is none.
    """

    firmware: Firmware
    count: int
    time_s: float
    is_undecided: bool = False
    is_cancelled: bool = False

    @property
    def is_none(self) -> bool:
        """True if there is nothing to remember."""
        return self.count == 0 and not self.is_undecided and not self.is_cancelled


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of history: when (UNIX seconds), which session, what happened."""

    time_s: float
    session_id: str
    version: str
    state: str
    text: str

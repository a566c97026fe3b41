# SPDX-License-Identifier: MIT
"""The one closed hierarchy of errors, and what each means to a shell and to the cloud.

Every error carries its facts as attributes and says one sentence: what happened, with numbers and
units. ``exit_code`` is what the command line returns, ``result_code`` what the cloud is told.
Edges translate at their border; nothing outside of this module defines an error class.
"""

import enum
from typing import ClassVar


class ResultCode(enum.IntEnum):
    """``result_code`` of ``report_progress``; the cloud's words are in its OTA protocol."""

    OK = 0
    TRANSPORT = -1  # time-outs, DNS, connection, TLS, 5xx, after all retries
    NOT_FOUND = -2  # 404, 410 and other permanent 4xx
    FORBIDDEN = -3  # 401, 403: the signed URL has expired and no fresh one came
    DIGEST = -4  # a complete object, and not the announced one
    LOCAL = -5  # everything on this side


class UpdaterError(Exception):
    """Anything this program can say about what went wrong."""

    exit_code: ClassVar[int] = 1
    result_code: ClassVar[ResultCode] = ResultCode.LOCAL


class UsageError(UpdaterError):
    """The command line asks for something that does not fit together."""

    exit_code = 2


class ConfigError(UpdaterError):
    """A configuration file is missing, unreadable or wrong."""

    exit_code = 3


class NotPermittedError(UpdaterError):
    """The caller may not do this: root, or the updater's own user, is needed."""

    exit_code = 4


class BusyError(UpdaterError):
    """Another process or another session holds what this one needs."""

    exit_code = 5


class WrongStateError(UpdaterError):
    """The request makes sense, but not now (nothing to mark good, no other slot to return to)."""

    exit_code = 6


class ControlError(UpdaterError):
    """The running agent could not be talked to over its control socket."""

    exit_code = 7


class TransportError(UpdaterError):
    """The source could not be reached or broke off; trying again may help."""

    exit_code = 10
    result_code = ResultCode.TRANSPORT


class NotFoundError(UpdaterError):
    """The source says that there is no such object, or refuses the request for good.

    Attributes:
        http_status: The status that the server gave.
    """

    exit_code = 11
    result_code = ResultCode.NOT_FOUND

    def __init__(self, message: str, http_status: int = 404) -> None:
        super().__init__(message)
        self.http_status = http_status


class ForbiddenError(UpdaterError):
    """The source wants a fresh URL: 401 or 403.

    Attributes:
        http_status: The status that the server gave.
    """

    exit_code = 12
    result_code = ResultCode.FORBIDDEN

    def __init__(self, message: str, http_status: int = 403) -> None:
        super().__init__(message)
        self.http_status = http_status


class DigestError(UpdaterError):
    """A complete object arrived and it is not the announced one: digest or length differ."""

    exit_code = 13
    result_code = ResultCode.DIGEST


class SchemeError(UpdaterError):
    """The URL, or where it redirects to, is not a kind that this device accepts."""

    exit_code = 14


class SpaceError(UpdaterError):
    """The image does not fit.

    Attributes:
        needed_bytes: Size of the image; 0 if nobody knows it: it grew too large.
        held_bytes: Size of the slot, or the largest image that is accepted.
    """

    exit_code = 15

    def __init__(self, needed_bytes: int, held_bytes: int, place: str) -> None:
        needs = f"needs {needed_bytes} bytes" if needed_bytes else "does not fit"
        super().__init__(f"image {needs}, {place} holds {held_bytes}")
        self.needed_bytes = needed_bytes
        self.held_bytes = held_bytes


class DeviceError(UpdaterError):
    """The device to be written is missing, write-protected, of no known kind, or the booted one."""

    exit_code = 16


class StorageError(UpdaterError):
    """The medium failed: a write, a flush or a read-back did not do what it should.

    Attributes:
        offset_bytes: Where on the device, or None if it is not about one place.
    """

    exit_code = 17

    def __init__(self, message: str, offset_bytes: int | None = None) -> None:
        super().__init__(message)
        self.offset_bytes = offset_bytes


class EnvironmentStoreError(UpdaterError):
    """The boot environment cannot be read, or a store did not take.

    Attributes:
        undecided: True if the copies cannot be read back, so that only the next boot can tell.
    """

    exit_code = 18

    def __init__(self, message: str, *, undecided: bool = False) -> None:
        super().__init__(message)
        self.undecided = undecided


class SlotError(UpdaterError):
    """The slots found do not fit the slot table, or the booted slot cannot be told for sure."""

    exit_code = 19


class JournalError(UpdaterError):
    """The journal cannot be read or written: no new install is begun."""

    exit_code = 20


class LinkError(UpdaterError):
    """The MQTT broker refuses, or cannot be reached; or the cloud does not register the device.

    Attributes:
        is_clock_suspect: True if a device's clock that is wrong would explain it.
    """

    exit_code = 21

    def __init__(self, message: str, *, is_clock_suspect: bool = False) -> None:
        super().__init__(message)
        self.is_clock_suspect = is_clock_suspect


class OfferError(UpdaterError):
    """An offer, or another message of the cloud, breaks a limit or a rule."""

    exit_code = 22


class HealthError(UpdaterError):
    """The new slot is not healthy."""

    exit_code = 23


class CancelledError(UpdaterError):
    """Someone asked to stop."""

    exit_code = 24


class StartOverError(UpdaterError):
    """What was written so far is of no use: the object changed, or what was resumed is wrong.

    Beginning again at the first byte may help; nothing of this try is taken up again.
    """

    exit_code = 25


class FormatError(UpdaterError):
    """The compressed firmware is damaged, or needs more memory than its decoder may take."""

    exit_code = 26


class IllegalEventError(UpdaterError):
    """The state machine does not know this event in this state; nothing changed."""

    exit_code = 70

    def __init__(self, state: object, event: object) -> None:
        super().__init__(f"{event!r} is not possible in state {state!r}")
        self.state = state
        self.event = event

# SPDX-License-Identifier: MIT
"""The loop breaker: a firmware that keeps failing is tried less and less often, then not at all.

Whatever ends a session in ``fail`` counts, for that firmware (version, md5sum, file_size) alone: a
cloud that repeats its task, or a fleet's console that retries by itself, would otherwise have the
device download, boot and fall back for ever. The next try waits, longer after each failure; past a
number of them it is refused. A session that ends well, or a person, makes all of it forgotten.

A trial that was lost for want of the link alone says as much of the network as of the image. It is
left undecided, and counts only if the old slot then connects in the time that the new one had.

A person's cancel is no failure of the firmware, and is not counted. But a cloud that repeats its
task within minutes must not undo it: the next try waits as after a first failure.
"""

from collections.abc import Iterable
from dataclasses import replace

from updater.core.backoff import doubled_s
from updater.core.cancel import is_cancelled
from updater.core.config import OffersConfig
from updater.core.model import Failures, Firmware, Session, State

LINK_ALONE = "health: link not proven"  # how the reason of such a trial begins


def of(firmware: Firmware, known: Iterable[Failures]) -> Failures:
    """Return what is known of *firmware*: perhaps that it has never failed."""
    return next((each for each in known if each.firmware == firmware), Failures(firmware, 0, 0.0))


def after(session: Session, known: Failures, time_s: float) -> Failures | None:
    """Return what is known of a firmware once its *session* has ended; None if nothing changes.

    Args:
        session: As it stands now.
        known: What was known of its firmware.
        time_s: Now, UNIX seconds.
    """
    if is_cancelled(session):
        return cancelled(known, time_s)
    if session.state is State.FAILED:
        if session.reason.startswith(LINK_ALONE):
            return Failures(known.firmware, known.count, time_s, is_undecided=True)
        return Failures(known.firmware, known.count + 1, time_s)
    is_over = session.state is State.GOOD and not known.is_none
    return Failures(known.firmware, 0, time_s) if is_over else None


def cancelled(known: Failures, time_s: float) -> Failures:
    """Return what is known of a firmware once a person has cancelled it: it waits, from now on."""
    return replace(known, time_s=time_s, is_cancelled=True)


def decided(failures: Failures, *, is_counted: bool) -> Failures:
    """Return *failures* without a doubt: what was undecided is counted, or is nothing."""
    return replace(failures, count=failures.count + is_counted, is_undecided=False)


def is_refused(failures: Failures, limits: OffersConfig) -> bool:
    """Tell whether the firmware is not tried any more."""
    return failures.count >= limits.failures


def pause_s(failures: Failures, limits: OffersConfig) -> float:
    """Return how long after its last failure, or a cancel, the firmware is not tried."""
    if failures.count == 0 and not failures.is_cancelled:
        return 0.0
    doublings = max(failures.count - 1, 0)
    return doubled_s(limits.retry_wait_s, doublings, limits.retry_wait_limit_s)


def left_s(failures: Failures, limits: OffersConfig, time_s: float) -> float:
    """Return how much of the pause is left at *time_s*, UNIX seconds.

    A clock that was set back, or has not been set yet, never makes it longer than the pause.
    """
    pause = pause_s(failures, limits)
    return min(max(failures.time_s + pause - time_s, 0.0), pause)

# SPDX-License-Identifier: MIT
"""A person's cancel: what it can still stop, and how the cloud and the history hear of it.

Until the activation nothing speaks of the target, and an install can simply end. From the store of
the environment on the bootloader may boot the target at any moment: that is left by a rollback.
"""

from updater.core.errors import UsageError, WrongStateError
from updater.core.model import Session, State

CANCELLED = "cancelled"  # how the reason of such an end begins
REASON_LIMIT = 100  # with what stands before it, it fits the cloud's message

_TOO_LATE = {
    State.ACTIVATED: "boots next, on trial; once it runs: updater rollback",
    State.TRIAL: "runs on trial; to leave it: updater rollback",
    State.ROLLING_BACK: "is being left already: the old slot boots next",
}


def check_reason(value: object) -> str:
    """Return *value*, a person's words or None for none, if it can be told.

    Raises:
        UsageError: It is too long, or not of ASCII: the cloud's message carries nothing else.
    """
    text = "" if value is None else value
    if not isinstance(text, str) or len(text) > REASON_LIMIT or not _is_plain(text):
        raise UsageError(f"a reason is at most {REASON_LIMIT} printable characters of ASCII")
    return text


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def reason_for(text: str) -> str:
    """Return the reason of a session that a person has ended with *text*, or without a word."""
    return f"{CANCELLED}: {text}" if text else f"{CANCELLED} by a person"


def is_cancelled(session: Session) -> bool:
    """Tell whether a person has ended *session*."""
    return session.state is State.FAILED and session.reason.startswith(CANCELLED)


def stoppable(session: Session | None) -> Session | None:
    """Return *session* if it is open and can be cancelled; None if none is open.

    Raises:
        WrongStateError: It is open, and too late for that.
    """
    if session is None or session.state.is_final:
        return None
    if session.state in _TOO_LATE:
        raise WrongStateError(
            f"too late to cancel: version {session.offer.firmware.version} "
            f"{_TOO_LATE[session.state]}"
        )
    return session


def nothing() -> WrongStateError:
    """Return what is said where there is nothing to cancel."""
    return WrongStateError("nothing is being installed, and no offer is kept for later")

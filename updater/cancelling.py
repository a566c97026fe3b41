# SPDX-License-Identifier: MIT
"""``updater cancel``: ends the install that goes on, and drops the offer that is kept for later.

By the running agent, or without one over the journal alone: a session that waits there for an agent
ends before one takes it up. The order is that of any end: what runs is stopped (the pipeline, a
check, a command of the policy), the end is journalled with the report that it owes, and only then
anybody is told.
"""

from typing import TYPE_CHECKING

from updater.core import cancel, machine
from updater.core.errors import CancelledError, JournalError, WrongStateError
from updater.core.journalrows import refusals_of
from updater.core.model import Offer, Session
from updater.device import Device
from updater.endings import saving

if TYPE_CHECKING:
    from updater.agent import Agent


def cancel_here(agent: "Agent", text: str) -> dict[str, object]:
    """Cancel what *agent* is about to bring in, for the reason *text*, and return what it was.

    Raises:
        WrongStateError: There is nothing to cancel, or it is too late; nothing changed.
        JournalError: It has stopped, and the journal cannot take note: a restart would go on.
    """
    if agent.is_orphan:
        raise WrongStateError("the booted slot is on trial; to leave it: updater rollback")
    session = cancel.stoppable(agent.session)
    reason = cancel.reason_for(text)
    kept, asked = agent.keeper.cancel(), agent.keeper.cancel_asked(reason)
    if session is None and kept is None and asked is None:
        raise cancel.nothing()
    if session is not None:
        agent.withdraw(reason)
    if kept is not None and agent.cloud is not None and not _is_told(session, kept):
        agent.cloud.refuse(kept, CancelledError(reason))
    if agent.is_end_unsaved:
        raise JournalError(
            "the install has stopped, and the journal cannot take note of it: it is tried again, "
            "and a restart before that goes on with the install"
        )
    return cancelled(session, kept, asked)


def _is_told(session: Session | None, kept: Offer) -> bool:
    """Tell whether the report of *session*'s end is one of *kept* too, as far as the cloud sees."""
    if session is None or session.offer.is_local:
        return False
    return refusals_of(session.offer) == refusals_of(kept)


def cancel_alone(device: Device, text: str) -> dict[str, object]:
    """Cancel what the journal of *device* holds, where no agent runs; an agent tells the cloud.

    Raises:
        WrongStateError: There is nothing to cancel, or it is too late; nothing changed.
        JournalError: Nothing is known of a session, or nothing changed.
    """
    device.journal.history(1)  # one that cannot be opened knows of no session, which is no answer
    session = cancel.stoppable(device.journal.current())
    if session is None:
        raise cancel.nothing()
    reason = cancel.reason_for(text)
    ended = machine.advance(session, machine.Withdrawn(reason))
    saving(device, session, ended, reason, None)()
    return cancelled(session)


def cancelled(
    session: Session | None, kept: Offer | None = None, asked: Offer | None = None
) -> dict[str, object]:
    """Return what was cancelled as an object for machines; what is asked about has no session."""
    install = asked if session is None else session.offer
    return {
        "session": None if session is None else session.id,
        "version": None if install is None else install.firmware.version,
        "kept": None if kept is None else kept.firmware.version,
    }

# SPDX-License-Identifier: MIT
"""A person's cancel: which states it stops, what it says, and which words it takes."""

from dataclasses import replace

import pytest

from updater.core import cancel, messages
from updater.core.errors import ResultCode, UsageError, WrongStateError
from updater.core.model import Firmware, Offer, Session, State

OFFER = Offer(Firmware("0.2", "0" * 32, 4096), "https://x.test/f")
SESSION = Session("5e55", State.INSTALLING, OFFER, "B", "A")


@pytest.mark.parametrize("state", State)
def test_a_session_is_stopped_until_its_activation(state: State) -> None:
    """After it the sentence says what to do instead; what has ended is nothing to cancel."""
    session = replace(SESSION, state=state)
    if state in {State.INSTALLING, State.INSTALLED}:
        assert cancel.stoppable(session) is session
    elif state.is_final:
        assert cancel.stoppable(session) is None
    else:
        with pytest.raises(WrongStateError, match=r"too late to cancel: version 0\.2 ") as caught:
            cancel.stoppable(session)
        is_left = state is State.ROLLING_BACK
        assert ("updater rollback" in str(caught.value)) is not is_left


def test_nothing_is_said_to_be_nothing() -> None:
    """Without a session there is none to stop, and a sentence for it."""
    assert cancel.stoppable(None) is None
    assert "nothing is being installed" in str(cancel.nothing())


@pytest.mark.parametrize(("value", "text"), [(None, ""), ("", ""), ("x" * 100, "x" * 100)])
def test_a_reason_may_be_missing(value: object, text: str) -> None:
    """And is taken as it is otherwise."""
    assert cancel.check_reason(value) == text


@pytest.mark.parametrize("value", ["x" * 101, "ä", "a\nb", "\x1b[2J", "\0", 5, ["x"], True, b"x"])
def test_a_reason_is_a_short_line_of_ascii(value: object) -> None:
    """It goes to a terminal, a log and the cloud."""
    with pytest.raises(UsageError, match="at most 100 printable"):
        cancel.check_reason(value)


def test_the_longest_reason_fits_the_message() -> None:
    """The cloud hears all of it."""
    reason = cancel.reason_for("x" * cancel.REASON_LIMIT)
    assert reason.encode() in messages.fail(OFFER, ResultCode.LOCAL, reason)


@pytest.mark.parametrize("text", ["", "the fleet's test has failed"])
def test_a_cancel_is_known_by_its_reason(text: str) -> None:
    """Of a session that has ended so, and of no other."""
    ended = replace(SESSION, state=State.FAILED, reason=cancel.reason_for(text))
    assert cancel.is_cancelled(ended)
    assert not cancel.is_cancelled(replace(ended, reason="install: cancelled by the server"))
    assert not cancel.is_cancelled(replace(ended, state=State.GOOD))

# SPDX-License-Identifier: MIT
"""The first signal is kept until the work can end; what becomes of the handlers and the others."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from updater.interruption import Interruption, interruptible

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
by_name = pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)


@contextmanager
def handlers() -> Iterator[list[object]]:
    """Give what handles the signals now, and put it back in the end."""
    before = [signal.getsignal(number) for number in ENDING]
    try:
        yield before
    finally:
        for number, handler in zip(ENDING, before, strict=True):
            signal.signal(number, handler)


@by_name
def test_a_signal_waits_until_it_is_asked_for(number: signal.Signals) -> None:
    """What is asked then raises, with the signal's number and what is left behind."""
    with interruptible() as interruption:
        interruption.check("not yet")
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt) as caught:
            interruption.check("a sentence")
    assert caught.value.args == (number, "a sentence")


@by_name
def test_where_waiting_may_have_no_end_it_raises_at_once(number: signal.Signals) -> None:
    """And so it does when it is asked for afterwards, for whoever has swallowed that."""
    with interruptible() as interruption:
        with pytest.raises(KeyboardInterrupt) as caught, interruption.at_once():
            signal.raise_signal(number)
        assert caught.value.args == (number,)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def test_one_that_came_before_raises_where_the_waiting_begins() -> None:
    """Nobody waits then."""
    with interruptible() as interruption:
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt), interruption.at_once():
            pytest.fail("not reached")


def test_the_first_one_counts() -> None:
    """Whoever presses twice does not break what ends in order."""
    with interruptible() as interruption:
        with pytest.raises(KeyboardInterrupt), interruption.at_once():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        interruption.note(signal.SIGHUP, None)  # at the same moment as the first
        with pytest.raises(KeyboardInterrupt) as caught:
            interruption.check()
    assert caught.value.args == (signal.SIGTERM,)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_the_handlers_are_put_back(is_interrupted: bool) -> None:
    """Also after a signal, and none of them is lost."""
    with handlers() as before:
        with interruptible():
            if is_interrupted:
                signal.raise_signal(signal.SIGHUP)
        assert [signal.getsignal(number) for number in ENDING] == before


def test_what_was_ignored_stays_so() -> None:
    """As nohup wants it."""
    with handlers():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interruptible() as interruption:
            signal.raise_signal(signal.SIGHUP)
            interruption.check()


def test_without_signals_nothing_raises() -> None:
    """An interruption that nobody tells of is none."""
    with Interruption().at_once():
        Interruption().check()

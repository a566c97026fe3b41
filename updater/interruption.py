# SPDX-License-Identifier: MIT
"""The first signal that would kill this process, kept until its work can end in order.

Python runs a signal's handler between any two of its instructions: also where a device was just
opened, and nobody knows yet that it must be closed. So the handler takes a note, and whoever works
asks for it where nothing gets lost. Only in a wait, which is such a place, does it raise at once.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Whether a signal has come."""

    def __init__(self) -> None:
        """Say that none has."""
        self._number = 0
        self._is_at_once = False

    def check(self, *left: str) -> None:
        """Go on unless a signal has come.

        Args:
            left: What is left behind, in sentences.

        Raises:
            KeyboardInterrupt: One has; its number and *left* are the arguments.
        """
        if self._number:
            raise KeyboardInterrupt(self._number, *left)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal raise wherever it comes within this context, or if it has come before."""
        self._is_at_once = True
        try:
            self.check()
            yield
        finally:
            self._is_at_once = False

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Take in that a signal has come; the first one counts, and others are ignored."""
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        if self._number:  # two came at the same moment
            return
        self._number = number
        if self._is_at_once:
            raise KeyboardInterrupt(number)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Keep the first signal that would kill this process; those that would not are as they are."""
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in _ENDING}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # nohup, say
                signal.signal(number, interruption.note)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

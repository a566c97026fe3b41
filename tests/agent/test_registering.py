# SPDX-License-Identifier: MIT
"""When a device registers, and that its link waits for it: over fakes, in a time of their own."""

from collections.abc import Iterable

import pytest
from sim.clock import Clock

from updater.activity import NEVER_S
from updater.core.errors import (
    ConfigError,
    LinkError,
    StorageError,
    TransportError,
    UpdaterError,
    WrongStateError,
)
from updater.core.link import Connected, Disconnected, LinkEvent
from updater.registering import (
    BACKOFF_LIMIT_S,
    LOOK_INTERVAL_S,
    REFUSED_S,
    RegisteringLink,
)


class RealLink:
    """A link that connects at once, and remembers that it was touched."""

    def __init__(self) -> None:
        self.pumps: list[tuple[bool, bool]] = []
        self.published: list[bytes] = []
        self.is_closed = False

    def fileno(self) -> int | None:
        return 7

    def wants_write(self) -> bool:
        return True

    def next_deadline_s(self) -> float:
        return 42.0

    def pump(self, *, readable: bool, writable: bool) -> Iterable[LinkEvent]:
        self.pumps.append((readable, writable))
        return [Connected()]

    def publish(self, payload: bytes, qos: int) -> int:
        self.published.append(payload)
        return qos

    def is_connected(self) -> bool:
        return bool(self.pumps)

    def is_registering(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True


class Running:
    """One try, which ends when the test says so."""

    def __init__(self) -> None:
        self.outcome: UpdaterError | None = None
        self.ended = self.is_closed = False

    def fileno(self) -> int:
        return 99

    def is_over(self) -> bool:
        return self.ended

    def result(self) -> None:
        if self.outcome is not None:
            raise self.outcome

    def close(self) -> None:
        self.is_closed = True


class Registration:
    """Remembers every try."""

    def __init__(self) -> None:
        self.has_secret = False
        self.looks = 0
        self.problem: UpdaterError | None = None
        self.tries: list[Running] = []

    def is_registered(self) -> bool:
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return self.has_secret

    def start(self) -> Running:
        self.tries.append(Running())
        return self.tries[-1]


class Bench:
    """A link over all that."""

    def __init__(self) -> None:
        self.clock, self.real, self.registration = Clock(), RealLink(), Registration()
        self.drawn: list[tuple[float, float]] = []
        self.link = RegisteringLink(self.real, self.registration, self.clock, self._draw)

    def _draw(self, low: float, high: float) -> float:
        self.drawn.append((low, high))
        return high

    def pump(self) -> list[LinkEvent]:
        return list(self.link.pump(readable=False, writable=False))

    def end(self, outcome: UpdaterError | None = None) -> list[LinkEvent]:
        """Let the last try end, and return what the link says to that."""
        running = self.registration.tries[-1]
        running.outcome, running.ended = outcome, True
        return self.pump()

    def wait(self) -> float:
        """Let the loop sleep until the next try begins; return how long that was."""
        began_s, tries = self.clock.now_s, len(self.registration.tries)
        while len(self.registration.tries) == tries:
            assert self.link.next_deadline_s() >= self.clock.now_s
            self.clock.now_s = self.link.next_deadline_s()
            self.pump()
        return self.clock.now_s - began_s


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_device_with_a_secret_just_connects(bench: Bench) -> None:
    """One look, and from then on all is the real link's."""
    bench.registration.has_secret = True
    assert bench.link.next_deadline_s() <= bench.clock.now_s
    assert bench.pump() == [Connected()]
    assert bench.link.fileno() == 7
    assert bench.link.wants_write()
    assert bench.link.next_deadline_s() == 42.0
    assert bench.link.is_connected()
    assert not bench.link.is_registering()
    assert bench.link.publish(b"x", 1) == 1
    list(bench.link.pump(readable=True, writable=True))
    assert bench.real.pumps == [(False, False), (True, True)]
    assert bench.real.published == [b"x"]
    assert (bench.registration.looks, bench.registration.tries) == (1, [])


def test_a_device_without_one_registers_first(bench: Bench) -> None:
    """The real link is not touched before the secret is stored; then it connects in that turn."""
    assert bench.link.fileno() is None
    assert bench.pump() == []
    assert bench.link.fileno() == 99
    assert bench.link.next_deadline_s() == NEVER_S
    assert not bench.link.wants_write()
    assert not bench.link.is_connected()
    assert bench.link.is_registering()
    assert bench.pump() == []
    assert bench.real.pumps == []
    bench.registration.has_secret = True
    assert bench.end() == [Connected()]
    assert not bench.link.is_registering()
    assert bench.registration.tries[0].is_closed
    assert len(bench.registration.tries) == 1


def test_what_may_pass_is_tried_again_less_and_less_often(bench: Bench) -> None:
    """Each failure is told with its reason; pauses double from 5 s to 5 min, each drawn from 0."""
    bench.pump()
    pauses = []
    for _ in range(9):
        assert bench.end(TransportError("no answer")) == [
            Disconnected("cannot register: no answer")
        ]
        assert bench.registration.tries[-1].is_closed
        pauses.append(bench.wait())
    assert pauses == [5, 10, 20, 40, 80, 160, *[BACKOFF_LIMIT_S] * 3]
    assert bench.drawn == [(0.0, pause) for pause in pauses]
    assert bench.real.pumps == []


@pytest.mark.parametrize("error", [ConfigError("no file"), StorageError("full")])
def test_what_is_wrong_here_is_tried_again_too(bench: Bench, error: UpdaterError) -> None:
    """Somebody may mend the file or the medium."""
    bench.pump()
    assert bench.end(error) == [Disconnected(f"cannot register: {error}")]
    assert bench.wait() == 5


def test_a_refusal_is_tried_again_rarely(bench: Bench) -> None:
    """A person has to act first: once an hour is enough, and says so once an hour."""
    bench.pump()
    for _ in range(3):
        assert bench.end(LinkError("code 1021")) == [Disconnected("cannot register: code 1021")]
        assert bench.wait() == REFUSED_S


def test_a_secret_that_somebody_else_stores_is_noticed(bench: Bench) -> None:
    """A device that waits for the next try looks once a minute, and connects."""
    bench.pump()
    bench.end(LinkError("code 1021"))
    bench.registration.has_secret = True
    assert bench.link.next_deadline_s() == bench.clock.now_s + LOOK_INTERVAL_S
    bench.clock.now_s = bench.link.next_deadline_s()
    assert bench.pump() == [Connected()]
    assert len(bench.registration.tries) == 1


def test_somebody_else_who_was_faster_is_no_failure_that_waits(bench: Bench) -> None:
    """A secret that came meanwhile is used at once."""
    bench.pump()
    bench.end(WrongStateError("has a secret already"))
    bench.registration.has_secret = True
    assert bench.link.next_deadline_s() <= bench.clock.now_s
    assert bench.pump() == [Connected()]


def test_a_place_that_cannot_be_looked_at_is_told(bench: Bench) -> None:
    """Nobody is asked while it is not known whether there is a secret."""
    bench.registration.problem = StorageError("Input/output error")
    assert bench.pump() == [Disconnected("cannot register: Input/output error")]
    bench.registration.problem = None
    assert bench.wait() == 5
    assert len(bench.registration.tries) == 1


def test_closing_ends_what_runs(bench: Bench) -> None:
    """The registration and the link."""
    bench.link.close()
    assert bench.real.is_closed
    bench.pump()
    bench.link.close()
    assert bench.registration.tries[0].is_closed

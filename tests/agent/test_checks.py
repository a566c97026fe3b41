# SPDX-License-Identifier: MIT
"""Health: one round before an activation, rounds until a deadline in a trial."""

from collections.abc import Callable

import pytest
from sim.clock import Clock
from sim.machine import CHECKING_S, MemoryHealth

from updater import activity
from updater.activity import NEVER_S
from updater.checks import Baseline, Rounds
from updater.core.config import HealthCommand, HealthConfig

ONE, TWO = (HealthCommand(name=n, argv=("x",), timeout_s=30.0, retry_s=5.0) for n in ("one", "two"))


class Bench:
    """A clock, checks whose problems a test sets, and what was told."""

    def __init__(self, *commands: HealthCommand, link: bool = False) -> None:
        self.clock = Clock()
        self.problems: dict[str, str | None] = {}
        self.started: list[str] = []
        self.told: list[object] = []
        self.settings = HealthConfig(
            deadline_s=100.0, link=link, link_deadline_s=200.0, command=commands
        )
        self.health = MemoryHealth(self.clock, self.settings, self._problem)

    def _problem(self, name: str) -> str | None:
        self.started.append(name)
        return self.problems.get(name, "")

    def rounds(self, *excused: str, is_link_up: bool = False) -> Rounds:
        """Begin to judge."""
        rounds = Rounds(self.health, self.settings, self.clock, self.told.append)
        rounds.start(excused, is_link_up=is_link_up)
        return rounds

    def baseline(self) -> Baseline:
        """Begin a baseline."""
        baseline = Baseline(self.health, self.settings, self.clock, self.told.append)
        baseline.start()
        return baseline

    def run(self, checks: Rounds | Baseline, until: Callable[[], bool] | None = None) -> float:
        """Run *checks* until they tell, or *until*; return how long that took."""
        begun_s = self.clock.now_s
        self.clock.limit_s = begun_s + 1000
        while not (self.told if until is None else until()):
            assert self.clock.now_s < self.clock.limit_s, "nothing is told"
            activity.step([checks], self.clock, self.clock)
        assert until is not None or self.clock.open_descriptors == 0
        return self.clock.now_s - begun_s

    def run_for(self, checks: Rounds, seconds: float) -> None:
        """Let *seconds* pass."""
        self.clock.limit_s = self.clock.now_s + seconds
        while self.clock.now_s < self.clock.limit_s:
            activity.step([checks], self.clock, self.clock)


# --- before an activation -------------------------------------------------------------------------


def test_a_baseline_tells_what_failed() -> None:
    """Each command runs once; a failure condemns nobody."""
    bench = Bench(ONE, TWO)
    bench.problems["two"] = "exit status 1"
    assert bench.run(bench.baseline()) == CHECKING_S
    assert (bench.told, bench.started) == ([("two",)], ["one", "two"])


def test_a_baseline_without_commands_is_told_in_the_next_turn() -> None:
    """Never from within ``start``."""
    bench = Bench()
    baseline = bench.baseline()
    assert not bench.told
    assert bench.run(baseline) == 0
    assert bench.told == [()]
    assert baseline.deadline_s() == NEVER_S


def test_a_baseline_does_not_wait_for_ever() -> None:
    """A command past its time-out has failed, though its descriptor says nothing of it."""
    bench = Bench(ONE, TWO)
    bench.problems["one"] = None
    assert bench.run(bench.baseline()) == pytest.approx(30, abs=1)
    assert bench.told == [("one",)]


def test_a_stopped_baseline_tells_nothing() -> None:
    """And leaves nothing running."""
    bench = Bench(ONE)
    baseline = bench.baseline()
    baseline.stop()
    assert bench.clock.open_descriptors == 0
    assert (baseline.deadline_s(), baseline.interests()) == (NEVER_S, {})
    baseline.wake({})
    assert not bench.told


# --- in a trial -----------------------------------------------------------------------------------


def test_a_slot_is_healthy_once_everything_has_passed() -> None:
    """The first round is enough."""
    bench = Bench(ONE, TWO)
    assert bench.run(bench.rounds()) == CHECKING_S
    assert bench.told == [""]


def test_without_commands_and_link_a_slot_is_healthy() -> None:
    """In the next turn of the loop."""
    bench = Bench()
    assert bench.run(bench.rounds()) == 0
    assert bench.told == [""]


def test_what_has_passed_is_not_asked_again() -> None:
    """Only what failed is tried in the next round, after its pause."""
    bench = Bench(ONE, TWO)
    bench.problems["two"] = "exit status 1"
    rounds = bench.rounds()
    bench.run(rounds, lambda: len(bench.started) == 3)
    bench.problems["two"] = ""
    assert bench.run(rounds) == pytest.approx(5.5, abs=0.1)
    assert bench.started == ["one", "two", "two", "two"]
    assert bench.told == [""]


def test_what_does_not_pass_in_time_condemns() -> None:
    """The verdict names the first check that is open, and what it last said."""
    bench = Bench(ONE, TWO, link=True)
    bench.problems["two"] = "exit status 1"
    assert bench.run(bench.rounds(is_link_up=True)) == pytest.approx(100, abs=0.1)
    assert bench.told == ["health: two: exit status 1"]


def test_a_check_that_fails_without_a_word_has_failed() -> None:
    """There is always a reason."""
    bench = Bench(HealthCommand(name="one", argv=("x",), timeout_s=200.0))
    bench.problems["one"] = None
    assert bench.run(bench.rounds()) == pytest.approx(100, abs=0.1)
    assert bench.told == ["health: one: no result yet"]


def test_a_check_that_hangs_does_not_hold_the_verdict_up() -> None:
    """It runs out of time, is tried again, and condemns at the deadline at the latest."""
    bench = Bench(ONE)
    bench.problems["one"] = None
    assert bench.run(bench.rounds()) == pytest.approx(100, abs=1)
    assert bench.told == ["health: one: no result in time"]
    assert len(bench.started) == 4


def test_an_excused_check_is_not_asked() -> None:
    """It had failed before the update: neither its result nor its silence counts."""
    bench = Bench(ONE, TWO)
    bench.problems["one"] = None
    assert bench.run(bench.rounds("one")) == CHECKING_S
    assert (bench.told, bench.started) == ([""], ["two"])


def test_the_link_has_a_deadline_of_its_own() -> None:
    """The loop sleeps until then: a deadline that no longer matters wakes nobody."""
    bench = Bench(ONE, link=True)
    assert bench.run(bench.rounds()) == pytest.approx(200, abs=0.1)
    assert bench.told == ["health: link not proven within 200 s"]


@pytest.mark.parametrize("after_s", [0.1, 50.0, 150.0])
def test_the_link_may_be_proven_at_any_time(after_s: float) -> None:
    """Before or after the commands have passed; then the verdict comes at once."""
    bench = Bench(ONE, link=True)
    rounds = bench.rounds()
    bench.run_for(rounds, after_s)
    rounds.link_proven()
    rounds.link_proven()
    assert bench.run(rounds) == pytest.approx(max(CHECKING_S - after_s, 0.0), abs=0.01)
    assert bench.told == [""]


def test_a_proven_link_does_not_hurry_a_failing_command() -> None:
    """Its pause stays its pause."""
    bench = Bench(ONE, link=True)
    bench.problems["one"] = "exit status 1"
    rounds = bench.rounds()
    bench.run_for(rounds, 2.0)
    rounds.link_proven()
    bench.run_for(rounds, 2.0)
    assert bench.started == ["one"]
    bench.run_for(rounds, 2.0)
    assert bench.started == ["one", "one"]


def test_what_was_stopped_judges_no_more() -> None:
    """No verdict, nothing left running, and a proof that comes too late is ignored."""
    bench = Bench(ONE, link=True)
    rounds = bench.rounds()
    rounds.stop()
    rounds.link_proven()
    rounds.wake({})
    assert (rounds.deadline_s(), rounds.interests()) == (NEVER_S, {})
    assert bench.clock.open_descriptors == 0
    assert not bench.told

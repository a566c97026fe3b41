# SPDX-License-Identifier: MIT
"""The harness itself: its laws bite, its time moves, and its journal behaves like the real one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.clock import Clock
from sim.flash import Image, Medium
from sim.instants import Instants, cut_power
from sim.settings import NEW
from sim.storage import MemoryJournal
from sim.world import World

from updater import activity
from updater.core import messages
from updater.core.errors import ResultCode
from updater.core.journal import Journal
from updater.core.model import Failures, Firmware, Offer, OwedReport, Session, SlotRecord, State
from updater.core.ports import Phase
from updater.edge.journal import SqliteJournal


def settled() -> World:
    world = World()
    world.run_until_calm()
    return world


def tried() -> World:
    world = World()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    return world


# --- the laws bite --------------------------------------------------------------------------------


def boot_incomplete(world: World) -> None:
    world.media["A"].body = None
    world.lose_power()


def stop_at_the_prompt(world: World) -> None:
    world.media["A"].head = None
    world.lose_power()


def boot_for_ever(world: World) -> None:
    panicking = Image("0.1", panics=True)
    world.media["A"] = Medium(panicking, panicking)
    world.lose_power()


def write_the_preferred_slot(world: World) -> None:
    world.environment.variables["boot_slot"] = "B"
    session = world.session_for(NEW, world.offer(NEW))
    request = world.agent.device.request_for(session, world.finder.slots.target)
    running = world.pipeline.open_install(request)
    assert running.step(0.0).phase is Phase.CONNECTING
    running.step(0.0)


def write_the_booted_slot(world: World) -> None:
    session = world.session_for(NEW, world.offer(NEW))
    request = world.agent.device.request_for(session, world.finder.slots.booted)
    world.pipeline.open_install(request)


class Gullible(Medium):
    """A medium that nobody looks at before going on."""

    def holds(self, image: Image, parts: int) -> bool:
        del image, parts
        return True


def go_on_with_another_image(world: World) -> None:
    world.media["B"] = Gullible()
    world.lose_power()
    world.offer(NEW)
    world.run(lambda: any(kept.parts == 2 for kept in world.checkpoints.values()))
    world.media["B"].prefix = (Image("0.0"), 2)
    world.lose_power()


def say_an_end_that_nobody_journalled(world: World) -> None:
    world.cloud.hear(messages.done(Offer(NEW.firmware, "")), 1)


def say_another_version(world: World) -> None:
    world.cloud.hear(messages.report_version("7"), 1)


def owe_two(world: World) -> list[bytes]:
    """Return what two failed sessions owe the cloud, which is not there."""
    world.lose_network()
    world.cloud.is_reachable = False
    for number in (1, 2):
        failed = session(number, State.FAILED)
        world.journal.save(
            failed, "failed", report=messages.fail(failed.offer, ResultCode.LOCAL, str(number))
        )
    return [row.payload for row in world.journal.owed()]


def overtake(world: World) -> None:
    link, owed = world.cloud.link, owe_two(world)
    world.cloud.link = link
    world.cloud.hear(owed[1], 1)


def say_twice(world: World) -> None:
    link, owed = world.cloud.link, owe_two(world)
    world.cloud.link = link
    world.cloud.hear(owed[0], 1)
    world.cloud.hear(owed[0], 1)


@pytest.mark.parametrize(
    ("crime", "verdict"),
    [
        (boot_incomplete, "slot A boots incomplete"),
        (stop_at_the_prompt, "bricked"),
        (boot_for_ever, "boots for ever"),
        (write_the_preferred_slot, "prefers the target"),
        (write_the_booted_slot, "never written"),
        (go_on_with_another_image, "slot B boots incomplete"),
        (say_an_end_that_nobody_journalled, "no journal has it"),
        (say_another_version, "not what runs"),
        (overtake, "overtakes an earlier one"),
        (say_twice, "twice"),
    ],
)
def test_a_broken_law_is_noticed(crime: Callable[[World], None], verdict: str) -> None:
    """Each of them, in the moment it is broken."""
    world = settled()
    with pytest.raises(AssertionError, match=verdict):
        crime_and_time(world, crime)


def crime_and_time(world: World, crime: Callable[[World], None]) -> None:
    crime(world)
    world.run_for(3600)


def test_a_version_in_a_trial_is_noticed() -> None:
    """The cloud could take it for success."""
    world = tried()
    with pytest.raises(AssertionError, match="in a trial"):
        world.cloud.hear(messages.report_version("0.2"), 1)


def test_what_is_not_done_in_time_is_noticed() -> None:
    """With the last words that the cloud has heard."""
    world = settled()
    with pytest.raises(AssertionError, match=r"not within 5 s; heard: \['report_version 0.1'\]"):
        world.run(lambda: world.runs(NEW), 5)


def test_a_cut_happens_at_its_instant() -> None:
    """Before it nothing took, after it everything did; the world goes on from there."""
    for number, changed in ((0, False), (1, True)):
        world = settled()
        world.instants.at(len(world.instants.names) + number, cut_power)
        world.offer(NEW)
        world.run_for(0.1)
        assert bool(world.journal.sessions) is changed
        assert world.cloud.link is None


# --- time -----------------------------------------------------------------------------------------


class Restless:
    """An activity whose deadline is always over, and that does nothing about it."""

    def interests(self) -> dict[int, int]:
        return {}

    def deadline_s(self) -> float:
        return 0.0

    def wake(self, ready: object) -> None:
        del ready


def turn_for_ever(activities: list[Restless], clock: Clock) -> None:
    while True:
        activity.step(activities, clock, clock)


def test_a_loop_that_spins_is_noticed() -> None:
    """On a device it would be a processor at full load."""
    clock, restless = Clock(), Restless()
    with pytest.raises(AssertionError, match="spins"):
        turn_for_ever([restless], clock)


def test_a_loop_that_would_never_wake_is_noticed() -> None:
    """A test without a limit would hang."""
    clock = Clock()
    with pytest.raises(AssertionError, match="for ever"):
        activity.step([], clock, clock)


# --- the journal is like the real one -------------------------------------------------------------

FIRMWARE = Firmware("0.2", "0" * 32, 4096)
RECORD = SlotRecord("B", FIRMWARE, "1" * 32, 8192)


def session(number: int, state: State) -> Session:
    offer = Offer(FIRMWARE, "https://firmware.test/f?sign=1", task_id=number)
    return Session(f"{number:016x}", state, offer, target="B", other="A", reason="r")


def save(journal: Journal, number: int, state: State, **more: Any) -> None:
    journal.save(session(number, state), f"{number} is {state.value}", **more)


def failures(number: int, *, count: int, doubt: bool = False) -> Failures:
    return Failures(replace(FIRMWARE, version=f"0.{number}"), count, 7.5, is_undecided=doubt)


def offer(number: int, task_id: int | None = None) -> Offer:
    return Offer(replace(FIRMWARE, version=f"0.{number}"), "https://x.test/f", task_id)


def settle_oldest(journal: Journal) -> None:
    owed = journal.owed()
    if owed:
        journal.settle(owed[0])


CALLS: list[Callable[[Journal, int], None]] = [
    lambda journal, n: save(journal, n, State.INSTALLING, void="B"),
    lambda journal, n: save(journal, n, State.INSTALLED, record=RECORD),
    lambda journal, n: save(journal, n, State.FAILED, report=b"fail %d" % n),
    lambda journal, n: save(journal, n, State.GOOD, report=b"done %d" % n),
    lambda journal, n: save(journal, n, State.TRIAL),
    lambda journal, n: journal.owe(f"{n:016x}", b"burning %d" % n),
    lambda journal, n: journal.owe_refusal(offer(n), b"refused %d" % n),
    lambda journal, n: journal.owe_refusal(offer(n, task_id=n), b"refused %d, a task" % n),
    lambda journal, n: journal.note(failures(n, count=n)),
    lambda journal, n: save(journal, n, State.FAILED, failures=failures(n, count=n, doubt=True)),
    lambda journal, n: save(journal, n, State.GOOD, failures=failures(n, count=0)),
    lambda journal, n: journal.note(replace(failures(n, count=0), is_cancelled=True)),
    lambda journal, _n: journal.forgive(),
    lambda journal, _n: settle_oldest(journal),
    lambda journal, _n: journal.void("B"),
]


def seen(journal: Journal) -> tuple[object, ...]:
    """Return everything that a journal says, but for times and row numbers."""
    return (
        journal.current(),
        [(row.session_id, row.payload, row.is_terminal) for row in journal.owed()],
        list(journal.failures()),
        [journal.record(name) for name in "AB"],
        [replace(line, time_s=0.0) for line in journal.history(5)],
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(CALLS), st.integers(1, 3)), max_size=12))
def test_the_journal_in_memory_is_like_the_one_on_disk(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[Callable[..., None], int]]
) -> None:
    """The same calls have the same answers."""
    real = SqliteJournal(str(tmp_path_factory.mktemp("journal")))
    memory = MemoryJournal(Instants())
    for call, number in calls:
        call(real, number)
        call(memory, number)
        assert seen(memory) == seen(real)
    real.close()
    memory.close()


def test_a_report_is_known_by_its_row(tmp_path: Path) -> None:
    """Settling one leaves the others."""
    for journal in (SqliteJournal(str(tmp_path)), MemoryJournal(Instants())):
        save(journal, 1, State.FAILED, report=b"one")
        save(journal, 2, State.FAILED, report=b"two")
        one, two = journal.owed()
        journal.settle(two)
        assert journal.owed() == [one]
        assert isinstance(one, OwedReport)
        journal.close()

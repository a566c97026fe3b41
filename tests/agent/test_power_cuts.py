# SPDX-License-Identifier: MIT
"""The law: after a cut at any instant, a complete image boots and the session ends in one outcome.

Each story is told once without a cut, which numbers its instants: before and after each durable
write, each part of the slot, each message. Then it is told again for each instant and each kind of
cut, to its end. What must hold at every boot and every message is asserted by ``sim.world``.
"""

from collections.abc import Callable
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.settings import OLD
from sim.storage import Fault
from sim.stories import CUTS, STORIES, assert_ended_well, assert_settled
from sim.world import World

from updater.core.model import Session, State

EVERY_INSTANT = [
    pytest.param(name, number, id=f"{name}-{number:02}-{instant}")
    for name, story in STORIES.items()
    for number, instant in enumerate(story.instants())
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("name", "number"), EVERY_INSTANT)
def test_one_cut_changes_no_outcome(name: str, number: int, cut: str) -> None:
    """A single cut, wherever it falls, is made up for: the story ends as without it."""
    story = STORIES[name]
    world = story.begin()
    world.instants.at(number, CUTS[cut](world))
    world.run_until_calm()
    assert_ended_well(world, story, cuts=1)
    assert world.outcomes[-1].code == story.code


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(STORIES)),
    st.dictionaries(st.integers(0, 150), st.sampled_from(sorted(CUTS)), min_size=2, max_size=6),
)
def test_many_cuts_break_no_law(name: str, plan: dict[int, str]) -> None:
    """However often it is cut, a story ends in one outcome that fits the slot that boots."""
    story = STORIES[name]
    world = story.begin()
    for number, cut in plan.items():
        world.instants.at(number, CUTS[cut](world))
    world.run_until_calm()
    assert_ended_well(world, story, cuts=len(plan))
    if story.code:
        assert world.outcomes[-1].state == "fail"


FAULTS: dict[str, Callable[[World], None]] = {
    "power": World.lose_power,
    "process": World.lose_process,
    "network": World.lose_network,
    "journal full": lambda world: setattr(world.journal, "is_writable", False),
    "journal has room": lambda world: setattr(world.journal, "is_writable", True),
    "broker silent": lambda world: setattr(world.cloud, "acknowledges", False),
    "broker speaks": lambda world: setattr(world.cloud, "acknowledges", True),
    **{
        f"environment: {fault.value}": lambda world, fault=fault: setattr(
            world.environment, "faults", iter([fault])
        )
        for fault in Fault
    },
}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(STORIES)),
    st.lists(st.tuples(st.integers(1, 80), st.sampled_from(sorted(FAULTS))), max_size=8),
)
def test_many_faults_break_no_law(name: str, plan: list[tuple[int, str]]) -> None:
    """A full journal, a refused store, a silent broker, and cuts between: one outcome that fits."""
    story = STORIES[name]
    world = story.begin()
    world.run(lambda: world.session is not None)
    for quarters, fault in plan:
        FAULTS[fault](world)
        world.run_for(quarters / 4)
    heal(world)
    assert_ended_well(world, story, cuts=2 + len(plan))


def heal(world: World) -> None:
    """Take every fault away and run to the end; a last start clears what a store had refused."""
    world.journal.is_writable = world.cloud.acknowledges = True
    world.environment.faults = iter(())
    world.lose_network()
    if world.agent_runs and world.agent.problem is not None:
        world.lose_power()  # it waits for a person: a store could not be read back twice
    world.run_until_calm()
    world.lose_power()
    world.run_until_calm()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 80), st.sampled_from(sorted({*FAULTS, *STORIES}))), max_size=10
    )
)
def test_many_offers_break_no_law(plan: list[tuple[int, str]]) -> None:
    """Offers that chase one another, faults between: each session ends in one outcome, in order."""
    world = World()
    for quarters, what in plan:
        if what in STORIES:
            world.offer(STORIES[what].offered, served=STORIES[what].served)
        else:
            FAULTS[what](world)
        world.run_for(quarters / 4)
    heal(world)
    sessions = list(world.journal.sessions.values())
    good = [session for session in sessions if session.state is State.GOOD]
    assert all(session.state.is_final for session in sessions)
    assert [report.session_id for report in world.journal.reports] == [s.id for s in sessions]
    assert_settled(world)
    assert world.booted.image.firmware == (good[-1].offer.firmware if good else OLD.firmware)
    told = [(message.version, message.state) for message in world.outcomes]
    assert [version_and_state for version_and_state, _ in groupby(told)] == [
        version_and_state for version_and_state, _ in groupby(map(ended, sessions))
    ]


def ended(session: Session) -> tuple[str, str]:
    """Return what the cloud has to hear of *session*."""
    return session.offer.firmware.version, "done" if session.state is State.GOOD else "fail"

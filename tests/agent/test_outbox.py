# SPDX-License-Identifier: MIT
"""What must arrive: journalled before it is said, said in order, once, until the broker has it.

That no row overtakes another and none is given to a connection twice is a law of the world itself.
"""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.flash import Image
from sim.instants import cut_power
from sim.settings import NEW
from sim.uplink import spoken
from sim.world import World

from updater.core.model import Offer
from updater.outbox import Outbox

CUTS: dict[str, Callable[[World], None]] = {
    "power": World.lose_power,
    "process": World.lose_process,
    "network": World.lose_network,
}


def started() -> World:
    world = World()
    world.run_until_calm()
    return world


def sure(world: World) -> list[str]:
    """Return what the cloud has heard at QoS 1, but for versions."""
    return [spoken(m) for m in world.cloud.messages if m.qos and m.type != "report_version"]


def burning_unacknowledged() -> World:
    """Return a world whose cloud has heard a burning and not acknowledged it."""
    world = started()
    world.problems["gateway"] = None  # the baseline takes its time
    world.cloud.acknowledges = False
    world.offer(NEW)
    world.run(lambda: "burning" in world.heard)
    return world


@pytest.mark.parametrize("name", ["burning", "done"])
def test_what_must_arrive_is_in_the_journal_before_it_is_said(name: str) -> None:
    """A power cut after the one and before the other loses nothing."""
    instant = {"burning": "journal: burning owed", "done": "journal: good"}[name]
    world = started()
    world.instants.on(f"after {instant}", cut_power)
    world.offer(NEW)
    world.run(lambda: world.instants.names[-1].startswith(f"after {instant}"))
    assert name not in world.heard
    assert name.encode() in world.journal.undelivered[-1].payload
    world.run_until_calm()
    assert name in sure(world)


@pytest.mark.parametrize("cut", CUTS)
def test_a_burning_is_said_until_its_puback(cut: str) -> None:
    """In each new connection, by each new process, once."""
    world = burning_unacknowledged()
    for number in range(1, 4):
        CUTS[cut](world)
        world.run(lambda number=number: sure(world) == ["burning"] * (number + 1), 300)
        world.run_for(3)
        assert len(sure(world)) == number + 1
        assert [row.is_terminal for row in world.journal.undelivered] == [False]
    world.cloud.acknowledges = True
    world.problems.clear()
    world.lose_network()
    world.run_until_calm()
    assert sure(world)[-1] == "done"
    assert not world.journal.undelivered


def test_a_burning_with_its_puback_is_not_owed_again() -> None:
    """A restart before the activation shows life at QoS 0 only."""
    world = started()
    world.problems["gateway"] = None
    world.offer(NEW)
    world.run(lambda: "burning" in world.heard)
    world.run_for(1)
    for _ in range(3):
        world.lose_process()
        world.run_for(10)
    assert sure(world) == ["burning"]


def test_an_owed_burning_is_the_proof_of_a_trial() -> None:
    """Its PUBACK proves the link; there is no second one beside it."""
    world = burning_unacknowledged()
    world.problems.clear()
    world.run(lambda: world.runs(NEW))
    world.cloud.acknowledges = True
    world.run_until_calm()
    assert sure(world) == ["burning", "burning", "done"]


def test_a_burning_goes_before_the_end_of_its_session() -> None:
    """Both happened without a link; both are told, in this order."""
    world = started()
    world.parts = 40
    world.lose_process()
    world.offer(NEW, served=Image("9"))
    world.run(lambda: "downloading 0" in world.heard)
    world.cloud.is_reachable = False
    assert world.cloud.link is not None
    world.cloud.link.drop("the connection was reset")
    world.run(lambda: world.session is not None and world.session.state.is_final)
    world.cloud.is_reachable = True
    world.run_until_calm()
    assert sure(world) == ["burning", "fail -4"]
    assert world.heard[-3:] == ["burning", "fail -4", "report_version 0.1"]


def test_the_puback_of_something_else_settles_nothing() -> None:
    """A row waits for its own, whatever else is acknowledged beside it."""
    world = burning_unacknowledged()
    [row] = world.journal.undelivered
    outbox = Outbox(world.journal, world.clock)
    outbox.sent(row, 7)
    assert not outbox.acknowledged(8)
    assert outbox.is_waiting
    assert world.journal.undelivered == [row]


@pytest.mark.parametrize("cut", CUTS)
def test_the_end_of_a_session_waits_for_its_burning(cut: str) -> None:
    """The order of the journal is the order on the wire, whatever is not acknowledged."""
    world = started()
    world.cloud.acknowledges = False
    world.offer(NEW, served=Image("9"))
    world.run(lambda: world.session is not None and world.session.state.is_final)
    world.run_for(60)
    assert sure(world) == ["burning"]
    CUTS[cut](world)
    world.cloud.acknowledges = True
    world.run_until_calm()
    assert sure(world) == ["burning", "burning", "fail -4"]


def test_a_burning_that_cannot_be_journalled_is_said_all_the_same() -> None:
    """It only shows life then; the session fails for want of a journal."""
    world = started()
    world.offer(NEW)
    world.run(lambda: "downloading 50" in world.heard)
    world.journal.is_writable = False
    world.run(lambda: "burning" in world.heard)
    world.run_for(60)
    assert sure(world) == []
    world.journal.is_writable = True
    world.run_until_calm()
    assert sure(world) == ["fail -5"]


def test_a_burning_is_owed_as_soon_as_the_journal_can() -> None:
    """It was full for a moment only: the session goes on, and its burning is sure to arrive."""
    world = started()
    world.problems["gateway"] = None
    world.offer(NEW)
    world.run(lambda: "downloading 50" in world.heard)
    world.journal.is_writable = False
    world.run(lambda: "burning" in world.heard)
    world.journal.is_writable = True
    world.run_for(1)
    assert sure(world) == ["burning"]


def test_a_person_owes_no_burning_until_the_cloud_takes_the_session_over() -> None:
    """Nobody has asked; then it is owed at once."""
    world = started()
    world.problems["gateway"] = None
    world.web.serve("/image", NEW)
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run(lambda: "B" in world.journal.records)
    assert world.heard == ["report_version 0.1"]
    world.offer(NEW)
    world.run_for(1)
    assert sure(world) == ["burning"]


def test_what_is_owed_is_told_though_the_journal_can_no_longer_be_read() -> None:
    """As far as it was known; the version comes after it, and nothing is told twice."""
    world = started()
    world.cloud.is_reachable = False
    url = world.offer(NEW, served=Image("9"))
    world.cloud.task = None
    world.lose_network()
    world.agent.offered(Offer(NEW.firmware, url))
    world.run(lambda: world.session is not None and world.session.state.is_final)
    world.journal.is_readable = False
    world.cloud.is_reachable = True
    world.run_for(300)
    assert world.heard[-3:] == ["burning", "fail -4", "report_version 0.1"]
    world.journal.is_readable = True
    world.lose_network()
    world.run_for(300)
    assert sure(world) == ["burning", "fail -4"]


def test_a_cloud_that_offers_and_acknowledges_nothing_fills_no_journal() -> None:
    """Once much is owed an offer waits until it is told; then the cloud's next one is taken."""
    world = started()
    world.cloud.acknowledges = False
    for number in range(100):
        world.offer(Image(f"1.{number}", size_bytes=65 << 20))
        world.run_for(1)
    assert len(world.journal.sessions) == len(world.journal.undelivered) == 64
    world.cloud.acknowledges, world.cloud.task = True, None
    world.lose_network()
    world.run_until_calm()
    assert [m.version for m in world.outcomes[-63:]] == [f"1.{number}" for number in range(1, 64)]
    world.offer(NEW)
    world.run_until_calm()
    assert world.runs(NEW)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.sampled_from(sorted(CUTS))), max_size=12))
def test_whatever_is_cut_while_nothing_is_acknowledged_all_arrives_in_order(
    cuts: list[tuple[int, str]],
) -> None:
    """Three sessions' reports: each at least once, and first heard in the order of their being."""
    world = started()
    world.cloud.acknowledges = False
    for number in range(3):
        world.offer(Image(f"1.{number}"), served=Image("9"))
        world.run_for(20)
    for quarters, cut in cuts:
        CUTS[cut](world)
        world.run_for(quarters / 4)
    world.cloud.acknowledges, world.cloud.task = True, None
    world.lose_network()
    world.run_until_calm()
    told = [(m.version, m.state) for m in world.cloud.messages if m.qos and m.state]
    wanted = [(f"1.{number}", state) for number in range(3) for state in ("burning", "fail")]
    assert list(dict.fromkeys(told)) == wanted

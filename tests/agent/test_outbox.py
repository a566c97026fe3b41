# SPDX-License-Identifier: MIT
"""What must arrive: journalled before it is said, said in order, once, until the broker has it.

That no row overtakes another and none is given to a connection twice is a law of the world itself.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.flash import Image
from sim.instants import cut_power
from sim.settings import CONFIG, NEW
from sim.uplink import spoken
from sim.world import World

from updater.core.journal import REFUSALS_LIMIT
from updater.core.model import Failures, Offer
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


# --- refusals -------------------------------------------------------------------------------------

MCU = replace(CONFIG, cloud=replace(CONFIG.cloud, fw_type="mcu"))


def refusing() -> World:
    """Return a world that takes no firmware for a modem, and whose cloud acknowledges nothing."""
    world = World(MCU)
    world.run_until_calm()
    world.cloud.acknowledges = False
    return world


def refuse(world: World, version: str = "0.2", **more: object) -> None:
    """Offer a firmware for a modem, once."""
    world.offer(Image(version), fw_type="modem", **more)
    world.cloud.task = None
    world.run_for(1)


@pytest.mark.parametrize("cut", CUTS)
def test_a_refusal_is_said_until_its_puback(cut: str) -> None:
    """In each new connection, by each new process, once; though the offer is never repeated."""
    world = refusing()
    refuse(world, task_id=7)
    for number in range(1, 4):
        CUTS[cut](world)
        world.run(lambda number=number: sure(world) == ["fail -5"] * (number + 1), 300)
    world.cloud.acknowledges = True
    world.lose_network()
    world.run_until_calm()
    assert not world.journal.undelivered
    assert {m.body["report"]["task_id"] for m in world.refusals} == {7}


def test_a_refusal_is_in_the_journal_before_it_is_said() -> None:
    """A power cut after the one and before the other loses nothing."""
    world = refusing()
    world.cloud.acknowledges = True
    world.instants.on("after journal: refusal owed", cut_power)
    refuse(world)
    world.run_until_calm()
    assert sure(world) == ["fail -5"]


def test_a_refusal_without_a_link_is_said_when_there_is_one() -> None:
    """What was kept for later turns out to be refused while the device is offline."""
    world = refusing()
    world.cloud.acknowledges = True
    world.cloud.is_reachable = False
    world.lose_network()
    world.run_for(1)
    foreign = Offer(NEW.firmware, "https://firmware.test/f", fw_type="modem")
    world.agent.offered(foreign)
    world.run_for(60)
    assert sure(world) == []
    world.cloud.is_reachable = True
    world.run_until_calm()
    assert world.heard[-2:] == ["fail -5", "report_version 0.1"]


def test_an_offer_is_refused_once_at_a_time() -> None:
    """Repeated before the PUBACK it has its answer already; repeated later it has another one."""
    world = refusing()
    for _ in range(5):
        refuse(world)
    refuse(world, task_id=7)
    assert sure(world) == ["fail -5"]
    assert len(world.journal.undelivered) == 2
    world.cloud.acknowledges = True
    world.lose_network()
    world.run_until_calm()
    assert sure(world) == ["fail -5"] * 3
    refuse(world)
    assert sure(world) == ["fail -5"] * 4
    assert not world.journal.undelivered


@pytest.mark.parametrize("acknowledges", [True, False])
def test_many_refusals_wear_no_flash(acknowledges: bool) -> None:
    """Thousands of foreign offers: a few are written in ten minutes, the others are only said."""
    world = refusing()
    world.cloud.acknowledges = acknowledges
    before, began_s = len(world.instants.names), world.clock.now_s
    for number in range(2000):
        world.cloud.offer(Image(f"9.{number}").firmware, "https://x.test/f", fw_type="modem")
    world.cloud.task = None
    world.run_for(1190)
    names = world.instants.names[before:]
    assert names.count("after journal: refusal owed") == REFUSALS_LIMIT
    assert len([name for name in names if name.startswith("after journal")]) <= 2 * REFUSALS_LIMIT
    assert len(world.journal.undelivered) == (0 if acknowledges else REFUSALS_LIMIT)
    refuse(world, "10")
    assert world.clock.now_s < began_s + 1200
    assert world.instants.names.count("after journal: refusal owed") == REFUSALS_LIMIT + 1
    assert len(world.journal.undelivered) == (0 if acknowledges else REFUSALS_LIMIT)


@pytest.mark.parametrize("task", [{}, {"task_id": 7}])
def test_a_refusal_is_void_once_the_offer_is_taken(task: dict[str, int]) -> None:
    """Told late it would end the session that the cloud has asked for since."""
    world = World()
    world.run_until_calm()
    world.journal.note(Failures(NEW.firmware, 3, 0.0))
    world.cloud.acknowledges = False
    world.offer(NEW, **task)
    world.run(lambda: bool(world.refusals), 1)
    world.agent.retries.clear()
    world.offer(NEW)
    world.run(lambda: world.session is not None)
    world.cloud.acknowledges = True
    world.lose_process()
    world.run_until_calm()
    assert sure(world) == ["fail -5", "burning", "burning", "done"]


def test_a_refusal_outlives_what_a_person_installs() -> None:
    """The cloud's task was refused; that somebody here installs the same is another matter."""
    world = refusing()
    refuse(world)
    world.web.serve("/image", NEW)
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run(lambda: world.runs(NEW))
    world.cloud.acknowledges = True
    world.run_until_calm()
    assert sure(world)[-1] == "fail -5"


def test_a_refusal_that_the_journal_cannot_say_is_said_at_once() -> None:
    """It may be written and not be read: whoever asks gets an answer."""
    world = refusing()
    world.cloud.acknowledges = True
    world.journal.is_readable = False
    refuse(world)
    assert sure(world) == ["fail -5"]


# --- all of them ----------------------------------------------------------------------------------


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

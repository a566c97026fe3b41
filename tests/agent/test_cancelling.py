# SPDX-License-Identifier: MIT
"""``updater cancel``: whatever is being brought in ends, once and for good, and is told."""

from collections.abc import Callable

import pytest
from sim.flash import Image
from sim.instants import PowerCut, ProcessKilled, cut_power, kill_process
from sim.settings import NEW, OLD
from sim.uplink import spoken
from sim.world import World

from updater.cancelling import cancel_alone, cancel_here
from updater.core.errors import ForbiddenError, JournalError, WrongStateError
from updater.core.model import Offer, State
from updater.core.ports import Phase
from updater.lostjournal import LostJournal

HOUR_S = 3600.0
OTHER = Image("0.3")
WHY = "not today"
FORBIDDEN = ForbiddenError("the server says 403")


def started() -> World:
    world = World()
    world.parts = 40
    world.run_until_calm()
    return world


def installing(percent: int = 50) -> World:
    """Return a world in the middle of an install."""
    world = started()
    world.offer(NEW)
    world.run(lambda: has_come(world, percent))
    return world


def has_come(world: World, percent: int) -> bool:
    """Tell whether the target was blanked, and so much of the image is there."""
    progress = world.agent.progress
    if progress is None or progress.phase not in {Phase.BLANKING, Phase.RECEIVING}:
        return False
    return progress.received_bytes * 100 >= percent * NEW.size_bytes


def reading_back() -> World:
    """Return a world whose last byte has come, and whose head has not."""
    world = started()
    world.offer(NEW)
    world.run(lambda: "burning" in world.heard)
    assert world.session is not None
    assert world.session.state is State.INSTALLING
    return world


def installed() -> World:
    """Return a world whose target holds all of it, and whose baseline takes its time."""
    world = started()
    world.problems["gateway"] = None
    world.offer(NEW)
    world.run(lambda: "B" in world.journal.records)
    return world


def waiting_for_a_url() -> World:
    """Return a world whose URL has expired, and whose cloud gives no other."""
    world = started()
    url = world.offer(NEW)
    world.web.fail(url, FORBIDDEN)
    world.run(lambda: bool(world.web.requests))
    world.run_for(1)
    world.cloud.task = None
    return world


def offline() -> World:
    """Return a world that installs while the cloud is away."""
    world = installing()
    world.cloud.is_reachable = False
    world.lose_network()
    world.run_for(1)
    return world


MOMENTS: dict[str, Callable[[], World]] = {
    "blanking": lambda: installing(0),
    "receiving": installing,
    "reading back": reading_back,
    "installed": installed,
    "waiting for a URL": waiting_for_a_url,
    "offline": offline,
}


def assert_cancelled(world: World) -> None:
    """Assert that the session has ended so, that it is told once, and that nothing comes of it."""
    session = world.session
    assert session is not None
    assert (session.state, session.reason) == (State.FAILED, f"cancelled: {WHY}")
    world.cloud.is_reachable, world.problems = True, {}
    requests = len(world.web.requests)
    world.run_until_calm()
    for cut in (World.lose_process, World.lose_power):
        cut(world)
        world.run_until_calm()
    told = {(spoken(m), m.reason) for m in world.outcomes}
    assert told == {("fail -5", f"cancelled: {WHY}")}  # once, or again if the PUBACK was lost
    assert len(world.journal.reports) == 1
    assert world.booted.image == OLD
    assert len(world.journal.sessions) == 1
    assert len(world.web.requests) == requests
    assert "B" not in world.journal.records


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_ends_whatever_goes_on(moment: str) -> None:
    """The report has code and reason; the target is not preferred, known, or booted."""
    world = MOMENTS[moment]()
    said = cancel_here(world.agent, WHY)
    assert (said["version"], said["kept"]) == ("0.2", None)
    assert world.agent.progress is None
    assert_cancelled(world)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cut_right_after_it_resumes_nothing(moment: str) -> None:
    """It is journalled before it is answered."""
    world = MOMENTS[moment]()
    cancel_here(world.agent, WHY)
    world.lose_power()
    assert_cancelled(world)


@pytest.mark.parametrize("cut", [cut_power, kill_process])
@pytest.mark.parametrize("instant", ["before", "after"])
def test_a_cut_within_it_leaves_one_or_the_other(instant: str, cut: Callable[[], None]) -> None:
    """Before the journal knows the install goes on; after it nothing does."""
    world = installing()
    world.instants.on(f"{instant} journal: failed", cut)
    with pytest.raises((PowerCut, ProcessKilled)):
        cancel_here(world.agent, WHY)
    world.lose_power()
    if instant == "after":
        assert_cancelled(world)
    else:
        world.run_until_calm()
        assert world.booted.image == NEW


@pytest.mark.parametrize("percent", [0, 50])
def test_a_slot_that_is_not_complete_does_not_boot(percent: int) -> None:
    """Its head is blank."""
    world = installing(percent)
    cancel_here(world.agent, "")
    assert not world.media["B"].is_loadable
    assert world.boot_state.primary == "A"


def test_a_person_needs_no_reason() -> None:
    """The cloud hears who it was."""
    world = installing()
    cancel_here(world.agent, "")
    world.run_until_calm()
    assert world.outcomes[0].reason == "cancelled by a person"


def test_what_a_person_installs_can_be_cancelled() -> None:
    """The cloud, which has not asked, hears nothing of it."""
    world = started()
    world.web.serve("/image", NEW)
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run_for(1)
    cancel_here(world.agent, WHY)
    world.run_until_calm()
    assert not world.outcomes
    assert not world.refusals
    assert world.booted.image == OLD


# --- too late, or nothing there ------------------------------------------------------------------


def test_it_is_too_late_once_the_target_is_preferred() -> None:
    """Activated or on trial: the sentence says what to do, and nothing changes."""
    world = started()
    world.offer(NEW)
    world.run(lambda: world.boot_state.primary == "B")
    with pytest.raises(WrongStateError, match=r"boots next, on trial; .*updater rollback"):
        cancel_here(world.agent, WHY)
    world.problems["gateway"] = None
    world.run(lambda: world.runs(NEW) and world.agent_runs)
    with pytest.raises(WrongStateError, match=r"runs on trial; .*updater rollback"):
        cancel_here(world.agent, WHY)
    with pytest.raises(WrongStateError, match="too late"):
        cancel_alone(world.agent.device, WHY)
    world.problems.clear()
    world.run_until_calm()
    assert world.booted.image == NEW


def test_an_orphan_trial_is_no_install() -> None:
    """Its session is lost; a person leaves it by a rollback."""
    world = started()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.journal.lose()
    world.problems["gateway"] = None
    world.run(lambda: world.agent_runs)
    with pytest.raises(WrongStateError, match="updater rollback"):
        cancel_here(world.agent, WHY)


def test_there_may_be_nothing_to_cancel() -> None:
    """Neither before any session nor after one: an error that changes nothing."""
    world = started()
    for _ in range(2):
        before = len(world.instants.names)
        with pytest.raises(WrongStateError, match="nothing is being installed"):
            cancel_here(world.agent, WHY)
        with pytest.raises(WrongStateError, match="nothing is being installed"):
            cancel_alone(world.agent.device, WHY)
        assert len(world.instants.names) == before
        world.offer(NEW)
        world.run_until_calm()


# --- the next try --------------------------------------------------------------------------------


def test_a_task_that_is_repeated_waits_an_hour_and_is_not_counted() -> None:
    """A batch that retries within minutes does not undo it; the firmware is as good as before."""
    world = installing()
    cancel_here(world.agent, WHY)
    world.run_until_calm()
    cancelled_s = world.clock.now_s
    world.offer(NEW)
    world.run_for(HOUR_S - 120)
    assert len(world.journal.sessions) == 1
    assert world.agent.keeper.held is not None
    (listed,) = world.agent.retries.listing()
    assert (listed["failures"], listed["cancelled"], listed["refused"]) == (0, True, False)
    world.run(lambda: world.runs(NEW))
    assert world.clock.now_s - cancelled_s < HOUR_S + 120
    world.run_until_calm()
    assert world.agent.retries.listing() == []


def test_many_cancels_condemn_nothing() -> None:
    """Three failures are the end of an image; three cancels, or ten, are not."""
    world = started()
    for number in range(1, 6):
        world.offer(NEW)
        world.run(lambda number=number: len(world.journal.sessions) == number, 2 * HOUR_S)
        cancel_here(world.agent, WHY)
        world.run_until_calm()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW), 2 * HOUR_S)
    world.run_until_calm()
    assert not world.refusals


def test_clear_lets_it_in_at_once() -> None:
    """The person has changed their mind."""
    world = installing()
    cancel_here(world.agent, WHY)
    world.run_until_calm()
    world.offer(NEW)
    world.run_for(60)
    assert world.agent.retries.clear() == 1
    world.run(lambda: world.runs(NEW), 60)


def test_another_offer_is_taken_at_once() -> None:
    """What was cancelled is one firmware."""
    world = installing()
    cancel_here(world.agent, WHY)
    world.run_until_calm()
    world.offer(OTHER)
    world.run_until_calm()
    assert world.booted.image == OTHER


# --- a kept offer --------------------------------------------------------------------------------


def keeping() -> World:
    """Return a world that keeps an offer for later, as it has failed once."""
    world = started()
    world.offer(NEW, served=Image("9"))
    world.run_until_calm()
    world.offer(NEW, task_id=7)
    world.run_for(1800)
    assert world.agent.keeper.held is not None
    return world


def test_a_kept_offer_is_dropped_and_refused() -> None:
    """Its task gets an answer at last; nothing begins when its time comes."""
    world = keeping()
    said = cancel_here(world.agent, WHY)
    assert said == {"session": None, "version": None, "kept": "0.2"}
    world.run_for(4 * HOUR_S)
    assert [(m.code, m.reason) for m in world.refusals] == [(-5, f"cancelled: {WHY}")]
    assert world.refusals[0].body["report"]["task_id"] == 7
    assert len(world.journal.sessions) == 1


def test_a_dropped_offer_that_is_repeated_waits_anew() -> None:
    """An hour from the cancel on; its one failure is still one."""
    world = keeping()
    cancel_here(world.agent, WHY)
    cancelled_s = world.clock.now_s
    world.offer(NEW)
    world.run(lambda: len(world.journal.sessions) == 2)
    assert world.clock.now_s - cancelled_s == pytest.approx(HOUR_S, abs=60)
    assert [each.count for each in world.journal.failures()] == [1]


def test_a_kept_offer_goes_with_the_install() -> None:
    """Both are answered, each once."""
    world = keeping()
    kept = world.agent.keeper.held
    world.offer(OTHER)
    world.run_for(1)
    world.agent.keeper.held = kept
    said = cancel_here(world.agent, WHY)
    assert (said["version"], said["kept"]) == ("0.3", "0.2")
    world.cloud.task = None
    world.run_until_calm()
    assert [(m.version, m.reason) for m in [*world.outcomes[1:], *world.refusals]] == [
        ("0.3", f"cancelled: {WHY}"), ("0.2", f"cancelled: {WHY}"),
    ]  # fmt: skip


@pytest.mark.parametrize(("is_local", "refusals"), [(False, 0), (True, 1)])
def test_one_task_has_one_answer(is_local: bool, refusals: int) -> None:
    """The same firmware is installed and kept: the session's report is the answer, if any is."""
    world = keeping()
    kept = world.agent.keeper.held
    assert kept is not None
    world.agent.retries.clear()
    if is_local:
        world.web.serve("/image", NEW)
        world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    else:
        world.run(lambda: len(world.journal.sessions) == 2)
    world.agent.keeper.held = kept
    cancel_here(world.agent, WHY)
    world.cloud.task = None
    world.run_until_calm()
    assert len(world.refusals) == refusals
    assert len(world.outcomes) == (1 if is_local else 2)


def test_a_kept_offer_is_dropped_without_a_cloud_or_a_journal() -> None:
    """Nobody hears of it, and nothing breaks."""
    world = keeping()
    world.journal.is_readable = world.journal.is_writable = False
    assert cancel_here(world.agent, WHY)["kept"] == "0.2"
    assert world.agent.keeper.held is None


# --- the journal ---------------------------------------------------------------------------------


def test_a_cancel_that_is_not_journalled_is_said_to_be_none_yet() -> None:
    """The install has stopped; an error says that a restart would go on, and no cloud hears."""
    world = installing()
    world.journal.is_writable = False
    with pytest.raises(JournalError, match="a restart before that goes on"):
        cancel_here(world.agent, WHY)
    assert world.agent.progress is None
    world.run_for(60)
    assert not world.outcomes
    world.journal.is_writable = True
    world.run_for(60)
    assert_cancelled(world)


@pytest.mark.parametrize("moment", ["receiving", "installed", "offline"])
def test_without_an_agent_the_journal_is_told(moment: str) -> None:
    """Nothing is resumed by the next agent, which delivers the report."""
    world = MOMENTS[moment]()
    device = world.agent.device
    world.lose_process()
    said = cancel_alone(device, WHY)
    assert (said["version"], said["kept"]) == ("0.2", None)
    assert_cancelled(world)


def test_without_a_journal_nobody_knows() -> None:
    """That nothing is being installed would be a lie."""
    world = installing()
    world.journal.can_be_opened = False
    world.lose_process()
    world.run(lambda: world.agent_runs)
    assert isinstance(world.agent.device.journal, LostJournal)
    with pytest.raises(JournalError):
        cancel_alone(world.agent.device, WHY)

# SPDX-License-Identifier: MIT
"""What has failed before: tried later, then not at all, and never forgotten by a restart."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from sim.flash import MIB, Image
from sim.settings import CONFIG, NEW, OLD
from sim.uplink import spoken
from sim.world import World

from updater.core.config import Config, HealthCommand, HealthConfig, OffersConfig
from updater.core.errors import JournalError, OfferError
from updater.core.model import Failures, Offer, State
from updater.keeper import FAILED_BEFORE
from updater.retries import listed_alone

HOUR_S = 3600.0
OTHER = Image("0.3")
LOST = Image("0.2")  # served under NEW's name it is another object
REFUSAL = "offer: version 0.2 has failed 3 times; only another image is taken, or: updater offers"


def started(config: Config = CONFIG) -> World:
    world = World(config)
    world.run_until_calm()
    return world


def fail(world: World, image: Image = NEW) -> None:
    """Have one session of *image* end in -4, and the cloud know it."""
    sessions = len(world.journal.sessions)
    world.offer(image, served=Image("9"))
    world.run(lambda: len(world.journal.sessions) > sessions, 30 * HOUR_S)
    world.run_until_calm()


def failed(times: int, config: Config = CONFIG) -> World:
    """Return a world in which ``NEW`` has failed so often."""
    world = started(config)
    for _ in range(times):
        fail(world)
    return world


def counts(world: World) -> list[tuple[str, int]]:
    return [(each.firmware.version, each.count) for each in world.journal.failures()]


def begins_after_s(world: World, limit_s: float = 30 * HOUR_S) -> float:
    """Return how long it takes until a session begins."""
    before_s, sessions = world.clock.now_s, len(world.journal.sessions)
    world.run(lambda: len(world.journal.sessions) > sessions, limit_s)
    return world.clock.now_s - before_s


# --- later ----------------------------------------------------------------------------------------


def test_the_cloud_may_retry_and_is_answered_an_hour_later() -> None:
    """The offer is kept, nothing is said meanwhile, and it is installed when its time has come."""
    world = failed(1)
    said = len(world.heard)
    world.offer(NEW)
    world.run_for(HOUR_S - 60)
    assert world.heard[said:] == []
    world.run_until_calm()
    assert world.booted.image == NEW
    assert [spoken(m) for m in world.outcomes] == ["fail -4", "done"]
    assert counts(world) == []


def test_each_failure_doubles_the_pause_up_to_a_day() -> None:
    """1, 2, 4, 8, 16, 24, 24 hours, from the failure on."""
    config = replace(CONFIG, offers=OffersConfig(failures=99))
    world = failed(8, config)
    times = [m.time_s for m in world.cloud.messages if m.state == "fail"]
    hours = [(later - earlier) / HOUR_S for earlier, later in pairwise(times)]
    assert hours == pytest.approx([1, 2, 4, 8, 16, 24, 24], abs=0.01)


def test_the_first_try_waits_for_nothing() -> None:
    """Nor does a firmware that shares but its version with one that has failed."""
    world = failed(2)
    again = Image("0.2", size_bytes=4 * MIB)
    assert begins_after_s_of(world, again) < 1
    world.run_until_calm()
    assert world.booted.image == again


def begins_after_s_of(world: World, image: Image) -> float:
    world.offer(image)
    return begins_after_s(world)


def test_the_latest_offer_is_the_one_that_is_kept() -> None:
    """Its URL, its task: an older URL has perhaps expired by then."""
    world = failed(1)
    world.offer(NEW, task_id=1)
    world.run_for(600)
    world.offer(NEW, task_id=2, url="https://firmware.test/fresh")
    world.run_until_calm()
    assert world.web.requests[-1] == "https://firmware.test/fresh"
    assert world.outcomes[-1].body["report"]["task_id"] == 2


def test_another_offer_takes_the_place_of_a_kept_one() -> None:
    """It is installed at once; the older offer comes again if the cloud still means it."""
    world = failed(1)
    world.offer(NEW)
    world.run_for(60)
    world.offer(OTHER)
    world.run_until_calm()
    assert world.booted.image == OTHER
    assert world.agent.keeper.held is None


def test_the_running_version_takes_the_place_of_a_kept_one() -> None:
    """The cloud has changed its mind: nothing is installed."""
    world = failed(1)
    world.offer(NEW)
    world.run_for(60)
    world.offer(OLD)
    world.run_for(3 * HOUR_S)
    assert world.booted.image == OLD
    assert len(world.journal.sessions) == 1


def test_what_has_to_wait_ends_no_session() -> None:
    """The one that is running goes on until the other one's time has come."""
    world = failed(1)
    world.offer(OTHER)
    world.run(lambda: world.session is not None and world.session.offer.firmware != NEW.firmware)
    world.offer(NEW)
    world.run(lambda: world.runs(OTHER))
    world.run(lambda: world.runs(NEW), 3 * HOUR_S)
    world.run_until_calm()
    assert [(m.version, m.state) for m in world.outcomes] == [
        ("0.2", "fail"), ("0.3", "done"), ("0.2", "done"),
    ]  # fmt: skip


def test_a_kept_offer_replaces_what_is_still_installing_at_its_time() -> None:
    """As any other offer does."""
    world = failed(1)
    world.parts = 4 * 4000
    world.lose_process()
    world.offer(OTHER)
    world.run(lambda: "downloading 0" in world.heard[-1:])
    world.offer(NEW)
    world.run_until_calm()
    assert [(m.version, m.reason) for m in world.outcomes[1:]] == [
        ("0.3", "superseded by version 0.2"), ("0.2", ""),
    ]  # fmt: skip


# --- not at all -----------------------------------------------------------------------------------


def test_after_three_failures_it_is_refused_without_a_download() -> None:
    """-5 at once, each time it is offered; no session, no request, no write."""
    world = failed(3)
    requests, sessions = len(world.web.requests), len(world.journal.sessions)
    for number in (1, 2):
        world.offer(NEW)
        world.run(lambda number=number: len(world.refusals) == number, 1)
    assert [(m.code, m.reason) for m in world.refusals] == [(-5, f"{REFUSAL} clear")] * 2
    world.run_for(100 * HOUR_S)
    assert (len(world.web.requests), len(world.journal.sessions)) == (requests, sessions)


def test_a_refused_one_leaves_the_running_session_alone() -> None:
    """It takes nobody's place."""
    world = failed(3)
    world.parts = 40
    world.lose_process()
    world.offer(OTHER)
    world.run(lambda: "downloading 0" in world.heard[-1:])
    task = world.cloud.task
    world.offer(NEW)
    world.run(lambda: bool(world.refusals), 1)
    world.cloud.task = task
    world.run_until_calm()
    assert world.booted.image == OTHER


def test_another_image_is_taken_after_three_failures() -> None:
    """Under the same version too: what has failed is the image."""
    world = failed(3)
    again = Image("0.2", size_bytes=4 * MIB)
    world.offer(again)
    world.run_until_calm()
    assert world.booted.image == again
    assert counts(world) == [("0.2", 3)]


def test_success_forgets_failures() -> None:
    """What ran once may run again: the next failure is the first one."""
    world = failed(2)
    world.offer(NEW)
    world.run_until_calm()
    assert world.booted.image == NEW
    world.offer(OLD)
    world.run_until_calm()
    fail(world)
    assert counts(world) == [("0.2", 1)]


@pytest.mark.parametrize("times", [1, 3])
def test_clear_lets_it_in_at_once(times: int) -> None:
    """What is kept begins; what was refused is taken when it is offered again."""
    world = failed(times)
    world.offer(NEW)
    world.run_for(60)
    assert world.agent.retries.clear() == 1
    assert world.agent.retries.listing() == []
    if times > 1:
        world.offer(NEW)
    assert begins_after_s(world) < 1
    world.run_until_calm()
    assert world.booted.image == NEW


# --- a person -------------------------------------------------------------------------------------


def test_a_person_is_not_held_back() -> None:
    """Neither by a pause nor by a number; that it fails counts all the same."""
    world = failed(3)
    world.web.serve("/image", Image("9"))
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run_until_calm()
    assert counts(world) == [("0.2", 4)]
    world.web.serve("/image", NEW)
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run(lambda: world.runs(NEW))
    world.run_until_calm()
    assert counts(world) == []


# --- durable --------------------------------------------------------------------------------------

CUTS: dict[str, Callable[[World], None]] = {
    "power": World.lose_power,
    "process": World.lose_process,
    "network": World.lose_network,
}


@pytest.mark.parametrize("cut", CUTS)
def test_no_cut_shortens_the_pause(cut: str) -> None:
    """The cloud repeats its offer after the connect, and the rest of the hour is waited."""
    world = failed(1)
    failed_s = world.cloud.messages[-2].time_s
    world.offer(NEW)
    for _ in range(5):
        world.run_for(500)
        CUTS[cut](world)
    world.run(lambda: world.runs(NEW), 2 * HOUR_S)
    assert 3600 < world.clock.now_s - failed_s < 3700


@pytest.mark.parametrize("cut", ["power", "process"])
def test_no_cut_forgets_a_refusal(cut: str) -> None:
    """Three failures are three failures."""
    world = failed(3)
    CUTS[cut](world)
    world.run_until_calm()
    world.offer(NEW)
    world.run(lambda: bool(world.refusals), 1)
    assert world.refusals[0].reason == f"{REFUSAL} clear"


@pytest.mark.parametrize(
    ("ahead_s", "least_s", "most_s"),
    [(0.0, 3000, 3600), (-1e9, 3500, 3700), (1e9, 0, 60)],
    ids=["right", "in the past", "in the future"],
)
def test_after_a_restart_the_wall_clock_counts_as_far_as_it_makes_sense(
    ahead_s: float, least_s: float, most_s: float
) -> None:
    """A clock that was not set yet costs one pause at most."""
    world = failed(1)
    world.run_for(300)
    world.clock.ahead_s = ahead_s
    world.lose_power()
    world.offer(NEW)
    assert least_s <= begins_after_s(world) <= most_s


def test_a_clock_that_is_set_changes_no_pause_of_this_process() -> None:
    """The time came a minute after the failure: the hour is an hour."""
    world = failed(1)
    world.clock.ahead_s = 1e9
    world.run_for(60)
    assert begins_after_s_of(world, NEW) == pytest.approx(3540, abs=20)


def test_a_failure_that_is_not_journalled_counts_once_it_is() -> None:
    """With the session's end, in one transaction."""
    world = started()
    world.offer(NEW)
    world.run(lambda: "downloading 0" in world.heard)
    world.journal.is_writable = False
    world.run_for(100)
    assert counts(world) == []
    world.journal.is_writable = True
    world.run_until_calm()
    assert counts(world) == [("0.2", 1)]


def test_an_end_whose_past_cannot_be_read_is_an_end_all_the_same() -> None:
    """How often it has failed stays as it was: it is not counted from one again."""
    world = failed(1)
    world.web.serve("/image", Image("9"))
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.journal.is_readable = False
    world.run(lambda: world.session is not None and world.session.state is State.FAILED)
    world.journal.is_readable = True
    assert counts(world) == [("0.2", 1)]


def test_nobody_knows_without_a_journal() -> None:
    """An offer is refused with the journal's own words, and the running session goes on."""
    world = started()
    world.parts = 40
    world.lose_process()
    world.offer(OTHER)
    world.run(lambda: "downloading 0" in world.heard)
    task = world.cloud.task
    world.journal.is_readable = False
    world.offer(NEW)
    world.run(lambda: bool(world.refusals), 1)
    assert world.refusals[0].reason == "journal: database or disk is full"
    world.journal.is_readable, world.cloud.task = True, task
    world.run_until_calm()
    assert world.booted.image == OTHER


# --- for want of the link alone -------------------------------------------------------------------

IMPATIENT = replace(
    CONFIG,
    health=HealthConfig(
        link_deadline_s=600.0, command=(HealthCommand(name="application", argv=("x",)),)
    ),
)


def without_link() -> World:
    """Return a world whose trial is lost, for the cloud was away; the old slot has just booted."""
    world = started(IMPATIENT)
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.cloud.is_reachable = False
    world.run(lambda: world.runs(OLD) and world.agent_runs)
    assert world.journal.failures() == [
        Failures(NEW.firmware, 0, pytest.approx(world.clock.now_s, abs=10), is_undecided=True)
    ]
    return world


@pytest.mark.parametrize(
    ("minutes", "is_counted"), [(0, True), (9, True), (11, False), (99, False)]
)
def test_a_trial_without_a_link_counts_only_if_the_old_slot_connects(
    minutes: int, is_counted: bool
) -> None:
    """In the time that the new slot had: else the network is to blame, and nothing is waited."""
    world = without_link()
    world.run_for(60.0 * minutes)
    world.cloud.is_reachable = True
    world.run(lambda: world.cloud.link is not None)
    world.run_for(1)
    assert counts(world) == ([("0.2", 1)] if is_counted else [])
    world.cloud.task = None
    world.run_until_calm()
    assert world.outcomes[-1].reason == "health: link not proven within 600 s"
    pause_s = begins_after_s_of(world, NEW)
    assert pause_s > 2900 if is_counted else pause_s < 1


@pytest.mark.parametrize("is_reachable", [True, False])
@pytest.mark.parametrize("cut", ["power", "process"])
def test_a_doubt_survives_a_cut(cut: str, is_reachable: bool) -> None:
    """The next process decides it, with a whole span of its own."""
    world = without_link()
    world.run_for(500)
    CUTS[cut](world)
    world.run_for(500)
    assert [each.is_undecided for each in world.journal.failures()] == [True]
    world.cloud.is_reachable = is_reachable
    world.run_for(300)
    assert counts(world) == ([("0.2", 1)] if is_reachable else [])


@pytest.mark.parametrize("what", ["is_writable", "is_readable"])
def test_a_doubt_is_decided_once_the_journal_can(what: str) -> None:
    """The connection counts, though nobody could take note of it."""
    world = without_link()
    setattr(world.journal, what, False)
    world.cloud.is_reachable = True
    world.run_for(30)
    setattr(world.journal, what, True)
    world.run_for(300)
    assert counts(world) == [("0.2", 1)]


def test_an_agent_without_a_cloud_decides_nothing() -> None:
    """A command that runs for an hour says nothing of the network."""
    world = without_link()
    world.has_link = False
    world.lose_process()
    world.run_for(2 * HOUR_S)
    assert [each.is_undecided for each in world.journal.failures()] == [True]


def test_a_person_who_asks_for_what_runs_takes_no_kept_offer_away() -> None:
    """It is the cloud's."""
    world = failed(1)
    world.offer(NEW)
    world.run_for(60)
    world.agent.offered(Offer(OLD.firmware, "/image", is_local=True))
    assert world.agent.keeper.held is not None


def test_a_trial_that_lacked_more_than_the_link_counts() -> None:
    """A check that never passed beside it condemns the image."""
    world = started(replace(IMPATIENT, health=replace(IMPATIENT.health, deadline_s=9000.0)))
    world.offer(Image("0.2", is_healthy=False))
    world.run(lambda: len(world.boots) == 2)
    world.cloud.is_reachable = False
    world.run(lambda: world.runs(OLD) and world.agent_runs)
    assert counts(world) == [("0.2", 1)]
    assert not world.journal.failures()[0].is_undecided
    assert world.session is not None
    assert world.session.reason == "health: application and link not proven within 600 s"


# --- what people see ------------------------------------------------------------------------------


def test_the_list_says_what_follows() -> None:
    """Identity, failures, the next try, and whether an offer is kept for it."""
    world = failed(3)
    fail(world, OTHER)
    world.offer(OTHER)
    world.run_for(600)
    refused, kept = world.agent.retries.listing(world.agent.keeper.held)
    assert refused == {
        "version": "0.2", "md5": NEW.md5, "size_bytes": 8 * MIB, "failures": 3,
        "undecided": False, "cancelled": False, "refused": True, "next_try_s": None, "kept": False,
    }  # fmt: skip
    assert (kept["version"], kept["failures"], kept["refused"]) == ("0.3", 1, False)
    assert kept["next_try_s"] == pytest.approx(2990, abs=10)
    assert kept["kept"]
    assert world.agent.keeper.waiting() == {
        "what": "install", "version": "0.3", "reason": FAILED_BEFORE,
        "until_s": None, "left_s": kept["next_try_s"], "is_asking": False,
    }  # fmt: skip
    assert [{**each, "kept": False} for each in (refused, kept)] == listed_alone(world.agent.device)


def test_nothing_is_kept_where_nothing_has_failed() -> None:
    """And there is nothing to list, and nothing to clear."""
    world = started()
    assert world.agent.keeper.waiting() is None
    assert world.agent.retries.listing() == listed_alone(world.agent.device) == []
    assert world.agent.retries.clear() == 0


def test_what_cannot_be_known_is_an_error() -> None:
    """Not an empty list; and what cannot be forgotten is not said to be."""
    world = failed(1)
    world.journal.is_writable = False
    with pytest.raises(JournalError):
        world.agent.retries.clear()
    world.journal.is_readable = False
    with pytest.raises(JournalError):
        world.agent.retries.listing()


def test_the_refusal_is_an_offer_error() -> None:
    """Its exit code and result code are those of an offer that breaks a rule."""
    world = failed(3)
    with pytest.raises(OfferError, match="clear"):
        world.agent.keeper.admit(Offer(NEW.firmware, "https://firmware.test/f"))
    assert world.session is not None
    assert world.session.state is State.FAILED

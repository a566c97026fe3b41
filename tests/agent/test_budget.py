# SPDX-License-Identifier: MIT
"""Metered links: what a day may bring, what is counted, and what a wrong clock does to it."""

from dataclasses import replace

import pytest
from policycases import HOUR_S, MIDNIGHT_S, ask, begun, set_clock, started, texts, told, with_policy
from sim.flash import MIB, Image
from sim.instants import cut_power
from sim.settings import NEW, OLD
from sim.uplink import spoken
from sim.world import World

from updater.core.commands import Outcome
from updater.core.config import Config
from updater.core.errors import ForbiddenError, StartOverError
from updater.core.model import Offer, State

DAY = int(MIDNIGHT_S) // 86400
BUDGET = 4 * MIB  # NEW has 8 MiB and comes in parts of 2
UNMETERED = Outcome(1, "exit status 1")


def metered(budget: int = BUDGET, **rows: object) -> Config:
    return with_policy(daily_budget_bytes=budget, **rows)


def is_put_off(world: World) -> bool:
    """Tell whether the download waits."""
    found = world.agent.pace.waiting() if world.agent_runs else None
    return found is not None and not found["is_asking"]


def spent(config: Config, clock: str = "12:00") -> World:
    """Return a world whose download has spent the day's budget."""
    world = started(config, clock)
    world.offer(NEW)
    world.run(lambda: is_put_off(world))
    return world


def caps(world: World) -> list[int]:
    return [request.bandwidth_bytes_per_s for request in world.pipeline.requests]


# --- a budget -------------------------------------------------------------------------------------


def test_a_spent_budget_stops_the_download_until_the_next_day() -> None:
    """The session stays, status and history say why, and the next day goes on where it was."""
    world = spent(metered())
    assert world.journal.budgets == {DAY: BUDGET}
    reason = "4194304 of the day's budget of 4194304 bytes are spent"
    assert told(world) == {
        "what": "download", "version": "0.2", "reason": reason,
        "until_s": MIDNIGHT_S + 24 * HOUR_S, "left_s": pytest.approx(12 * HOUR_S, abs=60),
        "is_asking": False,
    }  # fmt: skip
    assert texts(world)[-1] == f"the download waits: {reason}"
    world.run_for(11 * HOUR_S)
    assert world.journal.budgets == {DAY: BUDGET}
    world.run(lambda: not is_put_off(world), 2 * HOUR_S)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert world.journal.budgets == {DAY: BUDGET, DAY + 1: 4 * MIB}
    assert [spoken(m) for m in world.outcomes] == ["done"]
    percents = [m.percent for m in world.cloud.messages if m.percent is not None]
    assert percents == sorted(percents)


def test_the_budget_of_a_day_is_that_of_all_its_installs() -> None:
    """The next offer waits before anything of it is begun: the other slot keeps its record."""
    world = started(metered(9 * MIB))
    world.offer(NEW)
    world.run_until_calm()
    assert world.journal.budgets == {DAY: 8 * MIB}
    third = Image("0.3")
    world.offer(third)
    world.run(lambda: is_put_off(world))
    assert world.journal.budgets == {DAY: 10 * MIB}  # a part is more than was left
    world.offer(Image("0.4"))
    world.run(lambda: world.session is not None and world.session.state is State.INSTALLING, 60)
    world.run_for(60)
    assert told(world)["version"] == "0.3"
    world.run(lambda: world.runs(Image("0.4")), 48 * HOUR_S)


def test_a_spent_budget_keeps_an_offer_from_being_begun() -> None:
    """Nothing is blanked for a download that could bring nothing."""
    world = started(metered())
    world.journal.budgets = {DAY: BUDGET}
    world.offer(NEW)
    world.run_for(60)
    assert not begun(world)
    assert told(world)["what"] == "install"
    assert told(world)["until_s"] == MIDNIGHT_S + 24 * HOUR_S


def test_a_day_that_ends_within_a_download_begins_another_budget() -> None:
    """What came before midnight is noted for the old day."""
    world = started(metered(7 * MIB), "23:59", parts=40)
    world.offer(NEW)
    world.run(lambda: bool(world.journal.budgets))
    world.run_for(4)
    set_clock(world, "00:00", days=1)
    world.run(lambda: world.runs(NEW))
    assert set(world.journal.budgets) == {DAY, DAY + 1}
    assert sum(world.journal.budgets.values()) == 8 * MIB


@pytest.mark.parametrize("instant", range(60))
def test_a_cut_counts_too_much_rather_than_too_little(instant: int) -> None:
    """Wherever the power goes, what was noted is at least what had come, by 4 MiB at most."""
    world = started(metered(64 * MIB), parts=16)
    cut_at = len(world.instants.names) + instant
    world.instants.at(cut_at, cut_power)
    world.offer(NEW)
    world.run(lambda: len(world.instants.names) > cut_at or world.runs(NEW), 600)
    came = max((each.parts for each in world.checkpoints.values()), default=0) * MIB // 2
    noted = world.journal.budgets.get(DAY, 0)
    assert came <= noted <= came + 4 * MIB + MIB // 2 or world.runs(NEW)
    world.run_until_calm()
    assert world.booted.image == NEW


def test_a_restart_finds_what_was_spent() -> None:
    """In a new process, after a power cut: the day is not younger for it."""
    world = spent(metered())
    world.lose_power()
    world.run_for(HOUR_S)
    assert told(world)["what"] == "download"
    assert world.journal.budgets == {DAY: BUDGET}
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)


@pytest.mark.parametrize("days", [-700, -1, 0])
def test_a_clock_turned_back_refills_a_day_only_once(days: int) -> None:
    """It may show a day that has its budget still; after that there is nothing more to come."""
    world = spent(metered(2 * MIB))
    for _ in range(5):
        for each in (days, 0):
            set_clock(world, "13:00", each)
            world.run_for(HOUR_S)
    assert world.journal.budgets == {DAY + each: 2 * MIB for each in {days, 0}}


def test_a_clock_that_was_far_ahead_bars_no_day() -> None:
    """Once it is right again, the day is as good as any."""
    world = started(metered())
    set_clock(world, "12:00", 30_000)
    world.offer(NEW)
    world.run(lambda: is_put_off(world))
    set_clock(world, "12:00", 1)
    world.run(lambda: world.runs(NEW), 600)


def test_a_clock_that_is_not_set_has_no_budget() -> None:
    """Nobody knows which day it is; the time that comes brings one."""
    world = World(metered())
    world.run_until_calm()
    world.offer(NEW)
    world.run_for(HOUR_S)
    assert not begun(world)
    assert told(world)["reason"] == "the clock is not set"
    set_clock(world, "12:00")
    world.run(lambda: begun(world), 61)


def test_a_journal_that_does_not_know_puts_off() -> None:
    """What was spent cannot be read, or what comes cannot be noted: it waits until it can."""
    world = started(metered())
    world.offer(NEW)
    world.run(lambda: begun(world))
    world.journal.is_writable = False
    world.run(lambda: is_put_off(world))
    world.journal.is_readable = False
    world.run_for(600)
    assert told(world)["reason"] == "journal: database or disk is full"
    world.journal.is_writable = world.journal.is_readable = True
    world.run(lambda: world.runs(NEW), 48 * HOUR_S)


def test_another_offer_replaces_a_download_that_waits() -> None:
    """It has to wait for the same budget; then the first one ends superseded."""
    world = spent(metered())
    other = Image("0.3")
    world.offer(other)
    world.run(lambda: world.runs(other), 72 * HOUR_S)
    world.run_until_calm()
    assert [(m.version, m.state) for m in world.outcomes] == [("0.2", "fail"), ("0.3", "done")]


def test_a_fresh_url_serves_the_download_that_waits() -> None:
    """The one of yesterday has expired; the cloud has repeated its offer meanwhile."""
    world = spent(metered())
    world.offer(NEW, url="https://firmware.test/fresh")
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)
    assert world.web.requests[-1] == "https://firmware.test/fresh"


def test_an_expired_url_is_replaced_on_the_next_day() -> None:
    """A 403 has a fresh one pulled, as always."""
    world = spent(metered())
    (url,) = world.web.pages
    world.web.fail(url, ForbiddenError("403"))
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)
    world.run_until_calm()


def test_bytes_that_come_again_are_counted_again() -> None:
    """A download that begins anew costs what it costs."""
    world = started(metered(64 * MIB))
    url = world.offer(NEW)
    world.web.fail(url, (50, StartOverError("the object has changed")))
    world.run_until_calm()
    assert world.journal.budgets == {DAY: 12 * MIB}


# --- what cannot be gone on with ------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "no resume"])
def test_what_has_to_come_whole_and_never_can_is_refused(packed: bool) -> None:
    """It would begin at the first byte each day, for ever: one fail says so."""
    config = metered(6 * MIB)
    if not packed:
        config = replace(config, download=replace(config.download, resume=False))
    world = started(config)
    world.offer(Image("0.2", is_packed=packed))
    world.run(lambda: bool(world.outcomes or world.refusals), 600)
    (told,) = world.outcomes + world.refusals
    assert told.code == -5
    assert told.reason.endswith(
        "8388608 bytes have to come in one piece, and the budget of a day is 6291456 bytes"
    )


def test_what_has_to_come_whole_waits_for_a_whole_budget() -> None:
    """What is left of this day would not do; a fresh day's budget does."""
    packed = Image("0.2", is_packed=True)
    world = started(metered(10 * MIB))
    world.journal.budgets = {DAY: 4 * MIB}
    world.offer(packed)
    world.run(lambda: is_put_off(world))
    assert str(told(world)["reason"]).endswith("and 8388608 have to come in one piece")
    assert world.journal.budgets[DAY] <= 6 * MIB  # what shows that it is packed
    world.run(lambda: world.runs(packed), 24 * HOUR_S)
    assert world.journal.budgets[DAY + 1] == 8 * MIB


def test_a_wrong_object_that_takes_days_ends_all_the_same() -> None:
    """How often it has begun anew is counted over the days: a budget does not hide it for ever."""
    config = metered(6 * MIB)
    world = started(replace(config, download=replace(config.download, attempts=1)))
    world.offer(NEW, served=Image("9"))
    world.run_for(6 * 24 * HOUR_S)
    assert [spoken(m) for m in world.outcomes] == ["fail -5"]
    assert len(world.web.requests) == 4  # two days for each of two tries


# --- whether a link is metered --------------------------------------------------------------------


def test_a_link_that_is_not_metered_costs_nothing() -> None:
    """Nothing is counted, nothing is capped, nothing waits."""
    world = started(
        metered(metered_command=("metered",), metered_bandwidth_bytes_per_s=2048)
    )  # fmt: skip
    world.outcomes_of["metered"] = UNMETERED
    world.offer(NEW)
    world.run(lambda: world.session is not None and world.session.state is State.INSTALLED)
    assert world.journal.budgets == {}
    assert caps(world) == [0]


@pytest.mark.parametrize("outcome", [None, Outcome(None, "cannot start: x"), Outcome(0, "0")])
def test_a_link_of_which_nobody_knows_is_metered(outcome: Outcome | None) -> None:
    """A command that fails costs patience, not money."""
    world = started(metered(metered_command=("metered",)))
    world.outcomes_of["metered"] = outcome
    world.offer(NEW)
    world.run(lambda: is_put_off(world))
    assert world.journal.budgets == {DAY: BUDGET}


@pytest.mark.parametrize(
    ("always", "cap", "used"), [(0, 4096, 4096), (2048, 4096, 2048), (8192, 4096, 4096)]
)
def test_a_metered_link_has_its_cap(always: int, cap: int, used: int) -> None:
    """The lower of the two, with or without a budget."""
    config = with_policy(metered_bandwidth_bytes_per_s=cap)
    download = replace(config.download, bandwidth_bytes_per_s=always)
    world = started(replace(config, download=download))
    world.offer(NEW)
    world.run(lambda: begun(world) and bool(world.pipeline.requests))
    assert caps(world) == [used]


def test_a_link_that_becomes_metered_is_noticed() -> None:
    """The download goes on under the cap from where it is, and past the budget it waits."""
    config = metered(
        metered_command=("metered",), metered_bandwidth_bytes_per_s=2048, retry_s=1.0
    )  # fmt: skip
    world = started(config, parts=40)
    world.outcomes_of["metered"] = UNMETERED
    world.offer(NEW)
    world.run(lambda: bool(world.checkpoints))
    del world.outcomes_of["metered"]
    world.run(lambda: is_put_off(world))
    assert caps(world) == [0, 2048]
    assert BUDGET <= world.journal.budgets[DAY] <= BUDGET + MIB // 5
    world.outcomes_of["metered"] = UNMETERED
    world.run(lambda: world.runs(NEW), 600)


def test_a_link_that_is_no_longer_metered_needs_no_other_connection_without_a_cap() -> None:
    """Counting ends, the download goes on."""
    world = started(metered(8 * MIB - 1, metered_command=("metered",), retry_s=1.0), parts=40)
    world.offer(NEW)
    world.run(lambda: bool(world.checkpoints))
    world.outcomes_of["metered"] = UNMETERED
    world.run(lambda: world.session is not None and world.session.state is State.INSTALLED)
    assert len(world.web.requests) == 1
    assert world.journal.budgets[DAY] < 8 * MIB - 1


def test_a_persons_install_is_neither_counted_nor_capped() -> None:
    """Who asks for it here pays for it knowingly."""
    config = metered(metered_bandwidth_bytes_per_s=2048)
    world = started(config)
    assert ask(world) == [None]
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run(lambda: bool(world.pipeline.requests))
    assert caps(world) == [0]
    world.run(lambda: not world.runs(OLD))
    assert world.journal.budgets == {}

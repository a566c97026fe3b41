# SPDX-License-Identifier: MIT
"""``updater cancel`` where ``[policy]`` has something wait, or be asked: that ends with it."""

from collections.abc import Callable

import pytest
from policycases import (
    HOUR_S,
    LATER,
    NIGHT,
    NO,
    NO_POWER,
    OTHER,
    ask,
    begun,
    hook,
    installed,
    put_off,
    started,
    with_policy,
)
from sim.flash import MIB
from sim.settings import NEW, OLD
from sim.uplink import spoken
from sim.world import World

from updater.cancelling import cancel_alone, cancel_here
from updater.core.config import Config
from updater.core.errors import CancelledError, WrongStateError
from updater.core.model import Offer, State
from updater.desk import waiting

WHY = "not today"
TOLD = f"cancelled: {WHY}"


def asking(when: str, config: Config | None = None) -> World:
    """Return a world in which a hook runs right now, and comes to no end."""
    world = started(config or with_policy(hook=(hook(when, "site"),)))
    world.outcomes_of["site"] = None
    world.offer(NEW)
    world.run(lambda: len(world.commands.asked) == 1)
    return world


def paced(**rows: object) -> World:
    """Return a world whose download runs within a budget that does not hold all of it."""
    world = started(with_policy(daily_budget_bytes=4 * MIB, **rows), parts=40)
    world.offer(NEW)
    world.run(lambda: (world.agent.progress is not None) and bool(world.journal.budgets))
    return world


def spent() -> World:
    """Return a world whose download has spent the day's budget."""
    world = paced()
    world.run(lambda: world.agent.pace.waiting() is not None)
    return world


def unclear() -> World:
    """Return a world that asks before the download whether the link is metered."""
    rows = {"daily_budget_bytes": 64 * MIB, "metered_command": ("metered",)}
    world = started(with_policy(**rows))
    world.offer(NEW)
    world.run(lambda: begun(world))
    world.outcomes_of["metered"] = None
    world.lose_process()
    world.run(lambda: world.agent_runs and world.agent.pace.waiting() is not None)
    return world


def powerless() -> World:
    """Return a world that has no power left once it has installed."""
    world = started(with_policy(power_command=("power",)))
    world.offer(NEW)
    world.run(lambda: begun(world))
    world.outcomes_of["power"] = NO_POWER
    world.run(lambda: installed(world))
    world.run_for(10)
    return world


def deferred(when: str) -> World:
    """Return a world whose hook has said later."""
    world = started(with_policy(hook=(hook(when, "site"),)))
    world.outcomes_of["site"] = LATER
    world.offer(NEW)
    world.run(lambda: installed(world))
    world.run_for(10)
    return world


SESSIONS: dict[str, Callable[[], World]] = {
    "within its budget": paced,
    "waits for its budget": spent,
    "asks whether the link is metered": unclear,
    "waits for its window": lambda: put_off(with_policy(reboot="in-window", reboot_windows=NIGHT)),
    "waits for a request": lambda: put_off(with_policy(reboot="on-request")),
    "waits for power": powerless,
    "was put off after the install": lambda: deferred("after-install"),
    "was put off before the activation": lambda: deferred("before-activation"),
    "is asked about after the install": lambda: asking("after-install"),
    "is asked about before the activation": lambda: asking("before-activation"),
}


def assert_nothing_comes_of_it(world: World) -> None:
    """Assert that it ended once, is told once, and is not gone on with, on any day."""
    session = world.session
    assert session is not None
    assert (session.state, session.reason) == (State.FAILED, TOLD)
    assert waiting(world.agent) is None
    world.outcomes_of.clear()
    world.commands.asked.clear()
    world.cloud.task, requests = None, len(world.web.requests)
    for cut in (World.lose_network, World.lose_process, World.lose_power):
        world.run_for(25 * HOUR_S)
        assert world.commands.asked == []
        cut(world)
        world.run_until_calm()
    assert {(spoken(m), m.reason) for m in world.outcomes} == {("fail -5", TOLD)}
    assert (len(world.journal.reports), len(world.journal.sessions)) == (1, 1)
    assert world.commands.asked == []
    assert len(world.web.requests) == requests
    assert world.booted.image == OLD
    assert [each.count for each in world.journal.failures()] == [0]


@pytest.mark.parametrize("moment", SESSIONS)
def test_a_session_ends_whatever_it_waits_for(moment: str) -> None:
    """Nothing runs any more when the answer comes, and neither a day nor a cut brings it back."""
    world = SESSIONS[moment]()
    said = cancel_here(world.agent, WHY)
    assert (said["version"], said["kept"]) == ("0.2", None)
    assert world.agent.progress is None
    assert world.agent.pace.interests() == {}
    with pytest.raises(WrongStateError, match="nothing is being installed"):
        cancel_here(world.agent, WHY)
    assert_nothing_comes_of_it(world)


@pytest.mark.parametrize("moment", SESSIONS)
def test_without_an_agent_it_ends_in_the_journal(moment: str) -> None:
    """The next agent asks nothing, waits for nothing, and tells the cloud."""
    world = SESSIONS[moment]()
    device = world.agent.device
    world.lose_process()
    assert cancel_alone(device, WHY)["version"] == "0.2"
    world.run(lambda: world.agent_runs)
    assert_nothing_comes_of_it(world)


@pytest.mark.parametrize("when", ["before-install", "after-install", "before-activation"])
def test_a_hook_that_runs_is_killed(when: str) -> None:
    """At once, with the wait that it was asked for."""
    world = asking(when)
    open_before = world.clock.open_descriptors
    cancel_here(world.agent, WHY)
    assert world.clock.open_descriptors == open_before - 1
    assert waiting(world.agent) is None


def test_what_was_spent_is_noted_exactly() -> None:
    """A cancel costs the day what has come, and nothing that was noted ahead."""
    world = paced()
    (noted,) = world.journal.budgets.values()
    progress = world.agent.progress
    assert progress is not None
    cancel_here(world.agent, WHY)
    (spent_bytes,) = world.journal.budgets.values()
    assert progress.received_bytes <= spent_bytes < noted


# --- an offer that is kept -----------------------------------------------------------------------


def kept(config: Config) -> World:
    """Return a world that keeps an offer of task 7."""
    world = started(config)
    world.outcomes_of = {"power": NO_POWER, "later": LATER, "never": None}
    world.offer(NEW, task_id=7)
    world.run_for(10)
    return world


OFFERS = {
    "a window": with_policy(install_windows=NIGHT),
    "power": with_policy(power_command=("power",)),
    "a hook": with_policy(hook=(hook("before-install", "later"),)),
    "a hook that runs": with_policy(hook=(hook("before-install", "never"),)),
}


@pytest.mark.parametrize("moment", OFFERS)
def test_an_offer_that_is_kept_is_dropped_and_refused(moment: str) -> None:
    """Its task gets its answer; nothing begins when the time for it has come."""
    world = kept(OFFERS[moment])
    assert waiting(world.agent) is not None
    assert cancel_here(world.agent, WHY) == {"session": None, "version": None, "kept": "0.2"}
    assert waiting(world.agent) is None
    world.outcomes_of.clear()
    world.cloud.task = None
    world.run_for(25 * HOUR_S)
    assert [(m.code, m.reason) for m in world.refusals] == [(-5, TOLD)]
    assert world.refusals[0].body["report"]["task_id"] == 7
    assert not begun(world)


def test_an_offer_that_was_dropped_waits_an_hour_and_then_for_its_window() -> None:
    """A cloud that repeats itself does not undo a cancel; afterwards the policy holds as ever."""
    world = kept(OFFERS["a window"])
    cancel_here(world.agent, WHY)
    world.offer(NEW)
    world.run_for(60)
    assert [each.is_cancelled for each in world.journal.failures()] == [True]
    found = waiting(world.agent)
    assert found is not None
    assert found["reason"] == "it has failed, or was cancelled (updater offers)"
    world.run_for(HOUR_S)
    found = waiting(world.agent)
    assert found is not None
    assert found["reason"] == "no install window is open (22:00-05:00)"
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)


def test_a_session_and_the_offer_that_waits_behind_it_both_end() -> None:
    """Each is answered once."""
    world = put_off(with_policy(reboot="on-request", hook=(hook("before-install", "later"),)))
    world.outcomes_of["later"] = LATER
    world.offer(OTHER)
    world.run_for(10)
    said = cancel_here(world.agent, WHY)
    assert (said["version"], said["kept"]) == ("0.2", "0.3")
    world.outcomes_of.clear()
    world.cloud.task = None
    world.run_for(HOUR_S)
    told = [(m.version, m.reason) for m in [*world.outcomes, *world.refusals]]
    assert told == [("0.2", TOLD), ("0.3", TOLD)]


# --- a person's install --------------------------------------------------------------------------


def test_a_persons_install_is_cancelled_while_hooks_are_asked() -> None:
    """Whoever waits for it is told; the hook is killed, the cloud hears nothing."""
    world = started(with_policy(hook=(hook("before-install", "site"),)))
    world.outcomes_of["site"] = None
    said, open_before = len(world.heard), world.clock.open_descriptors
    answers = ask(world)
    assert cancel_here(world.agent, WHY) == {"session": None, "version": "0.2", "kept": None}
    assert [(type(each), str(each)) for each in answers] == [(CancelledError, TOLD)]
    assert world.clock.open_descriptors == open_before
    world.run_for(HOUR_S)
    assert len(answers) == 1
    assert not begun(world)
    assert world.heard[said:] == []
    with pytest.raises(WrongStateError, match="nothing is being installed"):
        cancel_here(world.agent, WHY)
    assert ask(world) == []  # may be asked again


def test_a_persons_install_that_is_put_off_can_be_cancelled() -> None:
    """The cloud, which has not asked, hears nothing of it."""
    world = started(with_policy(hook=(hook("before-activation", "site"),)))
    world.outcomes_of["site"] = LATER
    world.web.serve("/image", NEW)
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run(lambda: installed(world))
    world.run_for(10)
    assert cancel_here(world.agent, WHY)["version"] == "0.2"
    world.outcomes_of.clear()
    world.run_for(25 * HOUR_S)
    assert world.outcomes + world.refusals == []
    assert world.booted.image == OLD


# --- what a hook refuses -------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [None, World.lose_process, World.lose_power])
def test_what_a_hook_refuses_while_the_link_is_down_is_told_later(
    cut: Callable[[World], None] | None,
) -> None:
    """It is owed like any refusal: once, also after a restart."""
    world = started(with_policy(hook=(hook("before-install", "site"),)))
    world.outcomes_of["site"] = None
    world.offer(NEW, task_id=7)
    world.run(lambda: len(world.commands.asked) == 1)
    world.cloud.is_reachable = False
    world.lose_network()
    world.run_for(60)
    assert world.refusals == []
    world.outcomes_of["site"] = NO  # would be another refusal, if it were asked again
    if cut is not None:
        cut(world)
        world.run_for(60)
    world.cloud.task = None
    world.cloud.is_reachable = True
    world.run_until_calm()
    (refusal,) = world.refusals
    assert (refusal.code, refusal.reason) == (-5, "offer: hook site: no result in time")
    assert refusal.body["report"]["task_id"] == 7

# SPDX-License-Identifier: MIT
"""Verdicts: what a trial needs, what makes it hold, and what it does without."""

from itertools import repeat

import pytest
from sim.flash import Image
from sim.instants import kill_process
from sim.settings import DEAD_MAN_S, NEW, OLD
from sim.storage import Fault
from sim.uplink import spoken
from sim.world import World

from updater import trial
from updater.core.errors import EnvironmentStoreError, WrongStateError
from updater.core.model import State

SICK = Image("0.2", is_healthy=False)


def on_trial(image: Image = NEW) -> World:
    """Return a world in which *image* is on trial and its checks do not end yet."""
    world = World()
    world.offer(image)
    world.run(lambda: world.runs(image))
    world.problems["application"] = None
    world.run(lambda: world.session is not None and world.session.state is State.TRIAL)
    return world


# --- good -----------------------------------------------------------------------------------------


def test_the_dead_man_timer_is_told_of_the_verdict() -> None:
    """A slot that is kept is not rebooted."""
    world = World()
    world.offer(NEW)
    world.run_until_calm()
    assert world.system.is_trial_over
    world.run_for(2 * DEAD_MAN_S)
    assert len(world.boots) == 2


def test_the_dead_man_timer_is_told_by_the_next_process_if_need_be() -> None:
    """The agent dies between the store and telling it: no reboot comes of that."""
    world = World()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    for number in range(len(world.instants.names), 200):
        world.instants.at(number, lambda: _kill_after_verdict(world))
    world.run_until_calm()
    assert world.system.is_trial_over
    world.run_for(2 * DEAD_MAN_S)
    assert len(world.boots) == 2


def _kill_after_verdict(world: World) -> None:
    if world.instants.names[-1].startswith("after environment: bootcount=0"):
        kill_process()


def test_a_trial_that_nobody_judges_ends_by_the_dead_man_timer() -> None:
    """Whatever holds the agent up, the bootloader counts and falls back."""
    world = World()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.environment.faults = repeat(Fault.REFUSED)
    world.run(lambda: world.booted.image == OLD, 5 * DEAD_MAN_S)
    world.environment.faults = iter(())
    world.run_until_calm()
    assert [boot.slot for boot in world.boots] == ["A", "B", "B", "B", "A"]
    assert world.outcomes[0].reason == "trial: fell back after 3 boots without being marked good"


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNDECIDED_LOST, Fault.UNDECIDED_TAKEN])
@pytest.mark.parametrize("times", [1, 5])
def test_a_verdict_is_stored_until_it_holds(fault: Fault, times: int) -> None:
    """A store that did not take is made again; one that took unseen is recognised as such."""
    world = World()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.environment.faults = repeat(fault, times)
    world.run_until_calm()
    assert [boot.slot for boot in world.boots] == ["A", "B"]
    assert [spoken(message) for message in world.outcomes] == ["done"]
    assert world.system.is_trial_over


def test_an_environment_that_cannot_be_read_for_a_while_delays_the_verdict() -> None:
    """Nothing is concluded from it."""
    world = on_trial()
    world.environment.is_readable = False
    world.problems.clear()
    world.lose_process()  # the checks of the old one hang
    world.environment.is_readable = True
    world.run_until_calm()
    assert world.booted.image == NEW


def test_a_slot_that_somebody_left_meanwhile_is_not_told_to_be_good() -> None:
    """Its checks pass, and yet the other one boots next: the next start tells what came of it."""
    world = on_trial()
    world.environment.variables |= {"boot_slot": "A", "upgrade_available": "0"}
    world.problems.clear()
    world.run_for(400)
    assert "done" not in world.heard
    world.lose_power()
    world.run_until_calm()
    assert world.booted.image == OLD
    assert [spoken(message) for message in world.outcomes] == ["fail -5"]


# --- bad ------------------------------------------------------------------------------------------


def test_a_rollback_that_the_environment_does_not_take_is_left_to_the_bootloader() -> None:
    """The verdict was journalled first: each boot of the slot ends in a reboot that counts."""
    world = World()
    world.offer(SICK)
    world.run(lambda: world.runs(SICK))
    world.environment.faults = repeat(Fault.REFUSED)
    world.run(lambda: world.booted.image == OLD)
    world.environment.faults = iter(())
    world.run_until_calm()
    assert [boot.slot for boot in world.boots] == ["A", "B", "B", "B", "A"]
    assert world.outcomes[0].reason == "health: application: exit status 1"


def test_a_rollback_of_which_nobody_can_tell_is_decided_by_the_boot() -> None:
    """It took: the old slot boots and the first reason stands."""
    world = World()
    world.offer(SICK)
    world.run(lambda: world.runs(SICK))
    world.environment.faults = iter([Fault.UNDECIDED_TAKEN])
    world.run_until_calm()
    assert [boot.slot for boot in world.boots] == ["A", "B", "A"]
    assert world.outcomes[0].reason == "health: application: exit status 1"


# --- by a person ----------------------------------------------------------------------------------


def test_a_person_may_mark_good() -> None:
    """At once, whatever the checks would say; the cloud hears done."""
    world = on_trial(SICK)
    assert world.agent.trial.mark_good() == "B"
    world.run_until_calm()
    assert world.booted.image == SICK
    assert [spoken(message) for message in world.outcomes] == ["done"]


def test_a_person_may_reject() -> None:
    """The old slot boots, and the reason is the person's."""
    world = on_trial()
    world.agent.trial.reject("trial: rolled back on request")
    world.run_until_calm()
    assert world.booted.image == OLD
    assert world.outcomes[0].reason == "trial: rolled back on request"


def test_without_a_trial_there_is_nothing_to_judge() -> None:
    """Neither verdict is taken, and nothing is stored."""
    world = World()
    world.run_until_calm()
    with pytest.raises(WrongStateError, match="slot A is not on trial"):
        world.agent.trial.mark_good()
    with pytest.raises(WrongStateError, match="slot A is not on trial"):
        world.agent.trial.reject("because")
    with pytest.raises(WrongStateError, match="slot A is not on trial"):
        trial.mark_good(world.agent.device)
    assert not [name for name in world.instants.names if "environment" in name]


def test_a_verdict_that_is_not_stored_is_told_to_the_person() -> None:
    """And the trial goes on."""
    world = on_trial()
    world.environment.faults = iter([Fault.REFUSED])
    with pytest.raises(EnvironmentStoreError):
        world.agent.trial.mark_good()
    assert world.is_on_trial
    assert world.session is not None
    assert world.session.state is State.TRIAL


def test_marking_good_by_hand_without_the_agent_is_found_at_the_next_start() -> None:
    """The environment says so: GOOD, and done."""
    world = on_trial()
    trial.mark_good(world.agent.device)
    world.lose_process()
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["done"]

# SPDX-License-Identifier: MIT
"""Starts: what is found, and what cannot be read stops no more than what depends on it."""

from dataclasses import replace
from itertools import repeat

import pytest
from sim.flash import Image
from sim.settings import NEW, OLD
from sim.storage import Fault
from sim.uplink import spoken
from sim.world import World

from updater.activity import NEVER_S
from updater.core.bootflow import BootState
from updater.core.errors import SlotError
from updater.core.model import State

SICK = Image("0.2", is_healthy=False)


def booted_into(image: Image) -> World:
    """Return a world in which *image* has just been booted on trial, and no agent runs yet."""
    world = World()
    world.offer(image)
    world.run(lambda: world.runs(image))
    return world


def stores(world: World) -> list[str]:
    """Return the stores of the environment by Linux."""
    return [name for name in world.instants.names if name.startswith("after environment")]


# --- the journal is lost --------------------------------------------------------------------------


@pytest.mark.parametrize(("image", "kept"), [(NEW, NEW), (SICK, OLD)])
def test_an_orphan_trial_is_judged_like_any_other(image: Image, kept: Image) -> None:
    """The data partition was lost: the slot is kept or left, and the version says which."""
    world = booted_into(image)
    world.journal.lose()
    world.cloud.task = None
    world.run_until_calm()
    assert world.booted.image == kept
    assert world.heard[-1] == f"report_version {kept.version}"
    assert not world.outcomes
    assert world.boot_state.session == ""


def test_an_offer_in_an_orphan_trial_waits() -> None:
    """The verdict comes first, then the cloud repeats itself."""
    world = booted_into(NEW)
    world.journal.lose()
    world.problems["application"] = None
    world.run(lambda: world.cloud.link is not None)
    said = len(world.heard)
    world.offer(Image("0.3"))
    world.run_for(20)
    assert len(world.heard) == said
    assert world.agent.is_orphan
    world.problems.clear()
    world.run_until_calm()
    assert world.booted.image == Image("0.3")


def test_an_orphan_that_is_left_is_silent_until_the_reboot() -> None:
    """Its version is not the one that will run."""
    world = booted_into(SICK)
    world.journal.lose()
    world.system.reboot_s = 300.0
    world.run(lambda: world.agent_runs and world.agent.is_reboot_due)
    said = len(world.heard)
    world.lose_network()
    world.run_for(200)
    assert world.booted.image == SICK
    assert world.heard[said:] == []


def test_a_person_may_judge_an_orphan() -> None:
    """Either way, at once."""
    for verdict, kept in (("good", NEW), ("bad", OLD)):
        world = booted_into(NEW)
        world.journal.lose()
        world.cloud.task = None
        world.problems["application"] = None
        world.run(lambda world=world: world.cloud.link is not None)
        if verdict == "good":
            world.agent.trial.mark_good()
        else:
            world.agent.trial.reject("trial: rolled back on request")
        world.run_until_calm()
        assert world.booted.image == kept


@pytest.mark.parametrize("what", ["can_be_opened", "is_readable"])
@pytest.mark.parametrize(("image", "kept"), [(NEW, NEW), (SICK, OLD)])
def test_no_journal_stands_in_the_way_of_a_verdict(image: Image, kept: Image, what: str) -> None:
    """It cannot be opened, or not be read: the trial is judged, installs are refused with -5."""
    world = booted_into(image)
    setattr(world.journal, what, False)
    world.cloud.task = None
    said = len(world.heard)
    world.run(lambda: f"report_version {kept.version}" in world.heard[said:])
    assert world.booted.image == kept
    assert len(world.boots) == (2 if kept == NEW else 3)
    world.offer(Image("0.3"))
    world.run(lambda: bool(world.refusals), 1)
    assert spoken(world.refusals[0]) == "fail -5"
    assert "journal" in world.refusals[0].reason
    assert not world.outcomes
    setattr(world.journal, what, True)  # it is mended, and the session had its verdict
    world.lose_process()
    world.run_until_calm()
    assert [m.state for m in world.outcomes] == ["done" if kept == NEW else "fail"]


def test_a_journal_that_cannot_be_read_keeps_what_the_environment_tells() -> None:
    """Why the machine fell back is not cleared before it is journalled."""
    world = World()
    world.offer(Image("0.2", panics=True))
    world.run(lambda: len(world.boots) == 5)
    world.cloud.task = None  # or it would be refused for want of a journal
    world.journal.is_readable = False
    world.run(lambda: world.heard[-1:] == ["report_version 0.1"])
    world.lose_process()
    world.run_for(100)
    assert world.boot_state.count == 4
    world.journal.is_readable = True
    world.lose_process()
    world.run_until_calm()
    assert world.outcomes[0].reason == "trial: fell back after 3 boots without being marked good"


# --- slots or environment cannot be told ----------------------------------------------------------


@pytest.mark.parametrize("what", ["slots", "environment"])
def test_without_slots_or_environment_nothing_is_written(what: str) -> None:
    """Offers are refused with -5 until this is mended and the agent starts again."""
    world = World(spare=Image("0.0"))
    world.run_until_calm()
    blind(world, what)
    world.run(lambda: world.cloud.link is not None)
    world.offer(NEW)
    world.run(lambda: bool(world.refusals), 10)
    world.run_for(1)  # its PUBACK
    assert spoken(world.refusals[0]) == "fail -5"
    assert world.media["B"].is_complete
    assert not stores(world)
    mend(world)
    world.offer(NEW)
    world.run_until_calm()
    assert world.booted.image == NEW


def blind(world: World, what: str) -> None:
    """Start the agent anew on a machine that does not know its slots or its environment."""
    world.lose_process()
    if what == "slots":
        world.finder.error = SlotError("this system runs from none of A, B")
    else:
        world.environment.is_readable = False


def mend(world: World) -> None:
    """Let everything be readable again, and start the agent anew."""
    world.finder.error = None
    world.environment.is_readable = True
    world.lose_process()


@pytest.mark.parametrize("what", ["slots", "environment"])
def test_a_trial_that_cannot_be_recognised_is_silent(what: str) -> None:
    """No verdict, no version, no outcome: a later start, or the dead-man timer, decides."""
    world = booted_into(NEW)
    said = len(world.heard)
    blind(world, what)
    world.run(lambda: world.cloud.link is not None)
    world.offer(NEW)  # once more: nothing is adopted
    world.run_for(1000)
    assert len(world.heard) == said
    assert world.boot_state.is_trial
    mend(world)
    world.run_until_calm()
    assert world.booted.image == NEW


def test_an_offer_to_a_blind_agent_ends_the_old_session_and_is_refused() -> None:
    """What was installing can be given up without a write; the new one cannot begin."""
    world = World()
    world.offer(NEW)
    world.run(lambda: "downloading 0" in world.heard)
    blind(world, "slots")
    world.run(lambda: world.cloud.link is not None)
    world.offer(Image("0.3"))
    world.run(lambda: bool(world.refusals), 10)
    assert [(m.version, m.reason) for m in world.outcomes] == [("0.2", "superseded by version 0.3")]
    assert world.refusals[0].version == "0.3"


def test_a_person_may_still_mark_good_when_the_start_was_blind() -> None:
    """The trial can be recognised by now: the session ends GOOD, and done comes first."""
    world = booted_into(NEW)
    blind(world, "slots")
    world.run(lambda: world.cloud.link is not None)
    world.finder.error = None
    world.agent.trial.mark_good()
    world.run_until_calm()
    assert world.heard[-2:] == ["done", "report_version 0.2"]


# --- what others did to the environment -----------------------------------------------------------


@pytest.mark.parametrize("state", [State.ACTIVATED, State.TRIAL])
def test_a_trial_slot_that_is_no_longer_preferred_is_left(state: State) -> None:
    """Somebody made the old slot primary: the unjudged one is not kept because it runs."""
    world = booted_into(NEW)
    world.problems["application"] = None
    world.run(lambda: world.session is not None and world.session.state is State.TRIAL)
    assert world.session is not None
    world.journal.sessions[world.session.id] = replace(world.session, state=state)
    world.environment.variables |= {"boot_slot": "A", "upgrade_available": "0"}
    world.lose_process()
    world.run(lambda: world.agent_runs and world.agent.is_reboot_due)
    assert world.agent.trial.interests() == {}  # there is nothing left to judge
    world.run_until_calm()
    assert (world.booted.slot, world.boot_state.primary) == ("A", "A")
    assert world.outcomes[0].reason == "boot: the environment was changed by someone else"


def test_a_slot_that_somebody_made_primary_for_good_is_kept() -> None:
    """``fw_setenv upgrade_available 0`` in a trial is a verdict, and a person's."""
    world = booted_into(SICK)
    world.environment.variables["upgrade_available"] = "0"
    world.run_until_calm()
    assert world.booted.image == SICK
    assert [spoken(message) for message in world.outcomes] == ["done"]


def test_an_activation_that_somebody_undid_has_failed() -> None:
    """The old slot runs and is preferred by another hand: fail, and the target is not kept."""
    world = World()
    world.offer(NEW)
    world.run(lambda: world.boot_state.is_trial)
    world.environment.variables["updater_session"] = "another"
    world.environment.variables["boot_slot"] = "A"
    world.run_until_calm()
    assert world.booted.image == OLD
    assert world.outcomes[0].reason == "boot: the environment was changed by someone else"


def test_a_failed_session_is_not_kept_by_a_later_boot_of_its_slot() -> None:
    """Its trial fell through and was reported; if the slot loads after all, it is left at once."""
    world = World()
    world.offer(Image("0.2", loads=False))
    world.run(lambda: len(world.boots) == 2)
    world.environment.faults = repeat(Fault.REFUSED)  # nothing can be cleared
    world.run(lambda: world.heard[-1:] == ["report_version 0.1"])
    flaky = Image("0.2")
    world.media["B"].head = world.media["B"].body = flaky
    world.environment.faults = iter(())
    world.lose_power()
    world.run_until_calm()
    assert [boot.slot for boot in world.boots] == ["A", "A", "B", "A"]
    assert "report_version 0.2" not in world.heard
    assert [spoken(message) for message in world.outcomes] == ["fail -5"]


def test_leftovers_are_cleared_on_sight() -> None:
    """A count and a session of nobody's."""
    world = World()
    world.environment.variables |= {"bootcount": "4", "updater_session": "5e55"}
    world.run_until_calm()
    assert world.boot_state == BootState("A", is_trial=False, count=0, session="")


def test_a_good_slot_that_could_not_be_loaded_once_is_tried_again() -> None:
    """It stays primary while the other one runs; a load that fails demotes nothing for ever."""
    world = World(spare=NEW)
    world.environment.variables["boot_slot"] = "B"
    world.media["B"].head = None
    world.run_until_calm()
    assert (world.booted.slot, world.boot_state.primary) == ("A", "B")
    world.media["B"].head = NEW
    world.lose_power()
    world.run_until_calm()
    assert world.booted.image == NEW


def test_a_primary_that_does_not_load_is_cured_by_an_offer() -> None:
    """The booted slot is made primary first, then the broken one is written and tried."""
    world = World()
    world.environment.variables["boot_slot"] = "B"
    world.run_until_calm()
    world.offer(NEW)
    world.run_until_calm()
    assert (world.booted.image, world.boot_state.primary) == (NEW, "B")


def test_a_rollback_that_waits_for_its_reboot_is_not_undone() -> None:
    """The process starts anew before the reboot: the primary stays, and offers wait for it."""
    world = World(spare=Image("0.0"))
    world.run_until_calm()
    world.environment.variables["boot_slot"] = "B"
    world.lose_process()
    world.offer(NEW)
    world.run_for(600)
    assert world.session is None
    assert world.boot_state.primary == "B"
    world.lose_power()
    world.run(lambda: world.runs(Image("0.0")))
    world.run_until_calm()
    assert world.booted.image == NEW


def test_an_orphan_that_was_rejected_is_left_though_the_process_dies() -> None:
    """The store took and the reboot did not: the next start reboots, and keeps nothing unjudged."""
    world = booted_into(SICK)
    world.journal.lose()
    world.reboot_s = 10_000.0
    world.run(lambda: world.boot_state.primary == "A")
    world.reboot_s = 1.0
    world.system.reboot_at_s = NEVER_S
    world.lose_process()
    world.run(lambda: world.booted.slot == "A")
    world.run_until_calm()
    assert (world.booted.image, world.boot_state.primary) == (OLD, "A")


def test_an_old_slot_that_no_longer_loads_makes_no_loop_of_reboots() -> None:
    """The trial is lost and there is nothing to return to: one fail, and the device stays up."""
    world = booted_into(SICK)
    world.media["A"].head = None
    world.run_until_calm()
    assert world.booted.slot == "B"
    assert len(world.boots) <= 4
    assert [spoken(message) for message in world.outcomes] == ["fail -5"]


def test_an_environment_that_cannot_be_cleared_is_no_obstacle() -> None:
    """The agent says so in its log and serves."""
    world = World()
    world.environment.variables |= {"bootcount": "4"}
    world.environment.faults = repeat(Fault.REFUSED)
    world.run_until_calm()
    assert world.boot_state.count == 4


def test_a_slot_that_is_being_installed_and_was_booted_by_hand_ends_the_session() -> None:
    """The machine runs what it was about to overwrite: nothing is written, fail -5."""
    world = World(spare=Image("0.0"))
    world.offer(NEW)
    world.run(lambda: "downloading 0" in world.heard)
    world.media["B"].head = world.media["B"].body = Image("0.0")
    world.environment.variables["boot_slot"] = "B"
    world.lose_power()
    world.run_until_calm()
    assert world.booted.image == Image("0.0")
    assert world.outcomes[0].reason == "boot: the machine now runs from the slot being installed"

# SPDX-License-Identifier: MIT
"""The agent's whole stories: what the cloud hears, what boots, what is left behind."""

from dataclasses import replace
from itertools import repeat
from typing import Any

import pytest
from sim.flash import MIB, Image
from sim.settings import CONFIG, NEW, OLD
from sim.storage import Fault
from sim.uplink import spoken
from sim.world import World

from updater.agent import Agent
from updater.core import bootflow
from updater.core.bootflow import BootState
from updater.core.config import DownloadConfig, HealthConfig
from updater.core.errors import ForbiddenError, SlotError, StorageError
from updater.core.model import Firmware, Offer, State

SETTLED_ON_A = BootState("A", is_trial=False, count=0, session="")
SETTLED_ON_B = BootState("B", is_trial=False, count=0, session="")


def progress(state: str, code: int = 0, reason: str = "", **percent: str) -> dict[str, Any]:
    """Return the body of a ``report_progress`` about version 0.2."""
    inner = {"state": state, **percent, "result_code": str(code), "result_msg": reason}
    return {"type": "report_progress", "report": {"progress": inner, "version": "0.2"}}


def version(text: str) -> dict[str, Any]:
    """Return the body of a ``report_version``."""
    return {"type": "report_version", "report": {"version": text}}


def ended(offered: Image, **how: Any) -> World:
    """Return the world after *offered* was offered and everything has come to rest."""
    world = World()
    world.run_until_calm()
    world.offer(offered, **how)
    world.run_until_calm()
    return world


def test_a_good_image_is_installed_tried_and_kept() -> None:
    """Offer, download, burning, activation, reboot, trial, good, done, version: in this order."""
    world = ended(NEW)
    assert [message.body for message in world.cloud.messages] == [
        version("0.1"),
        progress("downloading", percent="0"),
        progress("downloading", percent="50"),
        progress("downloading", percent="100"),
        progress("burning"),  # the last byte has come
        progress("burning"),  # on trial: proves the link
        progress("done"),
        version("0.2"),
    ]
    assert [message.qos for message in world.cloud.messages] == [1, 0, 0, 0, 1, 1, 1, 1]
    assert [(boot.slot, boot.is_trial) for boot in world.boots] == [("A", False), ("B", True)]
    assert world.boot_state == SETTLED_ON_B
    assert world.journal.records["B"].firmware == NEW.firmware
    assert [line.state for line in world.journal.history(9)] == [
        "good", "trial", "activated", "installed", "installing",
    ]  # fmt: skip


def test_the_next_boots_change_nothing() -> None:
    """Power cycling after a success writes nothing and says nothing but the version."""
    world = ended(NEW)
    stores, said = len(world.instants.names), len(world.heard)
    for _ in range(9):
        world.lose_power()
        world.run_until_calm()
    assert world.heard[said:] == ["report_version 0.2"] * 9
    assert not [name for name in world.instants.names[stores:] if "publish" not in name]
    assert {boot.slot for boot in world.boots[1:]} == {"B"}


def test_the_way_back_is_an_update_like_any_other() -> None:
    """Versions are not ordered: the older one is installed into the other slot."""
    world = ended(NEW)
    world.offer(OLD)
    world.run_until_calm()
    assert (world.booted.slot, world.booted.image) == ("A", OLD)
    assert world.heard[-2:] == ["done", "report_version 0.1"]


@pytest.mark.parametrize(
    ("image", "boots", "reason"),
    [
        (
            Image("0.2", panics=True),
            ["A", "B", "B", "B", "A"],
            "trial: fell back after 3 boots without being marked good",
        ),
        (
            Image("0.2", hangs=True),
            ["A", "B", "B", "B", "A"],
            "trial: fell back after 3 boots without being marked good",
        ),
        (
            Image("0.2", loads=False),
            ["A", "A"],
            "boot: target could not be loaded, old slot booted (try 1)",
        ),
        (
            Image("0.2", is_healthy=False),
            ["A", "B", "A"],
            "health: application: exit status 1",
        ),
    ],
    ids=["panics", "hangs", "does-not-load", "is-not-healthy"],
)
def test_a_bad_image_is_left_again(image: Image, boots: list[str], reason: str) -> None:
    """The old slot boots, the cloud hears one fail -5 that says why, and then the old version."""
    world = ended(image)
    assert [boot.slot for boot in world.boots] == boots
    assert [message.body for message in world.cloud.messages[-2:]] == [
        progress("fail", -5, reason),
        version("0.1"),
    ]
    assert len(world.outcomes) == 1
    assert world.boot_state == SETTLED_ON_A
    assert world.session is not None
    assert world.session.reason == reason


def test_what_failed_can_be_offered_again() -> None:
    """A fail ends one attempt and forbids nothing."""
    world = ended(Image("0.2", is_healthy=False))
    world.offer(NEW)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert [spoken(message) for message in world.outcomes] == ["fail -5", "done"]


def test_what_failed_is_no_image_to_roll_back_to() -> None:
    """A slot keeps its record only if its image was never found wanting."""
    world = ended(Image("0.2", panics=True))
    assert world.media["B"].is_complete
    assert world.journal.record("B") is None


def test_a_check_that_failed_before_condemns_nobody() -> None:
    """The baseline of before the activation excuses it in the trial."""
    world = World()
    world.problems["gateway"] = "exit status 7"
    world.offer(NEW)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert world.session is not None
    assert world.session.baseline == ("gateway",)


def test_a_check_that_hangs_runs_out_of_time() -> None:
    """Neither a baseline nor a trial waits for a command that never ends."""
    world = World()
    world.offer(NEW)
    world.run(lambda: "burning" in world.heard)
    world.problems["gateway"] = None
    world.run(lambda: world.runs(NEW))
    world.problems.clear()
    world.problems["application"] = None
    world.run_until_calm()
    assert world.session is not None
    assert world.session.baseline == ("gateway",)
    assert world.outcomes[-1].reason == "health: application: no result in time"
    assert world.booted.image == OLD


def test_a_trial_that_cannot_reach_the_cloud_is_lost() -> None:
    """The link must be proven by an acknowledged message, within its time."""
    world = World()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.cloud.is_reachable = False
    world.run(lambda: len(world.boots) == 3)
    world.cloud.is_reachable = True
    world.run_until_calm()
    assert world.outcomes[-1].reason == "health: link not proven within 1800 s"
    assert [boot.slot for boot in world.boots] == ["A", "B", "A"]


def test_a_trial_is_not_proven_by_a_connection_alone() -> None:
    """A broker that acknowledges nothing is no link."""
    world = World()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.cloud.acknowledges = False
    world.run(lambda: world.heard.count("burning") == 3, 90)
    world.run_for(600)
    assert world.is_on_trial
    world.cloud.acknowledges = True
    world.lose_network()
    world.run_until_calm()
    assert world.booted.image == NEW


def test_a_device_that_needs_no_link_keeps_an_image_without_one() -> None:
    """``health.link = false``: the commands alone decide, and what is owed waits for the cloud."""
    world = World(replace(CONFIG, health=HealthConfig(link=False)))
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.cloud.is_reachable = False
    world.run(lambda: world.session is not None and world.session.state is State.GOOD, 60)
    assert "done" not in world.heard
    world.cloud.is_reachable = True
    world.run_until_calm()
    assert world.heard[-2:] == ["done", "report_version 0.2"]


# --- without a cloud, or without its knowledge ----------------------------------------------------


def alone(image: Image, **limits: float) -> World:
    """Return a world without a link in which a person has just offered *image*."""
    health = replace(CONFIG.health, link=False)
    world = World(replace(CONFIG, health=health, download=DownloadConfig(**limits)))
    world.has_link = False
    world.run_for(10)
    world.web.serve("/image", image)
    world.agent.offered(Offer(image.firmware, "/image", is_local=True))
    return world


@pytest.mark.parametrize(
    ("image", "kept"), [(NEW, NEW), (Image("0.2", is_healthy=False), OLD)], ids=["good", "bad"]
)
def test_an_agent_without_a_cloud_brings_an_image_in(image: Image, kept: Image) -> None:
    """A person's offer needs no broker, before the reboot and after it."""
    world = alone(image)
    world.run(lambda: world.session is not None and world.session.state.is_final)
    assert world.booted.image == kept
    assert not world.heard
    world.agent.ask()  # there is nobody
    world.end_agent()


def test_an_orphan_without_a_cloud_is_judged_too() -> None:
    """The commands alone decide."""
    world = alone(NEW)
    world.run(lambda: world.runs(NEW))
    world.journal.lose()
    world.run(lambda: not world.boot_state.is_trial, 60)
    assert world.boot_state.primary == "B"


def test_an_agent_without_a_cloud_may_stand_still_and_adopt() -> None:
    """Neither needs somebody to tell."""
    world = alone(NEW)
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.lose_process()
    world.finder.error = SlotError("this system runs from none of A, B")
    world.run_for(10)
    assert world.agent.problem is world.finder.error
    with pytest.raises(SlotError):
        world.agent.offered(Offer(Image("0.3").firmware, "/image", is_local=True))


def test_a_url_that_is_forbidden_to_a_lonely_agent_is_final() -> None:
    """Nobody brings a fresh one."""
    world = alone(NEW, fresh_url_timeout_s=0.0)
    world.web.fail("/image", ForbiddenError("the server says 403"))
    world.run(lambda: world.session is not None and world.session.state is State.FAILED, 10)
    assert world.session is not None
    assert world.session.code == -3


def test_a_local_install_is_nothing_that_the_cloud_hears_of() -> None:
    """No progress and no outcome of it, but the version at the end."""
    world = World()
    world.run_until_calm()
    world.web.serve("/image", NEW)
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run_until_calm()
    assert world.heard == ["report_version 0.1", "report_version 0.2"]


def test_a_local_install_that_fails_is_journalled_only() -> None:
    """A person reads why in the history."""
    world = World()
    world.run_until_calm()
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run(lambda: world.session is not None and world.session.state is State.FAILED)
    assert world.journal.lines[-1].text == "install: the server says 404"
    assert world.heard == ["report_version 0.1"]


# --- activation: one store, and whether it took ---------------------------------------------------


def test_a_store_that_did_not_take_ends_the_session() -> None:
    """-5 without a reboot; the old slot stays primary, and the image is nothing to return to."""
    world = World()
    world.environment.faults = iter([Fault.REFUSED])
    world.offer(NEW)
    world.run_until_calm()
    assert world.cloud.messages[-2].body == progress(
        "fail", -5, "activate: environment: it reads back unchanged"
    )
    assert [boot.slot for boot in world.boots] == ["A"]
    assert world.journal.record("B") is None


@pytest.mark.parametrize(
    ("fault", "boots"),
    [(Fault.UNDECIDED_TAKEN, ["A", "B"]), (Fault.UNDECIDED_LOST, ["A", "A", "B"])],
)
def test_a_store_of_which_nobody_can_tell_is_decided_by_the_next_boot(
    fault: Fault, boots: list[str]
) -> None:
    """It took: the target is on trial. It did not: the old slot boots and activates again."""
    world = World()
    world.environment.faults = iter([fault])
    world.offer(NEW)
    world.run_until_calm()
    assert [boot.slot for boot in world.boots] == boots
    assert [spoken(message) for message in world.outcomes] == ["done"]


def test_a_medium_that_never_tells_costs_one_reboot_and_no_more() -> None:
    """A store that nobody can judge is left to a boot; a second one waits for somebody's."""
    world = World()
    world.environment.faults = repeat(Fault.UNDECIDED_LOST)
    world.offer(NEW)
    world.run_for(4000)
    assert [boot.slot for boot in world.boots] == ["A", "A"]
    assert not world.outcomes
    world.environment.faults = iter(())
    world.lose_power()
    world.run_until_calm()
    assert world.booted.image == NEW


# --- install: what is refused, and what goes wrong ------------------------------------------------


def test_another_image_than_announced_is_no_image() -> None:
    """A wrong digest is -4; the target cannot boot and the old slot runs on."""
    world = ended(NEW, served=Image("0.2", is_healthy=False))
    assert spoken(world.outcomes[-1]) == "fail -4"
    assert not world.media["B"].is_loadable
    assert [boot.slot for boot in world.boots] == ["A"]


def test_a_storage_error_ends_the_install_before_any_activation() -> None:
    """-5 with step and fact; the environment was never touched."""
    world = World()
    url = world.offer(NEW)
    world.web.fail(url, (50, StorageError("write of /dev/b at 4194304: Input/output error")))
    world.run_until_calm()
    assert world.cloud.messages[-2].body == progress(
        "fail", -5, "install: write of /dev/b at 4194304: Input/output error"
    )
    assert not [name for name in world.instants.names if "environment" in name]


def test_a_target_that_the_environment_prefers_is_not_blanked() -> None:
    """One store makes the booted slot primary first (law 2 of the world holds it)."""
    world = World(spare=Image("0.0"))
    world.run_until_calm()
    world.environment.variables["boot_slot"] = "B"
    world.offer(NEW)
    world.run_until_calm()
    names = [name for name in world.instants.names if name.startswith("after")]
    assert names.index("after environment: boot_slot=A") < names.index("after slot: head blanked")
    assert world.booted.image == NEW


def test_an_environment_that_cannot_be_settled_is_no_ground_to_write() -> None:
    """If the store does not take, nothing is blanked: -5."""
    world = World(spare=Image("0.0"))
    world.run_until_calm()
    world.environment.variables["boot_slot"] = "B"
    world.environment.is_readable = False
    world.offer(NEW)
    world.run(lambda: bool(world.refusals))
    assert world.refusals[0].reason == "no copy of the environment is valid"
    assert world.media["B"].is_complete


@pytest.mark.parametrize("is_swapped", [False, True])
def test_slots_that_are_not_as_before_are_not_written(is_swapped: bool) -> None:
    """They are looked up again before a write, and must be what the session was begun for."""
    world = World(spare=Image("0.0"))
    world.run_until_calm()
    if is_swapped:
        slots = world.finder.slots
        world.finder.slots = replace(slots, booted=slots.target, target=slots.booted)
    else:
        world.finder.error = SlotError("slot B: partlabel b is on 2 partitions")
    world.offer(NEW)
    world.run(lambda: bool(world.outcomes))
    assert spoken(world.outcomes[0]) == "fail -5"
    assert world.media["B"].is_complete


def test_an_image_as_large_as_the_slot_fits() -> None:
    """The limit is the slot's last byte."""
    assert ended(Image("0.2", size_bytes=64 * MIB)).booted.slot == "B"


def test_an_image_of_one_byte_has_a_progress() -> None:
    """Nothing is divided by zero and 100 is said."""
    world = ended(Image("0.2", size_bytes=1))
    assert world.booted.slot == "B"
    assert "downloading 100" in world.heard


def test_closing_stops_everything_and_the_next_start_goes_on() -> None:
    """In the middle of an install, an orderly end leaves nothing open and nothing bootable."""
    world = World()
    world.offer(NEW)
    world.run(lambda: "downloading 50" in world.heard)
    assert world.agent.progress is not None
    assert 0 < world.agent.progress.received_bytes <= NEW.size_bytes
    world.end_agent()
    assert not world.media["B"].is_loadable
    world.run_until_calm()
    assert world.booted.image == NEW
    assert world.instants.names.count("after slot: part 1 of 4") == 1


def test_a_plain_version_of_the_environment_survives() -> None:
    """Variables that are not the updater's are as before."""
    world = ended(NEW)
    assert world.environment.variables["ethaddr"] == "52:54:00:12"
    assert bootflow.read(world.environment.variables) == SETTLED_ON_B


def test_the_slots_are_not_known_before_the_start() -> None:
    """An agent that was not started writes nothing."""
    world = World()
    world.run_until_calm()
    agent = Agent(world.agent.device, None)
    with pytest.raises(SlotError, match="not started"):
        _ = agent.slots
    with pytest.raises(SlotError, match="not started"):
        agent.offered(Offer(Firmware("1", "0" * 32, 1), "/image", is_local=True))

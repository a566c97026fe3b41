# SPDX-License-Identifier: MIT
"""The stories that are told again with cuts: one offer each, and what must come of it."""

from collections.abc import Callable
from dataclasses import dataclass

from sim.flash import Image
from sim.instants import cut_power, kill_process
from sim.settings import FACTORY, NEW, OLD
from sim.world import World
from updater.core.bootflow import BootState
from updater.core.model import State


@dataclass(frozen=True)
class Story:
    """One offer.

    Attributes:
        offered: What the cloud announces.
        served: What the web has under its URL, if that is something else.
        code: Result code of the end when nothing is cut.
    """

    offered: Image
    served: Image | None = None
    code: int = 0

    def begin(self) -> World:
        """Return a world in which the offer is about to be made: B holds an older image."""
        world = World(spare=Image("0.0"))
        world.offer(self.offered, served=self.served)
        return world

    def instants(self) -> list[str]:
        """Return the names of all instants of the story when nothing is cut."""
        world = self.begin()
        world.run_until_calm()
        return world.instants.names


STORIES = {
    "good": Story(NEW),
    "panicking": Story(Image("0.3", panics=True), code=-5),
    "unhealthy": Story(Image("0.4", is_healthy=False), code=-5),
    "hanging": Story(Image("0.5", hangs=True), code=-5),
    "unloadable": Story(Image("0.6", loads=False), code=-5),
    "wrong-digest": Story(NEW, served=Image("0.2", is_healthy=False), code=-4),
}

CUTS: dict[str, Callable[[World], Callable[[], None]]] = {
    "power": lambda _world: cut_power,
    "process": lambda _world: kill_process,
    "network": lambda world: world.lose_network,
}


def assert_settled(world: World) -> None:
    """Assert that the environment prefers what is booted, speaks of no trial, and lost nothing."""
    assert world.boot_state == BootState(world.booted.slot, is_trial=False, count=0, session="")
    assert world.environment.variables["ethaddr"] == FACTORY["ethaddr"]


def assert_ended_well(world: World, story: Story, *, cuts: int) -> None:
    """Assert what holds at the end of every story, however often it was cut.

    That each boot was of a complete image is a law of the world itself.
    """
    session = world.session
    assert session is not None
    assert session.state.is_final
    runs_new = world.booted.image == story.offered
    assert world.booted.image in {story.offered, OLD}
    assert session.state is (State.GOOD if runs_new else State.FAILED)
    assert_settled(world)
    assert [report.session_id for report in world.journal.reports] == list(world.journal.sessions)
    counts = [each.count for each in world.journal.failures()]
    assert counts == ([] if runs_new else [1])  # once, whatever was cut
    assert 1 <= len(world.outcomes) <= 1 + cuts
    assert {(m.state, m.code) for m in world.outcomes} == {
        ("done", 0) if runs_new else ("fail", int(session.code))
    }
    assert world.heard[-1] == f"report_version {world.booted.image.version}"
    assert not world.refusals

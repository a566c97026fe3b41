# SPDX-License-Identifier: MIT
"""A device with a policy in the simulated world: what its tests have in common."""

from dataclasses import replace

from sim.flash import Image
from sim.settings import CONFIG, NEW
from sim.world import World

from updater.core.commands import Outcome
from updater.core.config import Config
from updater.core.errors import UpdaterError
from updater.core.model import Offer, State
from updater.core.policyconfig import HookConfig, PolicyConfig
from updater.desk import waiting

HOUR_S = 3600.0
MIDNIGHT_S = 1_772_409_600.0  # 2026-03-02, a Monday, 00:00 UTC
NIGHT = ("22:00-05:00",)
OTHER = Image("0.3")
NO_POWER = Outcome(1, "exit status 1")
LATER = Outcome(75, "exit status 75", "the pump runs")
NO = Outcome(3, "exit status 3", "this site is frozen")


def hook(when: str, name: str = "") -> HookConfig:
    """Return a hook whose program is its name."""
    return HookConfig(name=name or when, when=when, argv=(name or when,), timeout_s=20.0)


def with_policy(**rows: object) -> Config:
    """Return the simulated device's configuration with *rows* of policy."""
    return replace(CONFIG, policy=PolicyConfig(**rows))  # type: ignore[arg-type]


def started(config: Config, clock: str = "12:00", parts: int = 4) -> World:
    """Return a device at rest, on that Monday at *clock*; images come in *parts*."""
    world = World(config)
    world.parts = parts
    set_clock(world, clock)
    world.run_until_calm()
    return world


def set_clock(world: World, clock: str, days: int = 0) -> None:
    """Set the wall clock to *clock* of that Monday, or *days* later."""
    hours, minutes = map(int, clock.split(":"))
    wanted_s = MIDNIGHT_S + days * 86400 + hours * HOUR_S + minutes * 60
    world.clock.ahead_s = wanted_s - world.clock.now_s


def hour(world: World) -> float:
    """Return the hour of the local day."""
    return (world.system.time_s() - MIDNIGHT_S) / HOUR_S % 24


def told(world: World) -> dict[str, object]:
    """Return what waits, as `updater status` has it."""
    found = waiting(world.agent)
    assert found is not None
    return found


def texts(world: World) -> list[str]:
    """Return the history of the newest session."""
    assert world.session is not None
    return [line.text for line in world.journal.lines if line.session_id == world.session.id]


def begun(world: World) -> bool:
    return bool(world.journal.sessions)


def installed(world: World) -> bool:
    return world.session is not None and world.session.state is State.INSTALLED


def put_off(config: Config, clock: str = "12:00") -> World:
    """Return a world in which ``NEW`` is installed and its activation waits."""
    world = started(config, clock)
    world.offer(NEW)
    world.run(lambda: installed(world))
    world.run_for(10)
    return world


def ask(world: World, image: Image = NEW) -> list[UpdaterError | None]:
    """Have a person's offer asked about; the answer comes into the list."""
    answers: list[UpdaterError | None] = []
    world.web.serve("/image", image)
    world.agent.keeper.ask(Offer(image.firmware, "/image", is_local=True), answers.append)
    return answers

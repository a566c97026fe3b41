# SPDX-License-Identifier: MIT
"""The updater's whole world in memory: a device, its cloud, and the power that comes and goes.

Theory of operation. What is durable outlives everything: the media of both slots, the boot
environment, the journal, the cloud. What is volatile lives for one boot or for one process: the
agent and the ports that it was given. All of it is made of the fakes beside this file, which
implement ``updater.core.ports``; the agent over them is the real one.

    world = World()
    world.offer(NEW)                  # the cloud starts a task, the web serves the image
    world.run_until_calm()            # hours of it take milliseconds
    assert world.booted.image == NEW

A reset runs the bootloader as ``core.bootflow.boot`` models it, over the environment and over what
the slots really hold: a slot with a blank head does not load, a kernel may panic and come back as
the next reset, and a trial that nobody judges is ended by the dead-man timer. Time moves only when
the agent's loop waits (``sim.clock``).

Each durable write (a store of the environment by Linux or U-Boot, a transaction of the journal, a
part of a slot, a message that reaches the cloud) has an instant before it and one after it
(``sim.instants``). At any of them a test may cut the power, kill the process or cut the network;
the world then goes on as the machine would. The laws of ``sim.laws`` hold in every story, whatever
it is about.
"""

from collections.abc import Callable
from typing import Any

from sim.clock import Clock
from sim.cloud import Message
from sim.flash import Image, Medium
from sim.instants import Instants, PowerCut, ProcessKilled
from sim.laws import Laws
from sim.machine import Boot, MemoryCommands, MemoryFinder, MemoryHealth, MemorySystem
from sim.pipeline import Checkpoint, MemoryPipeline, Web
from sim.settings import (
    BOARD,
    CONFIG,
    DEAD_MAN_S,
    FACTORY,
    FIRMWARE_S,
    OLD,
    PANIC_S,
    SLOTS,
    TABLE,
)
from sim.storage import MemoryEnvironment, MemoryJournal
from sim.uplink import MemoryCloud, MemoryLink, is_terminal, spoken
from updater import activity
from updater.activity import NEVER_S
from updater.agent import Agent
from updater.core import bootflow
from updater.core.commands import Outcome
from updater.core.config import Config
from updater.core.errors import JournalError, TransportError
from updater.core.journal import Journal
from updater.core.link import Link
from updater.core.model import Offer, Session, Slots, State
from updater.device import Device
from updater.lostjournal import LostJournal


class World:
    """One device in its world, from the factory on; nothing runs before the first ``run``."""

    finder: MemoryFinder  # of this boot
    system: MemorySystem
    pipeline: MemoryPipeline  # of this process
    commands: MemoryCommands  # likewise

    def __init__(
        self,
        config: Config = CONFIG,
        spare: Image | None = None,
        image: Image = OLD,
        clock: Clock | None = None,
    ) -> None:
        """Put *image* into slot A, which boots, and *spare* into B, or nothing."""
        self.config = config
        self.clock = clock or Clock()
        self.instants = Instants()
        self.environment = MemoryEnvironment(self.instants, FACTORY)
        self.journal = MemoryJournal(self.instants)
        self.web = Web()
        self.cloud = MemoryCloud(self.clock)
        self.checkpoints: dict[str, Checkpoint] = {}  # files of the data partition, by path
        self.media = {"A": Medium(image, image), "B": Medium(spare, spare)}
        self.boots: list[Boot] = []
        self.problems: dict[str, str | None] = {}  # of health checks; None: hangs
        self.outcomes_of: dict[str, Outcome | None] = {}  # of a policy's commands; None: hangs
        self.reboot_s = 1.0  # from the request to the reset
        self.parts = 4  # in which an image comes
        self.is_fast = False  # it comes in no time
        self.has_link = True  # else there is no cloud for this device
        self._laws = Laws(self)
        self.cloud.checks.append(self._laws.check_message)
        self.journal.began = self._laws.check_begin
        self.journal.spent = self._laws.check_budget
        self._ids = iter(f"{number:016x}" for number in range(1, 1000))
        self._is_on = False
        self._agent: Agent | None = None

    # --- what there is ---------------------------------------------------------------------------

    @property
    def booted(self) -> Boot:
        """The boot that runs, or the last one that did."""
        return self.boots[-1]

    def runs(self, image: Image) -> bool:
        """Tell whether *image* is what was booted last."""
        return bool(self.boots) and self.booted.image == image

    @property
    def agent(self) -> Agent:
        """The agent that runs."""
        assert self._agent is not None, "no agent runs"
        return self._agent

    @property
    def agent_runs(self) -> bool:
        """True while there is an agent's process."""
        return self._agent is not None

    @property
    def session(self) -> Session | None:
        """The newest session of the journal, whatever the journal is able to say."""
        return next(reversed(self.journal.sessions.values()), None)

    @property
    def boot_state(self) -> bootflow.BootState:
        """What the environment says, whether or not it can be read."""
        return bootflow.read(self.environment.variables)

    @property
    def is_on_trial(self) -> bool:
        """The booted slot is the primary one, and on trial."""
        return self.boot_state.is_trial and self.boot_state.primary == self.booted.slot

    @property
    def is_calm(self) -> bool:
        """Nothing goes on, and the cloud knows all there is to know."""
        return (
            self._agent is not None
            and self.system.reboot_at_s == NEVER_S
            and (self.session is None or self.session.state.is_final)
            and not self.is_on_trial
            and not self.journal.undelivered
            and self.cloud.task is None
            and self.cloud.link is not None
            and self.heard[-1:] == [f"report_version {self.booted.image.version}"]
        )

    @property
    def heard(self) -> list[str]:
        """What the cloud has heard, two or three words for each message."""
        return [spoken(message) for message in self.cloud.messages]

    @property
    def outcomes(self) -> list[Message]:
        """The terminal reports of sessions that the cloud has heard."""
        told = [message for message in self.cloud.messages if is_terminal(message)]
        return [message for message in told if message not in self.refusals]

    @property
    def refusals(self) -> list[Message]:
        """What the cloud has heard of offers that never became a session."""
        return self._laws.refusals

    # --- what happens ----------------------------------------------------------------------------

    def offer(
        self, image: Image, *, served: Image | None = None, url: str = "", **more: Any
    ) -> str:
        """Have the cloud offer *image* and the web serve it, or *served*; return the URL."""
        url = url or f"https://firmware.test/{image.version}?sign=1"
        self.web.serve(url, served or image)
        self.cloud.offer(image.firmware, url, **more)
        return url

    def session_for(self, image: Image, url: str) -> Session:
        """Return a session of nobody's that brings *image* into the target."""
        slots = self.finder.slots
        target, other = slots.target.bootname, slots.booted.bootname
        return Session("5e55", State.INSTALLING, Offer(image.firmware, url), target, other)

    def run(self, until: Callable[[], bool], limit_s: float = 4 * 3600.0) -> None:
        """Let the world go on until something is so; fail if it is not within *limit_s*."""
        end_s = self.clock.now_s + limit_s
        while not until():
            assert self.clock.now_s < end_s, f"not within {limit_s:g} s; heard: {self.heard[-9:]}"
            self._go_on(end_s)

    def run_for(self, seconds: float) -> None:
        """Let *seconds* pass."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self._go_on(end_s)

    def run_until_calm(self) -> None:
        """Run a story to its end, or a device from switching it on to its rest."""
        self.run(lambda: self.is_calm)

    def lose_power(self) -> None:
        """Take away everything that is not durable."""
        self._is_on = False
        self.lose_process()

    def lose_process(self) -> None:
        """Take the agent away, and with it what its process held open."""
        self._agent = None
        self.cloud.link = None
        self.cloud.acknowledged.clear()
        self.clock.close_all()

    def lose_network(self) -> None:
        """Break every connection there is now; new ones can be made."""
        self.web.cut = TransportError("the connection was reset")
        if self.cloud.link is not None:
            self.cloud.link.drop("the connection was reset")

    def end_agent(self) -> None:
        """End the agent in good order: it leaves nothing open."""
        if self._agent is not None:
            self._agent.close()
            assert self.clock.open_descriptors == 0, "the agent leaves something open"
        self.lose_process()

    # --- the machine -----------------------------------------------------------------------------

    def _go_on(self, end_s: float) -> None:
        """Do the next thing: reset, start the agent, or let its loop turn once."""
        try:
            if not self._is_on:
                self._reset()
            elif self._agent is None and not self.booted.image.hangs:
                self._start_agent()
            else:
                self._turn(end_s)
        except PowerCut:
            self.lose_power()
        except ProcessKilled:
            self.lose_process()

    def _turn(self, end_s: float) -> None:
        dead_man_s = NEVER_S
        if self.booted.is_trial and not self.system.is_trial_over:
            dead_man_s = self.booted.time_s + DEAD_MAN_S
        self.clock.limit_s = min(end_s, self.system.reboot_at_s, dead_man_s)
        activities = [] if self._agent is None else self._agent.activities()
        activity.step(activities, self.clock, self.clock)
        if self.clock.now_s >= self.system.reboot_at_s:
            self.end_agent()
            self.lose_power()
        elif self.clock.now_s >= dead_man_s:
            self.lose_power()

    def _reset(self) -> None:
        """Run the bootloader, and again after each kernel that panics, until a kernel lives."""
        self.clock.advance(FIRMWARE_S)
        boot = self._load()
        self.boots.append(boot)
        self._laws.check_boot(boot, self.media[boot.slot])
        if boot.image.panics:
            self.clock.advance(PANIC_S)
            return
        self._is_on = True
        other = next(name for name in TABLE if name != boot.slot)
        self.finder = MemoryFinder(Slots(SLOTS[boot.slot], SLOTS[other], boot.primary))
        self.system = MemorySystem(self.clock, boot.image, self._ids, self.reboot_s)

    def _load(self) -> Boot:
        """Do what U-Boot does at a reset."""
        variables = self.environment.variables if self.environment.is_readable else None
        loadable = {name for name, medium in self.media.items() if medium.is_loadable}
        outcome = bootflow.boot(variables, TABLE, loadable, BOARD.boot.bootlimit)
        for stored in outcome.stores:
            self.environment.overwrite("u-boot", stored)
        image = self.media[outcome.slot].head if outcome.slot is not None else None
        assert outcome.slot is not None, "bricked: no slot loads"
        assert image is not None, "a slot without a head is no slot that loads"
        return Boot(self.clock.now_s, outcome.slot, image, outcome.is_trial, outcome.primary)

    def _start_agent(self) -> None:
        """Start the program anew over what is durable."""
        self._agent = Agent(self._device(), self._link())
        self._agent.start()

    def _link(self) -> Link | None:
        """Return the link of one process."""
        return MemoryLink(self.clock, self.instants, self.cloud) if self.has_link else None

    def _device(self) -> Device:
        target = self.finder.slots.target
        self.pipeline = MemoryPipeline(
            self.clock,
            self.instants,
            self.web,
            self.media[target.bootname],
            target,
            self._laws.check_target,
        )
        self.pipeline.parts, self.pipeline.is_fast = self.parts, self.is_fast
        self.pipeline.checkpoints = self.checkpoints
        journal: Journal = self.journal
        if not self.journal.can_be_opened:
            journal = LostJournal(JournalError("journal: unable to open database file"))
        self.commands = MemoryCommands(self.clock, self._outcome)
        return Device(
            config=self.config,
            board=BOARD,
            environment=self.environment,
            finder=self.finder,
            journal=journal,
            pipeline=self.pipeline,
            system=self.system,
            health=MemoryHealth(self.clock, self.config.health, self._problem),
            commands=self.commands,
        )

    def _outcome(self, program: str) -> Outcome | None:
        """Return how a policy's command ends now: well, if nothing else is said."""
        return self.outcomes_of.get(program, Outcome(0, "exit status 0"))

    def _problem(self, check: str) -> str | None:
        """Return what is wrong with a health check now."""
        return self.problems.get(check, "" if self.booted.image.is_healthy else "exit status 1")

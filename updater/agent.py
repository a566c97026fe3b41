# SPDX-License-Identifier: MIT
"""The agent: performs what the state machine plans, and feeds back what happened.

One thread, one loop, one session. The order is always the same: an event is looked up in the table,
the new state is journalled, and only then the plan of the new state is performed. What the journal
cannot take ends an install, and never stands in the way of a verdict; it is told once it is taken.

The agent decides nothing that ``core`` can decide and touches nothing that an edge can touch.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from updater import activity, percent, reception, resumption, trial
from updater.checks import Baseline
from updater.cloud import Cloud, Mode
from updater.cloud import Listener as CloudListener
from updater.core import bootflow, machine
from updater.core.errors import (
    BusyError,
    EnvironmentStoreError,
    JournalError,
    SlotError,
    UpdaterError,
)
from updater.core.link import Link
from updater.core.machine import Command
from updater.core.model import Offer, Session, SlotRecord, Slots, State
from updater.core.ports import Progress
from updater.device import Device
from updater.endings import UnsavedEnd, saving
from updater.installation import Installation
from updater.installation import Listener as InstallListener
from updater.keeper import Keeper
from updater.keeper import Listener as KeptListener
from updater.pace import pace_of
from updater.retries import Retries

_log = logging.getLogger(__name__)


class Agent:
    """Keeps one device current."""

    def __init__(self, device: Device, link: Link | None) -> None:
        """Take over *device*; without *link* nothing is reported."""
        self.device = device
        self.session: Session | None = None
        self.problem: UpdaterError | None = SlotError("not started")
        self.found: Slots | None = None
        self.is_orphan = False
        self.is_reboot_due = False
        self.is_boot_awaited = False  # somebody has made another slot primary
        self.is_activation_repeated = False  # a boot has shown that an earlier store did not take
        settings, clock = device.config, device.system
        self._installation = Installation(
            device.pipeline,
            settings.download,
            clock,
            InstallListener(self._progressed, self._installed, self._not_installed, self.ask),
        )
        self._baseline = Baseline(device.health, settings.health, clock, self._based)
        self._unsaved = UnsavedEnd(clock, self._deliver)
        self.trial = trial.Trial(device, trial.Listener(self._marked_good, self.rejected))
        self.retries = Retries(device, has_link=link is not None)
        refuse, slots_for = partial(reception.refuse, self), partial(reception.slots_for, self)
        self.keeper = Keeper(device, self.retries, KeptListener(self.offered, refuse, slots_for))
        self.pace = pace_of(self)
        self.cloud: Cloud | None = None
        if link is not None:
            listener = CloudListener(self.offered, self.trial.link_proven, self.retries.connected)
            self.cloud = Cloud(
                link,
                device.journal,
                clock,
                device.running_version,
                settings.cloud.fw_type,
                listener,
            )

    @property
    def slots(self) -> Slots:
        """The slots as found at the start.

        Raises:
            UpdaterError: The start found that nothing may be written.
        """
        if self.problem is not None or self.found is None:
            raise self.problem or SlotError("the slots are not known")
        return self.found

    @property
    def is_end_unsaved(self) -> bool:
        """True while the journal does not know that the session has ended."""
        return self._unsaved.is_held

    @property
    def progress(self) -> Progress | None:
        """How far a running install is."""
        return self._installation.progress

    def activities(self) -> list[activity.Activity]:
        """Return everything that goes on."""
        cloud = [] if self.cloud is None else [self.cloud]
        waiting: list[activity.Activity] = [self._unsaved, self.retries, self.keeper, self.pace]
        return [*cloud, self._installation, self._baseline, self.trial, *waiting]

    def close(self) -> None:
        """Stop everything; the next start goes on from the journal."""
        self.keeper.close()
        self.pace.stop()
        self._installation.stop()
        self._baseline.stop()
        self.trial.stop()
        if self.cloud is not None:
            self.cloud.close()

    def start(self) -> None:
        """Find out where the machine stands and go on from there."""
        resumption.resume(self)
        self.retries.refresh()

    # --- events ----------------------------------------------------------------------------------

    def offered(self, offer: Offer) -> None:
        """Answer an offer, whoever makes it."""
        reception.receive(self, offer)

    def begin(self, session: Session, *, void: str | None) -> None:
        """Journal a new session; nothing was done for it yet.

        Args:
            session: In state INSTALLING.
            void: Bootname of the slot that loses its record, or None if it is not to be written.

        Raises:
            JournalError, EnvironmentStoreError: Nothing was begun.
        """
        self._unsaved.flush()
        if void is not None:
            self._prefer_booted()
        self.device.journal.save(session, f"offer: {session.offer.firmware.version}", void=void)
        self.session = session

    def _prefer_booted(self) -> None:
        """Have the booted slot be primary before a session for the other one is known."""
        state, booted = self.device.boot_state(), self.slots.booted.bootname
        if state.primary != booted:
            self.device.environment.store(bootflow.settle(state, booted))

    def apply(self, event: machine.Event, text: str, record: SlotRecord | None = None) -> None:
        """Advance the session by *event*, journal it, then perform the new state's plan."""
        before = self.session
        assert before is not None  # noqa: S101 - events happen to sessions only
        self.pace.stop()
        session = machine.advance(before, event)
        save = saving(self.device, before, session, text, record)
        try:
            save()
        except JournalError as error:
            if session.state in {State.INSTALLED, State.ACTIVATED}:
                self.fail(error, machine.InstallFailed, session.state.value)
                return
            _log.error("%s; the verdict stands", error)
            if session.state.is_final:
                self._unsaved.hold(save)
        _log.info("session %s: %s: %s", session.id, session.state.value, text)
        self.session = session
        self._perform(session)

    def fail(self, error: UpdaterError, event: type[machine.Failed], step: str) -> None:
        """End the session with *error*."""
        reason = f"{step}: {error}"
        self.apply(event(reason, error.result_code), reason)

    def perform(self) -> None:
        """Perform the plan of the session as it stands."""
        if self.session is not None:
            self._perform(self.session)

    def _perform(self, session: Session) -> None:
        if self.cloud is not None:
            open_session = None if session.state.is_final else session
            self.cloud.enter(_MODES.get(session.state, Mode.OPEN), open_session)
        for command in machine.PLAN[session.state]:
            if self.session is not session:
                return  # the command before this one has already moved the session on
            _PERFORM[command](self, session)

    # --- commands: install -----------------------------------------------------------------------

    def _install(self, session: Session) -> None:
        """Make sure that nothing prefers the target, then let the pipeline blank and write it."""
        try:
            self.found = slots = self.device.finder.find()
            if slots.target.bootname != session.target:
                raise BusyError(f"slot {session.target} is no longer the one to write")
            state = self.device.boot_state()
            self.device.environment.store(bootflow.settle(state, slots.booted.bootname))
            self.device.journal.void(session.target)
        except UpdaterError as error:
            self.fail(error, machine.InstallFailed, "install")
        else:
            self.pace.install(session, slots.target)

    def adopt(self, offer: Offer) -> None:
        """Go on with the running session's firmware under *offer*'s URL and task."""
        assert self.session is not None  # noqa: S101 - there is a session to adopt for
        if offer != self.session.offer:  # else repetitions would wear out the medium
            self.session = replace(self.session, offer=offer)
            try:
                self.device.journal.save(self.session, "offer repeated with a fresh URL")
            except JournalError as error:
                _log.warning("%s; after a restart the old URL is tried first", error)
            if self.cloud is not None:
                self.cloud.enter(_MODES.get(self.session.state, Mode.OPEN), self.session)
        self._installation.fresh_url(offer.url)

    def withdraw(self, reason: str) -> None:
        """End the session that is installing or installed."""
        self._installation.stop()
        self._baseline.stop()
        self.apply(machine.Withdrawn(reason), reason)

    def _progressed(self, progress: Progress) -> None:
        if self.cloud is not None:
            percent.tell_progress(self.cloud, progress)
        self.pace.progressed(progress)

    def _installed(self, image_md5: str, image_size_bytes: int) -> None:
        assert self.session is not None  # noqa: S101 - an install belongs to a session
        session = self.session
        record = SlotRecord(session.target, session.offer.firmware, image_md5, image_size_bytes)
        text = f"slot {record.bootname} holds version {record.firmware.version}"
        self.apply(machine.InstallCompleted(), text, record)

    def _not_installed(self, error: UpdaterError, received_bytes: int) -> None:
        """Fail, and say before it that all had come if it had: it may have come since a look."""
        assert self.session is not None  # noqa: S101 - an install belongs to a session
        if received_bytes and self.cloud is not None:
            size_bytes = self.session.offer.firmware.size_bytes
            percent.tell_bytes(self.cloud, received_bytes, size_bytes)
        self.fail(error, machine.InstallFailed, "install")

    def ask(self) -> None:
        """Have the cloud repeat what it has for us."""
        if self.cloud is not None:
            self.cloud.ask()

    # --- commands: activate ----------------------------------------------------------------------

    def _prepare_activation(self, session: Session) -> None:
        if self.cloud is not None:
            self.cloud.burning()
        self.pace.activate(session)

    def _based(self, failed: tuple[str, ...]) -> None:
        """Take the baseline of health, which condemns nobody, into the activation."""
        self.apply(machine.ActivationBegun(failed), "activation")

    def _store_activation(self, session: Session) -> None:
        try:
            self.device.environment.store(bootflow.activate(session.target, session.id))
        except EnvironmentStoreError as error:
            if not error.undecided:
                self.fail(error, machine.ActivationFailed, "activate")
                return
            if self.is_activation_repeated:
                self.problem = error  # a good slot is not rebooted over and over for a dying medium
            _log.error("%s; the next boot decides", error)

    def _reboot(self, session: Session) -> None:
        del session
        if self.problem is None:
            self.reboot()

    def reboot(self) -> None:
        """Ask the machine to reboot; from now on there is nothing left to do but wait for it."""
        self.is_reboot_due = True
        if self.cloud is not None:
            self.cloud.enter(Mode.SILENT, None)
        self.device.system.reboot()

    # --- commands: trial -------------------------------------------------------------------------

    def _judge_trial(self, session: Session) -> None:
        is_link_up = self.cloud is not None and self.cloud.is_proven
        self.trial.start(session.baseline, is_link_up=is_link_up)

    def judge_orphan(self) -> None:
        """Judge the booted slot's trial, of which no session is known."""
        if self.cloud is not None:
            self.cloud.enter(Mode.TRIAL, None)
        self.trial.start((), is_link_up=False)

    def _marked_good(self) -> None:
        session = self.session
        if session is not None and session.state in {State.ACTIVATED, State.TRIAL}:
            self.apply(machine.MarkedGood(), f"slot {session.target} is good")
            return
        self.is_orphan = False
        _log.info("orphan trial: the booted slot is good")
        self._deliver()

    def rejected(self, reason: str) -> None:
        """Return from the booted slot, whose trial is lost, to the other one."""
        if self.session is not None and self.session.state is State.TRIAL:
            self.apply(machine.HealthFailed(reason), reason)
            return
        _log.error("trial without a session: %s", reason)
        assert self.found is not None  # noqa: S101 - no trial is judged before
        trial.roll_back(self.device, self.found.target.bootname)
        self.reboot()

    def _store_rollback(self, session: Session) -> None:
        trial.roll_back(self.device, session.other)

    # --- commands: the end -----------------------------------------------------------------------

    def _deliver(self, session: Session | None = None) -> None:
        del session
        self.settle()
        self.retries.refresh()
        if self.cloud is not None:
            self.cloud.enter(Mode.OPEN, None)
            self.cloud.settled()

    def settle(self) -> None:
        """Clear what the environment still says of an ended session, once that is journalled."""
        try:
            booted = self.slots.booted.bootname
            if self.is_end_unsaved:  # a restart has to find how it ended
                changes = bootflow.roll_back(booted)
            else:
                changes = bootflow.clear(self.device.boot_state(), booted)
            self.device.environment.store(changes)
        except UpdaterError as error:
            _log.error("environment not cleared: %s", error)


_MODES: Mapping[State, Mode] = {
    State.ACTIVATED: Mode.SILENT,
    State.TRIAL: Mode.TRIAL,
    State.ROLLING_BACK: Mode.SILENT,
}

_PERFORM: Mapping[Command, Callable[[Agent, Session], None]] = {
    Command.INSTALL: Agent._install,
    Command.PREPARE_ACTIVATION: Agent._prepare_activation,
    Command.STORE_ACTIVATION: Agent._store_activation,
    Command.REBOOT: Agent._reboot,
    Command.JUDGE_TRIAL: Agent._judge_trial,
    Command.STORE_ROLLBACK: Agent._store_rollback,
    Command.REPORT: Agent._deliver,
}

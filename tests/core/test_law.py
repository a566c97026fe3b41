# SPDX-License-Identifier: MIT
"""The law, walked: whatever is cut, a complete image boots and the one outcome fits what boots.

Theory of operation. A medium is all that a cut leaves: journal, environment, both slots. One run is
U-Boot's boot and then the agent's order of writes, over the tables of ``core``; it notes the medium
after each durable write. Every one of them is a place to power on from again, and, for a process
that dies alone, to start again from without a boot. Where luck decides (a load, a store, an
install, a verdict) all ways are taken. The walk ends when no new medium is found, so any number of
cuts in any order is in it. A kernel that panics is a cut right after the bootloader's last store.

Not in it: a slot that has been good and can no longer be loaded, and others who write.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest

from updater.core import bootflow, reconcile
from updater.core.errors import ResultCode
from updater.core.machine import (
    PLAN,
    ActivationBegun,
    ActivationFailed,
    Command,
    Event,
    Failed,
    HealthFailed,
    InstallCompleted,
    InstallFailed,
    MarkedGood,
    TargetBooted,
    Withdrawn,
    advance,
)
from updater.core.model import Firmware, Offer, Session, State
from updater.core.reconcile import Finding

T = TypeVar("T")

TABLE = ("A", "B")
LIMIT = 3
OFFERS = 3
NAMES = (bootflow.BOOTCOUNT, bootflow.BOOT_SLOT, bootflow.SESSION, bootflow.UPGRADE_AVAILABLE)
BLANK, TORN = "blank", "torn"


@dataclass(frozen=True, slots=True)
class Content:
    """Whose bytes a slot holds: a version, BLANK or TORN; U-Boot looks at the head alone."""

    head: str
    body: str

    @property
    def is_complete(self) -> bool:
        return self.head == self.body not in {BLANK, TORN}


@dataclass(frozen=True, slots=True)
class Medium:
    """What survives a cut."""

    environment: tuple[tuple[str, str], ...]
    slots: tuple[tuple[str, Content], ...]
    journal: Session | None = None
    offers: int = 0

    @property
    def loadable(self) -> set[str]:
        return {name for name, content in self.slots if content.head != BLANK}

    @property
    def boot_state(self) -> bootflow.BootState:
        return bootflow.read(dict(self.environment))


Running = tuple[str, str]  # the slot that runs, and the one that the bootloader tried first
Place = tuple[Medium, Running | None]  # where to go on from: a boot, or a slot that runs already

OLD, EMPTY = Content("v0", "v0"), Content(BLANK, BLANK)
FACTORY = Medium((("boot_slot", "A"), ("ethaddr", "52:54:00")), (("A", OLD), ("B", EMPTY)))
STRANGE = [
    Medium(
        tuple((name, value) for name, value in zip(NAMES, values, strict=True) if value),
        (("A", OLD), ("B", content)),
        offers=OFFERS - 1,
    )
    for *values, content in itertools.product(
        ["", "1", "4"], ["", "A", "B", "Z"], ["", "f00"], ["", "0", "1"], [OLD, EMPTY]
    )
]


class Luck:
    """Takes the first of several ways, notes the others, and follows what was noted before."""

    def __init__(self, fixed: tuple[int, ...] = ()) -> None:
        self._fixed = fixed
        self._taken: tuple[int, ...] = ()
        self.others: list[tuple[int, ...]] = []

    def choose(self, *ways: T) -> T:
        at = len(self._taken)
        index = self._fixed[at] if at < len(self._fixed) else 0
        if at >= len(self._fixed):
            self.others += [(*self._taken, other) for other in range(1, len(ways))]
        self._taken = (*self._taken, index)
        return ways[index]


@dataclass
class Run:
    """One run of the device: the order of writes that ``machine`` and the design promise."""

    medium: Medium
    luck: Luck
    may_lose_journal: bool = False
    trace: list[Place] = field(default_factory=list)
    found: set[Finding] = field(default_factory=set)
    booted: str = ""
    tried_first: str = ""
    is_boot_awaited: bool = False
    journal: str = "works"

    # --- what is durable -------------------------------------------------------------------------

    def _set(self, medium: Medium) -> None:
        if medium != self.medium:
            self.medium = medium
            self.trace.append((medium, None))
            if self.booted:
                self.trace.append((medium, (self.booted, self.tried_first)))

    def store(self, changes: Mapping[str, str | None]) -> None:
        after = {**dict(self.medium.environment), **changes}
        kept = sorted((name, value) for name, value in after.items() if value is not None)
        self._set(replace(self.medium, environment=tuple(kept)))

    def save(self, session: Session) -> None:
        before = self.medium.journal
        if before is not None and before.id == session.id:
            assert not before.state.is_final, "an outcome is never taken back"
        if self.journal == "works":
            self._set(replace(self.medium, journal=session))

    def write(self, slot: str, content: Content) -> None:
        assert slot != self.booted, "the booted slot is never written"
        assert self.medium.boot_state.primary == self.booted, "nothing prefers what is written"
        slots = {**dict(self.medium.slots), slot: content}
        self._set(replace(self.medium, slots=tuple(sorted(slots.items()))))

    # --- the bootloader --------------------------------------------------------------------------

    def power_on(self) -> None:
        loadable = self.medium.loadable
        state = self.medium.boot_state
        lucky = loadable - {state.primary}
        if state.is_trial and lucky and not self.luck.choose(True, False):
            loadable = lucky  # a load that fails this time, and perhaps not the next
        outcome = bootflow.boot(dict(self.medium.environment), TABLE, loadable, LIMIT)
        for stored in outcome.stores:
            self.store(stored)
        assert outcome.slot is not None, "something always boots"
        assert dict(self.medium.slots)[outcome.slot].is_complete, "what boots is complete"
        self.booted, self.tried_first = outcome.slot, outcome.primary

    # --- the agent -------------------------------------------------------------------------------

    def start(self) -> None:
        if self.may_lose_journal:
            self.journal = self.luck.choose("works", "full", "lost")
        session = None if self.journal == "lost" else self.medium.journal
        state = self.medium.boot_state
        finding = reconcile.find(session, state, self.booted, self.tried_first)
        self.found.add(finding)
        event = reconcile.event_of(finding, state)
        self.is_boot_awaited = finding is Finding.AWAITED
        if finding is Finding.ORPHAN_TRIAL:
            self.judge_orphan()
        elif finding is Finding.RETURN_DUE:
            self.store(bootflow.roll_back(_other(self.booted)))
        elif event is not None:
            assert session is not None
            self.conclude(session, finding, event)
        elif session is not None:
            self.perform(session)
        else:
            self.report()

    def conclude(self, session: Session, finding: Finding, event: Event) -> None:
        if finding is Finding.LOST_TO_OTHERS and self.booted == session.target:
            if session.state is State.ACTIVATED:
                session = advance(session, TargetBooted())
                self.save(session)
            event = HealthFailed("lost")  # what runs was never judged, and is not kept
        if isinstance(event, Failed) and finding is not Finding.NOT_RETURNED:
            self.end_trial()
        self.apply(session, event)

    def end_trial(self) -> None:
        """Leave no trial behind a verdict: where a load failed, the environment still has it."""
        self.store(bootflow.roll_back(self.booted))

    def apply(self, session: Session, event: Event) -> None:
        after = advance(session, event)
        if self.journal == "full" and after.state in {State.INSTALLED, State.ACTIVATED}:
            after = advance(session, InstallFailed("journal"))  # a verdict needs none; this does
        self.save(after)
        self.perform(after)

    def perform(self, session: Session) -> None:
        match PLAN[session.state]:
            case (Command.INSTALL,):
                self.install(session)
            case (Command.PREPARE_ACTIVATION,):
                if self.luck.choose(True, False):
                    self.begin_activation(session)
                else:
                    self.apply(session, Withdrawn("cancelled"))
            case (Command.STORE_ACTIVATION, Command.REBOOT):
                self.activate(session)
            case (Command.JUDGE_TRIAL,):
                self.judge(session)
            case (Command.STORE_ROLLBACK, Command.REBOOT):
                if self.luck.choose(True, False):  # a store that fails is left to the count
                    self.store(bootflow.roll_back(session.other))
            case (Command.REPORT,):
                self.report()

    def install(self, session: Session) -> None:
        new = session.offer.firmware.version
        self.settle()
        self.write(session.target, replace(dict(self.medium.slots)[session.target], head=BLANK))
        self.write_image(session.target, new)
        if self.luck.choose(True, False):
            self.write(session.target, Content(new, new))
            self.apply(session, InstallCompleted())
        else:
            event = self.luck.choose(InstallFailed("digest", ResultCode.DIGEST), Withdrawn("new"))
            self.apply(session, event)

    def write_image(self, slot: str, new: str) -> None:
        self.write(slot, Content(BLANK, TORN))
        self.write(slot, Content(BLANK, new))

    def begin_activation(self, session: Session) -> None:
        self.apply(session, ActivationBegun())

    def activate(self, session: Session) -> None:
        took = self.luck.choose("took", "undecided", "failed")
        if took == "took" or self.medium.boot_state.is_trial:
            self.store(bootflow.activate(session.target, session.id))
        elif took == "failed":
            self.apply(session, ActivationFailed("activate"))

    def judge(self, session: Session) -> None:
        if self.luck.choose(True, False):
            self.keep(session)
        else:
            self.apply(session, HealthFailed("unhealthy"))

    def keep(self, session: Session) -> None:
        self.store(bootflow.mark_good(self.booted))
        self.apply(session, MarkedGood())

    def judge_orphan(self) -> None:
        if self.luck.choose(True, False):
            self.store(bootflow.mark_good(self.booted))
        else:
            self.store(bootflow.roll_back(_other(self.booted)))

    def report(self) -> None:
        self.store(bootflow.clear(self.medium.boot_state, self.booted))
        is_free = (
            self.journal == "works" and self.medium.offers < OFFERS and not self.is_boot_awaited
        )
        if is_free and self.luck.choose(False, True):
            self.offered()

    def settle(self) -> None:
        self.store(bootflow.settle(self.medium.boot_state, self.booted))

    def offered(self) -> None:
        if self.medium.boot_state.primary != self.booted:
            self.settle()
        number = self.medium.offers + 1
        offer = Offer(Firmware(f"v{number}", "0" * 32, 1 << 20), "https://example.invalid/f")
        session = Session(
            f"5e55{number}", State.INSTALLING, offer, _other(self.booted), self.booted
        )
        self._set(replace(self.medium, journal=session, offers=number))
        self.perform(session)


def _other(slot: str) -> str:
    return "B" if slot == "A" else "A"


def runs(kind: type[Run], place: Place, *, may_lose_journal: bool) -> Iterator[Run]:
    """Yield each run that is possible from *place*."""
    ways: list[tuple[int, ...]] = [()]
    while ways:
        luck = Luck(ways.pop())
        medium, running = place
        run = kind(medium, luck, may_lose_journal)
        if running is None:
            run.power_on()
        else:
            run.booted, run.tried_first = running
        run.start()
        ways += luck.others
        yield run


def walk(
    starts: Iterable[Medium], kind: type[Run] = Run, *, may_lose_journal: bool = False
) -> tuple[set[Place], set[Finding]]:
    """Follow every run from *starts*; return every place and every finding on the way."""
    seen: set[Place] = set()
    found: set[Finding] = set()
    todo: list[Place] = [(medium, None) for medium in starts]
    while todo:
        place = todo.pop()
        if place in seen or place[0].boot_state.count > LIMIT + 2:
            continue  # seen, or cut once more between the bootloader's two stores
        seen.add(place)
        check(place[0])
        for run in runs(kind, place, may_lose_journal=may_lose_journal):
            found |= run.found
            todo += run.trace
    return seen, found


def check(medium: Medium) -> None:
    """Hold the law against one medium."""
    slots = dict(medium.slots)
    lost = bootflow.boot(None, TABLE, medium.loadable, LIMIT).slot
    assert lost is not None, "something boots without an environment"
    assert slots[lost].is_complete, "what boots without an environment is complete"
    session = medium.journal
    if session is None or not session.state.is_final:
        return
    wanted = session.target if session.state is State.GOOD else session.other
    unlucky = {medium.boot_state.primary} if medium.boot_state.is_trial else set()
    for loadable in (medium.loadable, medium.loadable - unlucky):
        booted = bootflow.boot(dict(medium.environment), TABLE, loadable, LIMIT).slot
        assert booted == wanted, "the outcome fits what boots"
    if session.state is State.GOOD:
        new = session.offer.firmware.version
        assert slots[wanted] == Content(new, new), "what was offered is there"
        assert not medium.boot_state.is_trial, "a good slot is on no trial"


def end_of(medium: Medium) -> Run:
    """Return the last run from *medium* if nothing is cut any more and luck is good."""
    for _ in range(LIMIT + 3):
        run = Run(medium, Luck())
        run.power_on()
        run.start()
        if run.medium == medium:
            return run
        medium = run.medium
    raise AssertionError("it never comes to rest")


def check_end(medium: Medium) -> None:
    """Hold what is promised for the time after the last cut."""
    run = end_of(medium)
    assert run.medium.journal is None or run.medium.journal.state.is_final, "it ends"
    assert not bootflow.clear(run.medium.boot_state, run.booted), "nothing is left over"
    check(run.medium)


@pytest.fixture(scope="module")
def walked() -> tuple[set[Place], set[Finding]]:
    """Return the walk from the factory: the law was held against each of its places."""
    return walk([FACTORY])


def test_after_any_cut_a_complete_image_boots_and_the_outcome_fits_it(
    walked: tuple[set[Place], set[Finding]],
) -> None:
    """Three sessions, every cut, all luck; and nobody else is blamed, for nobody else wrote."""
    places, found = walked
    assert set(Finding) - found == {
        Finding.LOST_TO_OTHERS, Finding.WRONG_SLOT, Finding.ORPHAN_TRIAL, Finding.RETURN_DUE,
        Finding.AWAITED, Finding.NOT_PRIMARY, Finding.NOT_RETURNED,
    }  # fmt: skip
    ended = {
        (session.state, session.target, session.reason.split(":")[0])
        for session in (medium.journal for medium, _ in places)
        if session is not None and session.state.is_final
    }
    assert ended == set(
        itertools.chain(
            itertools.product([State.GOOD], "AB", [""]),
            itertools.product(
                [State.FAILED], "AB",
                ["digest", "new", "cancelled", "activate", "unhealthy", "trial", "boot"],
            ),
        )
    )  # fmt: skip


def test_whatever_the_environment_said_at_first_the_law_holds() -> None:
    """Counts, trials, sessions and slots of somebody else's time."""
    places, found = walk(STRANGE)
    assert Finding.ORPHAN_TRIAL in found
    assert not found & {Finding.LOST_TO_OTHERS, Finding.WRONG_SLOT}
    for medium in {medium for medium, _ in places}:
        check_end(medium)


def test_after_the_last_cut_every_session_comes_to_its_end(
    walked: tuple[set[Place], set[Finding]],
) -> None:
    """A final state, an environment without leftovers, and the outcome that boots."""
    for medium in {medium for medium, _ in walked[0]}:
        check_end(medium)


def test_a_lost_or_full_journal_costs_no_image_and_no_trial() -> None:
    """Whichever starts find none, or none that can be written: the law holds, and it ends."""
    places, found = walk([FACTORY, *STRANGE], may_lose_journal=True)
    assert Finding.ORPHAN_TRIAL in found
    for medium in {medium for medium, _ in places}:
        check_end(medium)


class HeadFirst(Run):
    """Makes the target loadable before it is whole."""

    def write_image(self, slot: str, new: str) -> None:
        self.write(slot, Content(new, TORN))
        self.write(slot, Content(new, new))


class Unsettled(Run):
    """Leaves the environment as it is before the target is blanked."""

    def settle(self) -> None:
        pass


class UnjournalledActivation(Run):
    """Makes the target primary before the journal says so."""

    def begin_activation(self, session: Session) -> None:
        self.store(bootflow.activate(session.target, session.id))
        super().begin_activation(session)


class EarlyDone(Run):
    """Journals success before the store that ends the trial."""

    def keep(self, session: Session) -> None:
        self.apply(session, MarkedGood())
        self.store(bootflow.mark_good(self.booted))


class UnendedTrial(Run):
    """Journals a failure while the environment still prefers the target."""

    def end_trial(self) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (HeadFirst, "what boots without an environment is complete"),
        (Unsettled, "nothing prefers what is written"),
        (UnjournalledActivation, "the outcome fits what boots"),
        (EarlyDone, "the outcome fits what boots"),
        (UnendedTrial, "the outcome fits what boots"),
    ],
)
def test_a_wrong_order_of_writes_breaks_the_law(kind: type[Run], broken: str) -> None:
    """Each order is there for a reason, and the walk finds it."""
    with pytest.raises(AssertionError, match=broken):
        walk([FACTORY, *STRANGE], kind)

# SPDX-License-Identifier: MIT
"""Anything in any order: offers, refusals, cuts, faults and people, while time goes on.

The machine draws what happens next; the device answers as it will. The laws of ``sim.laws`` are
asserted by the world at every boot, write and message; the invariants below after every step; and
in the end everything is mended, and everything has to come to its one end.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sim import instants
from sim.flash import MIB, Image
from sim.instants import PowerCut, ProcessKilled
from sim.settings import CONFIG, OLD
from sim.storage import Fault
from sim.stories import assert_settled
from sim.uplink import is_terminal
from sim.world import World

from updater.cancelling import cancel_here
from updater.core.commands import Outcome
from updater.core.errors import (
    DigestError,
    ForbiddenError,
    NotFoundError,
    StartOverError,
    TransportError,
    UpdaterError,
)
from updater.core.model import Offer, State
from updater.core.policyconfig import HookConfig, PolicyConfig

IMAGES = [
    OLD,
    Image("0.2"),
    Image("0.2", size_bytes=4 * MIB),
    Image("0.3", panics=True),
    Image("0.4", is_healthy=False),
    Image("0.5", hangs=True),
    Image("0.6", loads=False),
    Image("0.7", is_packed=True),
    Image("0.8", size_bytes=65 * MIB),
]
ERRORS: list[UpdaterError] = [
    TransportError("reset"),
    ForbiddenError("403"),
    NotFoundError("404"),
    DigestError("short"),
    StartOverError("changed"),
]
JUNK = [
    b"", b"\xff", b"{", b"[" * 10_000, b'{"type": "update_firmware"}', b"x" * 20_000,
    b'{"type": "report_version_rsp", "result_code": "-1"}', b'{"type": "what comes next"}',
    b'{"type": "report_version_rsp", "result_code": true}',
]  # fmt: skip
CUTS: list[Callable[[World], None]] = [
    World.lose_power, World.lose_process, World.lose_network, World.end_agent,
]  # fmt: skip

images = st.sampled_from(IMAGES)


class Device(RuleBasedStateMachine):
    """One device, and whatever may happen to it."""

    @initialize(spare=st.none() | images, parts=st.sampled_from([1, 4, 40]))
    def begin(self, spare: Image | None, parts: int) -> None:
        self.world = World(spare=spare)
        self.world.parts = parts
        self.finals: dict[str, State] = {}

    # --- time ------------------------------------------------------------------------------------

    @rule(quarters=st.integers(1, 120))
    def wait(self, quarters: int) -> None:
        self.world.run_for(quarters / 4)

    @rule(hours=st.sampled_from([0.2, 1, 3]))
    def wait_long(self, hours: float) -> None:
        self.world.run_for(hours * 3600)

    @rule(ahead_s=st.sampled_from([-1e9, 0.0, 3600.0, 1e9]))
    def set_the_clock(self, ahead_s: float) -> None:
        self.world.clock.ahead_s = ahead_s

    # --- the cloud -------------------------------------------------------------------------------

    @rule(image=images, served=st.none() | images, task=st.sampled_from([{}, {"task_id": 7}]))
    def offer(self, image: Image, served: Image | None, task: dict[str, int]) -> None:
        self.world.offer(image, served=served, **task)

    @rule()
    def repeat(self) -> None:
        if self.world.cloud.task is not None:
            self.world.cloud.send(self.world.cloud.task)

    @rule()
    def cancel_in_the_console(self) -> None:
        self.world.cloud.task = None

    @rule(payload=st.sampled_from(JUNK))
    def say_junk(self, payload: bytes) -> None:
        self.world.cloud.send(payload)

    @rule(code=st.sampled_from([0, 0, -1, None]))
    def answer_with(self, code: int | None) -> None:
        self.world.cloud.result_code = code

    @rule(is_on=st.booleans())
    def acknowledge(self, is_on: bool) -> None:
        self.world.cloud.acknowledges = is_on

    @rule(is_on=st.booleans())
    def be_reachable(self, is_on: bool) -> None:
        self.world.cloud.is_reachable = is_on

    @rule(percent=st.integers(0, 100), error=st.sampled_from(ERRORS))
    def break_the_download(self, percent: int, error: UpdaterError) -> None:
        for url in self.world.web.pages:
            self.world.web.fail(url, (percent, error))

    # --- faults ----------------------------------------------------------------------------------

    @rule(cut=st.sampled_from(CUTS))
    def cut(self, cut: Callable[[World], None]) -> None:
        cut(self.world)

    @rule(ahead=st.integers(0, 20), cut=st.sampled_from(CUTS[:3]))
    def cut_soon(self, ahead: int, cut: Callable[[World], None]) -> None:
        world = self.world
        if cut is World.lose_network:
            world.instants.at(len(world.instants.names) + ahead, world.lose_network)
        else:
            name = "cut_power" if cut is World.lose_power else "kill_process"
            world.instants.at(len(world.instants.names) + ahead, getattr(instants, name))

    @rule(is_on=st.booleans())
    def fill_the_journal(self, is_on: bool) -> None:
        self.world.journal.is_writable = is_on

    @rule(fault=st.sampled_from(Fault))
    def break_a_store(self, fault: Fault) -> None:
        self.world.environment.faults = iter([fault])

    @rule(
        check=st.sampled_from(["application", "gateway"]), problem=st.sampled_from(["", "x", None])
    )
    def be_sick(self, check: str, problem: str | None) -> None:
        self.world.problems[check] = problem

    # --- a person --------------------------------------------------------------------------------

    @rule(image=images)
    def install_here(self, image: Image) -> None:
        session = self.world.session
        if not self.world.agent_runs or (session is not None and not session.state.is_final):
            return
        self.world.web.serve("/image", image)
        try:
            self.world.agent.offered(Offer(image.firmware, "/image", is_local=True))
        except UpdaterError:
            return
        except (PowerCut, ProcessKilled) as cut:
            self.fall(cut)

    @rule(text=st.sampled_from(["", "not today"]))
    def cancel(self, text: str) -> None:
        if not self.world.agent_runs:
            return
        before = self.world.session
        try:
            cancel_here(self.world.agent, text)
        except UpdaterError:
            return
        except (PowerCut, ProcessKilled) as cut:
            self.fall(cut)
            return
        session = self.world.session
        if before is not None and not before.state.is_final:
            assert session is not None
            assert (session.id, session.state) == (before.id, State.FAILED)
            assert self.world.agent.progress is None

    @rule()
    def clear(self) -> None:
        if self.world.agent_runs:
            try:
                self.world.agent.retries.clear()
            except UpdaterError:
                return
            except (PowerCut, ProcessKilled) as cut:
                self.fall(cut)

    def fall(self, cut: BaseException) -> None:
        """Let the world do what it does when a cut strikes within its own turn."""
        if isinstance(cut, PowerCut):
            self.world.lose_power()
        else:
            self.world.lose_process()

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def a_session_ends_once(self) -> None:
        for session in self.world.journal.sessions.values():
            if session.state.is_final:
                assert self.finals.setdefault(session.id, session.state) is session.state

    @invariant()
    def one_terminal_report_for_each_session(self) -> None:
        reports = Counter(row.session_id for row in self.world.journal.reports)
        assert not [name for name, count in reports.items() if count > 1]

    @invariant()
    def one_session_is_open_at_most_and_it_is_the_last(self) -> None:
        sessions = list(self.world.journal.sessions.values())
        assert all(session.state.is_final for session in sessions[:-1])

    @invariant()
    def what_has_failed_is_counted_once(self) -> None:
        failed = Counter(
            session.offer.firmware
            for session in self.world.journal.sessions.values()
            if session.state is State.FAILED
        )
        assert all(
            each.count <= failed[each.firmware] for each in self.world.journal.failed.values()
        )

    @invariant()
    def nothing_terminal_is_told_that_is_not_a_sessions_or_a_refusal(self) -> None:
        journalled = {row.payload for row in self.world.journal.reports}
        told = {m.body["report"]["version"] for m in self.world.outcomes if is_terminal(m)}
        assert len(told) <= len(journalled)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.journal.is_writable = world.cloud.acknowledges = world.cloud.is_reachable = True
        world.cloud.result_code, world.problems = 0, {}
        world.environment.faults = iter(())
        world.lose_network()
        world.run_for(1)
        if world.agent_runs and world.agent.problem is not None:
            world.lose_power()  # it waits for a person: a store could not be read back twice
        world.run_for(12 * 3600)
        world.cloud.task = None
        world.lose_power()
        world.run_until_calm()
        self.a_session_ends_once()
        sessions = list(world.journal.sessions.values())
        assert all(session.state.is_final for session in sessions)
        assert_settled(world)
        good = [session for session in sessions if session.state is State.GOOD]
        assert world.booted.image.firmware == (good[-1].offer.firmware if good else OLD.firmware)
        owed = [session.id for session in sessions if not session.offer.is_local]
        assert [row.session_id for row in world.journal.reports] == owed
        told = {(m.version, m.state) for m in world.outcomes}
        assert told == {
            (session.offer.firmware.version, "done" if session.state is State.GOOD else "fail")
            for session in sessions
            if not session.offer.is_local
        }


TestDevice = Device.TestCase
TestDevice.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


MIDNIGHT_S = 1_772_409_600.0  # 2026-03-02, UTC
POLICY = PolicyConfig(
    install_windows=("22:00-05:00",),
    reboot="in-window",
    daily_budget_bytes=6 * MIB,
    power_command=("power",),
    hook=(
        HookConfig(name="a", when="after-install", argv=("after",)),
        HookConfig(name="b", when="before-activation", argv=("before",)),
    ),
)
OUTCOMES = [None, Outcome(0, "exit status 0"), Outcome(1, "exit status 1"), Outcome(75, "75")]


class Timed(Device):
    """A device with a policy: it waits, and all else happens meanwhile."""

    @initialize(spare=st.none() | images, parts=st.sampled_from([1, 4, 40]))
    def begin(self, spare: Image | None, parts: int) -> None:
        self.world = World(replace(CONFIG, policy=POLICY), spare)
        self.world.parts = parts
        self.finals: dict[str, State] = {}
        self.days = 0
        self.set_the_clock(23 * 3600.0)

    @rule(
        ahead_s=st.sampled_from(
            [-MIDNIGHT_S, 0.0, 3 * 3600.0, 4.99 * 3600, 6 * 3600.0, 21.99 * 3600]
        )
    )
    def set_the_clock(self, ahead_s: float) -> None:
        """Set it to a time of a day, that of the last setting or the next, or unset it."""
        self.days += 1
        today_s = MIDNIGHT_S + self.days // 2 * 86400
        self.world.clock.ahead_s = today_s + ahead_s - self.world.clock.now_s

    @rule(program=st.sampled_from(["power", "after", "before"]), outcome=st.sampled_from(OUTCOMES))
    def answer_a_command(self, program: str, outcome: Outcome | None) -> None:
        self.world.outcomes_of[program] = outcome

    @rule()
    def request(self) -> None:
        if not self.world.agent_runs:
            return
        try:
            self.world.agent.pace.request()
        except UpdaterError:
            return
        except (PowerCut, ProcessKilled) as cut:
            self.fall(cut)

    @rule(days=st.sampled_from([1, 3]))
    def wait_for_days(self, days: int) -> None:
        self.world.run_for(days * 86400)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.outcomes_of, world.problems = {}, {}
        world.journal.is_writable = world.cloud.acknowledges = world.cloud.is_reachable = True
        world.cloud.result_code = 0
        world.environment.faults = iter(())
        self.days += 1000
        self.set_the_clock(23 * 3600.0)
        if world.agent_runs and world.agent.problem is not None:
            world.lose_power()  # it waits for a person, as below
        world.run_for(4 * 86400)
        world.cloud.task = None
        world.run_for(16 * 86400)
        world.lose_power()
        assert world.session is None or world.session.state.is_final, "it waits for ever"
        super().teardown()


TestTimed = Timed.TestCase
TestTimed.settings = settings(TestDevice.settings, max_examples=12, stateful_step_count=20)


class Long(Device):
    """The same, for longer."""


TestLong = pytest.mark.long(Long.TestCase)
TestLong.settings = settings(TestDevice.settings, max_examples=2000, stateful_step_count=60)


class LongTimed(Timed):
    """The same, for longer."""


TestLongTimed = pytest.mark.long(LongTimed.TestCase)
TestLongTimed.settings = settings(TestLong.settings, max_examples=100, stateful_step_count=30)

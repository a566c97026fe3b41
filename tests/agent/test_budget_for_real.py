# SPDX-License-Identifier: MIT
"""A day's budget with the real pipeline, the real journal and a real HTTP server.

Time is real but for the calendar, which the test turns over.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from hashlib import md5
from pathlib import Path

import pytest
from sim.clock import Clock
from sim.http_server import HttpServer
from sim.instants import Instants
from sim.machine import MemoryCommands, MemoryFinder, MemoryHealth
from sim.settings import BOARD, CONFIG, FACTORY
from sim.storage import MemoryEnvironment

from updater import activity
from updater.agent import Agent
from updater.core.config import DownloadConfig, HealthConfig, StateConfig
from updater.core.model import Firmware, Offer, Slot, Slots, State
from updater.core.policyconfig import PolicyConfig
from updater.core.ports import LocalTime
from updater.device import Device
from updater.edge.journal import SqliteJournal
from updater.edge.pipeline import NativePipeline

MIB = 1 << 20
IMAGE_BYTES = 48 * MIB
BUDGET_BYTES = 20 * MIB
PACE = 16.0 * MIB  # bytes per second of the server
LATE_BYTES = int(0.25 * PACE) + 4 * MIB  # until the agent looks, and what is in sockets by then
REPEATED_BYTES = 16 * MIB


class Calendar:
    """This machine's clock, on a day of the test's."""

    def __init__(self) -> None:
        self.day = 20_000
        self.is_rebooting = False

    def monotonic_s(self) -> float:
        return time.monotonic()

    def time_s(self) -> float:
        return self.day * 86400 + 43200.0

    def local_time(self, time_s: float) -> LocalTime:
        return LocalTime(int(time_s) // 86400, int(time_s) % 86400 // 60)

    def random_id(self) -> str:
        return "5e55"

    def version(self) -> str:
        return "1"

    def trial_over(self) -> None:
        pass

    def reboot(self) -> None:
        self.is_rebooting = True


class Bench:
    """One device over real storage and a real network, and an agent that may be started anew."""

    def __init__(self, folder: Path, web: HttpServer) -> None:
        self.folder, self.web = folder, web
        self.calendar = Calendar()
        self.image = os.urandom(IMAGE_BYTES)
        (folder / "image").write_bytes(self.image)
        self.target = folder / "target"
        self.target.write_bytes(bytes(IMAGE_BYTES))
        web.put({"firmware": folder / "image"})
        web.bytes_per_s = PACE
        self.environment = MemoryEnvironment(Instants(), FACTORY)
        firmware = Firmware("2", md5(self.image, usedforsecurity=False).hexdigest(), IMAGE_BYTES)
        self.offer = Offer(firmware, f"http://127.0.0.1:{web.port}/firmware?sign=secret")

    def device(self, journal: SqliteJournal) -> Device:
        clock = Clock()
        slots = Slots(
            Slot("A", "/dev/null", 1, IMAGE_BYTES), Slot("B", str(self.target), 0, IMAGE_BYTES)
        )
        return Device(
            config=replace(
                CONFIG,
                download=DownloadConfig(allow_plaintext=True),
                health=HealthConfig(link=False),
                state=StateConfig(directory=str(self.folder)),
                policy=PolicyConfig(daily_budget_bytes=BUDGET_BYTES),
            ),
            board=BOARD,
            environment=self.environment,
            finder=MemoryFinder(slots),
            journal=journal,
            pipeline=NativePipeline(),
            system=self.calendar,
            health=MemoryHealth(clock, HealthConfig(), lambda _check: ""),
            commands=MemoryCommands(clock, lambda _program: None),
        )


def turn(agent: Agent, bench: Bench, until: Callable[[], bool]) -> None:
    """Let the agent's loop turn until something is so."""
    poller = activity.Poller(bench.calendar)
    deadline_s = time.monotonic() + 30

    def wait(interests: dict[int, int], until_s: float) -> dict[int, int]:
        return dict(poller(interests, min(until_s, time.monotonic() + 0.1)))

    while not until():
        assert time.monotonic() < deadline_s
        activity.step(agent.activities(), bench.calendar, wait)  # type: ignore[arg-type]


def is_over(agent: Agent, bench: Bench) -> bool:
    """Tell whether the day has brought what it may, or all there was to bring."""
    return bench.calendar.is_rebooting or not goes_on(agent)


def goes_on(agent: Agent) -> bool:
    """Tell whether the download does not wait for another day."""
    return agent.pace.waiting() is None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with HttpServer() as web:
        yield Bench(tmp_path, web)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["one process", "a process each day"])
def test_a_download_takes_as_many_days_as_its_budget_asks_for(
    bench: Bench, is_restarted: bool
) -> None:
    """None brings more than its budget and a quarter of a second; of each 16 MiB may come again."""
    journal = SqliteJournal(str(bench.folder))
    agent = Agent(bench.device(journal), None)
    agent.start()
    agent.offered(bench.offer)
    days: list[int] = []
    try:
        while not bench.calendar.is_rebooting:
            before_bytes = bench.web.sent_bytes
            turn(agent, bench, partial(is_over, agent, bench))
            days.append(bench.web.sent_bytes - before_bytes)
            assert journal.spent_bytes(bench.calendar.day) <= BUDGET_BYTES + LATE_BYTES
            assert len(days) < 10
            if is_restarted and not bench.calendar.is_rebooting:
                agent.close()
                journal.close()
                journal = SqliteJournal(str(bench.folder))
                agent = Agent(bench.device(journal), None)
                agent.start()
            if not bench.calendar.is_rebooting:
                bench.calendar.day += 1
                agent.pace._passage._look_s = time.monotonic()  # it would be minutes
                turn(agent, bench, partial(goes_on, agent))
        assert agent.session is not None
        assert agent.session.state is State.ACTIVATED
    finally:
        with closing(journal):
            agent.close()
    assert bench.target.read_bytes() == bench.image
    assert len(days) >= 3
    assert all(day <= BUDGET_BYTES + LATE_BYTES for day in days)
    assert all(day >= BUDGET_BYTES - MIB for day in days[:-1])
    assert bench.web.sent_bytes <= IMAGE_BYTES + (len(days) - 1) * REPEATED_BYTES
    assert len(bench.web.begins) == len(days)

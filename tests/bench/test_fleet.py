# SPDX-License-Identifier: MIT
"""Forty devices that update and lose their broker, in a time that runs four times as fast."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import pytest
from fleet.broker import Broker
from fleet.device import ATTEMPT, LOST
from fleet.fleet import Fleet, allow_descriptors
from fleet.talk import Talk
from sim.settings import NEW

COUNT, PACE = 40, 4.0
AWAY_S, MINUTE_S = 5.0, 60.0  # in the devices' time, as all that the story tells


@dataclass(frozen=True)
class Story:
    """What was seen of it.

    Attributes:
        arrival: Packets of the first connections.
        update: Those from the offer to the new version's answer.
        words: What each device has said of that.
        returned_s: When each was answered again, seconds after the broker was back.
        tried_s: When each tried first after the loss, seconds after the first of them did.
        talk: Packets after the broker was back.
        pids: Everything that was started.
    """

    arrival: Talk
    update: Talk
    words: dict[str, Counter[str]]
    returned_s: list[float]
    tried_s: list[float]
    talk: Talk
    pids: list[int]


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Switch them on, update all, and take the broker away for a while."""
    with tempfile.TemporaryDirectory() as name:
        with Fleet(Path(name), COUNT, processes=2, pace=PACE) as fleet:
            fleet.build()
            fleet.switch_on()
            arrival, mark = Talk.of(fleet.broker.packets()), fleet.broker.mark()
            update, words = told_of_update(fleet, mark)
            fleet.skip(MINUTE_S)  # versions are reported no more often
            lost_s = fleet.lose_broker()
            pids = [process.pid for process in fleet.processes]
            sleep(AWAY_S / PACE)
            back_s = fleet.broker.start()
            fleet.wait(lambda: len(fleet.answered(back_s)) == COUNT, "devices back")
            pids.append(fleet.broker.pid)
            sleep(0.3)
            tries: dict[int, float] = {}
            for event in fleet.told(ATTEMPT, lost_s):
                tries.setdefault(event.number, event.time_s)
            first_s = min(tries.values())
            told = Story(
                arrival,
                update,
                words,
                [(time_s - back_s) * PACE for time_s in fleet.answered(back_s).values()],
                [(time_s - first_s) * PACE for time_s in tries.values()],
                Talk.of(fleet.broker.packets()),
                pids,
            )
        yield told


def told_of_update(fleet: Fleet, mark: int) -> tuple[Talk, dict[str, Counter[str]]]:
    """Have every device update; return packets, and what each has said."""
    fleet.cloud.take()
    fleet.cloud.offer(fleet.names, 0.005)
    versions = fleet.cloud.versions
    fleet.wait(lambda: set(versions.values()) == {NEW.version}, "devices that run it")
    sleep(0.3)  # for the broker's log
    return Talk.of(fleet.broker.packets(mark)), fleet.cloud.take()


def test_a_device_that_starts_says_three_things(story: Story) -> None:
    """It connects, subscribes and reports its version, and the broker hears nothing else."""
    assert list(story.arrival.said.values()) == [
        {"CONNECT": 1, "SUBSCRIBE": 1, "PUBLISH": 1}
    ] * COUNT  # fmt: skip


def test_every_device_is_back_after_its_broker(story: Story) -> None:
    """None of them is lost, or needs a person."""
    assert len(story.returned_s) == COUNT
    assert max(story.returned_s) < 120.0


def test_a_device_that_is_back_says_three_things_again(story: Story) -> None:
    """A broker that has just come up gets one CONNECT of each, and one report of its version."""
    assert list(story.talk.said.values()) == [
        {"CONNECT": 1, "SUBSCRIBE": 1, "PUBLISH": 1}
    ] * COUNT  # fmt: skip


def test_devices_do_not_try_again_in_step(story: Story) -> None:
    """What they lose in one moment they look for at moments of their own."""
    tried_s = sorted(story.tried_s)
    assert tried_s[-1] > 5.0
    assert len({round(time_s) for time_s in tried_s}) > 3


def test_an_update_costs_a_device_a_dozen_messages(story: Story) -> None:
    """Progress on change, a burning before and one in the trial, done and the version once."""
    assert len(story.words) == COUNT
    for words in story.words.values():
        progress = words["downloading"]
        assert 2 <= progress <= 5
        assert words == {"downloading": progress, "burning": 2, "done": 1, "report_version": 1}


def test_an_update_costs_one_connection(story: Story) -> None:
    """It is left in good order before the reboot, and there is one after it."""
    for said in story.update.said.values():
        messages = said["PUBLISH"]
        assert 6 <= messages <= 9
        assert said == {"DISCONNECT": 1, "CONNECT": 1, "SUBSCRIBE": 1, "PUBLISH": messages}


def test_nothing_of_a_fleet_is_left(story: Story) -> None:
    """Its processes and its broker have ended with it."""
    assert len(story.pids) == 3
    assert not [pid for pid in story.pids if Path(f"/proc/{pid}").exists()]


def test_nothing_of_a_fleet_is_left_that_fails(tmp_path: Path) -> None:
    """An error in the middle, with the broker away, ends everything too."""
    pids = []
    with suppress(ZeroDivisionError), Fleet(tmp_path, 4, processes=2, pace=PACE) as fleet:
        fleet.build()
        fleet.switch_on()
        pids = [process.pid for process in fleet.processes]
        lost_s = fleet.lose_broker()
        fleet.wait(lambda: len(fleet.told(LOST, lost_s)) >= 4, "losses")
        raise ZeroDivisionError
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


KILLED = """
import pathlib, sys, time
from fleet.fleet import Fleet
with Fleet(pathlib.Path(sys.argv[1]), 2, processes=2) as fleet:
    print(fleet.broker.pid, *(process.pid for process in fleet.processes), flush=True)
    time.sleep(60)
"""


def test_nothing_of_a_fleet_is_left_that_is_killed(tmp_path: Path) -> None:
    """Nobody has to look for its processes, however it ended."""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}:{tests}"}
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        process.kill()
    assert len(pids) == 3
    deadline_s = monotonic() + 10
    while [pid for pid in pids if Path(f"/proc/{int(pid)}/exe").exists()]:
        assert monotonic() < deadline_s, "something lives on"
        sleep(0.05)


def test_a_stranger_does_not_get_in(tmp_path: Path) -> None:
    """The broker knows each device by its password: a figure would prove nothing otherwise."""
    with Fleet(tmp_path, 2, processes=2, pace=PACE) as fleet:
        (tmp_path / fleet.names[0]).write_text("another")
        fleet.build()
        for process in fleet.processes:
            process.order("on 1")
        fleet.wait(lambda: bool(fleet.told(LOST, 0.0)), "a refusal")
        fleet.wait(lambda: len(fleet.answered(0.0)) == 1, "the other one")
        assert fleet.answered(0.0).keys() == {1}


def test_too_few_files_are_said_so() -> None:
    """A machine that cannot hold so many sockets says what to raise."""
    with pytest.raises(RuntimeError, match="ulimit"):
        allow_descriptors(1 << 40)


def test_a_broker_that_does_not_start_is_said_so(tmp_path: Path) -> None:
    """Its own words are in the error."""
    (tmp_path / "the-cloud").write_text("x")
    broken = Broker(tmp_path, [], tmp_path / "nothing.pem")
    with pytest.raises(RuntimeError, match="certificate"):
        broken.start()
    broken.kill()

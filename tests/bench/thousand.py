# SPDX-License-Identifier: MIT
"""A thousand devices on one broker: back after a restart, what each has to say, its memory."""

import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import conformance  # noqa: F401 - knows where the workshop is
from bench.machine import Share
from fleet.device import ATTEMPT
from fleet.fleet import Fleet
from fleet.talk import Talk
from sim.settings import NEW
from workshop import Workshop

from updater.core.backoff import LIMIT_S, STEADY_S
from updater.core.cloudconfig import CloudConfig

PROCESSES = 4
OFFERS_PER_S = 50
PATIENCE_S = 2 * LIMIT_S
KEEP_ALIVE_S = CloudConfig(host="", product_id="", device_name="").keep_alive_s
_IDLE_S = 2.0 * KEEP_ALIVE_S  # what comes once in each is seen twice, whenever it comes
_AWAY_S = (5.0, 60.0)
_STAGES = 5
_SETTLE_S = 2.0  # for the last words, and the broker's log of them
_MINUTE_S = 60.0  # between two reports of a version
_GUEST = "board-1"


@dataclass(frozen=True)
class Returned:
    """How a fleet came back.

    Attributes:
        name: What was done to the broker.
        away_s: For how long.
        times_s: When each device had its answer to report_version, seconds after the broker was
            back, sorted; infinity for those that were not back within ``PATIENCE_S``.
        attempts: Of all devices together, those that found no broker too.
        most_attempts: Those of one device.
        talk: What the broker has counted.
    """

    name: str
    away_s: float
    times_s: list[float]
    attempts: int
    most_attempts: int
    talk: Talk


@dataclass(frozen=True)
class Memory:
    """KiB of a process, or the mean of several, with *devices* in each."""

    devices: int
    anon: float
    pss: float


@dataclass(frozen=True)
class Arrival:
    """Memory while devices are switched on.

    Attributes:
        empty: A process that has no devices yet.
        built: It with all of them, switched off.
        stages: It with ever more of them connected.
        brokers: mosquitto without devices, and with all.
    """

    empty: Memory
    built: Memory
    stages: list[Memory]
    brokers: tuple[Memory, Memory]


@dataclass(frozen=True)
class Figures:
    """All that one run has measured.

    Attributes:
        count: Devices.
        arrival: Without TLS; *tls_arrival*: with it.
        alone: A real ``updater run`` that idles beside them.
        returned: Each restart, the last one of a broker that speaks TLS.
        idle: What was said in *idle_s* seconds by devices that have nothing to say.
        after: A process after the restarts, without TLS; *updated*: after the update too.
        update: What was said for one update, from the offer to the answer to the new version.
        words: Messages of that, by what they say.
        others: Processors that others used meanwhile.
    """

    count: int
    arrival: Arrival
    tls_arrival: Arrival
    alone: Memory
    returned: list[Returned]
    idle_s: float
    idle: Talk
    after: Memory
    updated: Memory
    update: Talk
    words: Counter[str]
    others: float


def thousand(count: int) -> Figures:
    """Measure *count* devices: as many in each process, and in each stage."""
    share = Share()
    with (
        tempfile.TemporaryDirectory() as name,
        Fleet(_folder(name, "plain"), count, processes=PROCESSES, guests=[_GUEST]) as fleet,
    ):
        arrival = _arrive(fleet, _STAGES)
        alone = _alone(fleet)
        mark, began_s = fleet.broker.mark(), time.monotonic()
        with Fleet(_folder(name, "tls"), count, processes=PROCESSES, is_tls=True) as other:
            tls_arrival = _arrive(other, 1)
            time.sleep(_MINUTE_S)
            by_tls = _restart(other, "again at once, TLS", 0.0)
        time.sleep(max(began_s + _IDLE_S - time.monotonic(), 0.0))
        idle_s, idle = time.monotonic() - began_s, Talk.of(fleet.broker.packets(mark))
        _tell(f"idle for {idle_s:.0f} s")
        returned = []
        for away_s in _AWAY_S:
            returned.append(_restart(fleet, f"back after {away_s:g} s", away_s))
            time.sleep(STEADY_S)  # the pauses begin anew
        after = _memory(fleet, count)
        update, words = _update(fleet)
        return Figures(
            count=count,
            arrival=arrival,
            tls_arrival=tls_arrival,
            alone=alone,
            returned=[*returned, by_tls],
            idle_s=idle_s,
            idle=idle,
            after=after,
            updated=_memory(fleet, count),
            update=update,
            words=words,
            others=share.now(),
        )


def _folder(name: str, part: str) -> Path:
    folder = Path(name) / part
    folder.mkdir()
    return folder


def _arrive(fleet: Fleet, stages: int) -> Arrival:
    """Switch all devices on, in *stages*."""
    empty, without = _memory(fleet, 0), _of(0, fleet.broker.pid)
    fleet.build()
    built, held = _memory(fleet, 0), []
    for stage in range(1, stages + 1):
        fleet.switch_on(fleet.count // PROCESSES // stages)
        time.sleep(_SETTLE_S)
        held.append(_memory(fleet, fleet.count * stage // stages))
    return Arrival(empty, built, held, (without, _of(fleet.count, fleet.broker.pid)))


def _restart(fleet: Fleet, name: str, away_s: float) -> Returned:
    """Kill the broker, and wait until every device is back."""
    lost_s = fleet.lose_broker()
    time.sleep(away_s)
    back_s = fleet.broker.start()
    with suppress(TimeoutError):
        fleet.wait(lambda: len(fleet.answered(back_s)) == fleet.count, "devices back", PATIENCE_S)
    times_s = sorted(time_s - back_s for time_s in fleet.answered(back_s).values())
    times_s += [math.inf] * (fleet.count - len(times_s))
    _tell(f"{name}: {times_s[-1]:.1f} s")
    time.sleep(_SETTLE_S)
    tries = Counter(event.number for event in fleet.told(ATTEMPT, lost_s))
    talk = Talk.of(fleet.broker.packets())
    gone_s = back_s - lost_s  # to start takes a moment: some try in vain meanwhile
    return Returned(name, gone_s, times_s, tries.total(), max(tries.values()), talk)


def _update(fleet: Fleet) -> tuple[Talk, Counter[str]]:
    """Have every device install the new version, and wait until the cloud knows of it."""
    mark = fleet.broker.mark()
    fleet.cloud.take()
    fleet.cloud.offer(fleet.names, 1 / OFFERS_PER_S)
    versions = fleet.cloud.versions

    def is_done() -> bool:
        return all(versions[name] == NEW.version for name in fleet.names)

    fleet.wait(is_done, "devices that run the new version")
    time.sleep(_SETTLE_S)
    _tell("updated")
    words = sum(fleet.cloud.take().values(), Counter[str]())
    return Talk.of(fleet.broker.packets(mark)), words


def _alone(fleet: Fleet) -> Memory:
    """Return what a real agent holds that idles at the fleet's broker, in a process of its own."""
    workshop = Workshop(_folder(str(fleet.folder), "alone"), port=fleet.broker.port)
    login = f'auth = "password"\nusername = "{_GUEST}"\npassword_file = "{fleet.folder}/{_GUEST}"'
    text = workshop.config.read_text()
    workshop.config.write_text(text.replace('auth = "none"', login))
    with workshop.agent() as agent:
        agent.wait_for_log("connected and subscribed")
        time.sleep(_SETTLE_S)
        return _of(1, agent.pid)


def _memory(fleet: Fleet, devices: int) -> Memory:
    """Return what a process of the fleet's holds while *devices* of the fleet are on."""
    return _of(devices // PROCESSES, *(process.pid for process in fleet.processes))


def _of(devices: int, *pids: int) -> Memory:
    held = [_held(pid) for pid in pids]
    anon, pss = (statistics.fmean(each) for each in zip(*held, strict=True))
    return Memory(devices, anon, pss)


def _held(pid: int) -> tuple[int, int]:
    """Return RssAnon and PSS in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    words = dict(line.split(":", 1) for line in (status + rollup.partition("\n")[2]).splitlines())
    return int(words["RssAnon"].split()[0]), int(words["Pss"].split()[0])


def _tell(text: str) -> None:
    """Say on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)

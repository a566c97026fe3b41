# SPDX-License-Identifier: MIT
"""Hundreds of updates over a link that is disturbed: every end arrives, and none is invented.

Many sites run beside each other, each with a broker, a board and a seed of its own; what a site
does is the same for the same seed, but for when the machine lets it.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import pytest
from newerpython import newer_python
from sim.wire import Wire

from outages import doors
from outages.beside import run_beside
from outages.doors import Door
from outages.kinds import KINDS, NAMELESS, WIRED, Kind
from outages.site import Site
from outages.verdict import complaints

pytestmark = pytest.mark.root

ENDINGS = ("done", "-4", "-2")
MOMENTS = ("before", "offered", "downloading", "burning", "end")
SEED = 20_240_607


@dataclass(frozen=True)
class Cycle:
    """One update, and what happens to the link meanwhile."""

    kind: Kind
    ending: str
    moment: str


def run_cycle(site: Site, number: int, cycle: Cycle) -> None:
    """Offer a firmware, disturb the link when the moment comes, and see it end."""
    version = f"2.{number}.0"
    if cycle.moment != "before":
        site.offer(version, cycle.ending)
    if cycle.moment not in {"before", "offered"}:
        said = site.has_said
        is_there = lambda: said(cycle.moment, version) or said("end", version)  # noqa: E731
        site.wait_until(is_there, cycle.moment)
    site.wait(site.chance.uniform(0, 0.5))
    if cycle.moment == "before":
        thread = threading.Timer(site.chance.uniform(0, 1), site.offer, [version, cycle.ending])
        thread.start()
        cycle.kind(site)
        thread.join()
    else:
        cycle.kind(site)
    site.wait_until(lambda: site.is_over(version), f"the end of {version}")


def run_site(
    folder: Path, authority: Path, seed: int, cycles: Sequence[Cycle], door: Door = doors.PASSWORD
) -> list[str]:
    """Run *cycles* one after the other, and return what was wrong."""
    folder.mkdir()
    with Site(folder, authority, seed, is_persistent=bool(seed % 2), door=door) as site:
        return lived(site, cycles)


def run_wired_site(folder: Path, authority: Path, seed: int, cycles: Sequence[Cycle]) -> list[str]:
    """Do that between network namespaces."""
    folder.mkdir()
    with Wire() as wire, Site(folder, authority, seed, wire=wire) as site:
        return lived(site, cycles)


def lived(site: Site, cycles: Sequence[Cycle]) -> list[str]:
    """Live through *cycles*, and return what was wrong, with all that is known."""
    number = -1
    try:
        site.start()
        site.wait_until(lambda: bool(site.cloud.messages), "a first word")
        for number, cycle in enumerate(cycles):
            run_cycle(site, number, cycle)
        site.kill()
        found = complaints(site)
    except Exception as error:  # noqa: BLE001 - it is told with all that is known
        found = [f"in cycle {number}: {error}"]
    words = [f"{each.kind.__name__} {each.moment} {each.ending}" for each in cycles]
    return [f"{words}:", *found, site.account()] if found else []


def planned(
    kinds: Sequence[Kind], sites: int, cycles: int, seed: int
) -> dict[int, Sequence[Cycle]]:
    """Return what happens at each site, by its seed; every kind about as often."""
    chance = Random(seed)
    drawn: list[Kind] = []
    while len(drawn) < sites * cycles:
        drawn += chance.sample(kinds, len(kinds))
    return {
        seed + number: [
            Cycle(kind, chance.choice(ENDINGS), chance.choice(MOMENTS))
            for kind in drawn[number * cycles : (number + 1) * cycles]
        ]
        for number in range(sites)
    }


GROUPS: tuple[tuple[Sequence[Kind], float, Callable[..., list[str]]], ...] = (
    (KINDS, 0.7, run_site),
    (NAMELESS, 0.1, partial(run_site, door=doors.CERTIFICATE)),
    (NAMELESS, 0.1, partial(run_site, door=doors.WEBSOCKET)),
    (WIRED, 0.1, run_wired_site),
)


def run_sites(folder: Path, authority: Path, seed: int, sites: int, cycles: int) -> list[str]:
    """Run *sites* beside each other, some of each group; return what was wrong."""
    jobs = {}
    for kinds, share, run in GROUPS:
        count = max(1, round(sites * share))
        for number, row in planned(kinds, count, cycles, seed + len(jobs)).items():
            place = folder / str(number)
            jobs[f"seed {seed}, site {number}"] = partial(run, place, authority, number, row)
    return run_beside(jobs)


def test_every_end_arrives_and_none_is_invented(tmp_path: Path, authority: Path) -> None:
    """Whatever happens to the link, each session's end is heard, in order, and nothing else."""
    found = run_sites(tmp_path, authority, SEED, sites=20, cycles=2)
    assert not found, "\n".join(found)


@pytest.mark.long
def test_every_end_arrives_in_hundreds_of_cycles(tmp_path: Path, authority: Path) -> None:
    """The same, for a good while, and another time each time."""
    found = run_sites(tmp_path, authority, Random().randrange(10**9), sites=20, cycles=18)
    assert not found, "\n".join(found)


@pytest.mark.long
def test_every_end_arrives_by_psk(tmp_path: Path, authority: Path) -> None:
    """The same where the device's secret is the key of TLS."""
    newer_python()  # or it is skipped
    jobs = {
        f"site {number}": partial(
            run_site, tmp_path / str(number), authority, number, row, door=doors.PSK
        )
        for number, row in planned(NAMELESS, 7, 2, SEED).items()
    }
    found = run_beside(jobs)
    assert not found, "\n".join(found)

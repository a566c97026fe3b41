# SPDX-License-Identifier: MIT
"""A link that is dead and looks alive: packets vanish between network namespaces."""

import time
from functools import partial
from pathlib import Path

import pytest
from sim.way import BOTH, DOWN, UP
from sim.wire import Wire

from outages.beside import run_beside
from outages.site import KEEP_ALIVE_S, Site
from outages.verdict import complaints

pytestmark = pytest.mark.root

NOTICED_S = 1.5 * KEEP_ALIVE_S + 2.0  # and what a busy machine takes
WAYS = {"up": frozenset({UP}), "down": frozenset({DOWN}), "both": BOTH}


def lose(folder: Path, authority: Path, directions: frozenset[str]) -> list[str]:
    """Lose everything in *directions* in the middle of an install, until it is done."""
    folder.mkdir()
    with Wire() as wire, Site(folder, authority, 1, wire=wire) as site:
        site.start()
        site.wait_until(lambda: bool(site.cloud.messages), "a first word")
        site.web.bytes_per_s = 30_000.0
        site.offer("2.0.0", "done")
        site.wait_until(lambda: site.has_said("downloading", "2.0.0"), "a download")
        with wire.stalling(directions):
            began_s = time.monotonic()
            site.wait_until(lambda: "the broker is silent" in site.agent.log, "a loss")
            noticed_s, sent_bytes = time.monotonic() - began_s, site.web.sent_bytes
            site.wait_until(lambda: site.web.sent_bytes > sent_bytes, "more of the image", 2)
            site.web.bytes_per_s = None
            site.wait_until(lambda: "installed: slot B" in site.agent.log, "an install", 10)
            found = ["burning is heard"] if site.has_said("burning", "2.0.0") else []
        site.wait_until(lambda: site.is_over("2.0.0"), "the end")
        site.kill()
        if noticed_s > NOTICED_S:
            found.append(f"it was noticed after {noticed_s:.1f} s")
        return [*found, *complaints(site)]


def test_a_dead_link_is_noticed_and_mended(tmp_path: Path, authority: Path) -> None:
    """It is noticed in time, an install with its URL goes on, and what is owed arrives at last."""
    found = run_beside(
        {name: partial(lose, tmp_path / name, authority, way) for name, way in WAYS.items()}
    )
    assert not found, "\n".join(found)

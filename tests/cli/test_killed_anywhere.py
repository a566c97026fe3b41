# SPDX-License-Identifier: MIT
"""kill -9 at random moments of a real ``updater write``: it resumes, and the digest is right."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sim.http_server import HttpServer
from workshop import MIB, Workshop, head, loop_device, may_boot, md5, wait_until

pytestmark = pytest.mark.root

SIZE = 48 * MIB
COST_LIMIT = 16 * MIB  # of repeated download
PACE = 100e6  # bytes/s of the server: the download takes half a second


class Bench:
    """A device, and a server with an image for it."""

    def __init__(self, workshop: Workshop, web: HttpServer, device: str) -> None:
        self.workshop, self.web, self.device = workshop, web, Path(device)
        self.raw = os.urandom(SIZE)
        (workshop.folder / "image").write_bytes(self.raw)
        web.put({"image": workshop.folder / "image"})
        url = f"http://127.0.0.1:{web.port}/image"
        self.words = ["write", url, "--to", device, "--md5", md5(self.raw), "--size", SIZE]

    def kill_once(self, chance: random.Random) -> None:
        """Kill the program at a random moment, and let the next one bring the image in."""
        self.device.write_bytes(b"\xa5" * MIB)
        self.web.bytes_per_s, self.web.sent_bytes = PACE, 0
        self.web.begins.clear()
        with self.workshop.start(*self.words) as process:
            time.sleep(chance.uniform(0.0, 1.2))
            process.kill()
            process.communicate(timeout=20)
        came = self.web.sent_bytes
        left = head(self.device)
        assert not may_boot(left, b"\xa5" * MIB, self.raw[:MIB])
        self.web.bytes_per_s = None
        said = self.workshop.json(*self.words)
        assert said["md5"] == md5(self.raw)
        assert self.device.read_bytes()[:SIZE] == self.raw
        # the last one: the killed one's request may have been read after its death
        assert (said["retries"], self.web.begins[-1]) == (0, said["resumed_bytes"])
        if left != self.raw[:MIB]:  # else it had come to its end
            assert said["resumed_bytes"] >= came - COST_LIMIT


@pytest.fixture
def bench(workshop: Workshop) -> Iterator[Bench]:
    with HttpServer() as web, loop_device(workshop.folder / "medium", 64 * MIB) as device:
        yield Bench(workshop, web, device)


def test_what_waits_in_the_kernel_is_within_the_cost(bench: Bench) -> None:
    """A program that stands still lets a fast server fill the socket, and is then killed."""
    bench.web.bytes_per_s = 2 * PACE
    with bench.workshop.start(*bench.words) as process:
        wait_until(lambda: bench.web.sent_bytes > SIZE // 2)
        process.send_signal(signal.SIGSTOP)
        bench.web.bytes_per_s = None
        time.sleep(0.5)
        came = bench.web.sent_bytes
        assert came < SIZE
        process.kill()
        process.communicate(timeout=20)
    assert bench.workshop.json(*bench.words)["resumed_bytes"] >= came - COST_LIMIT


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.long)])
def test_a_kill_at_any_moment_costs_little(bench: Bench, seed: int) -> None:
    """Thirty moments, and two hundred in the long form: the image is right, 16 MiB come again."""
    chance = random.Random(seed)
    for _ in range(200 if seed == 3 else 15):
        bench.kill_once(chance)

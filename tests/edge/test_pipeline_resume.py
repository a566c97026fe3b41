# SPDX-License-Identifier: MIT
"""The native pipeline after a close, a kill or a cut: the next install goes on, or starts over."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pipelinecases import HEAD, IMAGE, MD5, MIB, REPO, held, install, request_for, to_the_end
from sim.http_server import HttpServer

from updater.core.errors import ForbiddenError, StartOverError
from updater.core.ports import InstallRequest, Phase
from updater.edge.pipeline import NativePipeline

pytestmark = pytest.mark.root


@pytest.fixture
def web() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


def cut_half_way(request: InstallRequest) -> int:
    """Close an install after a good half of it, and return what had come."""
    with closing(NativePipeline().open_install(request)) as running:
        while (progress := running.step(0.01)).received_bytes < 14 * MIB:
            pass
    return progress.received_bytes


def test_an_install_goes_on_where_it_was_closed(
    web: HttpServer, source: Path, device: str, tmp_path: Path
) -> None:
    """The server sends the rest and nothing twice; what is on the medium is only looked at."""
    web.put({"f": source})
    web.bytes_per_s = 40.0 * MIB
    address = f"http://127.0.0.1:{web.port}/f"
    request = replace(request_for(address, device), checkpoint=str(tmp_path / "checkpoint"))
    came_bytes = cut_half_way(request)
    assert held(device, HEAD) == bytes(HEAD)
    before_bytes, web.bytes_per_s = web.sent_bytes, None
    seen = install(request)
    resumed_bytes = seen[-1].resumed_bytes
    assert came_bytes - 16 * MIB <= resumed_bytes <= came_bytes
    assert resumed_bytes > 0
    assert web.sent_bytes - before_bytes == len(IMAGE) - resumed_bytes
    assert held(device) == IMAGE
    later = [p for p in seen if p.phase not in {Phase.RESUMING, Phase.CONNECTING}]
    assert min(p.received_bytes for p in later) >= resumed_bytes
    assert [list(Phase).index(p.phase) for p in seen] == sorted(
        list(Phase).index(p.phase) for p in seen
    )


def test_an_object_that_has_changed_meanwhile_is_no_continuation(
    web: HttpServer, source: Path, device: str, tmp_path: Path
) -> None:
    """What was written is of no use, says the first try; the next one begins at the first byte."""
    web.put({"f": source})
    web.bytes_per_s = 40.0 * MIB
    address = f"http://127.0.0.1:{web.port}/f"
    request = replace(request_for(address, device), checkpoint=str(tmp_path / "checkpoint"))
    cut_half_way(request)
    web.bytes_per_s = None
    os.utime(source, (1, 1))
    with pytest.raises(StartOverError):
        install(request)
    assert held(device, HEAD) == bytes(HEAD)
    assert install(request)[-1].resumed_bytes == 0
    assert held(device) == IMAGE


def test_a_kill_after_the_last_byte_costs_no_more_than_one_before(
    source: Path, device: str, tmp_path: Path
) -> None:
    """Until it is closed nobody may have taken note that the image is complete."""
    request = replace(request_for(source, device), checkpoint=str(tmp_path / "checkpoint"))
    code = (
        "import os, sys\n"
        "from updater.core.ports import InstallRequest, Phase\n"
        "from updater.edge.pipeline import NativePipeline\n"
        "source, device, size, md5, checkpoint = sys.argv[1:]\n"
        "request = InstallRequest(source, device, int(size), md5, checkpoint=checkpoint)\n"
        "running = NativePipeline().open_install(request)\n"
        "while running.step(0.05).phase is not Phase.DONE:\n"
        "    pass\n"
        "os.kill(os.getpid(), 9)\n"
    )
    arguments = (source, device, str(len(IMAGE)), MD5, request.checkpoint)
    killed = subprocess.run([sys.executable, "-c", code, *arguments], check=False, cwd=REPO)
    assert killed.returncode == -9
    assert held(device) == IMAGE
    assert install(request)[-1].resumed_bytes >= len(IMAGE) - 16 * MIB
    assert install(request)[-1].resumed_bytes == 0
    assert held(device) == IMAGE


def test_a_url_that_expires_in_the_middle_can_be_replaced(
    web: HttpServer, source: Path, device: str, tmp_path: Path
) -> None:
    """It is told as such, and a fresh URL of the same object goes on where the old one ended."""
    web.put({"old": source, "fresh": source})
    web.bytes_per_s = 20.0 * MIB
    address = f"http://127.0.0.1:{web.port}"
    request = replace(
        request_for(f"{address}/old", device), attempts=2, checkpoint=str(tmp_path / "checkpoint")
    )
    with closing(NativePipeline().open_install(request)) as running:
        while running.step(0.01).received_bytes < 14 * MIB:
            pass
        web.put({"old": 403})
        web.cut()
        with pytest.raises(ForbiddenError):
            to_the_end(running)
    before_bytes, web.bytes_per_s = web.sent_bytes, None
    last = install(replace(request, source=f"{address}/fresh"))[-1]
    assert last.resumed_bytes > 0
    assert web.sent_bytes - before_bytes == len(IMAGE) - last.resumed_bytes
    assert held(device) == IMAGE


def test_a_connection_that_breaks_is_made_anew(web: HttpServer, source: Path, device: str) -> None:
    """Within one install, and counted."""
    web.put({"f": source})
    web.bytes_per_s = 40.0 * MIB
    request = replace(request_for(f"http://127.0.0.1:{web.port}/f", device), attempts=3)
    with closing(NativePipeline().open_install(request)) as running:
        while running.step(0.01).received_bytes < 4 * MIB:
            pass
        web.cut()
        assert to_the_end(running)[-1].retries == 1
    assert web.served == ["f", "f"]
    assert held(device) == IMAGE

# SPDX-License-Identifier: MIT
"""What the native pipeline leaves in its process: nothing, and while it runs no more than told."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from fds import descriptors
from pipelinecases import IMAGE, MIB, REPO, request_for, serving, to_the_end

from updater.core.errors import DeviceError, DigestError, NotFoundError
from updater.core.ports import InstallRequest
from updater.edge.pipeline import NativePipeline


def used() -> tuple[int, int, int]:
    """Return how many descriptors, threads and mappings this process has."""
    mappings = Path("/proc/self/maps").read_text().count("\n")
    return descriptors(), len(list(Path("/proc/self/task").iterdir())), mappings


def small_installs(folder: Path, url: str) -> Iterator[InstallRequest]:
    """Yield requests without end: 64 KiB to 2 MiB, files and URLs, good ones and bad ones."""
    number = 0
    while True:
        number += 1
        size = 1 << (16 + number % 6)
        source = folder / f"image-{size}"
        source.write_bytes(IMAGE[:size])
        md5 = hashlib.md5(IMAGE[:size], usedforsecurity=False).hexdigest()
        request = replace(
            request_for(source, folder / "slot"), size_bytes=size, md5=md5,
            buffer_bytes=65536, buffers=3, checkpoint=str(folder / "checkpoint"),
        )  # fmt: skip
        yield request
        yield replace(request, md5="0" * 32)
        yield replace(request, source=f"{url}/404")
        yield replace(request, source=str(folder / "nothing"))
        yield replace(request, sha256="")


def run_some(requests: Iterator[InstallRequest], count: int) -> int:
    """Run *count* installs, closing some in their middle, and return how many went well."""
    good = 0
    for number, request in zip(range(count), requests, strict=False):
        try:
            with closing(NativePipeline().open_install(request)) as running:
                if number % 7 != 3:
                    to_the_end(running)
                    good += 1
        except (DigestError, NotFoundError, DeviceError):
            pass
    return good


def test_a_thousand_installs_leave_nothing_behind(tmp_path: Path) -> None:
    """No thread, descriptor or mapping, however they ended."""
    with serving() as url:
        requests = small_installs(tmp_path, url)
        run_some(requests, 100)  # the allocator's arenas, the tables of libcurl and libcrypto
        before = used()
        assert run_some(requests, 1000) > 300
        files, threads, mappings = used()
    assert (files, threads) == before[:2]
    assert mappings <= before[2] + 2


MEASURE = """
import sys
from pathlib import Path
from updater.core.ports import InstallRequest, Phase
from updater.edge.pipeline import NativePipeline

def anonymous_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])

size = int(sys.argv[3])
running = NativePipeline().open_install(InstallRequest(sys.argv[1], sys.argv[2], size))
most = 0
while running.step(0.01).phase is not Phase.DONE:
    most = max(most, anonymous_kib())
print(most)
running.close()
"""


def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """The private memory of a process that installs, Python with it, is below 28 MiB and flat."""
    used_kib = []
    source = tmp_path / "image"
    with source.open("wb") as file:
        for size in (32 * MIB, 256 * MIB):
            while file.tell() < size:
                file.write(os.urandom(MIB))
            file.flush()
            command = [sys.executable, "-c", MEASURE, source, tmp_path / "slot", str(size)]
            used_kib.append(int(subprocess.check_output(command, cwd=REPO, timeout=120)))
    assert max(used_kib) <= 28 << 10
    assert abs(used_kib[1] - used_kib[0]) <= 1 << 10

# SPDX-License-Identifier: MIT
"""The engine's threads take the place among others that they are told to, and no other does."""

import ctypes
import gzip
import os
import platform
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from updater.core.ports import InstallRequest
from updater.edge.pipeline import NativePipeline

MIB = 1 << 20
IOPRIO_GET = {"x86_64": 252, "aarch64": 31}  # asm/unistd.h
BEST_EFFORT, IDLE = 2 << 13, 3 << 13


def tasks() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


@contextmanager
def waiting(
    folder: Path, nice: int, io_priority: int, beginning: bytes = b""
) -> Iterator[list[int]]:
    """Run an install that waits for its source, after *beginning*; yield the ids of its threads."""
    ours = tasks()
    source, end = os.pipe()
    saved = os.dup(0)
    os.dup2(source, 0)
    request = InstallRequest(
        source="-", device=str(folder / "target"), size_bytes=4 * MIB, md5="0" * 32,
        nice=nice, io_priority=io_priority,
    )  # fmt: skip
    try:
        with closing(NativePipeline().open_install(request)) as running:
            os.write(end, beginning)
            running.step(0.2)
            yield sorted(tasks() - ours)
    finally:
        os.dup2(saved, 0)
        for fileno in (source, end, saved):
            os.close(fileno)


def niceness(task: int) -> int:
    text = Path(f"/proc/self/task/{task}/stat").read_text()
    return int(text.rpartition(")")[2].split()[16])


def io_priority_of(task: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(IOPRIO_GET[platform.machine()], 1, task))


@pytest.mark.parametrize(
    ("io_priority", "expected"), [(0, BEST_EFFORT), (7, BEST_EFFORT | 7), (8, IDLE)]
)
def test_the_threads_stand_back(tmp_path: Path, io_priority: int, expected: int) -> None:
    """Niceness and the place in the queue of the disk are those of the request."""
    before = niceness(os.getpid())
    with waiting(tmp_path, 5, io_priority) as found:
        assert len(found) == 3
        assert {niceness(task) for task in found} == {min(19, before + 5)}
        assert {io_priority_of(task) for task in found} == {expected}
        assert niceness(os.getpid()) == before


def test_a_thread_that_another_one_starts_stands_back_no_further(tmp_path: Path) -> None:
    """Those that write what is unpacked are begun by one that stands back already."""
    before = niceness(os.getpid())
    archive = gzip.compress(random.Random(1).randbytes(2 * MIB))
    with waiting(tmp_path, 5, -1, archive) as found:
        assert len(found) == 6
        assert {niceness(task) for task in found} == {min(19, before + 5)}


def test_unasked_nothing_changes(tmp_path: Path) -> None:
    """The threads are as their process is."""
    with waiting(tmp_path, 0, -1) as found:
        assert {niceness(task) for task in found} == {niceness(os.getpid())}
        assert {io_priority_of(task) for task in found} == {io_priority_of(os.getpid())}

# SPDX-License-Identifier: MIT
"""Every call of a real ``updater write`` to a real block device, made to fail from outside.

strace makes the n-th call of its kind to the device fail, or claim success without having been
made; a preloaded library makes every transfer stop half-way. After each, the exit code is an error
and the slot cannot boot, or it is 0 and the device reads back right.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import MIB, Workshop, environment, head, loop_device, may_boot, md5

from board.emulator.cache import cached, run

pytestmark = pytest.mark.root

IMAGE = os.urandom(3 * MIB) + bytes(MIB) + os.urandom(MIB + 777)
OLD = b"\xa5" * 8 * MIB
CALLS = ["openat", "ioctl", "pwrite64", "pread64", "fdatasync", "close"]
ERRORS = ["EIO", "ENOSPC", "EINTR"]
SHIM = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/types.h>
#define BLOCK 4096
/* Half of what is asked for, in whole blocks, as a kernel may do it. */
static size_t half(size_t len)
{
	return len >= 2 * BLOCK ? len / 2 / BLOCK * BLOCK : len;
}
ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite64");
	return real(fd, buf, half(len), offset);
}
ssize_t pread64(int fd, void *buf, size_t len, off_t offset)
{
	ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread64");
	return real(fd, buf, half(len), offset);
}
"""


class Bench:
    """An image in a file, and a device that holds an old one."""

    def __init__(self, workshop: Workshop, device: str) -> None:
        self.device = Path(device)
        source = workshop.folder / "image"
        source.write_bytes(IMAGE)
        words = ["write", source, "--to", device, "--md5", md5(IMAGE), "--size", len(IMAGE)]
        self._command = workshop.command(*words)
        self._trace = workshop.folder / "trace"

    def run(self, *before: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Put the old image back, and write the new one with *before* in front of the command."""
        self.device.write_bytes(OLD)
        return subprocess.run(
            [*before, *self._command],
            capture_output=True, text=True, env=environment(**more), cwd="/", timeout=60,
            check=False,
        )  # fmt: skip

    def injected(self, call: str, n: int, what: str) -> "subprocess.CompletedProcess[str] | None":
        """Write with the *n*-th *call* to the device tampered with; None if there is none."""
        done = self.run(
            "strace", "-f", "-qq", "-P", str(self.device), "-o", str(self._trace),
            "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={n}",
        )  # fmt: skip
        return done if "(INJECTED)" in self._trace.read_text() else None

    def count(self, call: str) -> int:
        """Return how often one thread calls the device so, undisturbed: strace counts by thread."""
        self.run("strace", "-f", "-qq", "-P", str(self.device), "-o", str(self._trace),
                 "-e", f"trace={call}")  # fmt: skip
        threads = re.findall(rf"^(\d+) +{call}\(", self._trace.read_text(), re.MULTILINE)
        return max(Counter(threads).values())

    def holds(self) -> bytes:
        raw = head(self.device)
        with self.device.open("rb") as device:
            device.seek(MIB)
            return raw + device.read()


@pytest.fixture
def bench(workshop: Workshop) -> Iterator[Bench]:
    with loop_device(workshop.folder / "medium", 8 * MIB) as device:
        yield Bench(workshop, device)


def judge(bench: Bench, done: "subprocess.CompletedProcess[str]") -> None:
    """Hold what must be so after any failure."""
    held = bench.holds()
    if done.returncode == 0:
        assert held[: len(IMAGE)] == IMAGE
        return
    assert done.returncode in {15, 16, 17}, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not may_boot(held, OLD), "a slot that may boot"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_makes_no_half_image(bench: Bench, call: str, error: str) -> None:
    """Each call to the device, with each error, from the first to the last."""
    count = bench.count(call)
    assert count > 0
    for n in range(1, count + 1):
        done = bench.injected(call, n, f"error={error}")
        assert done is not None or n > count - 2, n  # how often depends a little on pace
        if done is not None:
            judge(bench, done)


def test_a_write_that_never_happened_is_found_out(bench: Bench) -> None:
    """The kernel claims success and nothing is on the medium: exit 17, and no head."""
    for n in range(1, bench.count("pwrite64") + 1):
        done = bench.injected("pwrite64", n, f"retval={MIB}")
        if done is None:
            continue
        judge(bench, done)
        if bench.holds()[: len(IMAGE)] != IMAGE:
            assert done.returncode == 17
            assert "does not hold what was written" in done.stderr


def test_transfers_may_stop_half_way(bench: Bench) -> None:
    """Every single one of them, in both directions."""

    def compile_shim(place: Path) -> None:
        (place / "shim.c").write_text(SHIM)
        run("gcc", "-shared", "-fPIC", "-o", place / "shim.so", place / "shim.c", "-ldl")

    shim = cached("half-transfers", (SHIM,), compile_shim) / "shim.so"
    done = bench.run(LD_PRELOAD=str(shim))
    assert done.returncode == 0, done.stderr
    assert bench.holds()[: len(IMAGE)] == IMAGE

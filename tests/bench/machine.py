# SPDX-License-Identifier: MIT
"""The machine that measures: what it is, how busy it is, and whether others disturb."""

import contextlib
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.run import Run

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_QUIET_S = 0.3  # without others' work for so long before each run
_NOISE = 0.05  # of one processor, used by others: a run with more is taken again
_ATTEMPTS = 3
_WAIT_S = 3.0  # for a quiet moment, before one run
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def description() -> str:
    """Return the machine in one line."""
    return f"{processor()}, {os.cpu_count()} processors, Linux {platform.release()}"


def version(package: str) -> str:
    """Return the version of a Debian package, or a dash: only the benchmark installs its peers."""
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout or "-"


def busy_s() -> float:
    """Return the seconds that the processors have worked since the start."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _, _, irq, soft, steal = map(int, fields[1:9])
    return (user + nice + system + irq + soft + steal) / _TICKS_PER_S


def _others_s() -> float:
    """Return the seconds that programs outside of this session have worked."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended; its time is its parent's now
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) != os.getsid(0) and not int(fields[6]) & _KERNEL_THREAD:
                ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


class Share:
    """How much of one processor others have used since construction."""

    def __init__(self) -> None:
        self._before_s, self._began_s = _others_s(), time.monotonic()

    def now(self) -> float:
        used_s = max(0.0, _others_s() - self._before_s)
        return used_s / max(time.monotonic() - self._began_s, 1e-3)


@dataclass
class Patience:
    """Takes a run again if others worked meanwhile, but not for ever.

    Args:
        left_s: What waiting and repeating may take in all; then everything is taken as it comes.
    """

    left_s: float

    def run(self, work: Callable[[], Run]) -> Run:
        """Return *work*'s least disturbed run, and how much others worked meanwhile."""
        best: Run | None = None
        for _ in range(_ATTEMPTS):
            self._wait()
            began_s, share = time.monotonic(), Share()
            run = work()
            run = replace(run, others=share.now())
            if best is None or run.others < best.others:
                best = run
            if best.others <= _NOISE or self.left_s <= 0:
                break
            self.left_s -= time.monotonic() - began_s
        assert best
        return best

    def _wait(self) -> None:
        end_s = time.monotonic() + min(_WAIT_S, self.left_s)
        while time.monotonic() < end_s:
            share = Share()
            time.sleep(_QUIET_S)
            if share.now() <= _NOISE:
                return
            self.left_s -= _QUIET_S


def is_noisy(run: Run) -> bool:
    """Tell whether others have used more than the bearable share of a processor."""
    return run.others > _NOISE

# SPDX-License-Identifier: MIT
"""One command, once: how long it took, and what it cost."""

import resource
import subprocess
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One command, once."""

    wall_s: float
    cpu_s: float  # user and system, of the command's whole tree
    others: float = 0.0  # processors that others used meanwhile
    said: str = ""


def run(words: list[str], expected: str = "") -> Run:
    """Run *words*, whose output must hold *expected*."""
    before_s, began_s = _children_s(), time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    wall_s, cpu_s = time.monotonic() - began_s, _children_s() - before_s
    if done.returncode != 0 or expected not in done.stdout:
        raise RuntimeError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return Run(wall_s, cpu_s, said=done.stdout)


def _children_s() -> float:
    """Return the seconds of all that this process has waited for, their children included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

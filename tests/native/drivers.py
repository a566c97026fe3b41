# SPDX-License-Identifier: MIT
"""Builds a part of the engine alone between a driver and a fake kernel, and asks it one thing."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sanitized import FLAGS, NATIVE, OPTIONS, SANITIZERS, Status

from board.emulator.cache import cached, run

HERE = Path(__file__).parent
HEADERS = sorted([*NATIVE.glob("*.h"), *HERE.glob("*.h")])
MOST_CALLS = 400  # of one kind, in one run
Orders = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What one run came to: the driver's lines; what is not named here is a number."""

    said: Mapping[str, str]

    def __getattr__(self, name: str) -> int:
        return int(self.said[name])

    @property
    def result(self) -> Status:
        return Status(self.status)

    @property
    def message(self) -> str:
        return self.said["message"]

    @property
    def was_cut(self) -> bool:
        """Whether the power went, so that nothing could be put in order."""
        return "cut" in self.said


RunT = TypeVar("RunT", bound=Run)


def build(name: str, ours: Sequence[str], parts: Sequence[str], *libraries: str) -> Path:
    """Return a driver under AddressSanitizer.

    Args:
        name: The driver's.
        ours: Its files here; their ``__wrap_`` functions stand in the C library's place.
        parts: The engine's files.
        libraries: What to link.
    """
    files = [*(HERE / f"{file}.c" for file in ours), *(NATIVE / f"{part}.c" for part in parts)]

    def compile_all(place: Path) -> None:
        faked = sorted(set(re.findall(r"__wrap_(\w+)\(", "".join(f.read_text() for f in files))))
        wraps = [f"-Wl,--wrap={function}" for function in faked]
        words = [*FLAGS, *SANITIZERS["address"], f"-I{NATIVE}", f"-I{HERE}", *files]
        run("gcc", *words, *wraps, "-o", place / name, *libraries)

    inputs = (FLAGS, SANITIZERS["address"], libraries, *files, *HEADERS)
    return cached(f"{name}-address", inputs, compile_all) / name


def ask(program: Path, **orders: object) -> Mapping[str, str]:
    """Run the driver once, and return its lines; a finding of the sanitizer fails the test.

    Args:
        program: The driver.
        orders: What the driver and its kernel are told; None leaves one out.
    """
    words = [f"{key}={value}" for key, value in orders.items() if value is not None]
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, timeout=60,
        env=os.environ | OPTIONS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def each(attempt: Callable[[str], RunT], fault: str) -> Iterator[RunT]:
    """Attempt with the fault at the first, second, … call, as long as there is such a call."""
    for n in range(1, MOST_CALLS):
        made = attempt(fault.format(n))
        if not made.happened:
            assert n > 1
            return
        yield made
    pytest.fail("it never ended")

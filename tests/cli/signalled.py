# SPDX-License-Identifier: MIT
"""Runs ``updater`` again and again, each time with a SIGINT at another line of its own code.

    signalled.py FILE DEVICE SWITCH updater's arguments ...

That is at every line, each once, that is reached while signals are kept. FILE is put back on DEVICE
before each run, and what protects DEVICE is SWITCH. On stdout one object of JSON per run.
"""

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from types import FrameType
from typing import Any

import updater
from updater.cli import main

OURS = str(Path(updater.__file__).parent)
BORROWED = "contextlib.py"  # where closing and its like are


class Shot:
    """One signal, at the n-th line that was not seen before in this run."""

    def __init__(self, n: int) -> None:
        self._left = n
        self._seen: set[tuple[str, int]] = set()
        self.place = ""

    def trace(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        """Follow calls into our own code, and what it borrows."""
        file = frame.f_code.co_filename
        return self._line if file.startswith(OURS) or file.endswith(BORROWED) else None

    def _line(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        place = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and not self.place and place not in self._seen and _are_kept():
            self._seen.add(place)
            self._left -= 1
            if self._left == 0:
                self.place = f"{Path(place[0]).name}:{place[1]} {frame.f_code.co_name}"
                signal.raise_signal(signal.SIGINT)
        return self._line


def _are_kept() -> bool:
    return signal.getsignal(signal.SIGINT) not in {signal.default_int_handler, signal.SIG_IGN}


def _threads() -> list[str]:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if name.startswith("upd-")]


def run(n: int, file: Path, device: str, switch: Path, arguments: list[str]) -> dict[str, Any]:
    """Run once, with a signal at the n-th line."""
    Path(device).write_bytes(file.read_bytes())
    shot, said = Shot(n), io.StringIO()
    with redirect_stderr(said):
        sys.settrace(shot.trace)
        try:
            code = main(arguments)
        finally:
            sys.settrace(None)
    fileno = os.open(device, os.O_RDONLY)
    try:
        os.posix_fadvise(fileno, 0, 0, os.POSIX_FADV_DONTNEED)
        head = os.read(fileno, 4096)
    finally:
        os.close(fileno)
    return {
        "place": shot.place,
        "code": code,
        "said": said.getvalue(),
        "threads": _threads(),
        "protection": switch.read_text().strip(),
        "head": head.hex(),
    }


if __name__ == "__main__":
    paths, words = sys.argv[1:4], sys.argv[4:]
    for number in range(1, 10_000):
        found = run(number, Path(paths[0]), paths[1], Path(paths[2]), words)
        if not found["place"]:
            break
        print(json.dumps(found), file=sys.__stdout__, flush=True)

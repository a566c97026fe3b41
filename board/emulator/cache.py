# SPDX-License-Identifier: MIT
"""Keeps what was built or downloaded, outside of the sources, under the hash of what it came from.

A result is built in a folder of its own and gets its name when it is complete: a build that is cut
leaves nothing that a later one could take for whole. Two processes never build the same thing.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(os.environ.get("UPDATER_CACHE") or Path.home() / ".cache" / "updater")
_KEPT = 4  # results of one name: what a change of the sources has left behind is dropped


def cached(name: str, inputs: tuple[object, ...], build: Callable[[Path], None]) -> Path:
    """Return the folder that *build* has filled, now or earlier.

    Args:
        name: What it is, for people and for the folder's name.
        inputs: Everything that the result depends on; paths count by their content.
        build: Fills the empty folder that it is given.
    """
    digest = hashlib.sha256()
    for item in inputs:
        digest.update(item.read_bytes() if isinstance(item, Path) else repr(item).encode())
        digest.update(b"\0")
    ROOT.mkdir(parents=True, exist_ok=True)
    place = ROOT / f"{name}-{digest.hexdigest()[:12]}"
    if place.is_dir():
        os.utime(place)
        return place
    with (ROOT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            growing = ROOT / f"{place.name}.part"
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir()
            with _told(f"building {name}"):
                build(growing)
            growing.rename(place)
            _prune(name)
    return place


def _prune(name: str) -> None:
    """Drop all but the newest results of *name*."""
    digest = "[0-9a-f]" * 12
    results = sorted(ROOT.glob(f"{name}-{digest}"), key=lambda path: path.stat().st_mtime)
    for old in results[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Say that *what* goes on, how long it takes on a terminal, and how long it took."""
    began_s = time.monotonic()
    is_over = threading.Event()

    def tick() -> None:
        while not is_over.wait(1.0):
            print(f"\r{what} … {time.monotonic() - began_s:.0f} s", end="", file=sys.stderr)

    ticker = threading.Thread(target=tick, daemon=True)
    if sys.stderr.isatty():
        ticker.start()
    else:
        print(f"{what} …", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        is_over.set()
        if ticker.is_alive():
            ticker.join()
    start = "\r" if sys.stderr.isatty() else ""
    print(f"{start}{what}: done in {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run *command* and return its output; show all that it said if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        tail = output[-4000:]
        raise RuntimeError(f"{' '.join(words[:6])} … ended with {done.returncode}:\n{tail}")
    return output

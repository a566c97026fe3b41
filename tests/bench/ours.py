# SPDX-License-Identifier: MIT
"""``updater write``, as one types it: Python's start is part of what is measured."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.run import Run, run
from bench.stage import Device, Image

_SAMPLE_S = 0.005


def command(image: Image, device: Device, *options: str, url: str = "") -> list[str]:
    """Return the command that writes *image* to *device*."""
    words = [sys.executable, "-m", "updater", "write", url or image.url, "--to", device.path]
    words += ["--md5", image.md5, "--size", str(image.size), "--allow-plaintext", "--json"]
    return [*words, *options]


def write(image: Image, device: Device, *options: str) -> Run:
    return run(command(image, device, *options), expected=image.md5)


def zeroed_bytes(done: Run) -> int:
    """Return what the command says that it wrote by the kernel's own zeroing."""
    return int(json.loads(done.said)["zeroed_bytes"])


@dataclass(frozen=True)
class Memory:
    """The most that the process held at once, in MiB."""

    anon: float  # private: what the machine has less
    rss: float  # with the libraries' files
    pss: float  # the same, shared pages by their share


def memory(image: Image, device: Device) -> Memory:
    """Return what one run holds; it is not timed."""
    peaks = [0.0, 0.0, 0.0]
    words = command(image, device)
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peaks = [max(*pair) for pair in zip(peaks, _held(process.pid), strict=True)]
            time.sleep(_SAMPLE_S)
    if process.returncode != 0:
        raise RuntimeError(f"{words}: {process.returncode}")
    return Memory(*peaks)


def _held(pid: int) -> list[float]:
    """Return RssAnon, RSS and PSS in MiB."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return [0.0, 0.0, 0.0]
    return [_kib(status, "RssAnon:"), _kib(rollup, "Rss:"), _kib(rollup, "Pss:")]


def _kib(text: str, name: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0

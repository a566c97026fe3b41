# SPDX-License-Identifier: MIT
"""What a slow medium or a slow network costs: the time of the slowest stage, never the sum.

The medium is held down by the kernel's own throttling (blkio of cgroup v1), the network by nginx.
What each stage takes alone is measured too, by dd and curl under the same limits.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import ours
from bench.run import Run, run
from bench.stage import MIB, Device, Image, Stage, loop_device

_SIZE = 256 * MIB
RATE_BYTES = 64 * MIB  # a second, of whatever is slow
_FAST_READS = 1 << 40
_CONTROLLER = Path("/sys/fs/cgroup/blkio")


@dataclass(frozen=True)
class Slow:
    """One case."""

    name: str
    alone_s: float  # the slowest stage
    wall_s: float  # the whole


def slow(stage: Stage) -> list[Slow]:
    """Return every case that this machine can make."""
    image = stage.image("slow-image", _SIZE)
    with loop_device(_SIZE) as device:
        cases = [_network(image, device)]
        if (_CONTROLLER / "blkio.throttle.write_bps_device").exists():
            cases += _medium(image, device)
        device.check(image)
    return cases


def _network(image: Image, device: Device) -> Slow:
    alone = _download(image)
    whole = run(ours.command(image, device, url=image.slow_url))
    return Slow("network at 64 MiB/s", alone.wall_s, whole.wall_s)


def _download(image: Image) -> Run:
    return run(["curl", "-s", "-o", "/dev/null", image.slow_url])


def _medium(image: Image, device: Device) -> list[Slow]:
    with _throttled(device, RATE_BYTES, _FAST_READS) as group:
        writing = _within(group, _copy(image.path, device.path, "oflag=direct")).wall_s
        cases = [_whole("medium writes at 64 MiB/s", writing, group, image, device)]
        slowest = max(writing, _download(image).wall_s)
        words = ours.command(image, device, url=image.slow_url)
        whole_s = _within(group, words).wall_s
        cases.append(Slow("network and medium at 64 MiB/s", slowest, whole_s))
    with _throttled(device, RATE_BYTES, RATE_BYTES) as group:
        reading = _within(group, _copy(device.path, "/dev/null", "iflag=direct")).wall_s
        slowest = max(writing, reading)
        name = "medium writes and reads at 64 MiB/s each"
        cases.append(_whole(name, slowest, group, image, device))
    return cases


def _whole(name: str, alone_s: float, group: Path, image: Image, device: Device) -> Slow:
    return Slow(name, alone_s, _within(group, ours.command(image, device)).wall_s)


def _copy(source: Path | str, target: str, flag: str) -> list[str]:
    return ["dd", f"if={source}", f"of={target}", "bs=1M", flag, "status=none"]


@contextlib.contextmanager
def _throttled(device: Device, write_bytes: int, read_bytes: int) -> Iterator[Path]:
    """Give a control group in which *device* is slow; bytes are those of a second."""
    group = _CONTROLLER / f"updater-bench-{os.getpid()}"
    group.mkdir()
    try:
        for name, rate in (("write", write_bytes), ("read", read_bytes)):
            setting = f"{device.number} {rate}"
            (group / f"blkio.throttle.{name}_bps_device").write_text(setting)
        yield group
    finally:
        group.rmdir()


def _within(group: Path, words: list[str]) -> Run:
    """Run *words* in the control group."""
    script = f'echo $$ >{group}/cgroup.procs; exec "$@"'
    return run(["sh", "-ec", script, "sh", *words])


def unthrottled_cases() -> str:
    """Say what could not be measured here, or nothing."""
    is_there = (_CONTROLLER / "blkio.throttle.write_bps_device").exists()
    return "" if is_there else "no blkio controller of cgroup v1: a slow medium was not measured"

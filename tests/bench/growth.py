# SPDX-License-Identifier: MIT
"""Whether time grows with the image, and memory does not."""

from dataclasses import dataclass
from functools import partial

from bench import ours
from bench.contenders import MD5, ON, Contender
from bench.machine import Patience
from bench.rounds import median_run
from bench.run import Run, run
from bench.stage import MIB, Stage, loop_device

SIZES_MIB = (64, 256, 1024, 4096)
_RUNS = 3


@dataclass(frozen=True)
class Size:
    """What one size took; memory is None where it was not looked at."""

    mib: int
    write: Run
    md5: Run
    memory: ours.Memory | None


def growth(stage: Stage, patience: Patience) -> list[Size]:
    """Return all sizes, each on a device of its own size."""
    return [_measure(stage, mib, patience) for mib in SIZES_MIB]


def _measure(stage: Stage, mib: int, patience: Patience) -> Size:
    image = stage.image(f"image{mib}", mib * MIB)
    with loop_device(image.size) as device:
        md5 = Contender(f"{MD5}, {mib} MiB", partial(run, ["openssl", "md5", str(image.path)]))
        write = Contender(f"{ON}, {mib} MiB", partial(ours.write, image, device))
        wrote, hashed = (median_run(patience, each, _RUNS) for each in (write, md5))
        is_end = mib in {SIZES_MIB[0], SIZES_MIB[-1]}
        memory = ours.memory(image, device) if is_end else None
        device.check(image)
    image.path.unlink()
    return Size(mib, wrote, hashed, memory)


def line(sizes: list[Size], *, of_cpu: bool = False) -> tuple[float, float, float]:
    """Return seconds at nothing, seconds per GiB, and the largest distance from that line.

    The line goes through the smallest and the largest size; the distance is a part of the time.
    """
    points = [(size.mib, size.write.cpu_s if of_cpu else size.write.wall_s) for size in sizes]
    (first_mib, first_s), (last_mib, last_s) = points[0], points[-1]
    slope = (last_s - first_s) / (last_mib - first_mib)
    base = first_s - slope * first_mib
    distances = [abs(seconds / (base + slope * mib) - 1) for mib, seconds in points]
    return base, slope * 1024, max(distances)

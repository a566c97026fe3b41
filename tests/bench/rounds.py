# SPDX-License-Identifier: MIT
"""The contenders in turn, round after round; ratios are taken within one round."""

import statistics
import sys
from collections.abc import Sequence

from bench.contenders import Contender
from bench.machine import Patience
from bench.run import Run
from bench.stage import Device, Image

Round = dict[str, Run]


def rounds(
    contenders: Sequence[Contender], image: Image, device: Device, count: int, patience: Patience
) -> list[Round]:
    """Return *count* rounds; one more goes before them, warms up and does not count."""
    taken = []
    for number in range(count + 1):
        runs = {}
        for contender in contenders:
            if contender.writes:
                device.fill("/dev/zero", image.size)
            runs[contender.name] = patience.run(contender.run)
            if contender.writes:
                device.check(image)
            tell(f"{number}: {contender.name}", runs[contender.name])
        taken.append(runs)
    return taken[1:]


def tell(name: str, run: Run) -> None:
    """Say on standard error how far it is."""
    print(f"{name}: {run.wall_s:.2f} s, others {run.others:.2f}", file=sys.stderr, flush=True)


def median_run(patience: Patience, work: Contender, count: int) -> Run:
    """Return the median of *count* runs by their time."""
    runs = sorted((patience.run(work.run) for _ in range(count)), key=lambda run: run.wall_s)
    tell(work.name, runs[count // 2])
    return runs[count // 2]


def ratio(taken: list[Round], above: str, below: str, *, of_cpu: bool = False) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(
        _cost(runs[above], of_cpu=of_cpu) / _cost(runs[below], of_cpu=of_cpu) for runs in taken
    )


def _cost(run: Run, *, of_cpu: bool) -> float:
    return run.cpu_s if of_cpu else run.wall_s

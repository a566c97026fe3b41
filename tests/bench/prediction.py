# SPDX-License-Identifier: MIT
"""When devices would be back by ``core.backoff`` alone: no network, no processor, no broker."""

import random
from dataclasses import dataclass

from updater.core.backoff import Backoff

PARTS = (0.5, 0.95, 1.0)  # of the devices
_FLEETS = 100
_SEED = 1
_LONG_AGO_S = -3600.0


@dataclass(frozen=True)
class Prediction:
    """What becomes of many fleets.

    Attributes:
        times_s: When a device of any of them is back, sorted, seconds after the broker.
        typical_s: For each of PARTS, when it is reached in the median fleet.
        latest_s: The same in the slowest fleet.
    """

    times_s: list[float]
    typical_s: list[float]
    latest_s: list[float]


def predict(away_s: float, count: int) -> Prediction:
    """Predict fleets of *count* devices that have lost a broker for *away_s*."""
    draw = random.Random(_SEED)
    fleets = [sorted(_back_s(away_s, draw) for _ in range(count)) for _ in range(_FLEETS)]
    reached = [sorted(part_s(fleet, part) for fleet in fleets) for part in PARTS]
    return Prediction(
        sorted(time_s for fleet in fleets for time_s in fleet),
        [times[_FLEETS // 2] for times in reached],
        [times[-1] for times in reached],
    )


def part_s(times_s: list[float], part: float) -> float:
    """Return when *part* of the devices is back; *times_s* are sorted."""
    return times_s[max(round(len(times_s) * part) - 1, 0)]


def _back_s(away_s: float, draw: random.Random) -> float:
    """Return when one device's attempt succeeds, seconds after the broker is back."""
    backoff = Backoff(_LONG_AGO_S, draw.uniform)
    backoff.began(_LONG_AGO_S)
    backoff.connected(_LONG_AGO_S)
    backoff.lost(0.0, is_ended_by_broker=True)
    while backoff.due_s < away_s:
        now_s = backoff.due_s
        backoff.began(now_s)
        backoff.lost(now_s, is_ended_by_broker=False)  # refused at once: nobody listens
    return backoff.due_s - away_s

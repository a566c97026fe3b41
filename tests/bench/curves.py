# SPDX-License-Identifier: MIT
"""Draws how many devices are back over the seconds since the broker is, measured and predicted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.plot import label, rule, svg

_WIDTH, _HEIGHT = 1000.0, 520.0
_LEFT, _RIGHT, _TOP, _FLOOR = 80.0, 40.0, 60.0, 460.0
_COLOURS = ("#2f6fde", "#c2571a", "#2a8f5b")
_SAMPLES = 200  # of a curve: more than one sees
_STEP_S = 10
_TENTHS = 10


@dataclass(frozen=True)
class Curve:
    """One restart: when devices were back, and when they were to be; both sorted, seconds.

    Those that never were are infinity.
    """

    name: str
    times_s: Sequence[float]
    predicted_s: Sequence[float]


def picture(curves: Sequence[Curve], note: str = "") -> str:
    """Return all of them as one SVG; a *note* says what to beware of."""
    finite = (time_s for curve in curves for time_s in curve.times_s if time_s < math.inf)
    most_s = max(finite, default=_STEP_S)
    most_s = _STEP_S * (int(most_s / _STEP_S) + 1)

    def place(time_s: float, part: float) -> tuple[float, float]:
        width = _WIDTH - _LEFT - _RIGHT
        return _LEFT + time_s / most_s * width, _FLOOR - part * (_FLOOR - _TOP)

    title = "devices back, per cent, over seconds since the broker is back; dashed: predicted"
    parts = [label(20, 30, title, "start", ' font-weight="bold"')]
    parts.append(label(_WIDTH - 20, _FLOOR + 45, note, "end"))
    for time_s in range(0, most_s + 1, _STEP_S):
        x, y = place(time_s, 0)
        parts += [rule((x, y), place(time_s, 1)), label(x, y + 20, str(time_s))]
    for tenth in range(0, _TENTHS + 1, 2):
        x, y = place(0, tenth / _TENTHS)
        parts += [rule((x, y), place(most_s, tenth / _TENTHS))]
        parts += [label(x - 8, y + 4, f"{tenth * 10}", "end")]
    for number, curve in enumerate(curves):
        colour = _COLOURS[number]
        measured, predicted = _steps(curve.times_s, most_s), _steps(curve.predicted_s, most_s)
        dashes = ' stroke-dasharray="6 4" opacity="0.7"'
        parts.append(_line([place(*point) for point in predicted], colour, dashes))
        parts.append(_line([place(*point) for point in measured], colour, ""))
        place_y = _FLOOR - 20 - 22 * (len(curves) - number)
        more = f' fill="{colour}" font-weight="bold"'
        parts.append(label(_WIDTH - _RIGHT - 20, place_y, curve.name, "end", more))
    return svg(_WIDTH, _HEIGHT, parts)


def _steps(times_s: Sequence[float], most_s: float) -> list[tuple[float, float]]:
    """Return points of the part that is back, up to *most_s*."""
    count = len(times_s)
    places = sorted({round(number * (count - 1) / _SAMPLES) for number in range(_SAMPLES + 1)})
    points = [(times_s[at], (at + 1) / count) for at in places if times_s[at] <= most_s]
    points.insert(0, (0.0, 0.0))
    return [*points, (most_s, points[-1][1])]


def _line(places: Sequence[tuple[float, float]], colour: str, more: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{more}/>'

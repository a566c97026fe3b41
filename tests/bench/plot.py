# SPDX-License-Identifier: MIT
"""Draws the benchmark's figures: bars of the contenders, and lines over the size of the image."""

from collections.abc import Callable, Sequence
from html import escape

_INK, _GRID = "#1f2933", "#d5dbe1"
_COLOURS = {"ours": "#2f6fde", "others": "#9aa5b1"}
_LINES = ("#2f6fde", "#9aa5b1")
_WIDTH, _ROW, _LEFT, _TOP = 1000, 30, 250, 60
_PANEL, _FLOOR = 300.0, 60.0  # of the lines: height, and the room below

Bar = tuple[str, float, bool]  # name, seconds, whether it is ours
Place = Callable[[float, float], tuple[float, float]]
Line = tuple[str, Sequence[tuple[float, float]]]  # name, (GiB, seconds)...


def picture(bars: Sequence[Bar], lines: Sequence[Line], note: str = "") -> str:
    """Return both as one SVG; a *note* says what to beware of."""
    top = _TOP + len(bars) * _ROW + 70
    height = top + _PANEL + _FLOOR
    parts = [*_bars(bars), *_lines(lines, top), label(_WIDTH - 20, 30, note, "end")]
    return svg(_WIDTH, height, parts)


def svg(width: float, height: float, parts: Sequence[str]) -> str:
    """Return *parts* on white."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'font-family="sans-serif" font-size="13" fill="{_INK}">\n'
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _bars(bars: Sequence[Bar]) -> list[str]:
    longest = max(seconds for _, seconds, _ in bars)
    parts = [label(20, 30, "1 GiB, seconds (median)", "start", ' font-weight="bold"')]
    for number, (name, seconds, is_ours) in enumerate(bars):
        y, length = _TOP + number * _ROW, seconds / longest * (_WIDTH - _LEFT - 80)
        colour = _COLOURS["ours" if is_ours else "others"]
        parts += [
            label(_LEFT - 8, y + 14, name, "end"),
            f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="20" fill="{colour}"/>',
            label(_LEFT + length + 8, y + 14, f"{seconds:.2f}", "start"),
        ]
    return parts


def _lines(lines: Sequence[Line], top: float) -> list[str]:
    most_x = max(x for _, points in lines for x, _ in points)
    most_y = max(y for _, points in lines for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        width = _WIDTH - 2 * 80
        return 80 + x / most_x * width, top + _PANEL - y / most_y * (_PANEL - 20)

    title = "seconds over the image's size in GiB"
    parts = [label(20, top - 20, title, "start", ' font-weight="bold"')]
    parts += _axes(place, most_x, most_y)
    for number, (name, points) in enumerate(lines):
        parts += _one_line(name, [place(*point) for point in points], _LINES[number], number)
    return parts


def _axes(place: Place, most_x: float, most_y: float) -> list[str]:
    parts = []
    for x in range(int(most_x) + 1):
        parts += [rule(place(x, 0), place(x, most_y)), label(*_below(place(x, 0)), str(x))]
    step = max(1, round(most_y / 6))
    for y in range(0, int(most_y) + 1, step):
        left = place(0, y)
        parts += [rule(left, place(most_x, y)), label(left[0] - 8, left[1] + 4, str(y), "end")]
    return parts


def _one_line(
    name: str, places: Sequence[tuple[float, float]], colour: str, number: int
) -> list[str]:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    first_y = min(y for _, y in places) + 20 * number
    return [
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places),
        label(110, first_y + 20, name, "start", f' fill="{colour}" font-weight="bold"'),
    ]


def _below(place: tuple[float, float]) -> tuple[float, float]:
    return place[0], place[1] + 20


def rule(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return a thin line behind what is drawn."""
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_GRID}"/>'


def label(x: float, y: float, line: str, anchor: str = "middle", more: str = "") -> str:
    """Return a line of text, *more* being further attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(line)}</text>'

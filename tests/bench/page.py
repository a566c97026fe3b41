# SPDX-License-Identifier: MIT
"""The tables: what was measured, each target beside it, and whether it is met."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.contenders import MD5, OFF, ON, PIPE, RAUC, SWUPDATE
from bench.growth import Size, line
from bench.plot import picture
from bench.rounds import Round, ratio
from bench.run import Run
from bench.slow import Slow, unthrottled_cases
from bench.sparing import Spared

_BEGIN = "<!-- figures: written by the benchmark -->\n"
_END = "<!-- end of figures -->\n"
_ANON_LIMIT_MIB = 28
_DOUBT = (
    "**Most of these runs were disturbed: the verdicts on time prove nothing, neither yes nor no.**"
    "\nThose on processor time are steadier."
)
_SPARED_LIMIT = 0.55
_SLOW_LIMIT = 1.10


@dataclass(frozen=True)
class Figures:
    """All that one run of the benchmark has measured."""

    rounds: list[Round]
    sizes: list[Size]
    spared: list[Spared]
    slow: list[Slow]
    size_mib: int

    def runs(self) -> list[Run]:
        of_sizes = [run for size in self.sizes for run in (size.write, size.md5)]
        return [run for taken in self.rounds for run in taken.values()] + of_sizes

    def is_doubtful(self) -> bool:
        """Tell whether others have disturbed more than half of the runs."""
        runs = self.runs()
        return sum(map(machine.is_noisy, runs)) * 2 > len(runs)


def text(figures: Figures) -> str:
    """Return what stands between the page's marks."""
    parts = [
        _conditions(figures),
        "### One GiB, in turn" if figures.size_mib == 1024 else f"### {figures.size_mib} MiB",
        _contenders(figures),
        "### Targets",
        _targets(figures),
        "### Growth and memory",
        _growth(figures.sizes),
        "### What is not written",
        _spared(figures.spared),
        "### Slow media and networks",
        _slow(figures.slow),
    ]
    return "\n\n".join(parts) + "\n"


def insert(page: Path, figures: Figures) -> None:
    """Put *figures* between the page's two marks, its picture beside it; leave the rest alone."""
    put(page, text(figures), _picture(figures))


def put(page: Path, words: str, drawn: str) -> None:
    """Put *words* between the page's two marks, and what is *drawn* beside it."""
    before, _, rest = page.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    page.write_text(f"{before}{_BEGIN}\n{words}\n{_END}{after}")
    page.with_suffix(".svg").write_text(drawn)


def _picture(figures: Figures) -> str:
    names = [MD5, OFF, ON, PIPE, SWUPDATE, RAUC]
    bars = [
        (name.replace("`", ""), _median(figures.rounds, name), name in {OFF, ON}) for name in names
    ]
    lines = [
        (ON.replace("`", ""), [(s.mib / 1024, s.write.wall_s) for s in figures.sizes]),
        (MD5.replace("`", ""), [(s.mib / 1024, s.md5.wall_s) for s in figures.sizes]),
    ]
    return picture(bars, lines, "on a disturbed machine" if figures.is_doubtful() else "")


def _conditions(figures: Figures) -> str:
    runs = figures.runs()
    noisy = [run for run in runs if machine.is_noisy(run)]
    worst = max(run.others for run in runs)
    mean = statistics.fmean(run.others for run in runs)
    noise = f"{len(noisy)} of {len(runs)} runs stayed noisier than a twentieth of a processor"
    peers = ", ".join(
        f"{name} {machine.version(name)}" for name in ("swupdate", "rauc", "nginx", "openssl")
    )
    return "\n".join([
        f"- machine: {machine.description()}",
        "- image: random bytes in memory (tmpfs), from nginx on the loopback; medium: a loop",
        "  device on tmpfs, which every contender must have left with the image",
        f"- {len(figures.rounds)} rounds, contenders in turn, medians; {peers}",
        f"- noise: {noise}; others used {mean:.2f} processors on average, {worst:.2f} at most",
        "- command: `make bench`",
    ])  # fmt: skip


def _contenders(figures: Figures) -> str:
    rows = []
    for name in figures.rounds[0]:
        runs = [taken[name] for taken in figures.rounds]
        walls = [run.wall_s for run in runs]
        median_s = statistics.median(walls)
        rows.append((
            name, f"{median_s:.2f}", f"{min(walls):.2f} to {max(walls):.2f}",
            f"{figures.size_mib / median_s:.0f}", f"{ratio(figures.rounds, name, MD5):.2f}",
            f"{statistics.median(run.cpu_s for run in runs):.2f}",
        ))  # fmt: skip
    return table(("", "wall s", "range s", "MiB/s", "of `openssl md5`", "CPU s"), rows)


def _targets(figures: Figures) -> str:
    """Return the verdicts; those on time are doubted if most runs were disturbed."""
    rounds = figures.rounds
    found = table(
        ("", "target", "read-back off", "met", "read-back on", "met"),
        [
            _at_most("time, of `openssl md5`", 1.05, _first(rounds, OFF), None),
            _at_most("the same with read-back", 1.25, None, _first(rounds, ON)),
            _at_least(f"times faster than {PIPE}", 1.5, rounds, PIPE),
            _at_least("times faster than swupdate", 1.5, rounds, SWUPDATE),
            _at_least("times faster than rauc", 2.0, rounds, RAUC),
            _less_cpu("CPU, of swupdate's", rounds, SWUPDATE),
            _less_cpu("CPU, of rauc's", rounds, RAUC),
        ],
    )
    return f"{found}\n\n{_DOUBT}" if figures.is_doubtful() else found


def _first(rounds: list[Round], name: str) -> float:
    return ratio(rounds, name, MD5)


def _at_most(
    name: str, limit: float, off: float | None, on: float | None, sign: str = "≤"
) -> tuple[str, ...]:
    cells = [
        ("", "") if value is None else (f"{value:.2f}", verdict(value <= limit))
        for value in (off, on)
    ]
    return (name, f"{sign} {limit:.2f}", *cells[0], *cells[1])


def _at_least(name: str, limit: float, rounds: list[Round], peer: str) -> tuple[str, ...]:
    off, on = ratio(rounds, peer, OFF), ratio(rounds, peer, ON)
    cells = (f"{off:.2f}", verdict(off >= limit), f"{on:.2f}", verdict(on >= limit))
    return (name, f"≥ {limit:.1f}", *cells)


def _less_cpu(name: str, rounds: list[Round], peer: str) -> tuple[str, ...]:
    off, on = (ratio(rounds, ours, peer, of_cpu=True) for ours in (OFF, ON))
    return _at_most(name, 1.0, off, on, "<")


def _growth(sizes: list[Size]) -> str:
    rows = [
        (
            str(size.mib), f"{size.write.wall_s:.2f}", f"{size.write.cpu_s:.2f}",
            f"{size.md5.wall_s:.2f}", *_memory(size),
        )
        for size in sizes
    ]  # fmt: skip
    walls, cpus = _line(sizes), _line(sizes, of_cpu=True)
    anon = max(size.memory.anon for size in sizes if size.memory)
    names = ("MiB", f"{ON} s", "CPU s", f"{MD5} s", "RssAnon MiB", "RSS MiB", "PSS MiB")
    return "\n".join([
        table(names, rows),
        "",
        f"Time: {walls}. Processor time: {cpus}.",
        f"Private memory peaked at {anon:.1f} MiB, Python included; target: ≤ {_ANON_LIMIT_MIB};"
        f" met: {verdict(anon <= _ANON_LIMIT_MIB)}.",
    ])  # fmt: skip


def _line(sizes: list[Size], *, of_cpu: bool = False) -> str:
    base_s, slope_s, away = line(sizes, of_cpu=of_cpu)
    return f"{base_s:.2f} s and {slope_s:.2f} s per GiB, every size within {away:.0%} of it"


def _memory(size: Size) -> Iterable[str]:
    peaks = size.memory
    return (f"{peaks.anon:.1f}", f"{peaks.rss:.1f}", f"{peaks.pss:.1f}") if peaks else ("",) * 3


def _spared(spared: list[Spared]) -> str:
    rows = [
        (each.name, f"{each.written:.3f}", f"≤ {_SPARED_LIMIT}",
         verdict(each.written <= _SPARED_LIMIT), each.how)
        for each in spared
    ]  # fmt: skip
    return table(("256 MiB", "written, of the image", "target", "met", "counted"), rows)


def _slow(cases: list[Slow]) -> str:
    rows = [
        (
            case.name, f"{case.alone_s:.2f}", f"{case.wall_s:.2f}",
            f"{case.wall_s / case.alone_s:.2f}", f"≤ {_SLOW_LIMIT:.2f}",
            verdict(case.wall_s <= case.alone_s * _SLOW_LIMIT),
        )
        for case in cases
    ]  # fmt: skip
    found = table(("256 MiB", "slowest stage alone s", "whole s", "ratio", "target", "met"), rows)
    return f"{found}\n{missing}" if (missing := unthrottled_cases()) else found


def _median(rounds: list[Round], name: str) -> float:
    return statistics.median(taken[name].wall_s for taken in rounds)


def verdict(is_met: bool) -> str:
    """Return whether a target is met, for a table."""
    return "yes" if is_met else "**no**"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers to the right."""
    align = ["---", *("--:" for _ in head[1:])]
    lines = [[_cell(cell) for cell in row] for row in (head, *rows)]
    lines.insert(1, align)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(cell: str) -> str:
    return cell.replace("|", "\\|")

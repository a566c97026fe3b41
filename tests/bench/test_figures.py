# SPDX-License-Identifier: MIT
"""The benchmark's arithmetic: a wrong ratio or verdict would look like a good engine."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from bench import page, plot, rounds
from bench.contenders import MD5, OFF, ON, PIPE, RAUC, SWUPDATE
from bench.growth import SIZES_MIB, Size, line
from bench.machine import Patience
from bench.ours import Memory
from bench.run import Run, run
from bench.slow import Slow
from bench.sparing import Spared

SECONDS = {MD5: 1.0, OFF: 1.04, ON: 1.24, PIPE: 1.9, SWUPDATE: 2.0, RAUC: 2.5}


def one_round(**others: float) -> rounds.Round:
    """Return one round in which every target is met, but for what is given."""
    cpu = {OFF: 1.5, ON: 1.8}
    seconds = SECONDS | {globals()[name]: value for name, value in others.items()}
    return {name: Run(value, cpu.get(name, 2.0)) for name, value in seconds.items()}


def sizes(seconds_per_gib: float = 1.25, base: float = 0.5) -> list[Size]:
    return [
        Size(mib, Run(base + seconds_per_gib * mib / 1024, 1.0), Run(1.0, 1.0), Memory(20, 40, 30))
        for mib in SIZES_MIB
    ]


FIGURES = page.Figures(
    [one_round()] * 3, sizes(), [Spared("zeros", 0.5, "sectors")], [Slow("a card", 4.0, 4.1)], 1024
)


def test_a_ratio_is_taken_within_a_round() -> None:
    """A machine that slows down between the rounds does not move a ratio."""
    slower = {name: Run(taken.wall_s * 9, taken.cpu_s) for name, taken in one_round().items()}
    assert rounds.ratio([one_round(), slower, one_round()], ON, MD5) == pytest.approx(1.24)


def test_one_disturbed_round_does_not_count() -> None:
    """The median of the rounds is what is told."""
    assert rounds.ratio([one_round(ON=7.0), one_round(), one_round()], ON, MD5) == 1.24


def test_all_met_is_said_so() -> None:
    """No target is missed when all are met."""
    assert "**no**" not in page.text(FIGURES)


@pytest.mark.parametrize(
    "missed",
    [
        replace(FIGURES, rounds=[one_round(OFF=1.06)]),
        replace(FIGURES, rounds=[one_round(ON=1.26)]),
        replace(FIGURES, rounds=[one_round(PIPE=1.5)]),
        replace(FIGURES, rounds=[one_round(SWUPDATE=1.5)]),
        replace(FIGURES, rounds=[one_round(RAUC=2.0)]),
        replace(FIGURES, rounds=[one_round() | {RAUC: Run(2.5, 1.4)}]),
        replace(FIGURES, rounds=[one_round() | {SWUPDATE: Run(2.0, 1.4)}]),
        replace(FIGURES, spared=[Spared("zeros", 0.56, "sectors")]),
        replace(FIGURES, slow=[Slow("a card", 4.0, 4.5)]),
        replace(FIGURES, sizes=[*sizes()[:-1], replace(sizes()[-1], memory=Memory(29, 40, 30))]),
    ],
    ids=["off", "on", "pipe", "swupdate", "rauc", "rauc's CPU", "swupdate's CPU", "spared", "slow",
         "memory"],
)  # fmt: skip
def test_each_missed_target_is_said_so(missed: page.Figures) -> None:
    """Whatever is worse than its target has a bold no beside it."""
    assert "**no**" in page.text(missed)


def test_the_line_through_the_sizes() -> None:
    """Seconds at nothing, seconds per GiB, and how far the sizes between lie from them."""
    base, slope, distance = line(sizes())[:3]
    assert [base, slope] == pytest.approx([0.5, 1.25])
    assert distance == pytest.approx(0)
    bent = sizes()
    bent[2] = replace(bent[2], write=Run(3.5, 1.0))
    assert line(bent)[2] == pytest.approx(1.0)


def test_the_page_around_the_figures_stays(tmp_path: Path) -> None:
    """What people wrote before and behind the marks is left alone, however often it is run."""
    target = tmp_path / "page.md"
    begin, end = "<!-- figures: written by the benchmark -->\n", "<!-- end of figures -->\n"
    target.write_text(f"before\n\n{begin}old\n{end}\nbehind\n")
    page.insert(target, FIGURES)
    once = target.read_text()
    page.insert(target, FIGURES)
    assert target.read_text() == once
    assert once.startswith(f"before\n\n{begin}")
    assert once.endswith(f"{end}\nbehind\n")
    assert "old" not in once
    assert target.with_suffix(".svg").exists()


def test_the_picture_shows_every_contender() -> None:
    """It is one well-formed SVG, and nothing in it lies outside."""
    bars = [(f"curl | tee >(x) {number}", float(number), number == 1) for number in range(1, 7)]
    lines = [("ours & theirs", [(0.0625, 0.1), (1.0, 1.5), (4.0, 6.0)])]
    root = ET.fromstring(plot.picture(bars, lines))  # noqa: S314 - our own text
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {name for name, *_ in bars} <= set(texts)
    for element in root.iter():
        for key in element.attrib.keys() & {"x", "cx", "x2"}:
            assert 0 <= float(element.attrib[key]) <= width
        for key in element.attrib.keys() & {"y", "cy", "y2"}:
            assert 0 <= float(element.attrib[key]) <= height


def test_a_run_costs_what_its_whole_tree_costs() -> None:
    """CPU of a child of the command's counts, and of nobody else."""
    spin = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
    child = run(["sh", "-c", f"sh -c '{spin}'; echo done"], "done")
    assert child.cpu_s > 0.05
    assert run(["true"]).cpu_s < child.cpu_s / 2


def test_a_command_that_fails_is_no_figure() -> None:
    """Neither a bad end nor an answer without the digest is timed."""
    with pytest.raises(RuntimeError):
        run(["false"])
    with pytest.raises(RuntimeError):
        run(["echo", "another digest"], "the digest")


def test_patience_has_an_end() -> None:
    """With no patience left a run is taken as it comes, once, with what others did meanwhile."""
    taken = []

    def work() -> Run:
        taken.append(1)
        return Run(0.1, 0.1)

    assert Patience(0.0).run(work).others >= 0
    assert len(taken) == 1

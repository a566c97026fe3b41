# SPDX-License-Identifier: MIT
"""Whole life-cycles of the real agent against the cloud in small, each row one of them.

Whatever happens on the way, the cloud's record is right, the board boots what it should, and the
audit of the wire finds nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from board_on_loop import ROOT_BYTES, make_image

from conformance import plots
from conformance.desk import Desk, Image

pytestmark = pytest.mark.root

SUCCESS = "pending pushed upgrading success"
FAILED = "pending pushed upgrading failed"
ALL_THE_WAY = ["downloading 2.0.0", "burning 2.0.0", "done 2.0.0", "version 2.0.0"]
CHECK = """
[[health.command]]
name = "application"
argv = ["test", "-e", "{folder}/healthy"]
retry_s = 0.2
"""
MCU = {"cloud": 'fw_type = "mcu"'}


@dataclass(frozen=True)
class Row:
    """One life-cycle.

    Attributes:
        plot: What happens after the device has reported version 1.0.0.
        task: What the console has shown of the last task; what is in parentheses may be missing.
        story: What the device says after its first version, repetitions left out; the same.
        options: Further lines of its configuration.
    """

    plot: Callable[[Desk], None]
    task: str = SUCCESS
    story: Sequence[str] = tuple(ALL_THE_WAY)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> str:
        """The version that runs at the end."""
        return "2.0.0" if "version 2.0.0" in self.story else "1.0.0"


ROWS = {
    "a good update": Row(plots.nothing_special),
    "a task with a number": Row(plots.numbered, options=MCU),
    "a wrong digest": Row(plots.wrong_digest, FAILED, ["downloading 2.0.0", "fail -4 2.0.0"]),
    "a foreign fw_type": Row(plots.foreign, "pending pushed failed", ["fail -5 2.0.0"], MCU),
    "a foreign fw_type, and the power": Row(
        plots.foreign_and_cut, "pending pushed failed", ["fail -5 2.0.0"], MCU
    ),
    "the version that runs": Row(plots.running_already, "pending pushed success", []),
    "403, and a fresh URL": Row(plots.expired_at_once),
    "403 on the way, and a fresh URL": Row(plots.expired_on_the_way),
    "404": Row(
        plots.removed, "pending pushed (upgrading) failed", ["(downloading 2.0.0)", "fail -2 2.0.0"]
    ),
    "503 for a while": Row(plots.ailing),
    "a server that dies and comes back": Row(plots.dead_and_back),
    "offered while the device is off": Row(plots.offered_while_off),
    "pushed again and again": Row(plots.pushed_again),
    "the same firmware as another task": Row(plots.renumbered),
    "superseded": Row(plots.superseded, story=["downloading 1.9.0", "fail -5 1.9.0", *ALL_THE_WAY]),
    "the same bytes as another version": Row(
        plots.renamed, story=["downloading 1.9.0", "fail -5 1.9.0", *ALL_THE_WAY]
    ),
    "cancelled in the console": Row(plots.cancelled, FAILED),
    "timed out and tried again": Row(plots.timed_out, f"{FAILED} {SUCCESS}"),
    "garbage between": Row(plots.garbage_between),
    "a cloud that does not answer": Row(plots.nobody_answers),
    "a broker restarted on the way": Row(plots.broker_restarted),
    "no broker until after the trial": Row(
        plots.broker_gone_until_after_the_trial, options={"health": "link = false"}
    ),
    "no broker in the trial": Row(plots.broker_gone_in_the_trial),
    "a trial longer than the task's time": Row(plots.long_trial, options={"health": CHECK}),
    "the PUBACK of done lost": Row(plots.puback_lost),
    "the PUBACK of fail lost, and the power": Row(
        plots.puback_of_fail_lost,
        "pending pushed (upgrading) failed",
        ["(downloading 2.0.0)", "fail -4 2.0.0"],
    ),
    "killed on the way": Row(plots.killed_on_the_way),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A file system that boots, and installs in no time."""
    return Image.of(make_image(tmp_path_factory.mktemp("images") / "small.ext4", ROOT_BYTES))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_life_ends_as_it_should(row: Row, image: Image, tmp_path: Path) -> None:
    """Story, task and slot are as in the table, and nothing on the wire was against the rules."""
    (tmp_path / "healthy").touch()
    options = {key: text.replace("{folder}", str(tmp_path)) for key, text in row.options.items()}
    with Desk(tmp_path, image, **options) as desk:
        desk.start()
        desk.cloud.wait_for_version("1.0.0")
        row.plot(desk)
        desk.agent.wait_until(lambda: is_as(row.task.split(), desk.states), row.task)
        desk.cloud.wait_for_version(row.running)
        assert desk.agent.end() == 0
        assert "Traceback" not in desk.agent.log
        assert "q-signature" not in desk.agent.log
        assert is_as(["version 1.0.0", *row.story], desk.story()), desk.story()
        assert desk.violations() == []
        assert desk.board.environment()["boot_slot"] == ("B" if row.running == "2.0.0" else "A")
        assert not desk.is_on_trial


def is_as(wanted: Sequence[str], words: Sequence[str]) -> bool:
    """Tell whether *words* are *wanted*; what is in parentheses may be missing."""
    optional = [re.fullmatch(r"\((.*)\)", word) for word in wanted]
    pattern = "".join(
        f"(?:{re.escape(found[1])};)?" if found else f"{re.escape(word)};"
        for word, found in zip(wanted, optional, strict=True)
    )
    return re.fullmatch(pattern, "".join(f"{word};" for word in words)) is not None

# SPDX-License-Identifier: MIT
"""Whole life-cycles of the real agent against the cloud in small, each row one of them.

Whatever happens on the way, the cloud's record is right, the board boots what it should, and the
audit of the wire finds nothing.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from board_on_loop import ROOT_BYTES, make_image
from conformance.desk import Desk, Image
from sim.audit import said
from sim.task import Terms

pytestmark = pytest.mark.root

GARBAGE = [
    b"", b"{", b"\xff\xfe", b"[" * 10_000, b'"x"', b"x" * 20_000, b'{"type": NaN}',
    b'{"type": "update_firmware", "version": "9.9.9"}', b'{"type": "report_version_rsp"}',
    b'{"type": "update_firmware", "version": "9.9.9", "url": "https://h/f", "file_size": 1.5, '
    b'"md5sum": "00000000000000000000000000000000"}',
]  # fmt: skip
UNKNOWN = [b"{}", b'{"type": "cancel", "version": "2.0.0"}', b'{"type": 7}']


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A file system that boots, and installs in no time."""
    return Image.of(make_image(tmp_path_factory.mktemp("images") / "small.ext4", ROOT_BYTES))


# --- what happens: the firmware ------------------------------------------------------------------


def nothing_special(desk: Desk) -> None:
    desk.offer()
    assert desk.reboot() == "B"


def numbered(desk: Desk) -> None:
    desk.offer(task_id=123456, fw_type="mcu", user_defined="x")
    assert desk.reboot() == "B"


def wrong_digest(desk: Desk) -> None:
    desk.offer_slowly(md5sum="0" * 32)
    desk.hurry()
    after_the_fail(desk)
    assert not desk.board.has_image("B")


def foreign(desk: Desk) -> None:
    desk.offer(fw_type="modem")
    desk.cloud.wait_for_state("fail")
    assert desk.bucket.served == []
    assert not desk.board.has_image("B")


def running_already(desk: Desk) -> None:
    before = desk.cloud.mark()
    desk.offer("1.0.0")
    desk.cloud.wait_for_version("1.0.0", since=before)
    assert desk.bucket.served == []


def after_the_fail(desk: Desk) -> None:
    """Wait until the device has failed and reports what it runs."""
    failure = desk.cloud.wait_for_state("fail")
    desk.cloud.wait_for_version("1.0.0", since=desk.cloud.messages.index(failure))


# --- its URL, and the server ---------------------------------------------------------------------


def expired_at_once(desk: Desk) -> None:
    desk.bucket.lifetime_s = 0
    desk.offer()
    desk.agent.wait_until(lambda: desk.bucket.refused == 1, "a refusal")
    desk.bucket.lifetime_s = 3600
    assert desk.reboot() == "B"
    assert desk.bucket.refused == 1


def expired_on_the_way(desk: Desk) -> None:
    desk.bucket.lifetime_s = 3
    desk.offer_slowly()
    desk.bucket.is_stalled = True
    time.sleep(desk.bucket.lifetime_s)
    desk.bucket.lifetime_s = 3600
    desk.hurry()
    desk.bucket.cut()
    assert desk.reboot() == "B"
    assert desk.bucket.refused >= 1
    assert desk.bucket.begins[-1] > 0


def removed(desk: Desk) -> None:
    desk.bucket.lifetime_s = 0
    desk.offer()
    desk.agent.wait_until(lambda: desk.bucket.refused == 1, "a refusal")
    desk.bucket.files.clear()
    desk.bucket.lifetime_s = 3600
    after_the_fail(desk)


def dead_and_back(desk: Desk) -> None:
    desk.offer_slowly()
    desk.bucket.die()
    desk.hurry()
    time.sleep(1)
    desk.bucket.revive()
    assert desk.reboot() == "B"
    assert desk.bucket.begins[-1] > 0


# --- the cloud -----------------------------------------------------------------------------------


def pushed_again(desk: Desk) -> None:
    desk.offer_slowly()
    for _ in range(3):
        desk.cloud.push()
    desk.hurry()
    assert desk.reboot() == "B"
    assert len(desk.bucket.begins) == 1


def superseded(desk: Desk) -> None:
    desk.offer_slowly("1.9.0", md5sum="1" * 32)
    desk.offer("2.0.0")
    desk.hurry()
    assert desk.reboot() == "B"
    assert "superseded" in desk.cloud.wait_for_state("fail").reason


def cancelled(desk: Desk) -> None:
    desk.offer_slowly()
    desk.cloud.end_task()
    before = len(desk.tap.packets)
    desk.hurry()
    desk.agent.wait_until(desk.board.rebooted.exists, "a reboot")
    downlink = [each.kind for each in desk.tap.packets[before:] if not each.is_uplink]
    assert "PUBLISH" not in downlink
    assert desk.reboot() == "B"
    desk.cloud.wait_for_version("2.0.0")
    assert "done" in [message.state for message in desk.cloud.ignored]


def timed_out(desk: Desk) -> None:
    terms = Terms(timeout_s=1.5, retries=1, retry_interval_s=0.5)
    task = desk.offer_slowly(terms=terms)
    desk.bucket.is_stalled = True
    desk.agent.wait_until(lambda: desk.cloud.pushes == 2, "a retry")
    desk.hurry()
    assert desk.reboot() == "B"
    assert [state.value for state in task.states].count("failed") == 1


def garbage_between(desk: Desk) -> None:
    desk.offer_slowly()
    for payload in [*GARBAGE, *UNKNOWN]:
        desk.cloud.send(payload)
    desk.agent.wait_until(
        lambda: desk.agent.log.count("message ignored: ") == len(GARBAGE), "a line for each"
    )
    desk.hurry()
    assert desk.reboot() == "B"


def nobody_answers(desk: Desk) -> None:
    since = desk.cloud.mark()
    desk.kill()
    desk.cloud.result_code = None
    desk.start()
    count = lambda: len(desk.cloud.messages) - since  # noqa: E731
    desk.agent.wait_until(lambda: count() == 3, "a version reported three times")
    desk.cloud.result_code = "0"
    nothing_special(desk)


# --- the broker, and the device ------------------------------------------------------------------


def broker_restarted(desk: Desk) -> None:
    desk.offer_slowly()
    desk.lose_broker()
    desk.agent.wait_for_log("cloud: ")
    before = desk.bucket.sent_bytes
    desk.agent.wait_until(lambda: desk.bucket.sent_bytes > before, "more of the image")
    desk.restore_broker()
    desk.hurry()
    assert desk.reboot() == "B"


def broker_gone_until_after_the_trial(desk: Desk) -> None:
    desk.offer()
    assert desk.shut_down() == "B"
    desk.lose_broker()
    desk.start()
    desk.agent.wait_until(lambda: not desk.is_on_trial, "the end of the trial")
    desk.kill()
    desk.restore_broker()
    desk.start()


def broker_gone_in_the_trial(desk: Desk) -> None:
    desk.offer()
    assert desk.shut_down() == "B"
    desk.lose_broker()
    desk.start()
    desk.agent.wait_for_log("cloud: ")
    time.sleep(1)
    assert desk.is_on_trial
    desk.restore_broker()


def puback_lost(desk: Desk) -> None:
    desk.offer()
    assert desk.shut_down() == "B"
    desk.tap.drops = lambda packet: packet.kind == "PUBACK" and not desk.is_on_trial
    desk.start()
    desk.cloud.wait_for_state("done")
    time.sleep(0.5)
    desk.lose_broker()
    desk.tap.drops = None
    desk.restore_broker()
    desk.cloud.wait_for_version("2.0.0")
    words = [each.word for packet in desk.tap.packets if (each := said(packet))]
    assert words.count("done") == 2


def killed_on_the_way(desk: Desk) -> None:
    desk.offer_slowly()
    desk.kill()
    desk.hurry()
    desk.start()
    assert desk.reboot() == "B"


# --- the table -----------------------------------------------------------------------------------

SUCCESS = "pending pushed upgrading success"
FAILED = "pending pushed upgrading failed"
ALL_THE_WAY = ["downloading 2.0.0", "burning 2.0.0", "done 2.0.0", "version 2.0.0"]
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
    "a good update": Row(nothing_special),
    "a task with a number": Row(numbered, options=MCU),
    "a wrong digest": Row(
        wrong_digest, FAILED, ["downloading 2.0.0", "(burning 2.0.0)", "fail -4 2.0.0"]
    ),
    "a foreign fw_type": Row(foreign, "pending pushed failed", ["fail -5 2.0.0"], MCU),
    "the version that runs": Row(running_already, "pending pushed success", []),
    "403, and a fresh URL": Row(expired_at_once),
    "403 on the way, and a fresh URL": Row(expired_on_the_way),
    "404": Row(
        removed, "pending pushed (upgrading) failed", ["(downloading 2.0.0)", "fail -2 2.0.0"]
    ),
    "a server that dies and comes back": Row(dead_and_back),
    "pushed again and again": Row(pushed_again),
    "superseded": Row(superseded, story=["downloading 1.9.0", "fail -5 1.9.0", *ALL_THE_WAY]),
    "cancelled in the console": Row(cancelled, FAILED),
    "timed out and tried again": Row(timed_out, f"{FAILED} {SUCCESS}"),
    "garbage between": Row(garbage_between),
    "a cloud that does not answer": Row(nobody_answers),
    "a broker restarted on the way": Row(broker_restarted),
    "no broker until after the trial": Row(
        broker_gone_until_after_the_trial, options={"health": "link = false"}
    ),
    "no broker in the trial": Row(broker_gone_in_the_trial),
    "the PUBACK of done lost": Row(puback_lost),
    "killed on the way": Row(killed_on_the_way),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_life_ends_as_it_should(row: Row, image: Image, tmp_path: Path) -> None:
    """Story, task and slot are as in the table, and nothing on the wire was against the rules."""
    with Desk(tmp_path, image, **row.options) as desk:
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

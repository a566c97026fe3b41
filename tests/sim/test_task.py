# SPDX-License-Identifier: MIT
"""A task of the cloud in small stands as the console would show it."""

import json

import pytest

from sim.cloud import Message
from sim.task import PATIENT, Task, Terms
from updater.core import messages
from updater.core.errors import ResultCode
from updater.core.model import Firmware, Offer

OFFER = Offer(Firmware("2.0.0", "0" * 32, 4096), "https://h/f")
BODY = {"type": "update_firmware", "version": "2.0.0", "md5sum": "0" * 32, "file_size": 4096}
NUMBERED = Offer(OFFER.firmware, OFFER.url, task_id=7, fw_type="mcu")
OTHER = Offer(Firmware("3.0.0", "0" * 32, 4096), "https://h/f")

RUNNING_OLD = messages.report_version("1.0.0")
RUNNING_NEW = messages.report_version("2.0.0")
BEGUN = messages.downloading(OFFER, 0)
BURNING = messages.burning(OFFER)
DONE = messages.done(OFFER)
FAIL = messages.fail(OFFER, ResultCode.DIGEST, "no")

UPGRADING = ["pending", "pushed", "upgrading"]
TABLE = {
    "done": ([BEGUN, BURNING, DONE], [*UPGRADING, "success"], ""),
    "done, then its version": ([BEGUN, DONE, RUNNING_NEW], [*UPGRADING, "success"], ""),
    "its version, and done was lost": ([BEGUN, RUNNING_NEW], [*UPGRADING, "success"], ""),
    "another version": ([RUNNING_OLD], ["pending", "pushed"], ""),
    "fail": ([BEGUN, FAIL], [*UPGRADING, "failed"], "-4: no"),
    "another version's progress": ([messages.done(OTHER)], ["pending", "pushed"], ""),
    "another task's progress": ([messages.done(NUMBERED)], ["pending", "pushed"], ""),
    "done after fail": ([FAIL, DONE], ["pending", "pushed", "failed"], "-4: no"),
}  # fmt: skip


def said(payload: bytes) -> Message:
    return Message(0.0, 1, json.loads(payload))


def task(terms: Terms = PATIENT, **more: object) -> Task:
    """Return a task that was pushed at 0 s."""
    made = Task({**BODY, **more}, lambda: OFFER.url, terms)
    assert made.push(0.0) == {**BODY, **more, "url": OFFER.url}
    return made


@pytest.mark.parametrize(("payloads", "states", "reason"), TABLE.values(), ids=TABLE.keys())
def test_reports_move_it(payloads: list[bytes], states: list[str], reason: str) -> None:
    """What the device says of this task, and nothing else, moves it on."""
    made = task()
    for payload in payloads:
        made.hear(said(payload), 1.0)
    assert [state.value for state in made.states] == states
    assert made.reason == reason


def test_the_keys_that_it_sent_come_back() -> None:
    """Progress belongs to it if task_id and fw_type are its own, in type too."""
    made = task(task_id=7, fw_type="mcu")
    assert not made.hear(said(BEGUN), 1.0)
    assert not made.hear(said(messages.burning(Offer(OFFER.firmware, "", "7", "mcu"))), 1.0)
    assert made.hear(said(messages.burning(NUMBERED)), 1.0)


def test_it_times_out_and_is_tried_again() -> None:
    """Without progress it fails after its time, is pushed again after its pause, and so often."""
    made = task(Terms(timeout_s=10, retries=1, retry_interval_s=5))
    assert made.hear(said(BEGUN), 8.0)
    assert not made.tick(17.9)
    assert made.is_open
    assert not made.tick(18.0)
    assert not made.is_open
    assert not made.hear(said(BURNING), 19.0)
    assert not made.tick(22.9)
    assert made.tick(23.0)
    made.push(23.0)
    assert not made.tick(33.0)
    assert not made.tick(1e9)
    words = [state.value for state in made.states]
    assert words == [*UPGRADING, "failed", "pending", "pushed", "failed"]


def test_a_cancelled_one_stays_failed() -> None:
    """Nothing brings it back: no report, no time."""
    made = task(Terms(timeout_s=10, retries=3))
    made.cancel()
    assert not made.hear(said(DONE), 1.0)
    assert not made.tick(1e9)
    assert (made.state.value, made.reason) == ("failed", "cancelled")

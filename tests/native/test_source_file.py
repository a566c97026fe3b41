# SPDX-License-Identifier: MIT
"""Local sources that are not what they seem, under AddressSanitizer and UBSan."""

import os
import threading
import time
from pathlib import Path

import pytest
from sanitized import BUFFER, IMAGE, ROOM, Slot, Status, md5
from test_sources import standard_input


@pytest.mark.parametrize(
    ("length", "size"),
    [
        (0, 0),
        (BUFFER + 1, 0),
        (len(IMAGE) + 1, 0),
        (len(IMAGE) - 1, len(IMAGE)),
        (len(IMAGE) + 1, len(IMAGE)),
    ],
)
def test_a_file_that_changes_its_length_is_refused(slot: Slot, length: int, size: int) -> None:
    """Longer or shorter than when it was opened: somebody is still at it."""

    def change() -> None:
        time.sleep(0.5)
        os.truncate(slot.source, length)

    thread = threading.Thread(target=change)
    thread.start()
    try:  # meanwhile the medium takes a nap of a second
        outcome = slot.fill(size=size, fault="write:2:nap", buffer_size=4096, buffers=3)
    finally:
        thread.join()
    assert outcome.happened
    assert outcome.status == Status.LENGTH
    assert str(len(IMAGE)) in outcome.message
    assert slot.is_blank()


def test_standard_input_that_does_not_block_is_waited_for(slot: Slot) -> None:
    """As other programs may leave it behind."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)

    def feed() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            for at in range(0, len(IMAGE), BUFFER):
                time.sleep(0.02)
                pipe.write(IMAGE[at : at + BUFFER])

    thread = threading.Thread(target=feed)
    with standard_input(read_end):
        thread.start()
        outcome = slot.fill(source="-")
    os.close(read_end)
    thread.join()
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert slot.is_whole()


@pytest.mark.parametrize("what", ["a closed one's successor", "a folder"])
def test_there_may_be_no_standard_input(slot: Slot, tmp_path: Path, what: str) -> None:
    """What the engine itself has opened under that number is not taken for one."""
    fd = os.open(tmp_path, os.O_RDONLY) if what == "a folder" else os.eventfd(0)
    with standard_input(fd):
        os.close(fd)
        assert slot.fill(source="-").status == Status.OPEN
    assert slot.is_untouched()


def test_a_device_knows_its_length(slot: Slot) -> None:
    """Nobody has to announce it: it is read up to its last byte."""
    outcome = slot.fill(source=slot.path, device=None, md5=None, size=0)
    assert (outcome.status, outcome.facts["size"]) == (Status.DONE, ROOM)
    assert outcome.hexdigest == md5(slot.held())


def test_a_device_that_is_too_short_is_refused(slot: Slot, tmp_path: Path) -> None:
    """It holds less than was announced: that is told before the first byte is written."""
    target = tmp_path / "target"
    orders = {"source": slot.path, "device": target, "md5": None}
    outcome = slot.fill(**orders, size=ROOM + 1)
    assert outcome.status == Status.LENGTH
    assert outcome.message == f"the source has {ROOM} bytes, {ROOM + 1} were announced"
    assert not target.exists()
    assert slot.fill(**orders, size=ROOM - 1).status == Status.DONE
    assert target.read_bytes() == slot.held()[:-1]


def test_a_file_that_the_kernel_makes_up_is_read_to_its_end(slot: Slot) -> None:
    """It says that it has no bytes, and has some."""
    version = Path("/proc/version")
    outcome = slot.fill(source=version, device=None, plays=None, md5=None, size=0)
    assert (outcome.status, outcome.hexdigest) == (Status.DONE, md5(version.read_bytes()))


def test_an_empty_file_is_no_image(slot: Slot) -> None:
    """Nothing is written for it."""
    slot.source.write_bytes(b"")
    assert slot.fill(size=0, md5=None).status == Status.LENGTH
    assert slot.is_untouched()

# SPDX-License-Identifier: MIT
"""The engine under AddressSanitizer and UBSan: every way in, every way out, every call that fails.

A regular file plays the device (medium.c), so nothing here needs root; test_pipeline.py asks the
same of real loop devices.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import HostileServer, answer
from sanitized import BUFFER, HEAD, IMAGE, MIB, OLD, ROOM, Outcome, Slot, Status, md5


@pytest.fixture(params=["file", "http"])
def source(request: pytest.FixtureRequest, slot: Slot, server: HostileServer) -> str:
    if request.param == "file":
        return str(slot.source)
    return server.url("/image", lambda _: answer(IMAGE))


@pytest.mark.parametrize("read_back", [0, 1])
@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize(
    "size", [1, 512, 4096, HEAD - 1, HEAD, HEAD + 1, HEAD + BUFFER, len(IMAGE)], ids=str
)
def test_any_size_arrives_whole(slot: Slot, size: int, sector: int, read_back: int) -> None:
    """One byte, one sector, around the head's end, whole buffers and odd ones."""
    image = IMAGE[:size]
    slot.source.write_bytes(image)
    outcome = slot.fill(image, sector=sector, read_back=read_back)
    assert (outcome.status, outcome.hexdigest) == (Status.DONE, md5(image))
    assert slot.is_whole(image)
    assert outcome.facts["written"] == outcome.facts["received"] == size
    assert outcome.facts["verified"] == (size if read_back else min(size, HEAD))
    beyond = max(HEAD, -(-size // sector) * sector)
    assert slot.held()[size:beyond] == bytes(beyond - size)
    assert slot.held()[beyond:] == OLD * (ROOM - beyond)


@pytest.mark.parametrize("buffer_size", [4096, 12288, MIB, 2 * MIB])
def test_any_buffer_will_do(slot: Slot, source: str, buffer_size: int) -> None:
    """Small, odd, usual and larger than the image."""
    outcome = slot.fill(source=source, buffer_size=buffer_size, buffers=3)
    assert outcome.status == Status.DONE
    assert slot.is_whole()


@pytest.mark.parametrize("room", [-(-len(IMAGE) // 512) * 512, 512, 8192])
def test_an_image_may_fill_the_device(engine: Path, tmp_path: Path, room: int) -> None:
    """Also a device that is smaller than a head."""
    slot = Slot(tmp_path, engine, room)
    image = IMAGE[:room]
    slot.source.write_bytes(image)
    assert slot.fill(image).status == Status.DONE
    assert slot.held() == image.ljust(room, b"\0")  # and nothing was written behind its end


def test_a_digest_alone_writes_nothing(slot: Slot, source: str) -> None:
    """Without a device the bytes are only counted and hashed."""
    outcome = slot.fill(source=source, device=None, plays=None, md5=None)
    assert (outcome.status, outcome.hexdigest) == (Status.DONE, md5(IMAGE))
    assert outcome.facts["written"] == outcome.facts["verified"] == 0
    assert slot.is_untouched()


def test_a_device_may_hold_more_than_is_asked(slot: Slot) -> None:
    """The announced size decides how much of a block device belongs to the image."""
    outcome = slot.fill(OLD * 5000, source=slot.path, device=None, md5=None)
    assert (outcome.status, outcome.hexdigest) == (Status.DONE, md5(OLD * 5000))
    outcome = slot.fill(source=slot.path, device=None, md5=None, size=ROOM + 1)
    assert outcome.status == Status.LENGTH
    assert outcome.message == f"the source has {ROOM} bytes, {ROOM + 1} were announced"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"md5": "0" * 32}, Status.DIGEST),
        ({"size": len(IMAGE) - 1}, Status.LENGTH),
        ({"size": len(IMAGE) + 1}, Status.LENGTH),
    ],
)
def test_another_image_never_gets_a_head(
    slot: Slot, source: str, change: dict[str, object], status: Status
) -> None:
    """Wrong digest, shorter, longer: the slot is left blank, or as it was."""
    assert slot.fill(source=source, **change).status == status
    assert slot.is_blank() or slot.is_untouched()


@pytest.mark.parametrize(
    "change",
    [
        {"source": None}, {"size": 1 << 63}, {"buffers": 0}, {"buffers": 2},
        {"buffer_size": 0}, {"buffer_size": 4095}, {"buffer_size": 1 << 28, "buffers": 5},
        {"buffer_size": 4096, "buffers": (1 << 18) + 1},
        {"md5": ""}, {"md5": "0" * 31}, {"md5": "0" * 33}, {"md5": "A" * 32},
        {"sha256": "0" * 63}, {"sha256": "g" * 64}, {"stall_timeout_ms": 0}, {"attempts": 0},
        {"nice": -1}, {"nice": 20}, {"io_priority": -2}, {"io_priority": 9},
        {"image_size": 1 << 63},
    ],
    ids=str,
)  # fmt: skip
def test_nonsense_is_refused(slot: Slot, change: dict[str, object]) -> None:
    """Options out of their range are the caller's bug, and touch nothing."""
    assert slot.fill(**change).status == Status.OPTIONS
    assert slot.is_untouched()


def test_an_image_that_does_not_fit_changes_nothing(engine: Path, tmp_path: Path) -> None:
    """One byte too many is told before the first write, with what the device holds."""
    slot = Slot(tmp_path, engine, 8192)
    slot.source.write_bytes(IMAGE[:8193])
    outcome = slot.fill(IMAGE[:8193])
    assert (outcome.status, outcome.facts["offset"]) == (Status.SPACE, 8192)
    assert slot.is_untouched()


@pytest.mark.parametrize("sector", [0, 8192])
def test_strange_sectors_are_refused(slot: Slot, sector: int) -> None:
    """What the buffers are not aligned for is not written."""
    assert slot.fill(sector=sector).status == Status.OPEN
    assert slot.is_untouched()


@pytest.mark.parametrize("path", ["/does/not/exist", "/dev/null", "/"])
def test_a_source_must_be_a_file_or_a_device(slot: Slot, path: str) -> None:
    """Missing, a character device, a folder: refused before the first write."""
    assert slot.fill(source=path).status == Status.OPEN
    assert slot.is_untouched()


# Each kind of call, what it fails with, and what the engine then says.
BEFORE_THE_FIRST_WRITE = [
    ("open", errno.EBUSY, Status.OPEN),
    ("open", errno.EACCES, Status.OPEN),
    ("stat", errno.EIO, Status.OPEN),
    ("ioctl", errno.EIO, Status.OPEN),
]
LATER = [
    ("write", errno.EIO, Status.IO),
    ("write", errno.ENOSPC, Status.IO),
    ("write", 0, Status.IO),  # takes nothing
    ("read", errno.EIO, Status.IO),
    ("read", 0, Status.IO),  # the medium ends too soon
    ("flush", errno.EIO, Status.IO),
    ("source", errno.EIO, Status.SOURCE),
    ("source", 0, Status.LENGTH),
    ("memory", errno.ENOMEM, Status.RESOURCES),
    ("thread", errno.EAGAIN, Status.RESOURCES),
    ("crypto", 1, Status.RESOURCES),
]


def each(slot: Slot, fault: str, **more: object) -> Iterator[Outcome]:
    """Fill with the fault at the first, second, … call, as long as there is such a call."""
    n = 0
    while True:
        n += 1
        slot.refresh()
        outcome = slot.fill(fault=fault.format(n), **more)
        if not outcome.happened:
            assert outcome.status == Status.DONE
            assert n > 1
            return
        yield outcome


@pytest.mark.parametrize(("call", "error", "status"), BEFORE_THE_FIRST_WRITE)
def test_what_cannot_be_opened_is_not_touched(
    slot: Slot, call: str, error: int, status: Status
) -> None:
    """Busy, gone, of no size: told before the first write."""
    for outcome in each(slot, f"{call}:{{}}:{error}"):
        assert outcome.status == status
        assert slot.is_untouched()


@pytest.mark.parametrize(("call", "error", "status"), LATER)
def test_each_call_may_fail(slot: Slot, call: str, error: int, status: Status) -> None:
    """The first, the second, … the last of its kind: one clear error, no head, no leak."""
    for outcome in each(slot, f"{call}:{{}}:{error}"):
        assert outcome.status == status, outcome.message
        assert slot.is_harmless()
        if status in {Status.IO, Status.SOURCE} and error:
            assert outcome.facts["os_errno"] == error
            assert os.strerror(error) in outcome.message


@pytest.mark.parametrize(("call", "what"), [("write", "lose"), ("read", "flip")])
def test_a_medium_that_lies_is_found_out(slot: Slot, call: str, what: str) -> None:
    """Each lost write, each flipped bit: the slot is not activated, wherever it was."""
    count = 0
    for outcome in each(slot, f"{call}:{{}}:{what}"):
        assert outcome.status == Status.READ_BACK, outcome.message
        assert slot.is_harmless()
        count += 1
    assert count == 6 + -(-(len(IMAGE) - HEAD) // BUFFER)  # the head in three parts, twice


def test_memory_may_fail_before_a_transfer(slot: Slot, server: HostileServer) -> None:
    """The same for all that an http source needs."""
    url = server.url("/memory", lambda _: answer(IMAGE))
    for outcome in each(slot, "memory:{}:12", source=url):
        assert outcome.status == Status.RESOURCES, outcome.message
        assert slot.is_untouched()


@pytest.mark.parametrize("what", ["short", str(errno.EINTR)], ids=["short", "interrupted"])
@pytest.mark.parametrize("call", ["write", "read", "source"])
def test_a_call_may_stop_half_way(slot: Slot, call: str, what: str) -> None:
    """The rest is asked for again."""
    for outcome in each(slot, f"{call}:{{}}:{what}"):
        assert outcome.status == Status.DONE, outcome.message
        assert slot.is_whole()


@pytest.mark.parametrize("call", ["write", "read", "flush", "source"])
def test_a_cancel_at_any_call_leaves_no_part(slot: Slot, call: str) -> None:
    """Blanking, receiving, verifying, the head itself: blank or whole, and at once."""
    for outcome in each(slot, f"{call}:{{}}:wait", closes_on_fault=1):
        assert outcome.status == Status.MORE
        assert outcome.facts["close_ms"] < 1000
        assert slot.is_harmless() or slot.is_whole()


def test_a_cancel_while_verifying_comes_before_the_head(slot: Slot) -> None:
    """What was cancelled is not made bootable, although all of it is there."""
    outcome = slot.fill(fault="flush:4:wait", closes_on_fault=1)
    assert (outcome.happened, outcome.facts["received"]) == (True, len(IMAGE))
    assert slot.is_blank()

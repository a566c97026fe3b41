# SPDX-License-Identifier: MIT
"""The UBI sink alone, under AddressSanitizer: every call that fails, every instant of a power cut.

volume.c plays the volume with the kernel's rules; tests/qemu/test_ubi.py asks the same of a real
kernel. Whatever happens, the volume holds the old image, or the whole new one, or is marked as
unusable.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from drivers import Orders, Run, ask, build, each
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized import Status

PARTS = ("sink_ubi", "number", "sysfs", "extent", "tally", "error")
BLOCK = 4096  # the sink's, not the volume's
ROOM = 13 * 5000
SIZE = 30_000
WRITES = -(-SIZE // BLOCK)  # of the sink; the tail goes alone


class Filling(Run):
    """What one run came to."""

    @property
    def is_whole(self) -> bool:
        return (self.new, self.marked) == (1, 0)

    @property
    def is_untouched(self) -> bool:
        return (self.old, self.marked) == (1, 0)

    @property
    def is_unusable(self) -> bool:
        return self.marked == 1


class Filler:
    """The sink and its volume, compiled."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def fill(self, size: int = SIZE, **orders: Any) -> Filling:
        """Run once; whatever it comes to, nothing stays open and no part of an image is usable."""
        filling = Filling(ask(self._program, size=size, **orders))
        assert filling.is_whole or filling.is_untouched or filling.is_unusable
        assert filling.was_cut or not filling.left_open
        return filling

    def each(self, fault: str, **orders: Any) -> Iterator[Filling]:
        """Fill with the fault at the first, second, … call, as long as there is such a call."""
        return each(lambda planned: self.fill(fault=planned, **orders), fault)


@pytest.fixture(scope="module")
def filler() -> Filler:
    return Filler(build("fill", ("volume", "fill"), PARTS, "-lcrypto"))


@pytest.mark.parametrize("read_back", [0, 1])
@pytest.mark.parametrize("static", [0, 1])
@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, SIZE, ROOM], ids=str)
def test_any_size_arrives_whole(filler: Filler, size: int, static: int, read_back: int) -> None:
    """One byte, around a block, up to the last byte of the volume, whatever the volume's type."""
    filling = filler.fill(size, static=static, read_back=read_back)
    assert (filling.result, filling.is_whole) == (Status.DONE, True)
    assert (filling.written, filling.verified) == (size, size * read_back)
    assert filling.used == (size if static else ROOM)


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, ROOM), blocks=st.integers(1, 16))
def test_any_piece_will_do(filler: Filler, size: int, blocks: int) -> None:
    """Whatever the size of the ring's buffers, the tail is in the last of them."""
    filling = filler.fill(size, piece=blocks * BLOCK)
    assert (filling.result, filling.is_whole) == (Status.DONE, True)
    assert filling.verified == size


def test_it_says_what_it_is(filler: Filler) -> None:
    """The volume's size is the limit, and an interrupted image cannot be gone on with."""
    filling = filler.fill(until="open")
    assert (filling.capacity, filling.resumable, filling.is_untouched) == (ROOM, 0, True)


@pytest.mark.parametrize(
    ("orders", "error", "words"),
    [
        ({"readers": 1}, errno.EBUSY, "mounted or in use"),
        ({"read_only": 1}, errno.EROFS, "read-only"),
        ({"device_number": 250 << 8 | 1}, errno.ENODEV, "its number is 250:2, expected was 250:1"),
        ({"no_volume": 1}, 0, "no UBI volume"),
        ({"no_device": 1}, 0, "no UBI volume"),
        ({"device": "/dev/ubi0_7"}, errno.ENOENT, "cannot be examined"),
        ({"another": 1}, errno.ENODEV, "has gone"),
        ({"announced": 0}, 0, "needs to know the image's exact size beforehand"),
        ({"fault": "open:1:16"}, errno.EBUSY, "mounted or in use"),
        ({"fault": "open:1:13"}, errno.EACCES, "cannot be opened"),
        ({"fault": "update:1:1"}, errno.EPERM, "cannot be updated without CAP_SYS_RESOURCE:"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_refused(
    filler: Filler, orders: Orders, error: int, words: str
) -> None:
    """In use, read-only, gone, no volume, of unknown size: one sentence, and nothing touched."""
    filling = filler.fill(**orders)
    assert (filling.result, filling.os_errno) == (Status.OPEN, error)
    assert words in filling.message
    assert filling.is_untouched


def test_an_image_that_does_not_fit_changes_nothing(filler: Filler) -> None:
    """One byte too many is told before the update begins, with what the volume holds."""
    filling = filler.fill(announced=ROOM + 1)
    assert (filling.result, filling.offset) == (Status.SPACE, ROOM)
    assert filling.is_untouched


@pytest.mark.parametrize("announced", [1, SIZE - 1, SIZE + 1, ROOM])
def test_another_length_leaves_the_mark(filler: Filler, announced: int) -> None:
    """Shorter or longer than the kernel was told: the volume stays unusable."""
    filling = filler.fill(announced=announced)
    assert (filling.result, filling.is_unusable) == (Status.LENGTH, True)


@pytest.mark.parametrize("until", ["blank", "write", "settle"])
def test_a_close_before_the_commit_leaves_the_mark(filler: Filler, until: str) -> None:
    """A wrong digest, a cancel, a failure elsewhere: the kernel has not got the tail."""
    filling = filler.fill(until=until)
    assert (filling.result, filling.is_unusable) == (Status.DONE, True)
    assert filling.written == (0 if until == "blank" else (WRITES - 1) * BLOCK)


@pytest.mark.parametrize("call", ["open", "stat", "attribute"])
def test_a_look_that_fails_touches_nothing(filler: Filler, call: str) -> None:
    """What the kernel does not tell is not guessed."""
    for filling in filler.each(f"{call}:{{}}:{errno.EIO}"):
        assert filling.result == Status.OPEN or filling.is_whole  # of the look at the CRCs
        assert filling.is_whole or filling.is_untouched


@pytest.mark.parametrize("static", [0, 1])
@pytest.mark.parametrize(
    ("call", "error", "status"),
    [
        ("update", errno.EIO, Status.IO),
        ("write", errno.EIO, Status.IO),
        ("write", 0, Status.IO),  # takes nothing
        ("read", errno.EIO, Status.IO),
        ("read", errno.EBADMSG, Status.IO),
        ("read", 0, Status.IO),  # the volume ends too soon
        ("flush", errno.EIO, Status.IO),
        ("memory", errno.ENOMEM, Status.RESOURCES),
        ("crypto", 1, Status.RESOURCES),
    ],
)
def test_each_call_may_fail(
    filler: Filler, call: str, error: int, status: Status, static: int
) -> None:
    """The first, the second, … the last of its kind: one clear error, and no usable volume."""
    for filling in filler.each(f"{call}:{{}}:{error}", static=static):
        assert filling.result == status, filling.message
        assert filling.is_unusable or filling.is_untouched
        if status is Status.IO and error:
            assert filling.os_errno == error
            assert os.strerror(error) in filling.message


@pytest.mark.parametrize("call", ["update", "write", "read", "flush"])
def test_a_call_may_fail_although_it_was_done(filler: Filler, call: str) -> None:
    """Also the write that has removed the mark: the volume is marked again."""
    for filling in filler.each(f"{call}:{{}}:late"):
        assert (filling.result, filling.os_errno) == (Status.IO, errno.EIO)
        assert filling.is_unusable


@pytest.mark.parametrize("what", ["short", str(errno.EINTR)], ids=["short", "interrupted"])
@pytest.mark.parametrize("call", ["write", "read"])
def test_a_call_may_stop_half_way(filler: Filler, call: str, what: str) -> None:
    """The rest is asked for again."""
    for filling in filler.each(f"{call}:{{}}:{what}"):
        assert (filling.result, filling.is_whole) == (Status.DONE, True)


@pytest.mark.parametrize("static", [0, 1])
@pytest.mark.parametrize(("call", "what"), [("write", "lose"), ("write", "flip"), ("read", "flip")])
def test_a_medium_that_lies_is_found_out(filler: Filler, call: str, what: str, static: int) -> None:
    """Each lost write, each flipped bit, wherever: told with its place, and marked again."""
    count = 0
    for filling in filler.each(f"{call}:{{}}:{what}", static=static):
        assert filling.result == Status.READ_BACK, filling.message
        assert filling.is_unusable
        if "near byte" in filling.message:
            assert filling.offset == min(count, WRITES - 1) * BLOCK
        count += 1
    assert count == WRITES


def test_the_kernel_s_own_verdict_counts(filler: Filler) -> None:
    """Without read-back too, a static volume that fails the kernel's CRCs is no success."""
    filling = filler.fill(static=1, read_back=0, fault=f"write:{WRITES}:flip")
    assert (filling.result, filling.is_unusable) == (Status.READ_BACK, True)


@pytest.mark.parametrize("readers", [1, 5])
def test_a_reader_in_between_delays_the_mark(filler: Filler, readers: int) -> None:
    """Somebody who looks at the volume at that moment is waited for."""
    filling = filler.fill(fault="read:2:flip", late_readers=readers)
    assert (filling.result, filling.is_unusable) == (Status.READ_BACK, True)
    assert "cannot be marked" not in filling.message


def test_a_volume_that_cannot_be_marked_is_said_to_be_so(filler: Filler) -> None:
    """The one way to leave a volume that looks complete: it is an error, and it says so."""
    filling = filler.fill(fault="read:2:flip", late_readers=1000)
    assert filling.result == Status.READ_BACK
    assert "near byte 4096; and the volume cannot be marked as unusable" in filling.message


@pytest.mark.parametrize("static", [0, 1])
@pytest.mark.parametrize("when", ["die", "dead"])
@pytest.mark.parametrize(
    ("call", "complete"),
    [
        ("update", {"die": [False], "dead": [False]}),
        ("write", {"die": [False] * WRITES, "dead": [False] * (WRITES - 1) + [True]}),
        ("flush", {"die": [False, True], "dead": [False, True]}),
        ("read", {"die": [True] * WRITES, "dead": [True] * WRITES}),
    ],
    ids=["update", "write", "flush", "read"],
)
def test_a_power_cut_leaves_no_usable_part(
    filler: Filler, call: str, complete: Mapping[str, list[bool]], when: str, static: int
) -> None:
    """Before or behind any call: the old image, a marked volume, or behind the tail all of it."""
    fillings = list(filler.each(f"{call}:{{}}:{when}", static=static))
    assert [filling.cut for filling in fillings] == [1] * len(fillings)
    assert [filling.is_whole for filling in fillings] == complete[when]
    assert fillings[0].is_untouched == ((call, when) == ("update", "die"))

# SPDX-License-Identifier: MIT
"""Progress, line by line, over a clock of the test's own."""

import io
import os
import pty
import struct
import termios
from collections.abc import Iterator
from fcntl import ioctl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.ports import Phase, Progress
from updater.progressline import (
    CLEAR_LINE,
    Pace,
    ProgressLine,
    counted,
    progress_status,
    progress_text,
)

MIB = 1 << 20


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    """A text file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def told(phase: Phase, done: int, *, size: int = 4 * MIB, **more: int) -> dict[str, object]:
    """Return an object for machines: *done* bytes have come and are written."""
    facts = {"received_bytes": done, "written_bytes": done, "verified_bytes": 0, **more}
    return progress_status(Progress(phase, size_bytes=size, **facts))


# --- one line ------------------------------------------------------------------------------------

LINES = {
    "connecting": (
        told(Phase.CONNECTING, 0), None, f"{'.' * 30}   0 %  0.0 of 4.0 MiB  connecting",
    ),
    "what is there": (
        told(Phase.RESUMING, 0, resumed_bytes=2 * MIB), 8 * MIB,
        f"{'#' * 15}{'.' * 15}  50 %  2.0 of 4.0 MiB  8.0 MiB/s  checking what is there",
    ),
    "blanking": (
        told(Phase.BLANKING, 0), None,
        f"{'.' * 30}   0 %  0.0 of 4.0 MiB  preparing the medium",
    ),
    "writing": (
        told(Phase.RECEIVING, MIB), MIB / 2,
        f"{'#' * 7}{'.' * 23}  25 %  1.0 of 4.0 MiB  0.5 MiB/s  0:06 left  writing",
    ),
    "stalled": (
        told(Phase.RECEIVING, MIB), 0.0,
        f"{'#' * 7}{'.' * 23}  25 %  1.0 of 4.0 MiB  0.0 MiB/s  writing",
    ),
    "after two retries": (
        told(Phase.RECEIVING, MIB, retries=2), None,
        f"{'#' * 7}{'.' * 23}  25 %  1.0 of 4.0 MiB  writing  2 retries",
    ),
    "hours": (
        told(Phase.RECEIVING, MIB, size=4096 * MIB), MIB,
        f"{'.' * 30}   0 %  1.0 of 4096.0 MiB  1.0 MiB/s  1:08:15 left  writing",
    ),
    "nobody knows the size": (
        told(Phase.RECEIVING, 9 * MIB, size=0), MIB, "9.0 MiB  1.0 MiB/s  writing",
    ),
    "reading back": (
        told(Phase.VERIFYING, 4 * MIB, verified_bytes=2 * MIB), None,
        f"{'#' * 15}{'.' * 15}  50 %  2.0 of 4.0 MiB  reading back",
    ),
    "reading back what was unpacked": (
        told(Phase.VERIFYING, MIB, size=MIB, written_bytes=8 * MIB, verified_bytes=2 * MIB), None,
        f"{'#' * 7}{'.' * 23}  25 %  2.0 of 8.0 MiB  reading back",
    ),
    "not reading back": (
        told(Phase.VERIFYING, 4 * MIB), None, f"{'#' * 30} 100 %  4.0 of 4.0 MiB  finishing",
    ),
    "done": (told(Phase.DONE, 4 * MIB), MIB, f"{'#' * 30} 100 %  4.0 of 4.0 MiB  done"),
}  # fmt: skip


@pytest.mark.parametrize(("progress", "pace", "text"), LINES.values(), ids=LINES.keys())
def test_a_line_says(progress: dict[str, object], pace: float | None, text: str) -> None:
    """Bar, per cent, MiB, pace, time left, and in plain words what is being done."""
    assert progress_text(progress, pace) == text


@given(
    st.sampled_from(Phase),
    st.integers(0, 1 << 50),
    st.integers(0, 1 << 50),
    st.integers(0, 1 << 50),
    st.none() | st.floats(0, 1e12),
)
def test_a_line_is_never_more_than_all(
    phase: Phase, received: int, verified: int, size: int, pace: float | None
) -> None:
    """Whatever the numbers, no line says more than 100 %, and each is printable ASCII."""
    progress = told(phase, received, size=size, verified_bytes=verified)
    line = progress_text(progress, pace)
    assert line.isascii()
    assert line.isprintable()
    if " %" in line:
        assert int(line[30:].split()[0]) <= 100


@pytest.mark.parametrize(("count", "text"), [(0, "0 retries"), (1, "1 retry"), (2, "2 retries")])
def test_nouns_agree(count: int, text: str) -> None:
    """One is singular."""
    assert counted(count, "retry", "retries") == text


# --- pace ----------------------------------------------------------------------------------------


def test_pace_is_that_of_the_last_seconds() -> None:
    """What was fast at first and is slow now is slow."""
    clock = Clock()
    pace = Pace(clock)
    assert pace.bytes_per_s() is None
    done = 0
    for second in range(20):
        done += 100 if second < 10 else 1
        clock.now_s += 1
        pace.note("receiving", done)
    assert pace.bytes_per_s() == 1


def test_pace_is_not_told_too_soon() -> None:
    """Half a second is needed; a new phase begins anew."""
    clock = Clock()
    pace = Pace(clock)
    pace.note("receiving", 0)
    clock.now_s += 0.4
    pace.note("receiving", 1000)
    assert pace.bytes_per_s() is None
    clock.now_s += 0.1
    pace.note("receiving", 2000)
    assert pace.bytes_per_s() == pytest.approx(4000)
    pace.note("verifying", 0)
    assert pace.bytes_per_s() is None


# --- a terminal ----------------------------------------------------------------------------------


def test_the_live_line_is_drawn_anew_only_for_news() -> None:
    """What is shown already is not written again; the end of the work ends the line."""
    terminal = Terminal()
    with ProgressLine(terminal, Clock()) as line:
        for received in (0, 0, MIB, MIB):
            line.show(told(Phase.RECEIVING, received))
        line.show(None)
    drawn = terminal.getvalue().split(CLEAR_LINE)
    assert [text.rstrip("\n") for text in drawn] == [
        "", progress_text(told(Phase.RECEIVING, 0)), progress_text(told(Phase.RECEIVING, MIB)),
    ]  # fmt: skip
    assert terminal.getvalue().endswith("writing\n")


@pytest.fixture
def narrow() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """A terminal of 40 columns: its reading end, and what writes to it."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        yield leader, stream
    os.close(leader)


@pytest.mark.parametrize("retries", [0, 123456])
def test_the_live_line_fits_the_terminal(
    narrow: tuple[int, io.TextIOWrapper], retries: int
) -> None:
    """The bar gives way first, then what stands last: no line ever wraps."""
    leader, stream = narrow
    with ProgressLine(stream, Clock()) as line:
        line.show(told(Phase.RECEIVING, 2 * MIB, retries=retries))
    seen = os.read(leader, 1000).decode()
    text = seen.removeprefix(CLEAR_LINE).removesuffix("\r\n")
    assert len(text) <= 39
    assert " 50 %  2.0 of 4.0 MiB  writing" in text
    assert ("#" in text) == (retries == 0)


def test_no_line_is_ended_that_never_began() -> None:
    """Nothing to show: not a byte is written."""
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        line.show(None)
    assert terminal.getvalue() == ""


# --- no terminal ---------------------------------------------------------------------------------


def plain(seconds: int, per_second: int, size: int) -> list[str]:
    """Return the lines of an image that comes at a pace."""
    clock, stream = Clock(), io.StringIO()
    with ProgressLine(stream, clock) as line:
        line.show(told(Phase.CONNECTING, 0, size=size))
        for second in range(seconds):
            line.show(told(Phase.RECEIVING, second * per_second, size=size))
            clock.now_s += 1
        line.show(told(Phase.VERIFYING, size, size=size))
        line.show(told(Phase.DONE, size, size=size))
    assert stream.getvalue().endswith("\n")
    return stream.getvalue().splitlines()


def test_plain_lines_are_few() -> None:
    """A line per phase and one per tenth, without a bar and with nothing that moves a cursor."""
    lines = plain(100, MIB, 100 * MIB)
    percents = [int(line.split()[0]) for line in lines if "  writing" in line]
    assert percents == list(range(0, 100, 10))
    assert len(lines) == 12
    assert lines[0] == "  0 %  0.0 of 100.0 MiB  connecting"
    assert lines[6] == " 50 %  50.0 of 100.0 MiB  1.0 MiB/s  0:50 left  writing"
    assert lines[-1] == "100 %  100.0 of 100.0 MiB  finishing"


def test_plain_lines_do_not_come_in_a_rush() -> None:
    """However fast it is, two seconds lie between two lines of one phase."""
    assert len([line for line in plain(10, 10 * MIB, 100 * MIB) if "  writing" in line]) == 5


def test_plain_lines_are_a_sign_of_life() -> None:
    """However slow it is, and if nobody knows the size, there is one every 30 seconds."""
    for size in (0, 1 << 40):
        assert len([line for line in plain(300, 1, size) if "  writing" in line]) == 10


def test_without_a_terminal_nothing_may_be_shown() -> None:
    """Who asked for JSON gets no plain lines; a terminal still has its live line."""
    stream, terminal = io.StringIO(), Terminal()
    for each in (stream, terminal):
        with ProgressLine(each, is_live_only=True) as line:
            line.show(told(Phase.RECEIVING, MIB))
    assert stream.getvalue() == ""
    assert terminal.getvalue().endswith("writing\n")


def test_reading_is_not_called_writing() -> None:
    """What is done with the bytes is said by who knows."""
    stream = io.StringIO()
    with ProgressLine(stream, writing="reading") as line:
        line.show(told(Phase.RECEIVING, MIB))
    assert stream.getvalue() == " 25 %  1.0 of 4.0 MiB  reading\n"

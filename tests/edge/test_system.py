# SPDX-License-Identifier: MIT
"""The machine as a whole: its clocks, its version, and the way to a reboot."""

import logging
import re
import time
from pathlib import Path

import pytest

from updater.core.config import Board, BoardName, SlotConfig, StateConfig
from updater.core.ports import LocalTime
from updater.edge.system import LinuxSystem


def system(tmp_path: Path, *reboot_command: str) -> LinuxSystem:
    """A machine whose files are in *tmp_path*."""
    state = StateConfig(
        trial_over=str(tmp_path / "run" / "updater" / "trial-over"),
        reboot_command=reboot_command,
    )
    slots = (SlotConfig(bootname="A", partlabel="a"), SlotConfig(bootname="B", partlabel="b"))
    name = BoardName(name="board", version_file=str(tmp_path / "version"))
    return LinuxSystem(state, Board(board=name, slot=slots))


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (b"1.2.3\n", "1.2.3"),
        (b"  1.2.3  \r\nbuilt by hand\n", "1.2.3"),
        (b"v" * 40, "v" * 32),
        (b"", "unknown"),
        (b"\n1.2.3\n", "unknown"),
        (b"1.2.\xb3\n", "unknown"),
    ],
)
def test_the_version_is_the_files_first_line(tmp_path: Path, content: bytes, version: str) -> None:
    """Short, ASCII, without blanks around; whatever else is there is no version."""
    (tmp_path / "version").write_bytes(content)
    assert system(tmp_path).version() == version


def test_a_missing_version_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A machine without the file runs, says ``unknown``, and its log says why."""
    assert system(tmp_path).version() == "unknown"
    assert "No such file" in caplog.text


def test_the_trials_end_is_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The dead-man timer finds it, also where the folder was missing; twice is once."""
    for _ in range(2):
        system(tmp_path).trial_over()
        assert (tmp_path / "run" / "updater" / "trial-over").exists()
    assert not caplog.records


def test_a_trials_end_that_cannot_be_written_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The verdict stands; the log warns of one more reboot."""
    (tmp_path / "run").touch()
    system(tmp_path).trial_over()
    assert "may reboot once more" in caplog.text


def test_a_reboot_is_asked_for_and_not_awaited(tmp_path: Path) -> None:
    """The configured command runs with its arguments, while the caller goes on."""
    asked = tmp_path / "asked"
    machine = system(tmp_path, "sh", "-c", f"sleep 0.1; echo $0 $1 > {asked}", "now", "a b")
    began_s = time.monotonic()
    machine.reboot()
    assert time.monotonic() - began_s < 0.1
    assert not asked.exists()
    assert machine._rebooting is not None
    assert machine._rebooting.wait(10) == 0
    assert asked.read_text() == "now a b\n"


@pytest.mark.parametrize("command", [("/no/such/reboot",), (), ("a\0b",)])
def test_a_reboot_that_cannot_start_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: tuple[str, ...]
) -> None:
    """The agent lives on, and the log asks for a hand."""
    with caplog.at_level(logging.INFO):
        system(tmp_path, *command).reboot()
    assert "reboot by hand" in caplog.text


def test_clocks_and_ids(tmp_path: Path) -> None:
    """One clock never jumps, the other is the calendar; no two ids are the same."""
    machine = system(tmp_path)
    assert machine.monotonic_s() <= time.monotonic() <= machine.monotonic_s()
    assert abs(machine.time_s() - time.time()) < 1
    ids = {machine.random_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


@pytest.mark.parametrize(
    ("zone", "time_s", "wanted"),
    [
        ("UTC0", 0.0, LocalTime(0, 0, 0)),
        ("UTC0", 1_772_409_599.9, LocalTime(20513, 1439, 59)),
        ("XXX-05:45", 1_772_409_600.0, LocalTime(20514, 345, 0)),
        ("XXX03:30:15", 1_772_409_600.0, LocalTime(20513, 1229, 45)),
        # central Europe's clock goes from 02:00 to 03:00, and back from 03:00 to 02:00
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_774_745_999.0, LocalTime(20541, 119, 59)),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_774_746_000.0, LocalTime(20541, 180, 0)),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_792_889_999.0, LocalTime(20751, 179, 59)),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_792_890_000.0, LocalTime(20751, 120, 0)),
    ],
)
def test_local_time_is_that_of_the_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, time_s: float, wanted: LocalTime
) -> None:
    """Day, minute and second as a clock on the wall shows them, over its changes too."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        assert system(tmp_path).local_time(time_s) == wanted
    time.tzset()

# SPDX-License-Identifier: MIT
"""Configured commands with real processes: how they end, what they say, what they get to know."""

import os
import select
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from fds import descriptors

from updater.core.commands import Outcome
from updater.edge.commands import CommandRunner, Running


def start(
    *argv: str, timeout_s: float = 30.0, environment: Mapping[str, str] | None = None
) -> Running:
    """Start one command."""
    return CommandRunner().start(argv, timeout_s, environment or {})


def ended(running: Running) -> Outcome:
    """Sleep on the command's descriptor until it has ended, and return how."""
    with closing(running):
        deadline_s = time.monotonic() + 10
        while (found := running.poll()) is None:
            assert time.monotonic() < deadline_s
            select.select([running.fileno()], [], [], 0.1)
        return found


def shell(script: str, **more: float) -> Outcome:
    """Return how a script ends."""
    return ended(start("sh", "-c", script, **more))


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("exit 0", Outcome(0, "exit status 0")),
        ("echo 'no room'; echo more; exit 3", Outcome(3, "exit status 3", "no room")),
        ("echo on standard error >&2; exit 75", Outcome(75, "exit status 75", "on standard error")),
        ("echo; echo '  late  '; exit 1", Outcome(1, "exit status 1", "late")),
        ("printf 'a\\001b\\303\\244\\033[31m'", Outcome(0, "exit status 0", "a?b???[31m")),
        ("echo first; exec >&- 2>&-; sleep 0.2; exit 4", Outcome(4, "exit status 4", "first")),
        ("echo said; kill -SEGV $$", Outcome(None, "killed by signal 11", "said")),
        ("cat; echo $?", Outcome(0, "exit status 0", "0")),
        ("pwd", Outcome(0, "exit status 0", "/")),
    ],
)
def test_each_end_is_told_with_the_first_line(script: str, wanted: Outcome) -> None:
    """The exit status, and what was said first, in printable ASCII."""
    assert shell(script) == wanted


@pytest.mark.parametrize(
    ("argv", "detail"),
    [
        (("/no/such/program",), "cannot start: No such file or directory"),
        (("/etc",), "cannot start: Permission denied"),
        (("a\0b",), "cannot start: embedded null byte"),
    ],
)
def test_what_cannot_be_started_says_why(argv: tuple[str, ...], detail: str) -> None:
    """There is no exit status then."""
    assert ended(start(*argv)) == Outcome(None, detail)


def test_a_command_past_its_time_is_killed_with_all_its_children(tmp_path: Path) -> None:
    """What it has said until then is kept, and its output is nobody's any more."""
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo waiting; sleep 60 & echo $! > {pid}; wait"
    assert shell(script, timeout_s=0.5) == Outcome(None, "no result within 0.5 s", "waiting")
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    deadline_s = time.monotonic() + 5
    while stat.exists() and stat.read_text("ascii").rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_what_is_said_without_end_is_read_and_dropped() -> None:
    """A command that talks more than a pipe holds does not have to wait, nor does the agent."""
    running = start("sh", "-c", "echo first; yes | head -c 3000000; exit 5")
    found = None
    slowest_s = 0.0
    with closing(running):
        while found is None:
            assert select.select([running.fileno()], [], [], 10)[0]
            began_s = time.monotonic()
            found = running.poll()
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        assert len(running._said) <= 1024
    assert (found.status, found.line) == (5, "first")
    assert slowest_s < 1


def test_a_long_line_is_cut() -> None:
    """A hundred characters will do for a reason."""
    assert shell("yes | tr -d '\\n' | head -c 5000").line == "y" * 100


def test_nothing_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variables nor credentials nor descriptors: what it is told, a path, a language."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/updater.service")
    monkeypatch.setenv("https_proxy", "http://user:password@proxy")
    kept = tmp_path / "kept"
    fileno = os.open(kept, os.O_RDWR | os.O_CREAT)
    try:
        os.set_inheritable(fileno, True)
        environment = {"UPDATER_VERSION": "1.2"}
        script = f"/usr/bin/env -0 > {tmp_path}/env; ls -l /proc/self/fd > {tmp_path}/fds"
        found = ended(start("/bin/sh", "-c", script, environment=environment))
    finally:
        os.close(fileno)
    assert found == Outcome(0, "exit status 0")
    names = {row.split("=")[0] for row in (tmp_path / "env").read_text().split("\0") if row}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LANG", "UPDATER_VERSION"}
    assert "kept" not in (tmp_path / "fds").read_text()


def test_commands_leave_no_descriptors() -> None:
    """However one ends, nothing of it stays open."""
    before = descriptors()
    for argv in [("true",), ("sleep", "60"), ("/no/such/program",)] * 5:
        running = start(*argv)
        running.close()
        running.close()
        if running.process is not None:
            running.process.wait(10)
    assert descriptors() == before

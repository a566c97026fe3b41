# SPDX-License-Identifier: MIT
"""Health checks with real processes: verdicts, time-outs, and what refuses to end."""

import errno
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fds import descriptors

from updater.core.config import HealthCommand, HealthConfig
from updater.core.ports import HealthCheck, Verdict
from updater.edge.health import CommandHealth


def start(*argv: str, timeout_s: float = 30.0) -> HealthCheck:
    """Start one check."""
    command = HealthCommand(name="check", argv=argv, timeout_s=timeout_s)
    (check,) = CommandHealth(HealthConfig(command=(command,))).start({"check"})
    return check


def verdict(check: HealthCheck) -> Verdict:
    """Sleep on the check's descriptor and return what it says."""
    assert select.select([check.fileno()], [], [], 10)[0]
    found = check.poll()
    assert found is not None
    return found


def is_there(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("argv", "is_passed", "detail"),
    [
        (("true",), True, "exit status 0"),
        (("sh", "-c", "exit 3"), False, "exit status 3"),
        (("sh", "-c", "kill -SEGV $$"), False, "killed by signal 11"),
        (("sh", "-c", "read -r line"), False, "exit status 1"),
        (("sh", "-c", "echo to nobody; echo and nobody >&2"), True, "exit status 0"),
        (("/no/such/program",), False, "cannot start: No such file or directory"),
        (("/etc",), False, "cannot start: Permission denied"),
        ((), False, "cannot start: "),
        (("a\0b",), False, "cannot start: embedded null byte"),
    ],
)
def test_each_end_is_a_verdict(argv: tuple[str, ...], is_passed: bool, detail: str) -> None:
    """Exit status 0 alone is healthy; a command that cannot run has failed, and says why."""
    with closing(start(*argv)) as check:
        found = verdict(check)
    assert (found.name, found.is_passed) == ("check", is_passed)
    assert found.detail.startswith(detail)


def test_only_what_is_asked_for_is_started(tmp_path: Path) -> None:
    """Names choose; commands of other names do not run."""
    commands = tuple(
        HealthCommand(name=name, argv=("touch", str(tmp_path / name))) for name in "abc"
    )
    checks = CommandHealth(HealthConfig(command=commands)).start({"a", "c", "unknown"})
    assert [check.name for check in checks] == ["a", "c"]
    for check in checks:
        assert verdict(check).is_passed
        check.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_nothing_is_said_before_the_end() -> None:
    """While the command runs there is no verdict, and asking costs no time."""
    with closing(start("sleep", "60")) as check:
        began_s = time.monotonic()
        assert check.poll() is None
        assert not select.select([check.fileno()], [], [], 0)[0]
        assert time.monotonic() - began_s < 0.1


@pytest.mark.parametrize("is_closed", [False, True])
def test_the_whole_group_is_killed(tmp_path: Path, is_closed: bool) -> None:
    """Past its time-out, or when nobody wants to know any more, nothing of the command stays."""
    script = "trap '' TERM; sleep 60 & echo $! > $0.new; mv $0.new $0; wait"
    pid = tmp_path / "pid"
    check = start("sh", "-c", script, str(pid), timeout_s=60 if is_closed else 0.2)
    while not pid.exists():
        assert check.poll() is None
        time.sleep(0.01)
    if not is_closed:
        time.sleep(0.2)
        assert check.poll() == Verdict("check", is_passed=False, detail="no result within 0.2 s")
    check.close()
    check.close()
    deadline_s = time.monotonic() + 5
    while is_there(int(pid.read_text())):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_kernel_without_pidfds_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.3 the end is found by looking; nothing spins on a descriptor till then."""

    def refused(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refused)
    with closing(start("sh", "-c", "exit 4")) as check:
        assert not select.select([check.fileno()], [], [], 0)[0]
        while (found := check.poll()) is None:
            time.sleep(0.01)
    assert found.detail == "exit status 4"


def test_checks_leave_no_descriptors_and_no_children() -> None:
    """However a check ends, nothing of it stays open, and nothing of it goes on."""
    before = descriptors()
    for argv in [("true",), ("sleep", "60"), ("/no/such/program",), ()] * 5:
        check = start(*argv)
        check.close()
        if check._process is not None:
            check._process.wait(10)  # done already, unless this machine is very busy
            assert not is_there(check._process.pid)
    assert descriptors() == before


def thaw(place: Path) -> None:
    """Let writers go on; again is harmless."""
    subprocess.run(["fsfreeze", "--unfreeze", place], check=False, capture_output=True)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Path]:
    """A file system on which every writer hangs in the kernel, where no signal reaches it."""
    backing, place = tmp_path / "backing", tmp_path / "frozen"
    place.mkdir()
    backing.touch()
    os.truncate(backing, 8 << 20)
    subprocess.run(["mkfs.ext4", "-q", backing], check=True)
    subprocess.run(["mount", "-o", "loop", backing, place], check=True)
    watchdog = threading.Timer(5, thaw, [place])
    watchdog.start()
    try:
        subprocess.run(["fsfreeze", "--freeze", place], check=True)
        yield place
    finally:
        watchdog.cancel()
        watchdog.join()
        thaw(place)
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.root
def test_a_command_that_cannot_be_killed_holds_nobody(frozen: Path) -> None:
    """A check that hangs in a driver has failed; the agent goes on without waiting for its end."""
    check = start("sh", "-c", f"echo > {frozen}/file", timeout_s=0.2)
    time.sleep(0.25)
    began_s = time.monotonic()
    assert check.poll() == Verdict("check", is_passed=False, detail="no result within 0.2 s")
    check.close()
    assert time.monotonic() - began_s < 2
    assert check._process.poll() is None
    thaw(frozen)
    assert check._process.wait(10) == -9

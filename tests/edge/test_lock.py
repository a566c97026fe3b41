# SPDX-License-Identifier: MIT
"""The writer's lock with real processes."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from fds import descriptors

from updater.core.errors import BusyError, NotPermittedError
from updater.edge.lock import Lock

HOLDER = """
import sys, time
sys.path.insert(0, ".")
from updater.edge.lock import Lock
lock = Lock(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "updater" / "lock")


@contextmanager
def holder(path: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()
            process.wait()


def test_one_process_holds_it(path: str) -> None:
    """The second one is told whom it waits for, and leaves no descriptor."""
    with holder(path) as process:
        before = descriptors()
        with pytest.raises(BusyError, match=f"process {process.pid}\\)"):
            Lock(path)
        assert descriptors() == before


def test_a_killed_process_leaves_nothing_behind(path: str) -> None:
    """After kill -9 the next one gets it, whatever the file says."""
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with closing(Lock(path)):
            assert Path(path).read_text() == f"{os.getpid()}\n"


def test_it_ends_with_close(path: str) -> None:
    """Not with the file: that stays, and is nobody's."""
    with closing(Lock(path)), pytest.raises(BusyError):
        Lock(path)
    assert Path(path).exists()
    Lock(path).close()


def test_children_do_not_inherit_it(path: str) -> None:
    """A health check that outlives the agent keeps nobody from starting anew."""
    with closing(Lock(path)):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        Lock(path).close()
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"9" * 5000])
def test_the_files_content_means_nothing(path: str, content: bytes) -> None:
    """Whatever was in it, free is free and held is held."""
    Path(path).parent.mkdir(parents=True)
    Path(path).write_bytes(content)
    with closing(Lock(path)):
        assert Path(path).read_text() == f"{os.getpid()}\n"
        Path(path).write_bytes(content)
        with pytest.raises(BusyError, match="another updater works"):
            Lock(path)


def test_a_full_medium_is_no_obstacle(path: str) -> None:
    """The note for people may not fit; the lock is held all the same."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        lock = Lock(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with closing(lock), pytest.raises(BusyError, match="process unknown"):
        Lock(path)


def test_a_place_that_is_none_is_told(tmp_path: Path) -> None:
    """A folder in the file's place, or a file in the folder's, is a sentence."""
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "lock"):
        with pytest.raises(NotPermittedError, match=f"cannot open the lock {place}"):
            Lock(str(place))

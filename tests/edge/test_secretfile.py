# SPDX-License-Identifier: MIT
"""The secret's file: whole or not there, after any kill, any cut and any failing call."""

import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fds import descriptors

from updater.core.errors import BusyError, StorageError
from updater.edge.secretfile import SecretFile

ROOT = Path(__file__).parents[2]
SECRET = "bmV3IHNlY3JldCBvZiAxNg=="
OLD = "b2xkIHNlY3JldCBvZiAxNg=="
STORE = f"""
import os, sys
from updater.edge.secretfile import SecretFile
file = SecretFile(sys.argv[1])
os.umask(0)
with file.reserved() as reservation:
    print("asked", flush=True)
    reservation.store({SECRET!r})
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "updater" / "secret"


def store(path: Path, secret: str = SECRET) -> None:
    with SecretFile(str(path)).reserved() as reservation:
        reservation.store(secret)


def whole(path: Path) -> bool:
    """Tell whether the secret is there; anything between there and not there fails the test."""
    if not path.exists():
        return False
    assert path.read_text() in {f"{SECRET}\n", f"{OLD}\n"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text() == f"{SECRET}\n"


# --- storing -------------------------------------------------------------------------------------


def test_a_secret_is_for_its_owner_alone(path: Path) -> None:
    """Mode 0600, in folders of 0700 that are made for it; nothing else is left there."""
    file = SecretFile(str(path))
    assert not file.exists()
    before, mask = descriptors(), os.umask(0)
    try:
        store(path)
    finally:
        os.umask(mask)
    assert descriptors() == before
    assert file.exists()
    assert whole(path)
    assert [each.name for each in path.parent.iterdir()] == ["secret"]
    assert [stat.S_IMODE(p.stat().st_mode) for p in path.parents[:2]] == [0o700, 0o700]


def test_folders_that_are_made_survive_a_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds the name of a folder that was made, or of the secret, is flushed."""
    flushed: set[int] = set()
    real = os.fsync

    def fsync(fileno: int) -> None:
        flushed.add(os.fstat(fileno).st_ino)
        real(fileno)

    monkeypatch.setattr(os, "fsync", fsync)
    store(path)
    assert {folder.stat().st_ino for folder in list(path.parents)[:3]} <= flushed


def test_a_new_one_replaces_the_old_one(path: Path) -> None:
    """Also one that others could read, or a link: neither is written into."""
    path.parent.mkdir(parents=True)
    elsewhere = path.parent / "elsewhere"
    elsewhere.write_text("of others")
    path.symlink_to(elsewhere)
    store(path)
    assert whole(path)
    assert not path.is_symlink()
    assert elsewhere.read_text() == "of others"


def test_what_an_earlier_cut_has_left_is_no_secret(path: Path) -> None:
    """The file beside it is never read, and a link in its place is not followed."""
    path.parent.mkdir(parents=True)
    left, victim = path.parent / ".secret.new", path.parent / "victim"
    victim.write_text("of others")
    left.symlink_to(victim)
    assert not SecretFile(str(path)).exists()
    store(path)
    assert whole(path)
    assert victim.read_text() == "of others"
    assert not left.is_symlink()


def test_room_that_is_not_used_is_given_back(path: Path) -> None:
    """Whoever gets no secret leaves nothing behind, and the next one may try."""
    for _ in range(2):
        with SecretFile(str(path)).reserved():
            assert (path.parent / ".secret.new").stat().st_size == 4096
        assert list(path.parent.iterdir()) == []


def test_one_at_a_time(path: Path) -> None:
    """Two registrations would fetch two secrets, of which one is void."""
    with SecretFile(str(path)).reserved() as reservation:
        with (
            pytest.raises(BusyError, match="somebody else is about to store"),
            SecretFile(str(path)).reserved(),
        ):
            pytest.fail("two at once")
        reservation.store(SECRET)
    assert whole(path)


# --- what is refused before anybody is asked -----------------------------------------------------


@contextmanager
def full() -> Iterator[None]:
    """Let no file grow."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def refused(path: Path) -> str:
    before = descriptors()
    with pytest.raises(StorageError) as caught, SecretFile(str(path)).reserved():
        pytest.fail("there was no room")
    assert descriptors() == before
    return str(caught.value)


def test_a_medium_without_room_is_found_out_in_time(path: Path) -> None:
    """Room is taken before the cloud is asked, also if there is only some of it."""
    with full():
        said = refused(path)
    assert said == f"cannot store a secret in {path}: No space left on device"
    assert list(path.parent.iterdir()) == []


def test_a_place_that_cannot_be_is_found_out_in_time(tmp_path: Path) -> None:
    """A file where a folder should be, a folder where the file should be, a name too long."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert "File exists" in refused(tmp_path / "file" / "folder" / "secret")
    assert "Is a directory" in refused(tmp_path / "folder")
    assert "File name too long" in refused(tmp_path / ("x" * 253))


@pytest.mark.root
def test_a_medium_that_is_read_only_is_found_out_in_time(tmp_path: Path) -> None:
    """As the root of most devices is."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", tmp_path], check=True)
    try:
        assert "Read-only file system" in refused(tmp_path / "secret")
        assert "Read-only file system" in refused(tmp_path / "folder" / "secret")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# --- cuts ----------------------------------------------------------------------------------------


class Cut(BaseException):
    """The power goes."""


class Disk:
    """What would be on the medium now: only what was flushed is sure, a rename may be or not."""

    def __init__(self, cut_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Cut the power before the *cut_at*-th call."""
        self.calls = 0
        self.durable: dict[int, bytes] = {}  # content of files, by inode
        self.named: int | None = None  # inode that bears the secret's name, if that is sure
        self.perhaps: list[int] = []  # and which it may bear as well
        self._cut_at = cut_at
        for name in ("pwrite", "ftruncate", "fsync", "rename"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name), getattr(self, name)))

    def _watched(self, real, after):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        def call(*args, **more):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN202
            self.calls += 1
            if self.calls == self._cut_at:
                raise Cut
            result = real(*args, **more)
            after(*args, **more)
            return result

        return call

    def pwrite(self, *_args: object) -> None:
        pass

    def ftruncate(self, *_args: object) -> None:
        pass

    def fsync(self, fileno: int) -> None:
        """A file's bytes are safe; or a folder's names."""
        found = os.fstat(fileno)
        if stat.S_ISREG(found.st_mode):
            self.durable[found.st_ino] = Path(f"/proc/self/fd/{fileno}").read_bytes()
        elif self.perhaps:
            self.named = self.perhaps.pop()

    def rename(self, _old: str, new: str, src_dir_fd: int, dst_dir_fd: int) -> None:
        del src_dir_fd
        self.perhaps.append(os.stat(new, dir_fd=dst_dir_fd).st_ino)

    def may_hold(self) -> list[bytes | None]:
        """Return everything that the secret's name may show after the cut."""
        named = [self.named, *self.perhaps]
        return [None if inode is None else self.durable.get(inode, b"torn") for inode in named]


def test_a_power_cut_leaves_the_secret_whole_or_absent(path: Path) -> None:
    """Before every call that changes the medium, whatever of it the medium has kept so far."""
    path.parent.mkdir(parents=True)
    for cut_at in range(1, 99):
        path.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = Disk(cut_at, monkeypatch)
            try:
                store(path)
            except Cut:
                assert set(disk.may_hold()) <= {None, f"{SECRET}\n".encode()}
                continue
        assert disk.may_hold() == [f"{SECRET}\n".encode()], "it has returned, and is not sure"
        assert disk.calls >= 6
        return
    pytest.fail("it never ended")


def traced(path: Path, trace: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Store in a process of its own, tampered with as *words* tell strace."""
    return subprocess.run(
        ["strace", "-f", "-qq", "-o", trace, *words, sys.executable, "-c", STORE, path],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
        timeout=60,
    )  # fmt: skip


CALLS = "pwrite64,fsync,ftruncate,rename,renameat,renameat2,flock,unlinkat"


def changes(path: Path, trace: Path) -> list[str]:
    """Return the calls that storing makes, undisturbed."""
    path.parent.mkdir(parents=True)
    assert traced(path, trace, "-e", f"trace={CALLS}").returncode == 0
    return re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE)


@pytest.mark.parametrize("old", [None, OLD])
def test_a_kill_leaves_the_secret_whole_or_absent(
    path: Path, tmp_path: Path, old: str | None
) -> None:
    """SIGKILL at each call; and the next one can store."""
    trace = tmp_path / "trace"
    calls = changes(path, trace)
    stored = 0
    for n, call in enumerate(calls):
        path.unlink(missing_ok=True)
        if old is not None:
            store(path, old)
        turn = calls[: n + 1].count(call)
        done = traced(path, trace, "-e", f"inject={call}:signal=KILL:when={turn}")
        assert done.returncode != 0
        stored += whole(path)
        assert path.exists() or old is None
        store(path)
        assert whole(path)
    assert 0 < stored < len(calls)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EROFS"])
def test_a_call_that_fails_is_told_and_leaves_no_half(
    path: Path, tmp_path: Path, error: str
) -> None:
    """Each call, with each error: one sentence, and what was there before or all of the new."""
    trace = tmp_path / "trace"
    calls = changes(path, trace)
    for n, call in enumerate(calls):
        path.unlink(missing_ok=True)
        store(path, OLD)
        turn = calls[: n + 1].count(call)
        done = traced(path, trace, "-e", f"inject={call}:error={error}:when={turn}")
        assert whole(path) or path.read_text() == f"{OLD}\n"
        if done.returncode == 0:
            assert (whole(path), call) == (True, "unlinkat")
        else:
            assert "StorageError: cannot store a secret in" in done.stderr
            is_room = turn == 1 and call != "ftruncate" and not call.startswith("rename")
            assert is_room == ("asked" not in done.stdout)
            assert SECRET not in done.stderr.replace(f"reservation.store({SECRET!r})", "")

# SPDX-License-Identifier: MIT
"""A plain file as the target, under AddressSanitizer: the old one stands until the new is whole."""

import errno
import fcntl
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile import HostileServer, answer
from sanitized import HEAD, MIB, Outcome, Slot, Status
from test_sources import piped

IMAGE = random.Random(9).randbytes(6 * MIB) + bytes(MIB) + random.Random(10).randbytes(MIB + 77)
BEFORE = b"what was here before"
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system without O_DIRECT and without much room


@pytest.fixture
def slot(tmp_path: Path, engine: Path) -> Slot:
    slot = Slot(tmp_path, engine)
    slot.source.write_bytes(IMAGE)
    return slot


@pytest.fixture(params=["disk", "memory"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file on a file system with O_DIRECT, and one without."""
    folder = tmp_path if request.param == "disk" else MEMORY / tmp_path.name
    folder.mkdir(exist_ok=True)
    target = folder / "target.img"
    target.write_bytes(BEFORE)
    yield target
    for path in (target, part(target)):
        path.unlink(missing_ok=True)
    if request.param == "memory":
        folder.rmdir()


def part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def fill(slot: Slot, target: Path, image: bytes = IMAGE, **orders: object) -> Outcome:
    return slot.fill(image, device=target, plays=None, **orders)


@pytest.mark.parametrize("size", [1, 4096, HEAD - 1, HEAD, HEAD + 1, len(IMAGE)])
def test_a_file_is_replaced_by_one_of_exactly_that_length(
    slot: Slot, target: Path, size: int
) -> None:
    """No padding, no rest of the old file, no .part; the mode stays."""
    target.chmod(0o640)
    slot.source.write_bytes(IMAGE[:size])
    assert fill(slot, target, IMAGE[:size]).status == Status.DONE
    assert target.read_bytes() == IMAGE[:size]
    assert target.stat().st_mode & 0o777 == 0o640
    assert not part(target).exists()


def test_a_file_may_be_new(slot: Slot, tmp_path: Path) -> None:
    """Its folder must be there."""
    assert fill(slot, tmp_path / "new.img").status == Status.DONE
    assert (tmp_path / "new.img").read_bytes() == IMAGE
    outcome = fill(slot, tmp_path / "nowhere/new.img")
    assert (outcome.status, outcome.facts["os_errno"]) == (Status.OPEN, errno.ENOENT)


def test_a_link_is_followed(slot: Slot, target: Path, tmp_path: Path) -> None:
    """The file that it names is replaced, and the link stays one."""
    link = tmp_path / "link"
    link.symlink_to(target)
    assert fill(slot, link).status == Status.DONE
    assert link.is_symlink()
    assert target.read_bytes() == IMAGE


@pytest.mark.parametrize("path", ["/", "/dev/null"])
def test_what_is_no_file_is_not_replaced(slot: Slot, path: str) -> None:
    """A folder, a character device."""
    assert fill(slot, Path(path)).status == Status.OPEN


def test_an_image_of_unknown_length_comes_in(slot: Slot, target: Path) -> None:
    """Zeros in it are zeros, wherever the file ends so far."""
    assert fill(slot, target, size=None).status == Status.DONE
    assert target.read_bytes() == IMAGE


@pytest.fixture
def broken(server: HostileServer) -> str:
    """A URL that breaks off when 2 MiB and more are proven, and a checkpoint was written."""
    return server.url("/broken", lambda _: answer(IMAGE[: 15 * MIB // 2], length=len(IMAGE)))


@pytest.mark.parametrize("has_checkpoint", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"md5": "0" * 32},
        {"source": "/does/not/exist"},
        {"image_limit": MIB},
        {"fault": f"write:2:{errno.EIO}"},
        {"source": "broken", "md5": None},
        {"source": "broken", "size": 0},
    ],
    ids=str,
)
def test_the_old_file_stands_after_any_failure(
    slot: Slot, target: Path, broken: str, change: dict[str, object], has_checkpoint: bool
) -> None:
    """And nothing is left beside it that no later try could use."""
    checkpoint = slot.path.with_name("checkpoint") if has_checkpoint else None
    change = change | ({"source": broken} if change.get("source") == "broken" else {})
    assert fill(slot, target, checkpoint=checkpoint, **change).status < 0
    assert target.read_bytes() == BEFORE
    assert not part(target).exists()
    if checkpoint and checkpoint.exists():
        assert checkpoint.read_bytes() == b""


def test_what_can_be_given_only_once_leaves_nothing(
    slot: Slot, target: Path, tmp_path: Path
) -> None:
    """Standard input cannot be asked for its middle, whatever was announced."""
    checkpoint = tmp_path / "checkpoint"
    with piped(IMAGE):
        outcome = fill(
            slot, target, source="-", fault=f"write:26:{errno.EIO}", checkpoint=checkpoint
        )
    assert outcome.status == Status.IO
    assert not part(target).exists()
    assert checkpoint.read_bytes() == b""


def test_what_waits_for_the_next_try_takes_no_more_than_what_is_proven(
    slot: Slot, target: Path, tmp_path: Path, broken: str
) -> None:
    """The room that was reserved for the rest is given back meanwhile."""
    checkpoint = tmp_path / "checkpoint"
    assert fill(slot, target, source=broken, checkpoint=checkpoint).status == Status.TRANSPORT
    left = part(target).stat()
    assert left.st_blocks * 512 <= left.st_size < len(IMAGE)
    outcome = fill(slot, target, checkpoint=checkpoint)
    assert outcome.status == Status.DONE
    assert 2 * MIB <= outcome.facts["resumed"] <= left.st_size
    assert target.read_bytes() == IMAGE


@pytest.mark.parametrize(
    "change",
    [{"source": "/does/not/exist"}, {"fault": "source:4:wait", "closes_on_fault": 1}],
    ids=["no source", "cancelled"],
)
def test_what_an_earlier_try_has_left_waits_for_the_next(
    slot: Slot, target: Path, tmp_path: Path, broken: str, change: dict[str, object]
) -> None:
    """A try in between that never came to write, or was cancelled while it read, costs nothing."""
    checkpoint = tmp_path / "checkpoint"
    assert fill(slot, target, source=broken, checkpoint=checkpoint).status == Status.TRANSPORT
    left = part(target).read_bytes()
    outcome = fill(slot, target, checkpoint=checkpoint, **change)
    assert outcome.status in {Status.OPEN, Status.MORE}
    assert outcome.happened == ("fault" in change)
    assert part(target).read_bytes() == left
    assert fill(slot, target, checkpoint=checkpoint).facts["resumed"] >= 2 * MIB


# --- room ----------------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, size: int, options: str) -> Iterator[Path]:
    """A file system of *size* bytes on a loop device."""
    medium, room = folder / "medium", folder / "room"
    with medium.open("wb") as file:
        file.truncate(size)
    room.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", medium], check=True)
    subprocess.run(["mount", "-o", f"loop,{options}", medium, room], check=True)
    try:
        yield room
    finally:
        subprocess.run(["umount", room], check=True)


def free(room: Path) -> int:
    """Return how many bytes can be had."""
    found = os.statvfs(room)
    return found.f_bavail * found.f_frsize


@pytest.mark.root
@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_an_image_that_is_refused_takes_no_room(
    slot: Slot, tmp_path: Path, has_checkpoint: bool
) -> None:
    """There is as much left as before, and that is what is told."""
    with slot.source.open("r+b") as image:
        image.truncate(64 * MIB)
    with mounted(tmp_path, 24 * MIB, "data=ordered") as room:
        before = free(room)
        checkpoint = room / "checkpoint" if has_checkpoint else None
        outcome = fill(slot, room / "target", size=64 * MIB, md5="0" * 32, checkpoint=checkpoint)
        assert outcome.status == Status.SPACE
        assert before - 4096 <= outcome.facts["offset"] <= before
        assert free(room) >= before - 4096
        assert not part(room / "target").exists()


def test_no_room_is_told_before_the_first_byte(slot: Slot) -> None:
    """The size is reserved; what there is room for is told."""
    target = MEMORY / "updater-no-room.img"
    with slot.source.open("r+b") as image:
        image.truncate(1 << 42)
    outcome = fill(slot, target, size=1 << 42)
    assert outcome.status == Status.SPACE
    assert 0 < outcome.facts["offset"] < 1 << 42
    assert not target.exists()
    assert not part(target).exists()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["write:1", "write:7", "flush:1", "flush:3"])
def test_a_file_system_that_is_full_is_no_broken_one(
    slot: Slot, target: Path, call: str, error: int
) -> None:
    """What nobody has reserved may not be there: that is the image's size, and no bad medium."""
    with piped(IMAGE):
        outcome = fill(slot, target, source="-", size=0, fault=f"{call}:{error}")
    assert outcome.happened
    assert outcome.status == Status.SPACE
    assert outcome.facts["offset"] <= len(IMAGE)
    assert target.read_bytes() == BEFORE
    assert not part(target).exists()


@pytest.mark.parametrize("call", ["write:7", "flush:3"])
def test_a_failure_of_the_medium_is_one(slot: Slot, target: Path, call: str) -> None:
    """Whether there was room or not."""
    outcome = fill(slot, target, fault=f"{call}:{errno.EIO}")
    assert (outcome.status, outcome.facts["os_errno"]) == (Status.IO, errno.EIO)
    assert " medium failed at byte " in outcome.message


@pytest.mark.root
def test_an_image_of_unknown_length_may_not_fit(slot: Slot, tmp_path: Path) -> None:
    """A real file system of 4 MiB: so many bytes it took, and the next one it refused."""
    room = tmp_path / "room"
    room.mkdir()
    with piped(IMAGE):
        before = f"mount -t tmpfs -o size=4m none {room}"
        outcome = fill(slot, room / "target", source="-", size=0, before=before)
    assert outcome.status == Status.SPACE
    assert outcome.facts["offset"] == 4 * MIB
    assert outcome.message == f"the file system has no room behind byte {4 * MIB}"


# --- what is proven ------------------------------------------------------------------------------


def sectors_read(room: Path) -> int:
    """Return how many sectors the device below has given."""
    number = room.stat().st_dev
    return int(
        Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat").read_text().split()[2]
    )


@pytest.mark.root
@pytest.mark.parametrize("mode", ["ordered", "journal"])
def test_what_is_read_back_comes_from_the_medium(slot: Slot, tmp_path: Path, mode: str) -> None:
    """Also where the file system caches what was to go past the cache."""
    with mounted(tmp_path, 48 * MIB, f"data={mode}") as room:
        before = sectors_read(room)
        assert fill(slot, room / "target").status == Status.DONE
        assert (sectors_read(room) - before) * 512 >= len(IMAGE) - MIB  # a hole is not read


# --- others --------------------------------------------------------------------------------------


def test_a_file_that_is_being_written_is_busy(slot: Slot, target: Path) -> None:
    """Two of us exclude each other, and the other's .part stays."""
    with part(target).open("wb") as held:
        held.write(BEFORE)
        fcntl.flock(held, fcntl.LOCK_EX)
        outcome = fill(slot, target)
    assert (outcome.status, outcome.facts["os_errno"]) == (Status.OPEN, errno.EBUSY)
    assert part(target).read_bytes() == BEFORE


@pytest.mark.parametrize("md5sum", [None, "0" * 32], ids=["good", "bad"])
def test_what_another_has_finished_stands(slot: Slot, target: Path, md5sum: str | None) -> None:
    """Who waited for a lock, and finds that the file has its name by now, takes another file."""
    part(target).write_bytes(b"what another has finished")
    orders = {"md5": md5sum} if md5sum else {}
    outcome = fill(slot, target, fault="lock:1:lose", **orders)
    assert outcome.happened
    if md5sum:
        assert outcome.status == Status.DIGEST
        assert target.read_bytes() == b"what another has finished"
    else:
        assert outcome.status == Status.DONE
        assert target.read_bytes() == IMAGE
    assert not part(target).exists()


def test_a_kill_leaves_the_old_file_and_the_next_try_goes_on(slot: Slot, target: Path) -> None:
    """Zeros behind the proven part are zeros again, whatever the first try had put there."""
    orders = {"device": target, "plays": None, "checkpoint": target.with_suffix(".checkpoint")}
    assert slot.die(IMAGE, "write:26:die", **orders)
    assert target.read_bytes() == BEFORE
    with part(target).open("r+b") as left:
        left.seek(6 * MIB)
        left.write(b"x" * MIB)
    outcome = slot.fill(IMAGE, **orders)
    assert outcome.status == Status.DONE
    assert outcome.facts["resumed"] >= 2 * MIB
    assert target.read_bytes() == IMAGE
    orders["checkpoint"].unlink()

# SPDX-License-Identifier: MIT
"""What stands at a path that an image is to be written to, and who uses it: facts of the kernel's.

Refuses what no image can be written to, in one sentence. That a device is held is decided by the
kernel when it is opened exclusively; here it is only seen earlier and said who. The one user whom
the kernel lets pass is a loop device over a block device.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from updater.core import slots
from updater.core.errors import DeviceError

_MTD_CHAR_MAJOR = 90
_MTD_BLOCK_MAJOR = 31


class Kind(Enum):
    """The kinds of medium; the value is for people."""

    BLOCK = "block device"
    MTD = "MTD partition"
    UBI = "UBI volume"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Medium:
    """Where an image can be written.

    Attributes:
        path: As the person named it.
        kind: What it is.
        number: Its device number as ``core.slots`` counts: of an MTD partition that of its block
            device, of a UBI volume its own, marked. 0 for a file.
        below: Number of the MTD partition that a UBI volume is on, or 0.
    """

    path: str
    kind: Kind
    number: int = 0
    below: int = 0


def find(path: str, sysfs: str = "/sys") -> Medium:
    """Return what stands at *path*, or the file that will.

    Raises:
        DeviceError: Nothing can be written there.
    """
    real = os.path.realpath(path)
    try:
        found = Path(real).stat()
    except FileNotFoundError:
        return _new_file(path, real)
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from error
    if stat.S_ISBLK(found.st_mode):
        return _block(path, found.st_rdev)
    if stat.S_ISCHR(found.st_mode):
        return _character(path, found.st_rdev, Path(sysfs))
    if stat.S_ISDIR(found.st_mode):
        raise DeviceError(f"{path} is a folder; name the file in it that shall be written")
    if not stat.S_ISREG(found.st_mode):
        raise DeviceError(f"{path} is neither a device nor a file")
    return Medium(path, Kind.FILE)


def _new_file(path: str, real: str) -> Medium:
    """Return a file that is not there yet; a device that is missing never becomes one."""
    folder = next(parent for parent in Path(real).parents if parent.exists())
    if folder.stat().st_dev == Path("/dev").stat().st_dev:
        raise DeviceError(f"there is no device {path}")
    if path.endswith("/") or not Path(real).parent.is_dir():
        raise DeviceError(f"there is no folder for {path}")
    return Medium(path, Kind.FILE)


def _block(path: str, number: int) -> Medium:
    if os.major(number) == _MTD_BLOCK_MAJOR:
        raise DeviceError(
            f"{path} shows flash as a block device, without its bad blocks; write to "
            f"/dev/mtd{os.minor(number)}"
        )
    return Medium(path, Kind.BLOCK, number)


def _character(path: str, number: int, sysfs: Path) -> Medium:
    if os.major(number) == _MTD_CHAR_MAJOR:
        index, is_read_only = divmod(os.minor(number), 2)
        if is_read_only:
            raise DeviceError(f"{path} can only be read; write to /dev/mtd{index}")
        return Medium(path, Kind.MTD, os.makedev(_MTD_BLOCK_MAJOR, index))
    volume = _folder(sysfs, "char", number).resolve()
    if not (volume / "upd_marker").exists():  # which a UBI volume has, and a whole UBI device not
        raise DeviceError(f"{path} is a character device that holds no image")
    index = int((volume.parent / "mtd_num").read_text("ascii"))
    below = os.makedev(_MTD_BLOCK_MAJOR, index)
    return Medium(path, Kind.UBI, slots.character(number), below)


# --- who uses it ---------------------------------------------------------------------------------


def user_of(medium: Medium, sysfs: str = "/sys", proc: str = "/proc") -> str:
    """Return how *medium* is used at the moment, as the end of a sentence, or ""."""
    if medium.kind is not Kind.BLOCK:
        return ""
    uses = _uses(Path(sysfs), Path(proc))
    for number, name in _related(medium.number, Path(sysfs)):
        use = uses.get(number) or _holder(number, Path(sysfs))
        if use:
            return use if number == medium.number else f"in use: {name} on it is {use}"
    return ""


def _folder(sysfs: Path, kind: str, number: int) -> Path:
    return sysfs / "dev" / kind / f"{os.major(number)}:{os.minor(number)}"


def _related(number: int, sysfs: Path) -> Iterator[tuple[int, str]]:
    """Yield the device itself and its partitions."""
    yield number, ""
    for entry in sorted(_folder(sysfs, "block", number).glob("*/partition")):
        for line in _lines(entry.parent / "dev"):
            yield _number(line), f"partition {entry.parent.name}"


def _number(text: str) -> int:
    """Return the device number that the kernel writes as MAJOR:MINOR."""
    major, minor = text.split(":")
    return os.makedev(int(major), int(minor))


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of the kernel's; none if there is no such file, or no more."""
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _uses(sysfs: Path, proc: Path) -> Mapping[int, str]:
    """Return what is mounted, swapped to, or looped over, by device number."""
    uses: dict[int, str] = {}
    for backing in sysfs.glob("block/loop*/loop/backing_file"):
        for line in _lines(backing):
            _note(uses, line, f"in use by {backing.parts[-3]}")
    for line in _lines(proc / "swaps")[1:]:
        _note(uses, _unescaped(line.split()[0]), "in use as swap space")
    for line in _lines(proc / "self/mountinfo"):
        words = line.split()
        use = f"mounted at {_unescaped(words[4])}"
        uses.setdefault(_number(words[2]), use)
        _note(uses, _unescaped(words[words.index("-") + 2]), use)  # btrfs numbers itself otherwise
    return uses


def _note(uses: dict[int, str], path: str, use: str) -> None:
    """Note *use* of the device at *path*, if there is one."""
    with suppress(OSError):
        found = Path("/", path).stat()  # what is no path names nothing there
        if stat.S_ISBLK(found.st_mode):
            uses.setdefault(found.st_rdev, use)


def _unescaped(word: str) -> str:
    """Return *word* of a table of the kernel's, where blanks are octal."""
    for code in ("\\040", "\\011", "\\012", "\\134"):
        word = word.replace(code, chr(int(code[1:], 8)))
    return word


def _holder(number: int, sysfs: Path) -> str:
    """Return what a RAID array or a mapped device that is built on it is called."""
    names = sorted(entry.name for entry in (_folder(sysfs, "block", number) / "holders").glob("*"))
    return f"in use by {', '.join(names)}" if names else ""

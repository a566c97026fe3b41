# SPDX-License-Identifier: MIT
"""What stands at a path that an image is to be written to, where that lies, and who uses it.

All of it facts of the kernel's, and devices are told by their numbers, never by their names.
Refuses what no image can be written to, in one sentence. That a device is held is decided by the
kernel when it is opened exclusively; here it is only seen earlier and said who. The one user whom
the kernel lets pass is a loop device over a block device. It knows no exclusive open of flash: who
writes it looks too.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from updater.core import slots
from updater.core.errors import DeviceError

_MTD_CHAR_MAJOR = 90
_MTD_BLOCK_MAJOR = 31
_SECTOR_BYTES = 512  # of sysfs, whatever the device's own sectors are
_VOLUME = slots.character(0)  # what marks the number of a UBI volume


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
    index, is_read_only = divmod(os.minor(number), 2)
    if os.major(number) == _MTD_CHAR_MAJOR and is_read_only:
        raise DeviceError(f"{path} can only be read; write to /dev/mtd{index}")
    return _flash(path, number, sysfs)


def number_of(path: str, sysfs: str = "/sys") -> int:
    """Return the number of the device at *path*, as of a ``Medium``; 0 if that can be none.

    Raises:
        DeviceError: Nothing is there.
    """
    try:
        found = Path(path).stat()
        if stat.S_ISBLK(found.st_mode):
            return found.st_rdev
        if stat.S_ISCHR(found.st_mode):
            with suppress(DeviceError):  # an EEPROM, say
                return _flash(path, found.st_rdev, Path(sysfs)).number
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from error
    return 0


def _flash(path: str, number: int, sysfs: Path) -> Medium:
    if os.major(number) == _MTD_CHAR_MAJOR:
        return Medium(path, Kind.MTD, os.makedev(_MTD_BLOCK_MAJOR, os.minor(number) // 2))
    volume = _folder(sysfs, "char", number).resolve()
    if not (volume / "upd_marker").exists():  # which a UBI volume has, and a whole UBI device not
        raise DeviceError(f"{path} is a character device that holds no image")
    index = int((volume.parent / "mtd_num").read_text("ascii"))
    below = os.makedev(_MTD_BLOCK_MAJOR, index)
    return Medium(path, Kind.UBI, slots.character(number), below)


# --- where it lies -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Area:
    """Bytes of a whole device.

    Attributes:
        whole: The disk or flash chip, by its folder in sysfs.
        start: The first one.
        stop: The one behind the last.
    """

    whole: str
    start: int
    stop: int

    def part(self, offset_bytes: int, size_bytes: int) -> "Area":
        """Return a part of it; a negative offset counts from its end."""
        start = (self.stop if offset_bytes < 0 else self.start) + offset_bytes
        return Area(self.whole, start, start + size_bytes)

    def overlaps(self, other: "Area") -> bool:
        """Tell whether both have a byte in common."""
        return self.whole == other.whole and self.start < other.stop and other.start < self.stop


def shares(
    number: int, other: int, reach: tuple[int, int] | None = None, sysfs: str = "/sys"
) -> bool:
    """Tell whether two devices are the same, or have bytes in common.

    Args:
        number: One, numbered as a ``Medium`` is.
        other: The other one.
        reach: Which bytes of *other* count if it is not the same: offset and size; None for all.
        sysfs: Where partitions are told.
    """
    if number == other:
        return True
    if number & _VOLUME and other & _VOLUME:
        return False  # both may lie anywhere on their flash, but never in the same place
    theirs = areas(other, sysfs)
    if reach is not None and not other & _VOLUME:
        theirs = [area.part(*reach) for area in theirs]
    return any(our.overlaps(their) for our in areas(number, sysfs) for their in theirs)


def areas(number: int, sysfs: str = "/sys") -> Sequence[Area]:
    """Return where the device *number* lies: of a UBI volume, the MTD partition below.

    Several if it cannot be told on which chip that is; none if the kernel has no such device.
    """
    root, index = Path(sysfs), os.minor(number & (_VOLUME - 1))
    try:
        if number & _VOLUME:
            volume = _folder(root, "char", number & (_VOLUME - 1)).resolve()
            index = int((volume.parent / "mtd_num").read_text("ascii"))
        elif os.major(number) != _MTD_BLOCK_MAJOR:
            return [_on_disk(_folder(root, "block", number).resolve())]
        return _on_chip(_folder(root, "char", os.makedev(_MTD_CHAR_MAJOR, 2 * index)).resolve())
    except OSError:
        return []


def _on_disk(folder: Path) -> Area:
    size_bytes = _count(folder / "size") * _SECTOR_BYTES
    if not (folder / "partition").exists():
        return Area(str(folder), 0, size_bytes)
    start = _count(folder / "start") * _SECTOR_BYTES
    return Area(str(folder.parent), start, start + size_bytes)


def _on_chip(folder: Path) -> list[Area]:
    """Return where an MTD partition lies, which may be one of another; ``offset`` tells where."""
    start, size_bytes = 0, _count(folder / "size")
    while (folder / "offset").exists():
        start += _count(folder / "offset")
        folder = folder.parent
    return [Area(str(chip), start, start + size_bytes) for chip in _chips(folder)]


def _chips(folder: Path) -> Sequence[Path]:
    """Return what stands for the chip that *folder* is, or that the partitions in it are of.

    By the kernel's configuration that is the MTD device around a partition, one beside it, or none
    that is shown (CONFIG_MTD_PARTITIONED_MASTER; drivers/mtd/mtdpart.c).
    """
    shown = [each.parent for each in folder.glob("*/erasesize")]
    return [each for each in shown if not (each / "offset").exists()] or [folder]


def _count(path: Path) -> int:
    return int(path.read_text("ascii"))


# --- who uses it ---------------------------------------------------------------------------------


def user_of(medium: Medium, sysfs: str = "/sys", proc: str = "/proc") -> str:
    """Return how *medium* is used at the moment, as the end of a sentence, or ""."""
    if medium.kind is Kind.MTD:
        return _user_of_flash(medium.number, sysfs, Path(proc))
    if medium.kind is not Kind.BLOCK:
        return ""
    uses = _uses(Path(sysfs), Path(proc))
    for number, name in _related(medium.number, Path(sysfs)):
        use = uses.get(number) or _holder(number, Path(sysfs))
        if use:
            return use if number == medium.number else f"in use: {name} on it is {use}"
    return ""


def _user_of_flash(number: int, sysfs: str, proc: Path) -> str:
    """Return the same of a partition of flash, which others may overlap."""
    uses = {
        os.makedev(_MTD_BLOCK_MAJOR, int(line)): f"attached to UBI as {told.parent.name}"
        for told in sorted(Path(sysfs).glob("class/ubi/*/mtd_num"))
        for line in _lines(told)
    }
    for other, use in {**uses, **_uses(Path(sysfs), proc)}.items():
        if os.major(other) == _MTD_BLOCK_MAJOR and shares(number, other, sysfs=sysfs):
            name = f"mtd{os.minor(other)}"
            return use if number == other else f"in use: {name}, which overlaps it, is {use}"
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

# SPDX-License-Identifier: MIT
"""A board in small, without an emulator: its slots are partitions of a loop device.

The program runs in a mount namespace whose root is the booted slot, so that it finds its slots as
it does in the field: by the root's device number and its disk. Everything else of this machine is
bound into that root, at the same paths. What udevd would know of the partitions stands in /run:
the kernel tells no labels where it was built without GPT. U-Boot's half is ``core.bootflow.boot``.
"""

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workshop import Workshop, run

from updater.core import bootflow

MIB = 1 << 20
ROOT_BYTES = 24 * MIB
SLOT_BYTES = 272 * MIB
_START_BYTES = MIB
_EXT4_MAGIC = (0x438, b"\x53\xef")
_OURS = {"run", "lost+found"}  # of the root, everything else is this machine's


class Board(Workshop):
    """Slots A and B; A is booted and holds what this program needs to run."""

    def __init__(self, folder: Path, disk: str, **options: Any) -> None:
        """Set it up over *disk*, a loop device with two partitions."""
        super().__init__(folder, **options)
        self.slots = {"A": f"{disk}p1", "B": f"{disk}p2"}
        self.booted = "A"
        self.command_line = folder / "cmdline"
        self.command_line.write_text("console=ttyS0 updater.slot=A\n")
        self.root = folder / "root"
        self.root.mkdir()
        data = folder / "run/udev/data"
        data.mkdir(parents=True)
        for name, label in {"A": "rootfs-a", "B": "rootfs-b"}.items():
            number = Path(self.slots[name]).stat().st_rdev
            entry = data / f"b{os.major(number)}:{os.minor(number)}"
            entry.write_text(f"E:ID_PART_ENTRY_NAME={label}\n")

    def enter(self) -> Sequence[str]:
        """Return what mounts the booted slot as the root and runs a command there."""
        script = [
            f"mount -o ro {self.slots[self.booted]} {self.root}",
            *(f"mount --rbind {path} {self.root}{path}" for path in filter(_is_bound, _top())),
            f"mount --bind {self.folder}/run {self.root}/run",
            f"mount --bind {self.command_line} {self.root}/proc/cmdline",
            f'exec chroot {self.root} "$@"',
        ]
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]
        return [*words, "\n".join(script), "sh"]

    def boot(self) -> str:
        """Reset the board: let the bootloader choose, count and fall back; return what boots."""
        loadable = [name for name in self.slots if self.has_image(name)]
        result = bootflow.boot(self.environment(), ("A", "B"), loadable, bootlimit=3)
        for variables in result.stores:
            self.store(**variables)
        assert result.slot is not None, "nothing boots"
        self.booted = result.slot
        self.command_line.write_text(f"console=ttyS0 updater.slot={result.slot}\n")
        for left in (self.rebooted, self.control, self.lock, self.folder / "run/trial-over"):
            left.unlink(missing_ok=True)
        return result.slot

    def has_image(self, name: str) -> bool:
        """Tell whether the bootloader would find a file system in slot *name*."""
        offset, magic = _EXT4_MAGIC
        return self.head(name)[offset : offset + 2] == magic

    def head(self, name: str) -> bytes:
        """Return the first MiB of slot *name*, from the medium."""
        fileno = os.open(self.slots[name], os.O_RDONLY)
        try:
            os.posix_fadvise(fileno, 0, 0, os.POSIX_FADV_DONTNEED)
            return os.read(fileno, MIB)
        finally:
            os.close(fileno)


def make_image(path: Path, size_bytes: int) -> Path:
    """Make a file system that this machine can be bound into, and return its path."""
    tree = path.with_suffix(".tree")
    tree.mkdir()
    (tree / "run").mkdir()
    for entry in _top():
        if entry.is_symlink():
            (tree / entry.name).symlink_to(entry.readlink())
        elif _is_bound(entry):
            (tree / entry.name).mkdir()
    with path.open("wb") as file:
        file.truncate(size_bytes)
    _checked(["mkfs.ext4", "-q", "-F", "-d", tree, path])
    return path


def _top() -> list[Path]:
    """Return what this machine's root holds and the board's shall hold too."""
    return sorted(path for path in Path("/").iterdir() if path.name not in _OURS)


def _is_bound(path: Path) -> bool:
    """Tell whether *path* is a folder that is bound; a link is made anew."""
    return path.is_dir() and not path.is_symlink()


@contextmanager
def disk(folder: Path, image: Path) -> Iterator[str]:
    """A loop device with a partition that holds *image* and an empty one; its path."""
    file = folder / "disk"
    with file.open("wb") as made:
        made.truncate(_START_BYTES + ROOT_BYTES + SLOT_BYTES)
    _checked(["dd", f"if={image}", f"of={file}", "bs=1M", "seek=1", "conv=notrunc,sparse"])
    device = _checked(["losetup", "--find", "--show", file]).strip()
    try:
        _drop_partitions(device)  # of whoever had this device before
        for number, start, size in (
            (1, _START_BYTES, ROOT_BYTES),
            (2, _START_BYTES + ROOT_BYTES, SLOT_BYTES),
        ):
            _checked(["addpart", device, str(number), str(start // 512), str(size // 512)])
        yield device
    finally:
        _drop_partitions(device)
        _checked(["losetup", "--detach", device])


def _drop_partitions(device: str) -> None:
    """Remove the partitions, as soon as the last namespace that has mounted one is gone."""
    deadline_s = time.monotonic() + 10
    while any(Path(device).parent.glob(f"{Path(device).name}p*")):
        assert time.monotonic() < deadline_s, f"{device} is still in use"
        for number in ("1", "2"):
            run(["delpart", device, number])


def _checked(command: Sequence[str | Path]) -> str:
    """Run *command*, which must succeed, and return its output."""
    done = run([str(word) for word in command])
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stderr}"
    return done.stdout

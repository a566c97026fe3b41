# SPDX-License-Identifier: MIT
"""What stands at a path: loop devices and files; flash by its nodes, md and dm by a fake sysfs.

A test's kernel need not have flash, RAID or a device mapper: there the nodes are made with the
kernel's numbers, and sysfs is a folder with the same files.
"""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from updater.core.errors import DeviceError
from updater.core.slots import character
from updater.edge.medium import Kind, Medium, find, user_of

MIB = 1 << 20


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


# --- what it is ----------------------------------------------------------------------------------


def test_a_file_is_one(tmp_path: Path) -> None:
    """A file that is there, one that is not there yet, and a link to either can be written."""
    path = tmp_path / "image"
    assert find(str(path)) == Medium(str(path), Kind.FILE)
    path.write_bytes(b"old")
    assert find(str(path)) == Medium(str(path), Kind.FILE)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert find(str(link)) == Medium(str(link), Kind.FILE)
    path.unlink()
    assert find(str(link)) == Medium(str(link), Kind.FILE)


def refused(path: str | Path, **more: str) -> str:
    """Return why nothing can be written to *path*."""
    with pytest.raises(DeviceError) as caught:
        find(str(path), **more)
    return str(caught.value)


def test_a_missing_device_never_becomes_a_file(tmp_path: Path) -> None:
    """Where devices are there are no files, not through a link either."""
    link = tmp_path / "disk"
    link.symlink_to("/dev/no-such-device")
    for path in ("/dev/no-such-device", "/dev/disk/by-label/none", "/dev/../dev/none", link):
        assert refused(path) == f"there is no device {path}"
    assert not Path("/dev/no-such-device").exists()


def test_what_is_neither_device_nor_file_is_refused(tmp_path: Path) -> None:
    """A folder, a place without a folder, a socket, a loop of links: a sentence each."""
    assert refused(tmp_path) == (
        f"{tmp_path} is a folder; name the file in it that shall be written"
    )
    assert refused(tmp_path / "no/file") == f"there is no folder for {tmp_path}/no/file"
    assert refused(f"{tmp_path}/new/") == f"there is no folder for {tmp_path}/new/"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert refused(tmp_path / "socket").endswith("is neither a device nor a file")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refused(loop) == f"{loop}: Too many levels of symbolic links"
    assert refused("/dev/null") == "/dev/null is a character device that holds no image"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Path]:
    """A folder for nodes of devices that this machine need not have."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    yield folder
    for made in folder.iterdir():
        made.unlink()


def make(folder: Path, name: str, kind: int, major: int, minor: int) -> Path:
    path = folder / name
    os.mknod(path, kind | 0o600, os.makedev(major, minor))
    return path


@pytest.mark.root
def test_flash_is_known_by_its_numbers(node: Path) -> None:
    """/dev/mtdN is flash, numbered as the block device of a root; what cannot write names it."""
    flash = make(node, "flash", stat.S_IFCHR, 90, 6)
    assert find(str(flash)) == Medium(str(flash), Kind.MTD, os.makedev(31, 3))
    read_only = make(node, "flash-ro", stat.S_IFCHR, 90, 7)
    assert refused(read_only) == f"{read_only} can only be read; write to /dev/mtd3"
    block = make(node, "flash-block", stat.S_IFBLK, 31, 3)
    assert refused(block).endswith("without its bad blocks; write to /dev/mtd3")


@pytest.mark.root
def test_a_ubi_volume_is_known_by_sysfs(node: Path, tmp_path: Path) -> None:
    """Its number is told from a block device's of the same; what it lies on is known too."""
    path = make(node, "volume", stat.S_IFCHR, 250, 1)
    assert refused(path).endswith("is a character device that holds no image")
    volume = tmp_path / "sys/devices/ubi0/ubi0_1"
    volume.mkdir(parents=True)
    (volume / "upd_marker").write_text("0\n")
    (volume.parent / "mtd_num").write_text("5\n")
    (tmp_path / "sys/dev/char").mkdir(parents=True)
    (tmp_path / "sys/dev/char/250:1").symlink_to(volume)
    (tmp_path / "sys/dev/char/250:0").symlink_to(volume.parent)
    number = character(os.makedev(250, 1))
    found = find(str(path), str(tmp_path / "sys"))
    assert found == Medium(str(path), Kind.UBI, number, os.makedev(31, 5))
    whole = make(node, "ubi0", stat.S_IFCHR, 250, 0)
    with pytest.raises(DeviceError, match="holds no image"):
        find(str(whole), str(tmp_path / "sys"))


# --- who uses it ---------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A disk with two partitions of 16 MiB."""
    backing = tmp_path / "backing"
    with backing.open("wb") as file:
        file.truncate(40 * MIB)
    device = run("losetup", "--find", "--show", backing)
    try:
        for number, start in (("1", 2048), ("2", 40960)):
            run("addpart", device, number, str(start), "32768")
        yield device
    finally:
        for number in ("1", "2"):
            subprocess.run(["delpart", device, number], check=False)
        run("losetup", "--detach", device)


def is_free(path: str) -> bool:
    """Tell whether the kernel gives *path* to one writer alone."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_EXCL))
    except OSError:
        return False
    return True


def uses(*paths: str) -> list[str]:
    return [user_of(find(path)) for path in paths]


@pytest.mark.root
def test_who_uses_a_disk_is_said(disk: str, tmp_path: Path) -> None:
    """A mount and swap space are seen on the partition and on its disk, and nowhere else."""
    first, second, name = f"{disk}p1", f"{disk}p2", Path(disk).name
    assert uses(disk, first, second) == ["", "", ""]
    folder = tmp_path / "with a blank"
    folder.mkdir()
    run("mkfs.ext4", "-q", "-F", first)
    run("mount", first, folder)
    try:
        assert uses(disk, first, second) == [
            f"in use: partition {name}p1 on it is mounted at {folder}", f"mounted at {folder}", "",
        ]  # fmt: skip
        assert [is_free(path) for path in (disk, first, second)] == [False, False, True]
    finally:
        run("umount", folder)
    run("mkswap", second)
    run("swapon", second)
    try:
        assert uses(disk, first, second) == [
            f"in use: partition {name}p2 on it is in use as swap space", "",
            "in use as swap space",
        ]  # fmt: skip
        assert [is_free(path) for path in (disk, first, second)] == [False, True, False]
    finally:
        run("swapoff", second)
    assert uses(disk, first, second) == ["", "", ""]


@pytest.mark.root
def test_a_loop_device_over_a_device_is_seen(disk: str) -> None:
    """Of this user the kernel would not say anything."""
    loop = run("losetup", "--find", "--show", f"{disk}p1")
    try:
        assert is_free(disk)
        assert uses(f"{disk}p1") == [f"in use by {Path(loop).name}"]
        assert uses(disk)[0].endswith(f"p1 on it is in use by {Path(loop).name}")
    finally:
        run("losetup", "--detach", loop)


def test_raid_and_mapped_devices_are_seen(tmp_path: Path) -> None:
    """What sysfs calls holders, of the device or of a partition of it, is named."""
    folder = tmp_path / "sys/dev/block/8:0"
    (folder / "holders/md0").mkdir(parents=True)
    (folder / "sda1").mkdir()
    (folder / "sda1/partition").write_text("1\n")
    (folder / "sda1/dev").write_text("8:1\n")
    (tmp_path / "sys/dev/block/8:1/holders/dm-0").mkdir(parents=True)
    (tmp_path / "sys/dev/block/8:1/holders/dm-1").mkdir()
    disk, sysfs = os.makedev(8, 0), str(tmp_path / "sys")
    medium = Medium("/dev/sda", Kind.BLOCK, disk)
    assert user_of(medium, sysfs) == "in use by md0"
    (folder / "holders/md0").rmdir()
    assert user_of(medium, sysfs) == "in use: partition sda1 on it is in use by dm-0, dm-1"


def test_a_kernel_without_swap_tells_of_none(tmp_path: Path) -> None:
    """What a kernel does not have it does not tell of, and that is no error."""
    medium = Medium("/dev/sda", Kind.BLOCK, os.makedev(8, 0))
    assert user_of(medium, str(tmp_path / "sys"), str(tmp_path / "proc")) == ""


def test_files_and_flash_are_not_asked_about(tmp_path: Path) -> None:
    """A file is replaced, not written into; flash is looked at by who opens it."""
    assert user_of(Medium("/", Kind.FILE), str(tmp_path)) == ""
    assert user_of(Medium("x", Kind.MTD, 1), str(tmp_path)) == ""

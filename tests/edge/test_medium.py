# SPDX-License-Identifier: MIT
"""What stands at a path and where: loop devices, files; flash by its nodes, and by a fake sysfs.

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
from updater.edge.medium import Area, Kind, Medium, areas, find, number_of, shares, user_of

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


@pytest.mark.root
def test_what_cannot_be_written_has_a_number_too(node: Path, tmp_path: Path) -> None:
    """A device is known by any of its nodes; what is none has 0, and what is missing is said."""
    flash = os.makedev(31, 3)
    assert number_of(str(make(node, "flash", stat.S_IFCHR, 90, 6))) == flash
    assert number_of(str(make(node, "flash-ro", stat.S_IFCHR, 90, 7))) == flash
    assert number_of(str(make(node, "flash-block", stat.S_IFBLK, 31, 3))) == flash
    disk = make(node, "disk", stat.S_IFBLK, 179, 0)
    link = tmp_path / "link"
    link.symlink_to(disk)
    assert number_of(str(link)) == os.makedev(179, 0)
    assert [number_of(path) for path in (__file__, "/dev/null", "/")] == [0, 0, 0]
    link.unlink()
    with pytest.raises(DeviceError, match=f"^{link}: No such file or directory$"):
        number_of(str(link))


# --- where it lies -------------------------------------------------------------------------------

SOC = "sys/devices/platform/soc"


def show(root: Path, kind: str, number: str, folder: str, **facts: int) -> None:
    """Let the kernel show a device of *kind*, block or char, at *folder*, with *facts* as files."""
    made = root / folder
    made.mkdir(parents=True, exist_ok=True)
    for name, fact in facts.items():
        (made / name).write_text(f"{fact}\n")
    (root / "sys/dev" / kind).mkdir(parents=True, exist_ok=True)
    (root / "sys/dev" / kind / number).symlink_to(made)


def flash(root: Path, index: int, folder: str, size: int, **facts: int) -> None:
    """Let the kernel show an MTD device, a partition if it has an offset."""
    show(
        root, "char", f"90:{2 * index}", f"{folder}/mtd{index}", size=size, erasesize=4096, **facts
    )


@pytest.fixture
def sysfs(tmp_path: Path) -> str:
    """A kernel with an eMMC, and with flash chips whose partitions are shown in each way."""
    emmc = f"{SOC}/mmc0/block/mmcblk0"
    show(tmp_path, "block", "179:0", emmc, size=1 << 15)
    show(tmp_path, "block", "179:1", f"{emmc}/mmcblk0p1", partition=1, start=2048, size=2048)
    show(tmp_path, "block", "179:2", f"{emmc}/mmcblk0p2", partition=2, start=4096, size=8192)
    show(tmp_path, "block", "179:8", f"{SOC}/mmc0/block/mmcblk0boot0", size=8192)
    around, beside, hidden = (f"{SOC}/{index}.flash/mtd" for index in range(3))
    flash(tmp_path, 0, around, 16 * MIB)
    flash(tmp_path, 1, f"{around}/mtd0", MIB, offset=MIB)
    flash(tmp_path, 2, f"{around}/mtd0", 8 * MIB, offset=2 * MIB)
    flash(tmp_path, 3, f"{around}/mtd0/mtd2", MIB, offset=4 * MIB)
    flash(tmp_path, 4, beside, 16 * MIB)
    flash(tmp_path, 5, beside, MIB, offset=MIB)
    flash(tmp_path, 6, hidden, MIB, offset=MIB)
    flash(tmp_path, 7, hidden, 2 * MIB, offset=0)
    flash(tmp_path, 8, "sys/devices/virtual/mtd", 16 * MIB)
    flash(tmp_path, 9, "sys/devices/virtual/mtd", 16 * MIB)
    ubi = "sys/devices/virtual/ubi/ubi0"
    show(tmp_path, "char", "250:0", ubi, mtd_num=2)
    show(tmp_path, "char", "250:1", f"{ubi}/ubi0_0", upd_marker=0)
    show(tmp_path, "char", "250:2", f"{ubi}/ubi0_1", upd_marker=0)
    return str(tmp_path / "sys")


def named(name: str) -> int:
    """Return the number of a device of that kernel's."""
    volumes = {"ubi0_0": 1, "ubi0_1": 2}
    if name in volumes:
        return character(os.makedev(250, volumes[name]))
    if name.startswith("mtd"):
        return os.makedev(31, int(name.removeprefix("mtd")))
    return os.makedev(179, {"mmcblk0": 0, "p1": 1, "p2": 2, "boot0": 8, "none": 77}[name])


@pytest.mark.parametrize(
    ("name", "whole", "reach"),
    [
        ("mmcblk0", f"{SOC}/mmc0/block/mmcblk0", (0, 16 * MIB)),
        ("p2", f"{SOC}/mmc0/block/mmcblk0", (2 * MIB, 6 * MIB)),
        ("boot0", f"{SOC}/mmc0/block/mmcblk0boot0", (0, 4 * MIB)),
        ("mtd3", f"{SOC}/0.flash/mtd/mtd0", (6 * MIB, 7 * MIB)),
        ("mtd5", f"{SOC}/1.flash/mtd/mtd4", (MIB, 2 * MIB)),
        ("mtd6", f"{SOC}/2.flash/mtd", (MIB, 2 * MIB)),
        ("ubi0_1", f"{SOC}/0.flash/mtd/mtd0", (2 * MIB, 10 * MIB)),
    ],
)
def test_where_a_device_lies_is_told_by_its_disk_or_chip(
    sysfs: str, tmp_path: Path, name: str, whole: str, reach: tuple[int, int]
) -> None:
    """The whole device and the bytes of it, however deep a partition is in others."""
    assert areas(named(name), sysfs) == [Area(str(tmp_path / whole), *reach)]


def test_a_device_that_has_gone_lies_nowhere(sysfs: str) -> None:
    """What the kernel does not show shares nothing, but it is still itself."""
    assert areas(named("none"), sysfs) == []
    assert not shares(named("none"), named("mmcblk0"), sysfs=sysfs)
    assert shares(named("none"), named("none"), sysfs=sysfs)


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ("p1", "p1", True),
        ("mmcblk0", "p1", True),
        ("p1", "p2", False),
        ("mmcblk0", "boot0", False),
        # flash: a partition around, beside, and next to it
        ("mtd0", "mtd3", True),
        ("mtd2", "mtd3", True),
        ("mtd1", "mtd3", False),
        ("mtd4", "mtd5", True),
        ("mtd6", "mtd7", True),
        # other chips: with the same offsets, or in the same folder
        ("mtd1", "mtd5", False),
        ("mtd5", "mtd6", False),
        ("mtd8", "mtd9", False),
        # volumes: on their flash, and beside each other
        ("ubi0_0", "mtd2", True),
        ("ubi0_0", "mtd0", True),
        ("ubi0_0", "mtd1", False),
        ("ubi0_0", "ubi0_0", True),
        ("ubi0_0", "ubi0_1", False),
        ("ubi0_0", "p1", False),
    ],
)
def test_what_shares_bytes_is_told(sysfs: str, one: str, other: str, is_shared: bool) -> None:
    """A partition and its disk do, two partitions do not, whichever of them is asked about."""
    assert shares(named(one), named(other), sysfs=sysfs) is is_shared
    assert shares(named(other), named(one), sysfs=sysfs) is is_shared


@pytest.mark.parametrize(
    ("one", "other", "reach", "is_shared"),
    [
        ("mmcblk0", "mmcblk0", (MIB // 2, 4096), True),
        ("p1", "mmcblk0", (MIB // 2, 4096), False),
        ("p1", "mmcblk0", (MIB - 4096, 4096), False),
        ("p1", "mmcblk0", (MIB - 4095, 4096), True),
        ("p1", "mmcblk0", (2 * MIB - 1, 4096), True),
        ("p1", "mmcblk0", (2 * MIB, 4096), False),
        ("p2", "mmcblk0", (3 * MIB, 4096), True),
        ("p2", "mmcblk0", (-10 * MIB - 1, 4096), True),
        ("p2", "mmcblk0", (-10 * MIB, 4096), False),
        ("mmcblk0", "p1", (0, 4096), True),
        ("p1", "p1", (MIB // 2, 4096), True),
        ("mtd1", "mtd0", (0, 4096), False),
        ("mtd3", "mtd0", (6 * MIB, 4096), True),
        ("ubi0_1", "mtd0", (2 * MIB, 4096), True),
        ("mtd2", "ubi0_0", (64 * MIB, 4096), True),  # wherever in its flash those bytes may be
    ],
)
def test_only_what_is_reached_counts(
    sysfs: str, one: str, other: str, reach: tuple[int, int], is_shared: bool
) -> None:
    """Bytes of a disk are also those of the partition around them, and of no other one."""
    assert shares(named(one), named(other), reach, sysfs) is is_shared


@pytest.mark.root
def test_partitions_of_a_real_disk_are_apart(disk: str) -> None:
    """The kernel's own files say the same of a loop device."""
    whole, first, second = (Path(path).stat().st_rdev for path in (disk, f"{disk}p1", f"{disk}p2"))
    assert [(area.start, area.stop) for area in areas(second)] == [(20 * MIB, 36 * MIB)]
    assert shares(whole, first)
    assert shares(second, whole)
    assert not shares(first, second)
    assert not shares(first, whole, (0, MIB))
    assert shares(first, whole, (0, MIB + 1))


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


def test_files_and_volumes_are_not_asked_about(tmp_path: Path) -> None:
    """A file is replaced, not written into; of a volume the kernel decides."""
    assert user_of(Medium("/", Kind.FILE), str(tmp_path)) == ""
    assert user_of(Medium("x", Kind.UBI, character(1)), str(tmp_path)) == ""


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("mtd2", "attached to UBI as ubi0"),
        ("mtd0", "in use: mtd2, which overlaps it, is attached to UBI as ubi0"),
        ("mtd3", "in use: mtd2, which overlaps it, is attached to UBI as ubi0"),
        ("mtd1", ""),
        ("mtd7", "mounted at /data"),
        ("mtd6", "in use: mtd7, which overlaps it, is mounted at /data"),
        ("mtd5", ""),
        ("mtd8", ""),
    ],
)
def test_who_uses_flash_is_said(sysfs: str, tmp_path: Path, name: str, use: str) -> None:
    """UBI on it or a mount of it, by itself and by any partition that overlaps it."""
    (tmp_path / "sys/class/ubi").mkdir(parents=True)
    (tmp_path / "sys/class/ubi/ubi0").symlink_to(tmp_path / "sys/devices/virtual/ubi/ubi0")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(
        "29 1 31:7 / /data rw - jffs2 mtd7 rw\n36 1 179:2 / / rw - ext4 /dev/none rw\n"
    )
    medium = Medium(f"/dev/{name}", Kind.MTD, named(name))
    assert user_of(medium, sysfs, str(tmp_path / "proc")) == use

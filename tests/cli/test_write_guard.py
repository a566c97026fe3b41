# SPDX-License-Identifier: MIT
"""What this machine boots from is not written by mistake: its environment, and what slots lie on.

The environment is on real loop devices; flash is a folder that looks like sysfs, over which the
check is called as the command does.
"""

import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sim.machine import MemoryFinder
from workshop import ENVIRONMENT_BYTES, IMAGE, MIB, Workshop, head, loop_device, words

from updater.assembly import open_device
from updater.core.errors import BusyError, DeviceError, SlotError
from updater.core.model import Slot, Slots
from updater.core.slots import character
from updater.device import Device
from updater.edge.medium import Kind, Medium, find
from updater.settings import read_settings
from updater.targets import check_target

HOLE = 0x80000  # on a disk, before its first partition
SECTOR_BYTES = 512
PARTITION_BYTES = 4 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A disk with room before its first partition, and two of 4 MiB."""
    with loop_device(tmp_path / "disk", 10 * MIB) as path:
        count = PARTITION_BYTES // SECTOR_BYTES
        try:
            for number, start in ((1, MIB), (2, MIB + PARTITION_BYTES)):
                command = ["addpart", path, str(number), str(start // SECTOR_BYTES), str(count)]
                subprocess.run(command, check=True)
            yield path
        finally:
            for number in (1, 2):
                subprocess.run(["delpart", path, str(number)], check=False)


@dataclass(frozen=True)
class Bench:
    """A configured machine, an image, and the disk."""

    workshop: Workshop
    image: Path
    disk: str

    def keep_environment(self, *places: str) -> None:
        """Say that the environment is at *places*, each a device and an offset."""
        lines = [f"{place} {ENVIRONMENT_BYTES:#x}\n" for place in places]
        self.workshop.fw_env.write_text("".join(lines))

    def assert_kept(self, target: str, place: str) -> None:
        """Assert that *target* is not written, and that the environment at *place* is why."""
        before = head(target)
        done = self.workshop.run("write", self.image, "--to", target, *words())
        assert (done.returncode, done.stdout) == (16, "")
        assert done.stderr.startswith(
            f"updater: {target} holds the boot environment ({place} in {self.workshop.fw_env}): "
            "write it from U-Boot or from another system\n"
        )
        assert "  nothing was written" in done.stderr
        assert head(target) == before

    def assert_written(self, target: str) -> None:
        """Assert that *target* is written."""
        done = self.workshop.run("write", self.image, "--to", target, *words())
        assert done.returncode == 0, done.stderr
        assert head(target) == IMAGE[:MIB]


@pytest.fixture
def bench(workshop: Workshop, image: Path, disk: str) -> Bench:
    """All of it."""
    return Bench(workshop, image, disk)


PLACES = {
    "before the partitions": (("", HOLE), [""], ["p1", "p2"]),
    "in a partition, by the disk's offsets": (("", 6 * MIB), ["", "p2"], ["p1"]),
    "in the last partition, from the end": (("", -2 * MIB), ["", "p2"], ["p1"]),
    "in a partition": (("p1", HOLE), ["", "p1"], ["p2"]),
}


@pytest.mark.root
@pytest.mark.parametrize(("place", "kept", "free"), PLACES.values(), ids=PLACES.keys())
def test_the_environment_is_kept(
    bench: Bench, place: tuple[str, int], kept: list[str], free: list[str]
) -> None:
    """Its own device, and the disk that it is on, are refused; the partitions beside it are not."""
    on, offset = f"{bench.disk}{place[0]}", place[1]
    bench.keep_environment(f"{on} {offset:#x}")
    for part in kept:
        bench.assert_kept(f"{bench.disk}{part}", f"{on}+{offset:#x}")
    for part in free:
        bench.assert_written(f"{bench.disk}{part}")


@pytest.mark.root
def test_either_copy_is_kept_by_any_name(bench: Bench, device: str, tmp_path: Path) -> None:
    """Devices are told by their numbers: a link in one place and another node in the other."""
    node, link = tmp_path / "node", tmp_path / "link"
    os.mknod(node, 0o600 | stat.S_IFBLK, Path(device).stat().st_rdev)
    link.symlink_to(f"{bench.disk}p2")
    bench.keep_environment(f"{node} 0x0", f"{link} 0x4000")
    bench.assert_kept(device, f"{node}+0x0")
    bench.assert_kept(f"{bench.disk}p2", f"{link}+0x4000")
    bench.assert_written(f"{bench.disk}p1")


@pytest.mark.root
def test_a_place_that_is_missing_hides_no_other(bench: Bench) -> None:
    """A copy's device is not there, the other copy's is kept all the same."""
    for places in (("/dev/none 0", f"{bench.disk} 0"), (f"{bench.disk} 0", "/dev/none 0")):
        bench.keep_environment(*places)
        bench.assert_kept(bench.disk, f"{bench.disk}+0x0")


@pytest.mark.parametrize(
    "how",
    ["by its name", "by another name", "before there is one", "as what it is called at first"],
)
def test_an_environment_in_a_file_is_kept(workshop: Workshop, image: Path, how: str) -> None:
    """No image takes the file's name, and one beside it is written."""
    file, name = workshop.folder / "environment-1", workshop.folder / "environment-1"
    before = file.read_bytes()
    if how == "by another name":
        name = workshop.folder / "hard"
        name.hardlink_to(file)
    elif how == "before there is one":
        file.unlink()
        name = workshop.folder / "run/../environment-1"
    elif how == "as what it is called at first":
        name, file = workshop.folder / "new", file.rename(workshop.folder / "new.part")
        workshop.fw_env.write_text(f"{file} 0 {ENVIRONMENT_BYTES:#x}\n")
    done = workshop.run("write", image, "--to", name, *words())
    assert (done.returncode, done.stdout) == (16, "")
    assert done.stderr.startswith(f"updater: {name} holds the boot environment ({file}+0x0 in ")
    assert (file.read_bytes() if file.exists() else before) == before
    copy = workshop.folder / "environment-2"
    assert workshop.run("write", image, "--to", copy, *words()).returncode == 0
    assert copy.read_bytes() == IMAGE


# --- the check alone -----------------------------------------------------------------------------


@pytest.fixture
def board(workshop: Workshop) -> Iterator[Device]:
    """What the workshop is configured as."""
    with open_device(*read_settings(str(workshop.config))) as device:
        yield device


def with_slots(board: Device, booted: int, target: int) -> Device:
    """Return the same, with slots of these numbers; it has booted A."""
    slots = Slots(Slot("A", "/dev/A", booted, MIB), Slot("B", "/dev/B", target, MIB))
    return replace(board, finder=MemoryFinder(slots))


UNKNOWN = {
    "no such device": ("/dev/none 0 0x4000\n", "/dev/none: No such file or directory"),
    "one copy without a device": (
        "{folder}/environment-0 0 0x4000\n/dev/none 0 0x4000\n", "/dev/none: No such file",
    ),
    "no such file": ("{folder}/none 0 0x4000\n", "{folder}/none: No such file or directory"),
    "another form": ("- size: 4\n", "{folder}/fw_env.config: '- size: 4' is of libubootenv's YAML"),
    "no text": ("\udcff", "cannot read {folder}/fw_env.config: is no UTF-8"),
    "nothing": ("", "{folder}/fw_env.config: 0 copies of the environment, must be 1 or 2"),
    "no file": (None, "cannot read {folder}/fw_env.config: No such file or directory"),
}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(("text", "reason"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_a_board_that_does_not_find_its_environment_writes_no_device(
    workshop: Workshop, board: Device, device: str, text: str | None, reason: str
) -> None:
    """It could be any; files are written as ever, and so is all where nothing boots from a slot."""
    workshop.fw_env.unlink()
    if text is not None:
        filled = text.replace("{folder}", str(workshop.folder))
        workshop.fw_env.write_text(filled, "utf-8", "surrogateescape")
    medium, copy = find(device), find(str(workshop.folder / "copy"))
    slotted = with_slots(board, os.makedev(240, 1), os.makedev(240, 2))
    with pytest.raises(DeviceError) as caught:
        check_target(slotted, medium)
    expected = reason.replace("{folder}", str(workshop.folder))
    assert str(caught.value).startswith(f"{device} may hold the boot environment: {expected}")
    assert str(caught.value).endswith("; mend that first")
    assert check_target(slotted, copy) == ""
    with pytest.raises(SlotError):
        board.finder.find()
    assert check_target(board, medium) == ""


@pytest.mark.root
def test_an_environment_elsewhere_is_no_medium(
    workshop: Workshop, board: Device, device: str
) -> None:
    """In a file of a mounted file system, or an EEPROM: the device can be written."""
    slotted = with_slots(board, os.makedev(240, 1), os.makedev(240, 2))
    assert check_target(slotted, find(device)) == ""
    workshop.fw_env.write_text("/dev/null 0 0x4000\n")
    assert check_target(slotted, find(device)) == ""


@pytest.fixture
def sysfs(tmp_path: Path) -> str:
    """A flash chip, MTD 0, with four partitions; the last one holds two UBI volumes."""
    chip = tmp_path / "sys/devices/flash/mtd/mtd0"
    (tmp_path / "sys/dev/char").mkdir(parents=True)
    for index, (start, size) in enumerate([(0, 16), (0, 1), (1, 4), (5, 4), (9, 4)]):
        folder = chip / f"mtd{index}" if index else chip
        folder.mkdir(parents=True)
        (folder / "size").write_text(f"{size * MIB}\n")
        (folder / "erasesize").write_text("4096\n")
        if index:
            (folder / "offset").write_text(f"{start * MIB}\n")
        (tmp_path / f"sys/dev/char/90:{2 * index}").symlink_to(folder)
    for index in (0, 1):
        volume = tmp_path / f"sys/devices/virtual/ubi/ubi0/ubi0_{index}"
        volume.mkdir(parents=True)
        (volume.parent / "mtd_num").write_text("4\n")
        (tmp_path / f"sys/dev/char/240:{index + 1}").symlink_to(volume)
    return str(tmp_path / "sys")


def flash(index: int) -> Medium:
    return Medium(f"/dev/mtd{index}", Kind.MTD, os.makedev(31, index))


def volume(index: int) -> Medium:
    number = character(os.makedev(240, index + 1))
    return Medium(f"/dev/ubi0_{index}", Kind.UBI, number, os.makedev(31, 4))


EMMC = Medium("/dev/mmcblk0p2", Kind.BLOCK, os.makedev(179, 2))


@pytest.mark.parametrize(
    ("slots", "medium", "holds"),
    [
        ((flash(2), flash(3)), flash(0), "A"),
        ((EMMC, flash(3)), flash(0), "B"),
        ((flash(2), volume(0)), flash(0), "A"),
        ((volume(0), volume(1)), flash(4), "A"),
        ((volume(0), volume(1)), flash(0), "A"),
        ((EMMC, volume(1)), flash(4), "B"),
    ],
)
def test_flash_that_a_slot_lies_on_is_refused(
    board: Device, sysfs: str, slots: tuple[Medium, Medium], medium: Medium, holds: str
) -> None:
    """The chip, or the partition below: of the booted slot and of the target alike."""
    with pytest.raises(DeviceError) as caught:
        check_target(with_slots(board, *(slot.number for slot in slots)), medium, sysfs)
    assert str(caught.value) == (
        f"{medium.path} holds slot {holds}, which is /dev/{holds}: only a free slot is written, by "
        "its own name"
    )


@pytest.mark.parametrize(
    ("slots", "medium", "bootname"),
    [
        ((flash(2), flash(3)), flash(3), "B"),
        ((flash(2), flash(3)), flash(1), ""),
        ((flash(2), flash(3)), volume(0), ""),
        ((flash(2), flash(4)), volume(0), "B"),
        ((EMMC, volume(1)), volume(1), "B"),
        ((EMMC, volume(1)), volume(0), ""),
        ((volume(0), volume(1)), flash(3), ""),
    ],
)
def test_flash_beside_the_slots_is_free(
    board: Device, sysfs: str, slots: tuple[Medium, Medium], medium: Medium, bootname: str
) -> None:
    """And so is the target itself, which is said, for its record is void from now on."""
    slotted = with_slots(board, *(slot.number for slot in slots))
    assert check_target(slotted, medium, sysfs) == bootname


@pytest.mark.root
@pytest.mark.parametrize(
    ("place", "kept", "free"),
    [
        ("0x0 0x4000", [flash(0), flash(1)], [flash(2), flash(3), volume(0)]),
        ("0xf8000 0x4000 0x4000 2", [flash(0), flash(1)], [flash(2)]),
        ("0xf8000 0x4000 0x4000 3", [flash(0), flash(1), flash(2)], [flash(3)]),  # spare blocks
        ("0x900000 0x4000", [flash(0), flash(4), volume(0), volume(1)], [flash(3)]),
        ("0xf00000 0x4000", [flash(0)], [flash(1), flash(4), volume(1)]),
    ],
)
def test_an_environment_in_flash_is_kept(
    board: Device, sysfs: str, place: str, kept: list[Medium], free: list[Medium]
) -> None:
    """The chip, the partition around it, and the volumes on that; no other partition."""
    config = Path(board.board.environment.config)
    node = config.with_name("flash")
    os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(90, 0))
    config.write_text(f"{node} {place}\n")
    for medium in kept:
        with pytest.raises(DeviceError, match=f"^{medium.path} holds the boot environment "):
            check_target(board, medium, sysfs)
    assert [check_target(board, medium, sysfs) for medium in free] == [""] * len(free)


@pytest.mark.parametrize("medium", [flash(4), flash(0)])
def test_flash_that_is_in_use_is_refused(board: Device, sysfs: str, medium: Medium) -> None:
    """UBI has the last partition, and with it bytes of the chip."""
    (Path(sysfs) / "class/ubi").mkdir(parents=True)
    ubi = Path(sysfs) / "devices/virtual/ubi/ubi0"
    (Path(sysfs) / "class/ubi/ubi0").symlink_to(ubi)
    with pytest.raises(BusyError, match=r"is attached to UBI as ubi0$"):
        check_target(board, medium, sysfs)
    assert check_target(board, flash(3), sysfs) == ""

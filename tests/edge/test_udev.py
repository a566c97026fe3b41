# SPDX-License-Identifier: MIT
"""The slot finder on real loop devices with GPT partitions, one of them mounted as the root.

Partitions that partx adds carry no labels, and not every kernel parses a GPT itself. So the label
comes by the two ways by which libudev hears of it: in the partition's ``uevent``, as a kernel that
has parsed the GPT shows it (a file mounted over it), or in udevd's database (a record like its).
"""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from fds import descriptors

from updater.core.config import SlotConfig
from updater.core.errors import SlotError
from updater.edge.udev import UdevSlotFinder

pytestmark = pytest.mark.root

MIB = 1 << 20
UUID = "11111111-2222-3333-4444-{:012x}"
LABELS = ("boot", "rootfs-a", "rootfs-b")
TABLE = (
    SlotConfig(bootname="A", partlabel="rootfs-a"),
    SlotConfig(bootname="B", partlabel="rootfs-b"),
)
UDEV_DATABASE = Path("/run/udev/data")


def run(*command: str | Path, **more: object) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, **more)
    return str(done.stdout).strip()


@dataclass(frozen=True)
class Disk:
    """A loop device with partitions."""

    device: str

    def partition(self, number: int) -> str:
        return f"{self.device}p{number}"

    def number(self, number: int) -> int:
        return Path(self.partition(number)).stat().st_rdev


@contextmanager
def disk(folder: Path, labels: Sequence[str], way: str) -> Iterator[Disk]:
    """A disk whose partitions of 8, 9, 10… MiB have *labels*."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "disk"
    image.touch()
    os.truncate(image, 64 * MIB)
    rows = [
        f"size={8 + n}MiB, name={label}, uuid={UUID.format(0xA0 + n)}"
        for n, label in enumerate(labels)
    ]
    run("sfdisk", "--quiet", image, input="\n".join(["label: gpt", *rows]))
    device = run("losetup", "--find", "--show", image)
    with ExitStack() as stack:
        stack.callback(run, "losetup", "--detach", device)
        forget_partitions(device)  # of a disk that was here before: they outlive a detach
        stack.callback(forget_partitions, device)
        run("partx", "--add", device)
        for n, label in enumerate(labels, 1):
            name = f"{Path(device).name}p{n}"
            stack.enter_context(WAYS[way](folder, name, label, UUID.format(0xA0 + n - 1)))
        yield Disk(device)


def forget_partitions(device: str) -> None:
    """Remove what the kernel knows of *device*'s partitions; who still looks at one soon goes."""
    deadline_s = time.monotonic() + 5
    name = Path(device).name
    for shown in Path("/sys/class/block", name).glob(f"{name}p*"):
        command = ["delpart", device, shown.name.removeprefix(f"{name}p")]
        while subprocess.run(command, check=False, capture_output=True).returncode:
            assert time.monotonic() < deadline_s, f"{shown.name} is busy"
            time.sleep(0.05)


@contextmanager
def kernel(folder: Path, name: str, label: str, uuid: str) -> Iterator[None]:
    """Let *name* look like a partition that the kernel itself has found in a GPT."""
    shown, ours = Path("/sys/class/block", name, "uevent"), folder / f"{name}.uevent"
    ours.write_text(f"{shown.read_text()}PARTNAME={label}\nPARTUUID={uuid}\n")
    run("mount", "--bind", ours, shown)
    try:
        yield
    finally:
        run("umount", shown)


@contextmanager
def udevd(_folder: Path, name: str, label: str, uuid: str) -> Iterator[None]:
    """Leave the record that udevd's blkid leaves, unless a real udevd does so itself."""
    if Path("/run/udev/control").exists():
        run("udevadm", "settle")
        yield
        return
    record = UDEV_DATABASE / f"b{Path('/sys/class/block', name, 'dev').read_text().strip()}"
    UDEV_DATABASE.mkdir(parents=True, exist_ok=True)
    record.write_text(f"E:ID_PART_ENTRY_NAME={label}\nE:ID_PART_ENTRY_UUID={uuid}\nV:1\n")
    try:
        yield
    finally:
        record.unlink()
        with suppress(OSError):  # somebody else's records are in it
            UDEV_DATABASE.rmdir()
            UDEV_DATABASE.parent.rmdir()


WAYS = {"kernel": kernel, "udevd": udevd}


@contextmanager
def mounted(device: str, place: Path) -> Iterator[str]:
    """A file system on *device*, mounted at *place* as the root of a system would be."""
    place.mkdir()
    run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", device)
    run("mount", device, place)
    try:
        yield str(place)
    finally:
        run("umount", place)


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ours(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """A disk with two slots."""
    with disk(tmp_path_factory.mktemp("ours"), LABELS, way) as it:
        yield it


@pytest.fixture(scope="module")
def root(ours: Disk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where slot A is mounted."""
    with mounted(ours.partition(2), tmp_path_factory.mktemp("root") / "a") as place:
        yield place


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A kernel command line."""
    path = tmp_path / "cmdline"
    path.write_text("console=ttyS0 quiet\n")
    return path


def test_slots_are_told_by_where_the_root_is(
    ours: Disk, root: str, line: Path, tmp_path: Path
) -> None:
    """Booted is the one that the root is mounted from, target the other, each with its facts."""
    slots = UdevSlotFinder(TABLE, root, str(line)).find()
    assert (slots.booted.bootname, slots.booted.device) == ("A", ours.partition(2))
    assert (slots.target.bootname, slots.target.device) == ("B", ours.partition(3))
    assert (slots.booted.number, slots.target.number) == (ours.number(2), ours.number(3))
    assert (slots.booted.size_bytes, slots.target.size_bytes) == (9 * MIB, 10 * MIB)
    with mounted(ours.partition(3), tmp_path / "b") as other:
        slots = UdevSlotFinder(TABLE, other, str(line)).find()
        assert (slots.booted.bootname, slots.target.bootname) == ("B", "A")


def test_uuids_do_as_well_as_labels(ours: Disk, root: str, line: Path) -> None:
    """In whatever case they are written."""
    table = (
        SlotConfig(bootname="A", partuuid=UUID.format(0xA1).upper()),
        SlotConfig(bootname="B", partuuid=UUID.format(0xA2)),
    )
    slots = UdevSlotFinder(table, root, str(line)).find()
    assert (slots.booted.device, slots.target.device) == (ours.partition(2), ours.partition(3))


def test_another_disk_with_the_same_labels_changes_nothing(
    ours: Disk, root: str, line: Path, way: str, tmp_path: Path
) -> None:
    """A stick with our labels is ignored; a system that runs from it finds its own slots there."""
    with disk(tmp_path / "stick", LABELS, way) as stick:
        slots = UdevSlotFinder(TABLE, root, str(line)).find()
        assert (slots.booted.device, slots.target.device) == (ours.partition(2), ours.partition(3))
        with mounted(stick.partition(2), tmp_path / "other") as other:
            slots = UdevSlotFinder(TABLE, other, str(line)).find()
        assert slots.target.device == stick.partition(3)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("updater.slot=A", ""),
        ("updater.slot=B", "says updater.slot=B, the root is on slot A"),
        ("updater.slot=A updater.slot=B", "says updater.slot=B"),
        ("updater.slot=", ""),
        ("updater.slot=C", "says updater.slot=C"),
    ],
)
def test_a_bootloader_that_disagrees_is_not_believed(
    root: str, line: Path, words: str, error: str
) -> None:
    """Command line and root device must name the same slot, else nothing may be written."""
    line.write_text(f"quiet {words} ro")
    finder = UdevSlotFinder(TABLE, root, str(line))
    if error:
        with pytest.raises(SlotError, match=error):
            finder.find()
    else:
        assert finder.find().booted.bootname == "A"


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (("boot", "rootfs-a", "other"), "slot B: partlabel rootfs-b is on 0 partitions"),
        (("boot", "rootfs-a"), "slot B: partlabel rootfs-b is on 0 partitions"),
        (("rootfs-b", "rootfs-a", "rootfs-b"), "slot B: partlabel rootfs-b is on 2 partitions"),
        (("rootfs-a", "other", "rootfs-b"), "runs from none of A, B"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    line: Path, tmp_path: Path, labels: tuple[str, ...], error: str
) -> None:
    """A slot that is missing, or there twice, or not where the root is: nothing may be written."""
    with (
        disk(tmp_path / "disk", labels, "udevd") as it,
        mounted(it.partition(2), tmp_path / "root") as place,
        pytest.raises(SlotError, match=error),
    ):
        UdevSlotFinder(TABLE, place, str(line)).find()


@pytest.mark.parametrize(
    ("words", "booted"),
    [
        ("root=PARTLABEL=rootfs-b", "B"),
        (f"root=PARTUUID={UUID.format(0xA1).upper()}", "A"),
        ("root={device}", "B"),
        ("root=/dev/nfs", ""),
        ("", ""),
        ("root=PARTLABEL=rootfs-b updater.slot=A", ""),
    ],
)
def test_a_root_without_a_device_is_told_by_the_command_line(
    ours: Disk, line: Path, words: str, booted: str
) -> None:
    """Under an overlay the kernel's ``root=`` counts, if it fits one partition and no more."""
    line.write_text(words.format(device=ours.partition(3)))
    finder = UdevSlotFinder(TABLE, "/proc", str(line))  # no block device, as an overlay is none
    if booted:
        assert finder.find().booted.bootname == booted
    else:
        with pytest.raises(SlotError):
            finder.find()


@pytest.mark.usefixtures("ours")
def test_a_root_that_is_no_partition_has_no_slots(line: Path, tmp_path: Path) -> None:
    """A workshop's computer, or a whole disk without a table, is no board of ours."""
    image = tmp_path / "whole"
    image.touch()
    os.truncate(image, 8 * MIB)
    device = run("losetup", "--find", "--show", image)
    try:
        with (
            mounted(device, tmp_path / "root") as place,
            pytest.raises(SlotError, match="on no partition"),
        ):
            UdevSlotFinder(TABLE, place, str(line)).find()
    finally:
        run("losetup", "--detach", device)


@pytest.mark.parametrize(("root", "line"), [("/no/such/root", "line"), ("/", "no-such-line")])
def test_what_cannot_be_read_is_an_error(tmp_path: Path, root: str, line: str) -> None:
    """Without root or command line nothing can be told."""
    (tmp_path / "line").touch()
    with pytest.raises(SlotError, match="cannot look at this machine's partitions"):
        UdevSlotFinder(TABLE, root, str(tmp_path / line)).find()


def test_a_machine_without_libudev_is_an_error(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that lacks the library says so in the same words as any other trouble."""
    monkeypatch.setattr("pyudev._ctypeslib.utils.find_library", lambda _name: None)
    with pytest.raises(SlotError, match="No library named udev"):
        UdevSlotFinder(TABLE, "/", str(line)).find()


def test_each_look_is_a_new_one(root: str, line: Path, way: str, tmp_path: Path) -> None:
    """What has gone or come since the last look is seen, and no descriptor stays."""
    with (
        disk(tmp_path / "disk", LABELS, way) as it,
        mounted(it.partition(2), tmp_path / "root") as place,
    ):
        finder = UdevSlotFinder(TABLE, place, str(line))
        finder.find()
        before, began_s = descriptors(), time.monotonic()
        for _ in range(20):
            finder.find()
        assert time.monotonic() - began_s < 2
        assert descriptors() == before
    with pytest.raises(SlotError):
        UdevSlotFinder(TABLE, str(tmp_path / "root"), str(line)).find()
    assert UdevSlotFinder(TABLE, root, str(line)).find().booted.bootname == "A"


def test_disks_that_come_and_go_disturb_nobody(root: str, line: Path, tmp_path: Path) -> None:
    """A stick that is plugged and pulled while we look is there or not: never an exception."""
    finder, stop = UdevSlotFinder(TABLE, root, str(line)), threading.Event()
    with disk(tmp_path / "stick", LABELS, "udevd") as stick:

        def plug() -> None:
            while not stop.is_set():
                forget_partitions(stick.device)
                run("partx", "--add", stick.device)

        thread = threading.Thread(target=plug)
        thread.start()
        try:
            end_s = time.monotonic() + 0.4
            while time.monotonic() < end_s:
                assert finder.find().booted.bootname == "A"
        finally:
            stop.set()
            thread.join()

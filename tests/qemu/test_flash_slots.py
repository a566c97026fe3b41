# SPDX-License-Identifier: MIT
"""UBI volumes and MTD partitions as slots: found, told apart, written, and made primary.

The board itself runs from its disk. For its second agent a file system on flash is the root: it
runs in a chroot there, and reads a command line that says so.
"""

from collections.abc import Iterator

import pytest
from flashdesk import NAND, NOR, ROOM, SLOT, Desk, md5, noise
from sim.rig import Rig

from board.emulator.image import Image

NAMES = ("rootfs-a", "rootfs-b")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, old: Image) -> Iterator[Desk]:
    """Return the board with two UBI volumes on its NAND, and two partitions of its NOR."""
    folder = tmp_path_factory.mktemp("slots")
    with Rig(folder, old) as rig:
        desk = Desk(rig, folder)
        rig.board.power_on()
        rig.board.wait_for_shell()
        desk.bring_tools()
        desk.shell(f"busybox insmod /tmp/jffs2.ko; busybox insmod /tmp/nandsim.ko {NAND}")
        desk.flash("attach", 0, "'NAND simulator partition 0'")
        for number, name in enumerate(NAMES):
            desk.flash("volume", 0, number, name, "dynamic", ROOM)
        for name in ("nor-a", "nor-b"):
            desk.flash("partition", name, *NOR[name], "erase")
        yield desk
        rig.show()


@pytest.mark.parametrize(
    ("root", "booted", "target"),
    [
        ("ubi0:rootfs-a", "A /dev/ubi0_0", "B /dev/ubi0_1"),
        ("ubi:rootfs-b", "B /dev/ubi0_1", "A /dev/ubi0_0"),
        ("ubi0_1", "B /dev/ubi0_1", "A /dev/ubi0_0"),
        ("ubi0!rootfs-a", "A /dev/ubi0_0", "B /dev/ubi0_1"),
    ],
)
def test_volumes_are_found_by_name(desk: Desk, root: str, booted: str, target: str) -> None:
    """The booted one is what the kernel has mounted, by any name; each is as large as it is."""
    said = desk.flash("slots", "ubi_volume", *NAMES, "/proc", f"'root={root}'")
    assert said.splitlines() == [f"{booted} {ROOM}", f"{target} {ROOM}"]


@pytest.mark.parametrize(
    ("names", "root", "line", "words"),
    [
        (NAMES, "/proc", "root=ubi0:rootfs-a updater.slot=B", "the root is on slot A"),
        (NAMES, "/proc", "root=ubi0:rootfs-c", "fits 0 partitions"),
        (NAMES, "/", "root=ubi0:rootfs-a", "ubi_volume rootfs-a is on 0 partitions"),
        (("rootfs-a", "data"), "/proc", "root=ubi0:rootfs-a", "data is on 0 partitions"),
    ],
)
def test_a_contradiction_names_no_slot(
    desk: Desk, names: tuple[str, str], root: str, line: str, words: str
) -> None:
    """What command line, root and table do not agree about is never written."""
    assert words in desk.flash("slots", "ubi_volume", *names, root, f"'{line}'")


@pytest.mark.parametrize(
    ("key", "names", "kind"),
    [("ubi_volume", NAMES, "ubifs"), ("mtd_name", ("nor-a", "nor-b"), "jffs2")],
    ids=["ubi", "mtd"],
)
def test_an_agent_on_flash_installs_into_the_other_slot(
    desk: Desk, key: str, names: tuple[str, str], kind: str
) -> None:
    """The booted slot is refused; the other is written, proven, and primary for a trial."""
    ours, others = ("/dev/ubi0_0", "/dev/ubi0_1")
    if key == "mtd_name":
        ours, others = (f"/dev/mtd{desk.flash('index', name)}" for name in names)
    image = noise(3_000_001)
    desk.shell(f"sh -e /tmp/board.sh {key} {' '.join(names)}")
    place = ours.removeprefix("/dev/")
    desk.shell(f"sh -e /tmp/enter.sh {kind} {place} 'root={place} updater.slot=A'")
    try:
        code, answer = desk.write(image, ours, root=SLOT)
        assert (code, "booted" in answer["message"]) == (16, True)
        source = desk.serve("firmware", image)
        proof = ("--md5", md5(image), "--size", len(image), "--firmware-version", "0.9")
        code, session = desk.updater("install", source, *proof, root=SLOT)
        assert (code, session["state"], session["target"]) == (0, "activated", "B")
        assert desk.held(others, image)
        desk.shell("test -e /tmp/rebooted")
        code, environment = desk.updater("env", "print", root=SLOT)
        assert (environment["boot_slot"], environment["upgrade_available"]) == ("B", "1")
        code, answer = desk.write(image, others, root=SLOT)
        assert (code, "boots next" in answer["message"]) == (16, True)
    finally:
        desk.shell("sh /tmp/leave.sh")

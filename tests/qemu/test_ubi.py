# SPDX-License-Identifier: MIT
"""UBI volumes on the real kernel, on NAND with bad blocks and on NOR that outlives a reset.

What is installed arrives; what is interrupted, the kernel itself refuses to read.
"""

import gzip
from collections.abc import Iterator

import pytest
from flashdesk import NAND, NOR, ROOM, SMALL_TOML, Desk, md5, noise
from sim.rig import Rig

from board.emulator.image import Image

KEPT = noise(300_000)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, old: Image) -> Iterator[Desk]:
    """Return the board, a UBI device on its NAND, and three volumes."""
    folder = tmp_path_factory.mktemp("ubi")
    with Rig(folder, old) as rig:
        desk = Desk(rig, folder)
        rig.board.power_on()
        rig.board.wait_for_shell()
        desk.bring_tools()
        desk.shell(f"busybox insmod /tmp/nandsim.ko {NAND}")
        desk.flash("attach", 0, "'NAND simulator partition 0'")
        for number, (name, kind) in enumerate(
            (("rootfs-a", "dynamic"), ("rootfs-b", "dynamic"), ("kernel", "static"))
        ):
            desk.flash("volume", 0, number, name, kind, ROOM)
        yield desk
        rig.show()


@pytest.fixture(scope="module")
def full(desk: Desk) -> str:
    """Return a volume that holds an image."""
    assert desk.write(KEPT, "/dev/ubi0_1")[0] == 0
    return "/dev/ubi0_1"


@pytest.fixture
def kept(desk: Desk, full: str) -> Iterator[str]:
    """Return that volume; what the test does there must not touch the image."""
    yield full
    assert desk.held(full, KEPT)


@pytest.mark.parametrize(
    ("device", "size"),
    [("/dev/ubi0_0", 3_000_001), ("/dev/ubi0_2", ROOM)],
    ids=["dynamic", "static"],
)
def test_an_image_arrives_whole(desk: Desk, device: str, size: int) -> None:
    """Of an odd length, or as large as the volume: read back, and readable by anybody."""
    image = noise(size)
    code, summary = desk.write(image, device)
    assert (code, summary["image_bytes"], summary["read_back"]) == (0, size, True)
    assert summary["md5"] == md5(image)
    assert desk.held(device, image)
    assert not desk.is_marked(device)


def test_an_interrupted_update_is_marked_by_the_kernel(desk: Desk) -> None:
    """After a kill in the middle nobody can read the volume, and the next write begins anew."""
    image = noise(2_000_000)
    desk.shell(f"{desk.write_behind(image, '/dev/ubi0_0')}; kill -9 $PID; wait $PID; true")
    desk.rig.web.bytes_per_s = None
    assert desk.is_marked("/dev/ubi0_0")
    assert desk.write(image, "/dev/ubi0_0")[0] == 0
    assert desk.held("/dev/ubi0_0", image)


def test_a_wrong_digest_is_marked_by_the_kernel(desk: Desk) -> None:
    """The kernel never got the tail of an image that is not the announced one."""
    image = noise(1_000_000)  # more than the ring holds: the update begins before the end is seen
    source = desk.serve("image", image)
    proof = ("--md5", md5(b""), "--size", len(image))
    code, answer = desk.updater("write", source, "--to", "/dev/ubi0_2", *proof, config=SMALL_TOML)
    assert (code, "MD5" in answer["message"]) == (13, True)
    assert desk.is_marked("/dev/ubi0_2")


def test_a_compressed_image_needs_its_size(desk: Desk, kept: str) -> None:
    """The kernel must know it beforehand: what is refused without arrives with it."""
    image = bytes(1_000_000) + noise(1_000_000)
    packed = gzip.compress(image, 1)
    code, answer = desk.write(packed, kept)
    assert (code, "exact size beforehand" in answer["message"]) == (16, True)
    code, summary = desk.write(packed, "/dev/ubi0_0", "--image-size", len(image))
    assert (code, summary["format"], summary["image_bytes"]) == (0, "gzip", len(image))
    assert desk.held("/dev/ubi0_0", image)


def test_what_does_not_fit_touches_nothing(desk: Desk, kept: str) -> None:
    """One byte more than the volume holds is refused."""
    code, answer = desk.write(noise(ROOM + 1), kept)
    assert (code, str(ROOM) in answer["message"].replace(" ", "")) == (15, True)


def test_a_volume_that_is_read_is_refused(desk: Desk, kept: str) -> None:
    """Somebody who only reads it is enough: the kernel wants the volume alone."""
    desk.shell(
        f"python3.11 /tmp/guest_flash.py hold {kept} >/tmp/held & "
        "echo $! >/tmp/holder; until grep -q held /tmp/held; do sleep 0.1; done"
    )
    try:
        code, answer = desk.write(noise(1000), kept)
    finally:
        desk.shell("kill $(cat /tmp/holder)")
    assert (code, "in use" in answer["message"]) == (5, True)


def test_a_mounted_volume_is_refused(desk: Desk) -> None:
    """UBIFS holds its volume even where it was told to write nothing."""
    desk.flash("volume", 0, 3, "mounted", "dynamic", ROOM)
    desk.shell(
        "mkdir /tmp/mounted; mount -t ubifs ubi0_3 /tmp/mounted; mount -o remount,ro /tmp/mounted"
    )
    try:
        code, answer = desk.write(noise(1000), "/dev/ubi0_3")
    finally:
        desk.shell("umount /tmp/mounted")
    assert (code, "in use" in answer["message"]) == (5, True)


def test_a_reset_leaves_the_mark(desk: Desk) -> None:
    """On flash that outlives it: the volume is refused after the next start too."""
    nor = "nor-ubi", *NOR["nor-ubi"]
    desk.flash("partition", *nor, "erase")
    desk.flash("attach", 1, "nor-ubi")
    desk.flash("volume", 1, 0, "rootfs", "dynamic", 1_000_000)
    image = noise(800_000)
    desk.shell(desk.write_behind(image, "/dev/ubi1_0"))
    since = desk.rig.board.serial.mark()
    desk.rig.board.qmp("system_reset")
    desk.rig.web.bytes_per_s = None
    desk.rig.board.wait_for_shell(since=since)
    desk.bring_tools()
    desk.flash("partition", *nor)
    desk.flash("attach", 1, "nor-ubi")
    assert desk.is_marked("/dev/ubi1_0")

# SPDX-License-Identifier: MIT
"""``updater write`` and ``updater read-back`` on the board itself, by the names people give.

The commands of docs/media.md for flash; what happens when it wears out is in test_mtd.py, and what
an interrupted UBI volume is in test_ubi.py.
"""

import gzip
from collections.abc import Iterator

import pytest
from flashdesk import NOR, Desk, md5, noise
from sim.rig import Rig

from board.emulator.image import Image

IMAGE = noise(1_500_001)
CARD = "/dev/mmcblk0p1"
CARD_START, CARD_BYTES = 2 << 20, 2 << 20  # behind the environment, which is on the card too
# linux/blkpg.h: tells the kernel of a partition that no table names
ADD_PARTITION = f"""\
import ctypes, fcntl, struct
part = struct.pack("=qqi64s64s4x", {CARD_START}, {CARD_BYTES}, 1, b"", b"")
part = ctypes.create_string_buffer(part)
card = open("/dev/mmcblk0", "rb")
fcntl.ioctl(card, 0x1269, struct.pack("@iiiP", 1, 0, len(part) - 1, ctypes.addressof(part)))
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, old: Image) -> Iterator[Desk]:
    """Return the board with a partition on its NOR flash."""
    folder = tmp_path_factory.mktemp("write")
    with Rig(folder, old) as rig:
        desk = Desk(rig, folder)
        rig.board.power_on()
        rig.board.wait_for_shell()
        desk.bring_tools()
        desk.flash("partition", "nor-a", *NOR["nor-a"], "erase")
        yield desk
        rig.show()


@pytest.fixture(scope="module")
def number(desk: Desk) -> str:
    """Return the number of that partition, which holds the image."""
    number = desk.flash("index", "nor-a")
    code, summary = desk.write(IMAGE, f"/dev/mtd{number}")
    assert (code, summary["image_bytes"], summary["md5"]) == (0, len(IMAGE), md5(IMAGE))
    assert (summary["read_back"], summary["bad_blocks"]) == (True, 0)
    return number


def test_flash_holds_what_was_written(desk: Desk, number: str) -> None:
    """Other programs find the image, and so does ``updater read-back``, which names another."""
    device = f"/dev/mtd{number}"
    assert desk.held(device, IMAGE)
    code, summary = desk.updater("read-back", device, "--md5", md5(IMAGE), "--size", len(IMAGE))
    assert (code, summary["md5_compared"]) == (0, True)
    code, answer = desk.updater("read-back", device, "--md5", md5(b""))
    assert (code, md5(b"") in answer["message"]) == (13, True)


def test_what_flash_holds_already_is_not_written(desk: Desk, number: str) -> None:
    """All blocks but the first, which is erased whatever it holds."""
    code, summary = desk.write(IMAGE, f"/dev/mtd{number}", "--skip-identical")
    assert (code, summary["identical_bytes"]) == (0, len(IMAGE) - (256 << 10))


def test_flash_as_a_block_device_is_refused(desk: Desk, number: str) -> None:
    """The sentence names the one to write to."""
    code, answer = desk.write(IMAGE, f"/dev/mtdblock{number}")
    assert (code, f"write to /dev/mtd{number}" in answer["message"]) == (16, True)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_a_ubi_image_is_refused(desk: Desk, number: str, packed: bool) -> None:
    """UBI attaches what a cut leaves of one; told by its first bytes, before the first erasure."""
    image = b"UBI#" + noise(1_000_000)
    code, answer = desk.write(gzip.compress(image) if packed else image, f"/dev/mtd{number}")
    assert (code, "use ubiformat" in answer["message"]) == (16, True)
    assert answer["notes"] == [f"/dev/mtd{number} is as it was"]
    assert desk.held(f"/dev/mtd{number}", IMAGE)


def test_flash_whose_bytes_ubi_has_is_refused(desk: Desk) -> None:
    """By another name: a partition around the one that is attached, and one within it."""
    start, size = NOR["nor-ubi"]
    desk.flash("partition", "outer", start, 2 * size, "erase")
    desk.flash("partition", "nor-ubi", start, size)
    desk.flash("partition", "inner", start + size // 2, size // 4)
    desk.flash("attach", 1, "nor-ubi")
    desk.flash("volume", 1, 0, "data", "dynamic", 1_000_000)
    assert desk.write(IMAGE[:900_000], "/dev/ubi1_0")[0] == 0
    attached = desk.flash("index", "nor-ubi")
    for name in ("outer", "inner"):
        code, answer = desk.write(noise(200_000), f"/dev/mtd{desk.flash('index', name)}")
        assert code == 5
        assert f"mtd{attached}, which overlaps it, is attached to UBI as ubi1" in answer["message"]
    assert desk.held("/dev/ubi1_0", IMAGE[:900_000])


def test_the_boards_own_disk_is_refused(desk: Desk) -> None:
    """The booted slot and the data are on it: neither it nor they are written by mistake."""
    code, answer = desk.write(IMAGE, "/dev/vda")
    assert (code, "in use" in answer["message"]) == (5, True)
    data = desk.shell("grep ' /data ' /proc/mounts | cut -d ' ' -f 1")
    code, answer = desk.write(IMAGE, data)
    assert (code, "mounted at /data" in answer["message"]) == (5, True)


def test_an_sd_card_holds_what_was_written(desk: Desk) -> None:
    """By its own controller; seen from outside the board, and nothing before it has changed."""
    before = desk.rig.card.read_bytes()[:CARD_START]
    desk.shell(f"wget -q -O /tmp/add.py {desk.serve('add.py', ADD_PARTITION.encode())}")
    desk.shell("python3.11 /tmp/add.py")
    code, summary = desk.write(IMAGE, CARD)
    assert (code, summary["image_bytes"], summary["md5"]) == (0, len(IMAGE), md5(IMAGE))
    card = desk.rig.card.read_bytes()
    assert card[CARD_START:][: len(IMAGE)] == IMAGE
    assert card[:CARD_START] == before
    code, summary = desk.updater("read-back", CARD, "--md5", md5(IMAGE), "--size", len(IMAGE))
    assert (code, summary["md5_compared"]) == (0, True)
    code, answer = desk.write(noise(CARD_BYTES + 1), CARD)
    assert (code, str(CARD_BYTES) in answer["message"]) == (15, True)

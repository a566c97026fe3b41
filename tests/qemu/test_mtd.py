# SPDX-License-Identifier: MIT
"""MTD as a slot, on a real kernel: NOR flash, RAM that plays flash, and raw NAND that wears out.

nandsim is loaded with faults of each test's own choice; what it holds is read by mtd-utils, which
share nothing with this program. tests/native/test_mtd_*.py have the faults that no kernel plays.
"""

import contextlib
import gzip
import hashlib
import json
import random
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from sim.rig import HOST, Rig

from board.emulator import debian, firmware
from board.emulator.cache import run
from board.emulator.image import Image

PLACE = "/run/desk"  # of the board, for what is brought
NOR, RAM, NAND = "/dev/mtd0", "/dev/mtd1", "/dev/mtd2"
BLOCK, PAGE, PAGES = 128 << 10, 2048, 64
BLOCKS = 64  # of the NAND partition that is written
# ST's 64 MiB in blocks of 128 KiB, of which the first 8 MiB are a partition of their own
CHIP = {
    "first_id_byte": 0x20,
    "second_id_byte": 0xA2,
    "third_id_byte": 0x00,
    "fourth_id_byte": 0x15,
    "parts": BLOCKS,
}
TOOLS = ("nanddump", "nandwrite", "flash_erase", "ubiattach", "ubidetach")

BURN = """\
import json, os, signal, sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from updater.core.errors import UpdaterError
from updater.core.ports import InstallRequest, Phase
from updater.edge.pipeline import NativePipeline

def burn(device, digest_of=0, die_at=None, **orders):
    said = {}
    try:
        if digest_of:
            running = NativePipeline().open_digest(device, **orders)
        else:
            running = NativePipeline().open_install(InstallRequest(device=device, **orders))
    except UpdaterError as error:
        return {"error": type(error).__name__, "message": str(error)}
    try:
        while said.get("phase") != Phase.DONE.value:
            progress = running.step(0.02 if die_at else 0.2)
            said = {name: getattr(progress, name) for name in progress.__slots__}
            said["phase"] = progress.phase.value
            if die_at and progress.written_bytes >= die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return {**said, "md5": running.hexdigest()}
    except UpdaterError as error:
        return {"error": type(error).__name__, "message": str(error)}
    finally:
        running.close()

if len(sys.argv) > 1:
    print(json.dumps(burn(**json.loads(sys.argv[1]))))
while len(sys.argv) == 1:  # one process for most of the tests: it starts slowly here
    with open("/run/desk/orders") as orders:
        said = burn(**json.loads(orders.readline()))
    with open("/run/desk/answers", "w") as answers:
        print(json.dumps(said), file=answers)
"""
PARTITION = """\
import ctypes, fcntl, struct, sys
device, start, size, name = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
part = ctypes.create_string_buffer(struct.pack("<qqi64s64s", start, size, 0, name, b""))
add = struct.pack("<iiiiQ", 1, 0, len(part), 0, ctypes.addressof(part))  # struct blkpg_ioctl_arg
with open(device, "r+b", buffering=0) as flash:
    fcntl.ioctl(flash, 0x1269, add)
"""


def md5(image: bytes) -> str:
    return hashlib.md5(image, usedforsecurity=False).hexdigest()


def make(size: int, seed: int) -> bytes:
    """Random bytes with pages, and with a whole block, of 0xFF."""
    image = bytearray(random.Random(seed).randbytes(size))
    for at in range(3 * PAGE, size - PAGE, 5 * PAGE):
        image[at : at + PAGE] = b"\xff" * PAGE
    image[6 * BLOCK : 7 * BLOCK] = b"\xff" * BLOCK
    return bytes(image[:size])


IMAGE = make(3 * (1 << 20) + 12_345, 1)
OTHER = IMAGE[: 1 << 20] + make(2 << 20, 2)
LONG = make(7 * (1 << 20) + 1, 3)


class Desk:
    """The board, and what its shell has at hand."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.shell = rig.board.shell

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self._rig.web.port}/{name}"

    def bring(self, name: str) -> None:
        self.shell(f"wget -q -O {PLACE}/{name} {self.url(name)}; chmod +x {PLACE}/{name}")

    def orders(self, name: str, image: bytes, device: str, **more: object) -> str:
        """Return what is to be done with *image*, which is served as *name*, for the shell."""
        usual = {
            "source": self.url(name), "device": device, "size_bytes": len(image),
            "md5": md5(image), "allow_plaintext": True, "stall_timeout_s": 5.0,
        }  # fmt: skip
        return shlex.quote(json.dumps({**usual, **more}))

    def _do(self, orders: str) -> dict[str, Any]:
        said = self.shell(f"echo {orders} >{PLACE}/orders; cat {PLACE}/answers")
        return dict(json.loads(said.splitlines()[-1]))

    def burn(self, name: str, image: bytes, device: str, **more: object) -> dict[str, Any]:
        """Install *image*, which is served as *name*, and return what became of it."""
        return self._do(self.orders(name, image, device, **more))

    def digest(self, device: str, size: int) -> dict[str, Any]:
        """Read *size* bytes, or all that there is, and return the same."""
        orders = {"device": device, "digest_of": 1, "size_bytes": size}
        return self._do(shlex.quote(json.dumps(orders)))

    def alone(self, orders: str) -> str:
        """Return the command that does it in a process of its own."""
        return f"python3.11 {PLACE}/burn.py {orders}"

    def dumped(self, size: int) -> str:
        """Return the MD5 of the NAND's first *size* bytes, as another program reads them."""
        dump = f"{PLACE}/nanddump --bb=skipbad -q {NAND} | head -c {size} | md5sum"
        return self.shell(dump).split()[0]

    def held(self, device: str, size: int) -> str:
        """Return the same of flash without bad blocks."""
        return self.shell(f"dd if={device} bs=64k 2>/dev/null | head -c {size} | md5sum").split()[0]

    def bad(self) -> int:
        return int(self.shell("cat /sys/class/mtd/mtd2/bad_blocks"))

    def first_good(self, block: int = 0) -> str:
        """Return the MD5 of one erase block as it is, ECC or not."""
        at = f"-s {block * BLOCK} -l {BLOCK}"
        return self.shell(f"{PLACE}/nanddump -q --bb=dumpbad {at} {NAND} | md5sum").split()[0]

    @contextlib.contextmanager
    def nand(self, **faults: object) -> Iterator[None]:
        """Load the NAND with *faults*, and unload it."""
        words = " ".join(f"{key}={value}" for key, value in {**CHIP, **faults}.items())
        self.shell(f"busybox insmod {PLACE}/nandsim {words}")
        try:
            yield
        finally:
            self.shell("busybox rmmod nandsim")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, old: Image) -> Iterator[Desk]:
    """Return a board with tools of its own and firmware on the web."""
    folder = tmp_path_factory.mktemp("mtd")
    tools = debian.tree("mtd-utils", "arm64", ("mtd-utils",), closure=False) / "usr/sbin"
    files = {name: tools / name for name in TOOLS}
    files |= {name: firmware.module(name) for name in ("nandsim", "jffs2")}
    contents = {
        "burn.py": BURN.encode(),
        "partition.py": PARTITION.encode(),
        "image": IMAGE,
        "image.gz": gzip.compress(IMAGE, 1),
        "other": OTHER,
        "long": LONG,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        files[name] = folder / name
    files["ext4"] = folder / "ext4"
    run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", files["ext4"], "2M")
    with Rig(folder, old) as rig:
        rig.web.put(files)
        rig.board.power_on()
        rig.board.wait_for_shell()
        desk = Desk(rig)
        desk.shell(f"mkdir {PLACE}")
        for name in (*TOOLS, "nandsim", "jffs2", "burn.py", "partition.py"):
            desk.bring(name)
        desk.shell(f"busybox mkfifo {PLACE}/orders {PLACE}/answers")
        desk.shell(f"(python3.11 {PLACE}/burn.py >/dev/null 2>{PLACE}/trouble &)")
        yield desk
        print(desk.shell(f"cat {PLACE}/trouble"))
        rig.show()


# --- raw NAND ----------------------------------------------------------------------------------


def test_an_image_goes_over_bad_blocks_and_back(desk: Desk) -> None:
    """Another program, and this one as a source, find it in the good blocks."""
    with desk.nand(badblocks="0,3,17"):
        said = desk.burn("image", IMAGE, NAND)
        assert (said["phase"], said["bad_blocks"]) == ("done", 0)
        assert said["verified_bytes"] == len(IMAGE)
        assert desk.dumped(len(IMAGE)) == md5(IMAGE)
        assert desk.digest(NAND, len(IMAGE))["md5"] == md5(IMAGE)
        whole = desk.digest(NAND, 0)
        assert whole["size_bytes"] == (BLOCKS - 3) * BLOCK


def test_an_image_of_another_program_is_a_source(desk: Desk) -> None:
    """What nandwrite has written is read and copied: to a file, say."""
    with desk.nand(badblocks="1,2"):
        desk.shell(f"wget -q -O - {desk.url('image')} | {PLACE}/nandwrite -q -p {NAND} -")
        assert desk.digest(NAND, len(IMAGE))["md5"] == md5(IMAGE)
        said = desk.burn("", IMAGE, RAM, source=NAND)
        assert said["phase"] == "done"
        assert desk.held(RAM, len(IMAGE)) == md5(IMAGE)


def test_blocks_that_fail_are_marked_and_passed_over(desk: Desk) -> None:
    """One that does not erase, one that does not program, one that cannot be read back."""
    weak = f"{8 * PAGES + 9}:0"
    grave = f"{12 * PAGES + 30}:0"
    with desk.nand(badblocks="0,3", weakblocks="5:0", weakpages=weak, gravepages=grave):
        said = desk.burn("image", IMAGE, NAND)
        assert (said["phase"], said["bad_blocks"]) == ("done", 3)
        assert desk.bad() == 5
        assert desk.dumped(len(IMAGE)) == md5(IMAGE)
        again = desk.burn("other", OTHER, NAND)
        assert (again["phase"], again["bad_blocks"]) == ("done", 0)
        assert desk.dumped(len(OTHER)) == md5(OTHER)


def test_a_head_that_fails_moves_and_all_else_with_it(desk: Desk) -> None:
    """Its block is marked bad; the next try begins at the first byte and succeeds."""
    with desk.nand(badblocks="0", weakblocks="1:0", weakpages=f"{2 * PAGES + 1}:0"):
        said = desk.burn("image", IMAGE, NAND)
        assert said["error"] == "StartOverError"
        assert "has worn out and was marked bad" in said["message"]
        assert desk.bad() == 3
        assert desk.first_good(3) == md5(b"\xff" * BLOCK)
        again = desk.burn("image", IMAGE, NAND)
        assert (again["phase"], again["bad_blocks"]) == ("done", 0)
        assert desk.dumped(len(IMAGE)) == md5(IMAGE)


def test_a_block_that_takes_no_mark_is_no_success(desk: Desk) -> None:
    """Its first page does not program, and the mark stands there: a reader would not skip it."""
    with desk.nand(weakpages=f"{4 * PAGES}:0"):
        said = desk.burn("image", IMAGE, NAND)
        assert said["error"] == "StorageError"
        assert "cannot be marked bad" in said["message"]
        assert desk.first_good() == md5(b"\xff" * BLOCK)


def test_an_image_that_cannot_fit_changes_nothing(desk: Desk) -> None:
    """Room is counted in good blocks, before the first byte is written."""
    with desk.nand(badblocks=",".join(map(str, range(8)))):
        desk.burn("image", IMAGE, NAND)
        said = desk.burn("long", LONG, NAND)
        assert said["error"] == "SpaceError"
        assert desk.dumped(len(IMAGE)) == md5(IMAGE)


def test_running_out_of_good_blocks_is_said(desk: Desk) -> None:
    """As soon as what is left is too little; what is there does not boot."""
    weak = ",".join(f"{block}:0" for block in (5, 9, 13, 20, 30, 40, 50, 60))
    with desk.nand(weakblocks=weak):
        said = desk.burn("long", LONG, NAND)
        assert said["error"] == "SpaceError"
        assert desk.bad() == 8
        assert desk.first_good() == md5(b"\xff" * BLOCK)


def test_bits_that_ecc_corrects_are_no_failure(desk: Desk) -> None:
    """They cost neither blocks nor the image."""
    with desk.nand(bch=4, bitflips=3):
        said = desk.burn("image", IMAGE, NAND)
        assert (said["phase"], said["bad_blocks"]) == ("done", 0)
        for _ in range(20):
            assert desk.digest(NAND, len(IMAGE))["md5"] == md5(IMAGE)
            if int(desk.shell("cat /sys/class/mtd/mtd2/corrected_bits")):
                break
        assert int(desk.shell("cat /sys/class/mtd/mtd2/corrected_bits"))
        assert desk.bad() == 0


def test_what_ecc_cannot_correct_is_no_source(desk: Desk) -> None:
    """The kernel hands out the bytes all the same; here it is an error, with its place."""
    with desk.nand(gravepages=f"{10 * PAGES + 7}:1"):
        assert desk.burn("image", IMAGE, NAND)["phase"] == "done"
        said = desk.digest(NAND, len(IMAGE))
        assert said["error"] == "StorageError"
        assert "wrong than ECC corrects" in said["message"]


def test_identical_blocks_are_neither_erased_nor_programmed(desk: Desk) -> None:
    """A block that may be erased once only: a second time would mark it bad."""
    with desk.nand(weakblocks="2:1"):
        assert desk.burn("image", IMAGE, NAND)["bad_blocks"] == 0
        said = desk.burn("other", OTHER, NAND, skip_identical=True)
        assert (said["phase"], said["bad_blocks"]) == ("done", 0)
        assert said["identical_bytes"] >= (1 << 20) - BLOCK
        assert desk.dumped(len(OTHER)) == md5(OTHER)
        assert desk.burn("image", IMAGE, NAND)["bad_blocks"] == 1


def test_compressed_firmware_is_unpacked(desk: Desk) -> None:
    """What the flash gets is the image."""
    packed = gzip.compress(IMAGE, 1)
    with desk.nand(badblocks="2"):
        said = desk.burn("image.gz", packed, NAND, md5="")
        assert (said["phase"], said["format"]) == ("done", "gzip")
        assert said["written_bytes"] == len(IMAGE)
        assert desk.dumped(len(IMAGE)) == md5(IMAGE)


@pytest.mark.parametrize("worn", [{}, {"weakblocks": "4:0,9:0"}], ids=["healthy", "worn"])
def test_a_kill_costs_little(desk: Desk, worn: dict[str, object]) -> None:
    """Killed in the middle, no head; started again, it goes on with what the flash holds."""
    usual = {"checkpoint": f"{PLACE}/checkpoint", "buffer_bytes": 256 << 10}
    slow = {"die_at": 4 << 20, "bandwidth_bytes_per_s": 6 << 20}
    with desk.nand(badblocks="1", **worn):
        desk.shell(f"rm -f {PLACE}/checkpoint")
        killed = desk.alone(desk.orders("long", LONG, NAND, **usual, **slow))
        assert "137" in desk.shell(f"{killed} || echo $?")
        assert desk.first_good() == md5(b"\xff" * BLOCK)
        said = desk.burn("long", LONG, NAND, **usual)
        assert said["phase"] == "done"
        assert said["resumed_bytes"] >= 2 << 20
        assert desk.dumped(len(LONG)) == md5(LONG)


# --- NOR flash, and RAM that plays flash -------------------------------------------------------


def test_nor_flash_takes_an_image(desk: Desk) -> None:
    """The emulated board's own flash, partitioned at run time; twice, and only what differs."""
    desk.shell(f"python3.11 {PLACE}/partition.py {NOR} {0x5000000} {8 << 20} slot")
    said = desk.burn("image", IMAGE, NAND)
    assert (said["phase"], said["verified_bytes"]) == ("done", len(IMAGE))
    assert desk.held(NAND, len(IMAGE)) == md5(IMAGE)
    other = desk.burn("other", OTHER, NAND, skip_identical=True)
    assert (other["phase"], other["identical_bytes"]) == ("done", (1 << 20) - 2 * BLOCK)
    assert desk.held(NAND, len(OTHER)) == md5(OTHER)
    assert desk.digest(NAND, len(OTHER))["md5"] == md5(OTHER)


def test_ram_that_plays_flash_takes_an_image(desk: Desk) -> None:
    """Also one of exactly its size."""
    full = LONG[: 4 << 20]
    assert desk.burn("image", IMAGE, RAM)["phase"] == "done"
    assert desk.held(RAM, len(IMAGE)) == md5(IMAGE)
    refused = desk.burn("long", LONG, RAM)
    assert refused["error"] == "SpaceError"
    desk.shell(f"wget -q -O - {desk.url('long')} | head -c {len(full)} >{PLACE}/full")
    said = desk.burn("", full, RAM, source=f"{PLACE}/full")
    assert said["phase"] == "done"
    assert desk.held(RAM, len(full)) == md5(full)


@pytest.mark.parametrize("source", ["mtd1", "'mtd:mtdram test device'"], ids=["number", "name"])
def test_a_mounted_flash_is_refused(desk: Desk, source: str) -> None:
    """There is no exclusive open on MTD: it is looked who has it, and nothing is touched."""
    mount = f"mount -t jffs2 {source} /run/mnt"
    desk.shell(f"mkdir -p /run/mnt; {PLACE}/flash_erase -q {RAM} 0 0")
    desk.shell(f"grep -q jffs2 /proc/modules || busybox insmod {PLACE}/jffs2")
    desk.shell(f"{mount} && echo kept >/run/mnt/file")
    try:
        said = desk.burn("image", IMAGE, RAM)
    finally:
        desk.shell("umount /run/mnt")
    assert said["error"] == "BusyError"
    assert "mounted" in said["message"]
    assert "kept" in desk.shell(f"{mount} && cat /run/mnt/file; umount /run/mnt")


def test_a_mounted_block_device_of_it_is_refused(desk: Desk) -> None:
    """The same flash has two nodes."""
    desk.shell(f"mkdir -p /run/mnt; wget -q -O /dev/mtdblock1 {desk.url('ext4')}; sync")
    held = desk.held(RAM, 4 << 20)
    desk.shell("mount -t ext4 -o ro /dev/mtdblock1 /run/mnt")
    try:
        said = desk.burn("image", IMAGE, RAM)
    finally:
        desk.shell("umount /run/mnt")
    assert said["error"] == "BusyError"
    assert "mounted" in said["message"]
    assert desk.held(RAM, 4 << 20) == held


def test_flash_that_ubi_has_is_refused(desk: Desk) -> None:
    """And taken once UBI has let go of it."""
    desk.shell(f"{PLACE}/flash_erase -q {RAM} 0 0; {PLACE}/ubiattach -m 1")
    try:
        said = desk.burn("image", IMAGE, RAM)
    finally:
        desk.shell(f"{PLACE}/ubidetach -m 1")
    assert said["error"] == "BusyError"
    assert "attached to UBI" in said["message"]
    assert desk.burn("image", IMAGE, RAM)["phase"] == "done"


def test_a_partition_that_cannot_be_written_is_refused(desk: Desk) -> None:
    """The kernel's read-only node of it; and one that is not there."""
    said = desk.burn("image", IMAGE, f"{RAM}ro")
    assert (said["error"], "read-only" in said["message"]) == ("DeviceError", True)
    assert desk.burn("image", IMAGE, "/dev/mtd9")["error"] == "DeviceError"


def test_two_at_once_exclude_each_other(desk: Desk) -> None:
    """The second one is refused while the first one writes, and not after it was killed."""
    slow = desk.alone(desk.orders("image", IMAGE, RAM, bandwidth_bytes_per_s=256 << 10))
    desk.shell(f"{slow} >{PLACE}/said & echo $! >{PLACE}/pid")
    desk.shell(f'until grep -q "WRITE $(cat {PLACE}/pid) " /proc/locks; do sleep 0.1; done')
    said = desk.burn("other", OTHER, RAM)
    desk.shell(f"kill -9 $(cat {PLACE}/pid)")
    assert said["error"] == "BusyError"
    assert "being written" in said["message"]
    desk.shell(f"while kill -0 $(cat {PLACE}/pid) 2>/dev/null; do sleep 0.1; done")
    assert desk.burn("other", OTHER, RAM)["phase"] == "done"


def test_flash_of_which_ubi_has_some_is_refused(desk: Desk) -> None:
    """A partition of it made at run time, and the whole of it where that partition is attached."""
    desk.shell(f"python3.11 {PLACE}/partition.py {RAM} {1 << 20} {2 << 20} inner")
    inner = desk.shell("grep inner /proc/mtd").split(":")[0].removeprefix("mtd")
    desk.shell(f"{PLACE}/flash_erase -q {RAM} 0 0")
    for attached, device in ((1, f"/dev/mtd{inner}"), (inner, RAM)):
        desk.shell(f"{PLACE}/ubiattach -m {attached}")
        try:
            said = desk.burn("image", IMAGE[: 1 << 20], device)
        finally:
            desk.shell(f"{PLACE}/ubidetach -m {attached}; {PLACE}/flash_erase -q {RAM} 0 0")
        assert said["error"] == "BusyError"
        assert "an overlapping partition is attached to UBI" in said["message"]

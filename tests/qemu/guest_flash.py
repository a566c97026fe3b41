# SPDX-License-Identifier: MIT
"""Runs on the emulated board: flash and UBI by the kernel's own ioctls, and what the agent sees.

``guest_flash.py COMMAND ARGUMENT…``; test_ubi.py brings it there. Flash tools are no part of the
board's image.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import struct
import sys
import time
from pathlib import Path

MTD, UBI = "M", "o"
BLKPG, BLKPG_ADD_PARTITION = 0x1269, 1
MEMERASE, UBI_IOCATT, UBI_IOCMKVOL = 2, 64, 0
UBI_KINDS = {"dynamic": 3, "static": 4}


def order(path: str, kind: str, number: int, packed: bytes) -> None:
    """Issue the ioctl _IOW(kind, number, packed)."""
    node = os.open(path, os.O_RDWR)
    try:
        fcntl.ioctl(node, 1 << 30 | len(packed) << 16 | ord(kind) << 8 | number, packed)
    finally:
        os.close(node)


def number_of(name: str) -> int:
    """Return the number of the MTD partition *name*."""
    lines = Path("/proc/mtd").read_text().splitlines()
    return next(int(line.split(":")[0][3:]) for line in lines if line.endswith(f'"{name}"'))


def index(name: str) -> None:
    """Print the number of an MTD partition."""
    print(number_of(name))


def partition(name: str, start: str, size: str, *erase: str) -> None:
    """Make a partition of the board's NOR flash, which is MTD 0."""
    made = struct.pack("=qqi64s64s4x", int(start, 0), int(size, 0), 1, name.encode(), b"")
    room = ctypes.create_string_buffer(made, len(made))
    address = ctypes.addressof(room)
    node = os.open("/dev/mtd0", os.O_RDWR)
    fcntl.ioctl(node, BLKPG, struct.pack("@iiiP", BLKPG_ADD_PARTITION, 0, len(made), address))
    os.close(node)
    if erase:
        packed = struct.pack("=II", 0, int(size, 0))
        order(f"/dev/mtd{number_of(name)}", MTD, MEMERASE, packed)


def attach(ubi: str, name: str) -> None:
    """Make a UBI device of an MTD partition; one that is blank is formatted by that."""
    order(
        "/dev/ubi_ctrl", UBI, UBI_IOCATT, struct.pack("=iiih10x", int(ubi), number_of(name), 0, 0)
    )


def volume(ubi: str, number: str, name: str, kind: str, size: str) -> None:
    """Make a volume."""
    head = struct.pack("=iiqbBh4x", int(number), 1, int(size), UBI_KINDS[kind], 0, len(name))
    order(f"/dev/ubi{ubi}", UBI, UBI_IOCMKVOL, head + name.encode().ljust(128, b"\0"))


def md5(path: str, size: str) -> None:
    """Print the MD5 of the first bytes, or the name of the error that reading them gives."""
    digest, left = hashlib.md5(usedforsecurity=False), int(size)
    try:
        with Path(path).open("rb", buffering=0) as file:
            while left and (got := file.read(min(left, 1 << 20))):
                digest.update(got)
                left -= len(got)
        print(digest.hexdigest() if not left else f"{left} bytes are missing")
    except OSError as error:
        print(errno.errorcode[error.errno or 0])


def hold(path: str) -> None:
    """Keep *path* open for reading."""
    os.open(path, os.O_RDONLY)
    print("held", flush=True)
    time.sleep(600)


def slots(key: str, first: str, second: str, root: str, line: str) -> None:
    """Print what the agent would find, were its root at *root* and its command line *line*."""
    sys.path.insert(0, "/usr/lib/python3/dist-packages")
    from updater.core.config import SlotConfig  # noqa: PLC0415 - the other commands start faster
    from updater.core.errors import SlotError  # noqa: PLC0415 - the same
    from updater.edge.udev import UdevSlotFinder  # noqa: PLC0415 - the same

    Path("/tmp/line").write_text(line)  # noqa: S108 - the board is ours alone
    rows = [SlotConfig(bootname=n, **{key: v}) for n, v in (("A", first), ("B", second))]
    try:
        found = UdevSlotFinder(rows, root, "/tmp/line").find()  # noqa: S108 - the same
    except SlotError as error:
        print(error)
        return
    for slot in (found.booted, found.target):
        print(slot.bootname, slot.device, slot.size_bytes)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

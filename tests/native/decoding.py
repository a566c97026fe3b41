# SPDX-License-Identifier: MIT
"""Packs images as people do, and unpacks them by one decoder under sanitizers (decode.c)."""

import gzip
import lzma
import os
import random
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sanitized import BUFFER, FLAGS, MIB, NATIVE, SANITIZERS, Status

from board.emulator.cache import cached, run

HERE = Path(__file__).parent
SOURCES = (
    *sorted(NATIVE.glob("decoder*.c")), NATIVE / "zstd_frame.c", NATIVE / "error.c",
    HERE / "decode.c", HERE / "unpack.c",
)  # fmt: skip
HEADERS = (*sorted(NATIVE.glob("*.h")), HERE / "starve.h", HERE / "unpack.h")
NOISE = random.Random(4).randbytes(MIB)
MIXED = NOISE[:300000] + bytes(400000) + b"updater " * 50000 + NOISE[300000:400000]
TEXT = b"all that a small file needs, and a little more: " * 3
SMALL = TEXT + NOISE[:50]
MEMORY = 12 * MIB
Packer = Callable[[bytes], bytes]
Pieces = tuple[Sequence[int], Sequence[int]]  # sizes of input and of room, taken in turn
WHOLE: Pieces = ([64 * MIB], [BUFFER])


# --- packing -------------------------------------------------------------------------------------


def tool(*command: str) -> Packer:
    """Return a packer that is a program; it gets the image by standard input."""
    return lambda image: (
        subprocess.run(command, input=image, stdout=subprocess.PIPE, check=True).stdout
    )


def on_file(*command: str) -> Packer:
    """Return a packer that is a program; it gets a file, whose name or size it may note."""

    def pack(image: bytes) -> bytes:
        with tempfile.NamedTemporaryFile() as file:
            file.write(image)
            file.flush()
            return tool(*command, file.name)(b"")

    return pack


PACKERS: dict[str, Packer] = {
    "gzip module": lambda image: gzip.compress(image, 6),
    "gzip -1": tool("gzip", "-1c"),
    "gzip -9": tool("gzip", "-9c"),
    "gzip, a name": on_file("gzip", "-c"),
    "gzip, stored": lambda image: gzip.compress(image, 0),
    "xz module": lzma.compress,
    "xz -0": tool("xz", "-0c", "-T1"),
    "xz -6, threads": tool("xz", "-6c", "-T2"),
    "xz -9": tool("xz", "-9c", "-T1"),
    "xz, crc32": lambda image: lzma.compress(image, preset=0, check=lzma.CHECK_CRC32),
    "xz, sha256": lambda image: lzma.compress(image, preset=0, check=lzma.CHECK_SHA256),
    "xz, no check": lambda image: lzma.compress(image, preset=0, check=lzma.CHECK_NONE),
    "xz, small blocks": tool("xz", "-1c", "-T1", "--block-size=65536"),
    "xz for arm": tool("xz", "-c", "--arm", "--lzma2=dict=1MiB"),
    "xz for arm64": tool("xz", "-c", "--arm64", "--delta=dist=4", "--lzma2=dict=1MiB"),
    "zstd -1": tool("zstd", "-1cq"),
    "zstd -19": tool("zstd", "-19cq"),
    "zstd --long=27": tool("zstd", "-1cq", "--long=27"),
    "zstd, a size": on_file("zstd", "-3cq"),
    "zstd, threads": tool("zstd", "-3cq", "-T2"),
    "zstd, no checksum": tool("zstd", "-cq", "--no-check"),
}


def zstd_frame(window: int = 0x58, dictionary: int = 0) -> bytes:
    """Return a frame of one byte, whose header says what it needs."""
    return b"\x28\xb5\x2f\xfd\x01" + bytes([window, dictionary]) + b"\x09\0\0x"


def skippable(content: bytes, number: int = 0) -> bytes:
    return struct.pack("<II", 0x184D2A50 + number, len(content)) + content


def xz_stream(check: int) -> bytes:
    """Return the beginning of a stream that has that kind of check."""
    flags = bytes([0, check])
    return b"\xfd7zXZ\0" + flags + struct.pack("<I", zlib.crc32(flags))


# --- unpacking -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unpacked:
    """What the driver said."""

    image: bytes
    status: Status
    is_refused: bool  # before the first byte was unpacked
    allocated: int
    claimed: int
    message: str


def driver(name: str = "decode", *words: str | Path, is_bare: bool = False) -> Path:
    """Return the driver of decoders, compiled with *words* and with all libraries, or with none."""
    flags = [flag for flag in FLAGS if not (is_bare and flag.startswith("-DUPD_WITH_"))]
    libraries = () if is_bare else ("-lz", "-llzma", "-lzstd")
    words = words or SANITIZERS["address"]

    def compile_all(place: Path) -> None:
        run("gcc", *flags, f"-I{NATIVE}", *SOURCES, *words, "-o", place / "decode", *libraries)

    return cached(name, (flags, *words, *SOURCES, *HEADERS), compile_all) / "decode"


def ask(
    what: str,
    packed: bytes,
    pieces: Pieces = WHOLE,
    memory: int = MEMORY,
    program: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the driver; a finding of the sanitizers, or a broken promise, fails the test."""
    sizes = (",".join(map(str, each)) for each in pieces)
    words = [str(program or driver()), what, "/dev/stdin", str(memory), *sizes]
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=1"}
    done = subprocess.run(
        words, input=packed, capture_output=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done


def unpack(
    packed: bytes,
    pieces: Pieces = WHOLE,
    memory: int = MEMORY,
    program: Path | None = None,
) -> Unpacked:
    done = ask("once", packed, pieces, memory, program)
    status, refused, allocated, claimed, message = done.stderr.decode().split(" ", 4)
    said = Status(int(status)), refused == "1", int(allocated), int(claimed), message.strip()
    return Unpacked(done.stdout, *said)


def tried(what: str, packed: bytes, program: Path | None = None) -> tuple[int, ...]:
    """Return the driver's counts: tries that ended in an error, in the same image, in another."""
    done = ask(what, packed, ([3, 100], [50, 1000]), program=program)
    return tuple(map(int, done.stderr.split()))

# SPDX-License-Identifier: MIT
"""Builds the targets of libFuzzer, makes the seeds that they begin with, and runs them."""

import gzip
import hashlib
import lzma
import os
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from decoding import NOISE, PACKERS, TEXT, on_file, skippable, tool, xz_stream, zstd_frame
from sanitized import FLAGS, HEADERS, LIBRARIES, NATIVE

from board.emulator.cache import cached, run

FUZZ = Path(__file__).parent / "fuzz"
DRIVER_HEADERS = tuple(sorted(FUZZ.parent.glob("*.h")))
NATIVE_SOURCES = tuple(sorted(NATIVE.glob("*.c")))
COMPILER = ("clang", *FLAGS, f"-I{NATIVE}", "-fno-sanitize-recover=all")
INSTRUMENTED = "-fsanitize=address,undefined,fuzzer-no-link"
MEMORY_MIB = 1024
INPUT_TIMEOUT_S = 20
MAX_LEN = 4096


@dataclass(frozen=True)
class Target:
    """One parser.

    Args:
        name: What people call it.
        sources: Its files, as seen from ``fuzz/``.
        seeds: What it begins with.
        runs: Inputs that it must at least execute each second, on a busy machine.
        edges: Edges of the instrumented code that it must at least cover.
        words: What its sources are compiled with.
    """

    name: str
    sources: tuple[str, ...]
    seeds: Callable[[], Iterator[bytes]]
    runs: int
    edges: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Campaign:
    """What one run of a target came to."""

    code: int
    output: str
    runs: int
    edges: int


# --- seeds ---------------------------------------------------------------------------------------


def _decoding(*firmwares: bytes) -> Iterator[bytes]:
    """Put the limit of memory and the sizes of pieces before each firmware."""
    controls = (
        bytes([0xD8, 255, 255, 255, 255, 255, 255]), bytes([0x91, 1, 7, 0, 3, 1, 128]),
        bytes([0xA0, 255, 150, 255, 100, 1, 90]),
    )  # fmt: skip
    for firmware in firmwares:
        for control in controls:
            yield control + firmware


def gzip_seeds() -> Iterator[bytes]:
    small = [PACKERS[name](TEXT) for name in ("gzip -1", "gzip -9", "gzip, a name", "gzip, stored")]
    head = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x02\0xyname\0note\0"  # all that it may have
    headed = head + struct.pack("<H", zlib.crc32(head) & 0xFFFF) + gzip.compress(TEXT)[10:]
    return _decoding(
        *small, small[0] + small[1], small[2] + bytes(9), small[0] + b"x", small[0] + bytes(2),
        gzip.compress(b""), gzip.compress(bytes(300000)), gzip.compress(NOISE[:2000]), headed,
    )  # fmt: skip


def xz_seeds() -> Iterator[bytes]:
    small = [lzma.compress(TEXT, check=check, preset=0) for check in (0, 1, 4, 10)]
    blocks = tool("xz", "-0c", "-T1", "--block-size=60")(TEXT)
    return _decoding(
        *small, blocks, small[1] + bytes(8), small[1] + bytes(4) + small[0], small[1] + bytes(3),
        lzma.compress(b""), lzma.compress(bytes(300000), preset=0), lzma.compress(TEXT),
        lzma.compress(NOISE[:2000], preset=0), PACKERS["xz -9"](TEXT), xz_stream(check=2),
        PACKERS["xz for arm"](TEXT), PACKERS["xz for arm64"](TEXT),
    )  # fmt: skip


def zstd_seeds() -> Iterator[bytes]:
    names = ("zstd -1", "zstd -19", "zstd, a size", "zstd, no checksum", "zstd --long=27")
    small = [PACKERS[name](TEXT) for name in names]
    return _decoding(
        *small, small[0] + small[2], small[0] + skippable(b"note") + small[1],
        skippable(b"note") + small[0], small[0] + b"\0", zstd_frame(), zstd_frame(dictionary=3),
        zstd_frame(window=0xFF), on_file("zstd", "-1cq")(bytes(300000)), tool("zstd", "-cq")(b""),
        tool("zstd", "-1cq")(NOISE[:2000]), tool("zstd", "-1cq")(TEXT * 50 + NOISE[:300]),
    )  # fmt: skip


def frame_seeds() -> Iterator[bytes]:
    for descriptor in range(256):
        yield b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + bytes(range(1, 14))
    for number in range(17):
        yield skippable(b"note", number) + zstd_frame()


def record_seeds() -> Iterator[bytes]:
    for head, offset, size, capacity in (
        (1 << 20, 3 << 20, 1 << 24, 1 << 25), (4096, 4096, 5000, 5000), (4096, 4097, 5000, 5000),
    ):  # fmt: skip
        numbers = struct.pack("<4Q", 0x701, capacity, size, head)
        record = b"UPDCKPT1" + numbers + bytes(range(16)) + struct.pack("<2Q", 9, offset)
        record += bytes(range(32)) + b'"an etag"'
        record = record.ljust(512 - 16, b"\0")
        record += hashlib.md5(record, usedforsecurity=False).digest()
        for bit in (0, 999, 4095):
            yield struct.pack("<H", bit) + record


def http_seeds() -> Iterator[bytes]:
    values = (
        b"bytes 0-99/100", b"bytes 5-9/*", b"bytes */47022", b" BYTES\t 1-2/3 ", b"bytes 9-5/100",
        b"bytes 9223372036854775806-9223372036854775807/9223372036854775808", b"items 1-2/3",
        b"120", b" 0 ", b"99999999999999999999", b"Wed, 15 Nov 2023 08:12:31 GMT",
        b"Wednesday, 15-Nov-23 08:12:31 GMT", b"Wed Nov 15 08:12:31 2023", b"20231115 08:12 -0700",
        b'"abc"', b'W/"abc"', b'"a b"', b'""', b'"', b"",
    )  # fmt: skip
    for header in range(4):
        for value in values:
            yield bytes([header, 255]) + value
            yield bytes([header, len(value)]) + value
            yield bytes([header, len(value) - 1 & 255]) + value


DECODER = ("fuzz_decoder.c", "../unpack.c")
TARGETS = {
    target.name: target
    for target in (
        Target("gzip", DECODER, gzip_seeds, 50, 85, ("-DFUZZED=UPD_FORMAT_GZIP",)),
        Target("xz", DECODER, xz_seeds, 50, 80, ("-DFUZZED=UPD_FORMAT_XZ",)),
        Target("zstd", DECODER, zstd_seeds, 50, 125, ("-DFUZZED=UPD_FORMAT_ZSTD",)),
        Target("zstd-frame", ("fuzz_zstd_frame.c",), frame_seeds, 1000, 50),
        Target("record", ("fuzz_record.c",), record_seeds, 1000, 45),
        Target("http", ("fuzz_http.c",), http_seeds, 1000, 95),
    )
}


# --- build, run ----------------------------------------------------------------------------------


def engine() -> Path:
    """Return the engine as a library; a target takes from it what it needs."""

    def build(place: Path) -> None:
        for source in NATIVE_SOURCES:
            run(*COMPILER, INSTRUMENTED, "-c", source, "-o", place / f"{source.stem}.o")
        run("ar", "rcs", place / "engine.a", *sorted(place.glob("*.o")))

    return cached("fuzz-engine", (COMPILER, INSTRUMENTED, *NATIVE_SOURCES, *HEADERS), build)


def build(target: Target) -> Path:
    library = engine() / "engine.a"
    sources = [FUZZ / source for source in target.sources]

    def link(place: Path) -> None:
        words = (*COMPILER, f"-I{FUZZ.parent}", "-fsanitize=address,undefined,fuzzer")
        run(*words, *target.words, *sources, library, "-o", place / "fuzz", *LIBRARIES)

    inputs = (COMPILER, target.words, *sources, *DRIVER_HEADERS, engine().name)
    return cached(f"fuzz-{target.name}", inputs, link) / "fuzz"


def campaign(target: Target, folder: Path, seconds: int) -> Campaign:
    """Fuzz *target*; *folder* gets the inputs that brought something new, and those that failed."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    # the peak of memory is inherited from what becomes a program: pytest itself may be large
    small = ["sh", "-c", '"$0" "$@"; exit $?']
    command: list[str | Path] = [
        *small, build(target), f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={INPUT_TIMEOUT_S}", f"-max_len={MAX_LEN}", "-print_final_stats=1",
        "-use_value_profile=1", f"-artifact_prefix={folder}/", corpus,
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False,
        env=os.environ | {"ASAN_OPTIONS": "detect_stack_use_after_return=1:allow_addr2line=1"},
    )  # fmt: skip
    runs = re.search(r"stat::number_of_executed_units: +(\d+)", done.stderr)
    edges = re.findall(r"cov: (\d+)", done.stderr)
    return Campaign(
        done.returncode, done.stderr, int(runs[1]) if runs else 0, int(edges[-1]) if edges else 0
    )

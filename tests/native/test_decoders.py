# SPDX-License-Identifier: MIT
"""gzip, xz and zstd by themselves: the right image, or an error.

The images are packed by Python's modules and by the command line tools, which are other programs
than the libraries that unpack them here.
"""

import gzip
import lzma
import re
import struct
import zlib

import pytest
from decoding import (
    MEMORY,
    MIXED,
    NOISE,
    PACKERS,
    SMALL,
    TEXT,
    WHOLE,
    ask,
    skippable,
    tried,
    unpack,
    zstd_frame,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized import MIB, Status

EMPTY_GZIP = gzip.compress(b"", mtime=0)  # the same in each process: rows are named by it
FORMATS = {"raw": 0, "gzip": 1, "xz": 2, "zstd": 3}
IMAGES = {
    "empty": b"", "one byte": b"x", "text": TEXT, "mixed": MIXED, "zeros": bytes(5 * MIB),
    "noise": NOISE,
}  # fmt: skip
MODEST = [name for name in PACKERS if name not in {"xz -9", "zstd --long=27"}]


# --- what was packed -----------------------------------------------------------------------------


@pytest.mark.parametrize("packer", MODEST)
@pytest.mark.parametrize("image", IMAGES)
def test_what_was_packed_comes_out(packer: str, image: str) -> None:
    """Every writer, level, filter and check; within the memory that is allowed."""
    unpacked = unpack(PACKERS[packer](IMAGES[image]))
    assert unpacked.status == Status.DONE, unpacked.message
    assert unpacked.image == IMAGES[image]
    assert unpacked.allocated <= MEMORY


SIZES = st.lists(st.integers(0, 9) | st.integers(0, 5000), min_size=1, max_size=5).filter(any)


@settings(max_examples=50, deadline=None)
@given(
    packer=st.sampled_from(["gzip -9", "gzip, a name", "xz, small blocks", "zstd, no checksum"]),
    pieces=st.tuples(SIZES, SIZES),
    count=st.integers(1, 3),
)
def test_pieces_make_no_difference(
    packer: str, pieces: tuple[list[int], list[int]], count: int
) -> None:
    """However input and output are cut, and however many streams follow one another."""
    image = MIXED[295000:310000]
    unpacked = unpack(PACKERS[packer](image) * count, pieces)
    assert (unpacked.status, unpacked.image) == (Status.DONE, image * count)


@pytest.mark.parametrize(
    ("packer", "before", "times", "size"),
    [
        ("zstd, a size", b"", 1, len(TEXT)), ("zstd, a size", skippable(b"a note"), 1, len(TEXT)),
        ("zstd, a size", b"", 2, 0), ("zstd -1", b"", 1, 0), ("xz module", b"", 1, 0),
        ("gzip module", b"", 1, 0),
    ],
)  # fmt: skip
def test_the_images_size_is_told_if_the_header_knows(
    packer: str, before: bytes, times: int, size: int
) -> None:
    """One frame's, but not the first one's of several."""
    assert unpack(before + PACKERS[packer](TEXT) * times).claimed == size


@pytest.mark.parametrize("size", [1, 255, 256, 65791, 65792, MIB])
def test_every_way_to_write_a_size_is_read(size: int) -> None:
    """In one, two and four bytes, of which two begin at 256."""
    assert unpack(PACKERS["zstd, a size"](MIXED[:size])).claimed == min(size, len(MIXED))


# --- what it is taken for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("firmware", "name"),
    [
        (b"\x1f\x8b\x08", "gzip"), (b"\x1f\x8b", "raw"), (b"\x1f\x8b\x07rest", "raw"),
        (b"\xfd7zXZ\0", "xz"), (b"\xfd7zXZ", "raw"), (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x28\xb5\x2f", "raw"), (b"", "raw"), (b"\x27\xb5\x2f\xfd and more", "raw"),
        (skippable(b"a note") + zstd_frame(), "zstd"), (skippable(b"", 15) + zstd_frame(), "zstd"),
        (skippable(b"a") + skippable(b"b", 3) + zstd_frame(), "zstd"),
        (skippable(b"a note"), "raw"), (skippable(b"a note")[:7], "raw"),
        (skippable(b"a note")[:-1], "raw"), (skippable(b"a note") + zstd_frame()[:3], "raw"),
        (skippable(b"a note") + b"\x04\x22\x4d\x18, which is another format", "raw"),
        (skippable(b"a note") + EMPTY_GZIP, "raw"),
        (struct.pack("<II", 0x184D2A50, 0xFFFFFFFF) + zstd_frame(), "raw"),
    ],
)  # fmt: skip
def test_the_first_bytes_tell_the_format(firmware: bytes, name: str) -> None:
    """A skippable frame says nothing: other formats have it too; what is behind it decides."""
    assert int(ask("sniff", firmware).stderr) == FORMATS[name]


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "packer", ["gzip module", "gzip, a name", "xz -0", "xz, sha256", "zstd -1", "zstd -19"]
)
def test_a_file_that_is_cut_short_is_never_whole(packer: str) -> None:
    """At every length."""
    packed = PACKERS[packer](SMALL)
    assert tried("cut", packed) == (len(packed), 0, 0)


@pytest.mark.parametrize(
    ("packer", "harmless"),
    [
        # time, flags, system, whether it is text, and what is left of the last byte
        ("gzip module", 32 + 8 + 8 + 1 + 7), ("xz -0", 0), ("xz, crc32", 0), ("xz, sha256", 0),
        # a window of another size, and bits that are kept for later
        ("zstd -1", 8 + 1 + 2), ("zstd, a size", 1 + 2),
    ],
)  # fmt: skip
def test_no_bit_makes_another_image(packer: str, harmless: int) -> None:
    """Each flipped bit is found, but for those of a header that say nothing about the image."""
    packed = PACKERS[packer](SMALL)
    errors, same, others = tried("flip", packed)
    assert errors + same == 8 * len(packed)
    assert (same <= harmless, others) == (True, 0)


TAILS: list[tuple[str, bytes, bool]] = [
    ("gzip module", bytes(1000), True), ("gzip module", b"x", False),
    ("gzip module", bytes(9) + EMPTY_GZIP, False),
    ("gzip module", EMPTY_GZIP[:-1], False), ("gzip module", lzma.compress(b""), False),
    ("gzip module", zlib.compress(b""), False),
    ("xz module", bytes(8), True), ("xz module", bytes(7), False), ("xz module", b"x", False),
    ("xz module", bytes(4) + lzma.compress(b""), True),
    ("xz module", bytes(5) + lzma.compress(b""), False),
    ("xz module", EMPTY_GZIP, False), ("xz module", lzma.compress(b"")[:-1], False),
    ("zstd -1", b"\0", False), ("zstd -1", skippable(b"a note"), True),
    ("zstd -1", skippable(b""), True), ("zstd -1", skippable(b"a note")[:-1], False),
    ("zstd -1", skippable(b"")[:-1], False), ("zstd -1", zstd_frame()[:5], False),
    # frames of the formats before today's, which the library may still know
    *(("zstd -1", bytes([version]) + b"\xb5\x2f\xfd" + bytes(9), False)
      for version in range(0x1E, 0x28)),
]  # fmt: skip


@pytest.mark.parametrize(("packer", "tail", "is_fine"), TAILS)
def test_what_may_follow(packer: str, tail: bytes, *, is_fine: bool) -> None:
    """Padding that the format knows, and nothing else."""
    for pieces in (WHOLE, ([1], [50])):
        unpacked = unpack(PACKERS[packer](TEXT) + tail, pieces)
        assert unpacked.status == (Status.DONE if is_fine else Status.FORMAT)
        assert unpacked.image == TEXT


@pytest.mark.parametrize("packer", ["gzip -1", "xz, small blocks", "zstd -1"])
def test_the_sentence_says_where(packer: str) -> None:
    """Damage by the byte near which it was met, an early end by the number of bytes."""
    packed = bytearray(PACKERS[packer](NOISE))
    ended = unpack(packed[:-9]).message
    assert ended.endswith(f"data ends too soon, after {len(packed) - 9} bytes")
    packed[MIB // 2] ^= 4
    near = re.search(r"data is damaged near byte (\d+)$", unpack(packed).message)
    assert near
    assert MIB // 2 <= int(near[1]) <= len(packed)

# SPDX-License-Identifier: MIT
"""The project's own MD5, against RFC 1321's vectors and against libcrypto's."""

import ctypes
import hashlib
import mmap
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized import NATIVE

from board.emulator.cache import cached, run

BLOCK = 64
MIB = 1 << 20
VECTORS = {
    b"": "d41d8cd98f00b204e9800998ecf8427e",
    b"a": "0cc175b9c0f1b6a831c399e269772661",
    b"abc": "900150983cd24fb0d6963f7d28e17f72",
    b"message digest": "f96b697d7cb7938d525a2f31aaf161d0",
    b"abcdefghijklmnopqrstuvwxyz": "c3fcd3d76192e4007dfb496cca67e13b",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789": (
        "d174ab98d277d9f5a5611c2c9f419d9f"
    ),
    b"1234567890" * 8: "57edf4a22be3c955ac49da2e2107b67a",
}


class Md5(ctypes.Structure):
    """``struct upd_md5`` of the header."""

    _fields_ = (
        ("state", ctypes.c_uint32 * 4),
        ("len", ctypes.c_uint64),
        ("tail", ctypes.c_ubyte * BLOCK),
    )

    def copied(self) -> "Md5":
        return Md5.from_buffer_copy(self)


class Library:
    """The functions of the header."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._init, self._final = library.upd_md5_init, library.upd_md5_final
        self._update = library.upd_md5_update
        self._update.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

    def new(self) -> Md5:
        md5 = Md5()
        self._init(ctypes.byref(md5))
        return md5

    def update(self, md5: Md5, chunk: bytes) -> None:
        self._update(ctypes.addressof(md5), ctypes.c_char_p(chunk), len(chunk))

    def update_at(self, md5: Md5, address: int, length: int) -> None:
        self._update(ctypes.addressof(md5), address, length)

    def hexdigest(self, md5: Md5) -> str:
        ret = ctypes.create_string_buffer(16)
        self._final(ctypes.byref(md5.copied()), ret)
        return ret.raw.hex()

    def of(self, *chunks: bytes) -> str:
        md5 = self.new()
        for chunk in chunks:
            self.update(md5, chunk)
        return self.hexdigest(md5)


@pytest.fixture(scope="module", params=["-O2", "-O0"])
def library(request: pytest.FixtureRequest) -> Library:
    """The file as a library: as it is built, and as it is not."""
    source, level = NATIVE / "md5.c", request.param
    trap = ("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")

    def compile_it(place: Path) -> None:
        run("gcc", "-std=gnu11", level, *trap, "-shared", "-fPIC", source, "-o", place / "md5.so")

    place = cached(f"md5{level}", (level, *trap, source, NATIVE / "md5.h"), compile_it)
    return Library(place / "md5.so")


def known(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("text", VECTORS)
def test_vectors_of_the_rfc(library: Library, text: bytes) -> None:
    """What the RFC lists comes out."""
    assert library.of(text) == VECTORS[text]


@pytest.mark.parametrize("length", range(3 * BLOCK + 1))
def test_every_length_around_a_block(library: Library, length: int) -> None:
    """The padding is right wherever the last byte falls."""
    raw = random.Random(length).randbytes(length)
    assert library.of(raw) == known(raw)


@settings(max_examples=300, deadline=None)
@given(chunks=st.lists(st.binary(max_size=3 * BLOCK), max_size=12))
def test_pieces_make_no_difference(library: Library, chunks: list[bytes]) -> None:
    """However the bytes are cut into pieces, empty ones too, the digest is that of the whole."""
    assert library.of(*chunks) == known(b"".join(chunks))


@given(before=st.binary(max_size=200), one=st.binary(max_size=200), other=st.binary(max_size=200))
def test_a_copy_goes_its_own_way(library: Library, before: bytes, one: bytes, other: bytes) -> None:
    """A copy of the struct holds all of it: the digest of a prefix costs the original nothing."""
    original = library.new()
    library.update(original, before)
    copy = original.copied()
    assert library.hexdigest(copy) == known(before)
    library.update(original, one)
    library.update(copy, other)
    assert library.hexdigest(original) == known(before + one)
    assert library.hexdigest(copy) == known(before + other)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 4096])
def test_no_byte_behind_the_last_is_touched(library: Library, length: int) -> None:
    """Nothing is read past the end: the next page is not there, and any alignment will do."""
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.mmap.argtypes = (ctypes.c_void_p, *[ctypes.c_size_t] * 5)
    libc.mmap.restype = ctypes.c_void_p
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start = libc.mmap(None, 3 * page, mmap.PROT_READ | mmap.PROT_WRITE, private, 2**64 - 1, 0)
    assert libc.munmap(start + 2 * page, page) == 0
    try:
        raw = random.Random(length).randbytes(length)
        ctypes.memmove(start + 2 * page - length, raw, length)
        md5 = library.new()
        library.update_at(md5, start + 2 * page - length, length)
        assert library.hexdigest(md5) == known(raw)
    finally:
        libc.munmap(start, 2 * page)


@pytest.mark.parametrize("length", [2**32 - 64, 2**32, 5 * 2**32 + 640, 2**61 - 64, 2**63])
def test_lengths_over_4_gib_are_counted(library: Library, length: int) -> None:
    """The length that ends the digest has 64 bits, of bits: what is over falls away."""
    long, explicit = library.new(), library.new()
    long.len = length
    padding = b"\x80" + bytes(BLOCK - 9) + (length * 8 % 2**64).to_bytes(8, "little")
    library.update(explicit, padding)
    told = b"".join(word.to_bytes(4, "little") for word in explicit.state)
    assert library.hexdigest(long) == told.hex()


def test_as_openssl_says(library: Library, tmp_path: Path) -> None:
    """100 MiB in pieces of odd sizes are to the command what they are to us."""
    raw = random.Random(1).randbytes(100 * MIB + 1)
    (tmp_path / "image").write_bytes(raw)
    command = ["openssl", "md5", "-r", str(tmp_path / "image")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    step = MIB + 13
    assert library.of(*(raw[at : at + step] for at in range(0, len(raw), step))) == said

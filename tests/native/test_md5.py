# SPDX-License-Identifier: MIT
"""MD5 of our own gives what everybody's gives: RFC 1321's vectors, and Python's for all else."""

import hashlib
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized import FLAGS, NATIVE, SANITIZERS, md5

from board.emulator.cache import cached, run

HERE = Path(__file__).parent
NOISE = random.Random(1).randbytes(8 << 20)
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


@pytest.fixture(scope="module")
def program() -> Path:
    """The driver of md5.c, under AddressSanitizer and UBSan."""
    sources = (NATIVE / "md5.c", HERE / "md5.c")

    def compile_all(place: Path) -> None:
        run("gcc", *FLAGS, *SANITIZERS["address"], f"-I{NATIVE}", *sources, "-o", place / "md5")

    return cached("md5", (FLAGS, *sources, NATIVE / "md5.h"), compile_all) / "md5"


def ours(program: Path, raw: bytes, *words: object) -> str:
    command = [program, *map(str, words)]
    return subprocess.run(command, input=raw, capture_output=True, check=True).stdout.decode()[:-1]


@pytest.mark.parametrize(("raw", "digest"), VECTORS.items())
def test_the_rfcs_vectors_come_out(program: Path, raw: bytes, digest: str) -> None:
    """Appendix A.5."""
    assert ours(program, raw) == digest


@settings(max_examples=60, deadline=None)
@given(
    length=st.one_of(st.integers(0, 300), st.integers(0, len(NOISE))),
    pieces=st.lists(st.integers(1, 5000), min_size=1, max_size=4),
)
def test_any_length_in_any_pieces(program: Path, length: int, pieces: list[int]) -> None:
    """However the bytes come, the digest is Python's."""
    assert ours(program, NOISE[:length], *pieces) == md5(NOISE[:length])


def test_four_gib_are_counted(program: Path) -> None:
    """The length does not wrap at 32 bits."""
    digest = hashlib.md5(usedforsecurity=False)
    for _ in range(513):
        digest.update(NOISE)
    assert ours(program, NOISE, "long") == digest.hexdigest()

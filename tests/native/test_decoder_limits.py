# SPDX-License-Identifier: MIT
"""What a decoder may allocate, and what a build can do without."""

import lzma
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from decoding import (
    HERE,
    MEMORY,
    MIXED,
    NOISE,
    PACKERS,
    TEXT,
    WHOLE,
    driver,
    on_file,
    skippable,
    tool,
    tried,
    unpack,
    xz_stream,
    zstd_frame,
)  # fmt: skip
from sanitized import MIB, NATIVE, SANITIZERS, Status

# --- memory --------------------------------------------------------------------------------------

GREEDY: dict[str, tuple[Callable[[], bytes], int]] = {
    "gzip": (lambda: PACKERS["gzip -9"](NOISE), 65535),
    "xz -0": (lambda: PACKERS["xz -0"](NOISE), 262144),
    "xz -9": (lambda: PACKERS["xz -9"](NOISE), MEMORY),
    "xz, behind an empty one": (lambda: lzma.compress(b"") + PACKERS["xz -9"](NOISE), MEMORY),
    "zstd --long=27": (lambda: PACKERS["zstd --long=27"](NOISE), MEMORY),
    "zstd, a size": (lambda: on_file("zstd", "-19cq")(bytes(3 * MIB)), MIB),
    "zstd, 1.25 KiB": (lambda: zstd_frame(window=2), 524288),
    "zstd, behind a note": (lambda: skippable(b"a note") + zstd_frame(window=0x6F), MEMORY),
}


@pytest.mark.parametrize("case", GREEDY.values(), ids=GREEDY.keys())
def test_the_limit_is_the_one_that_the_sentence_names(
    case: tuple[Callable[[], bytes], int],
) -> None:
    """Less is refused before anything is unpacked; exactly that is enough and never exceeded."""
    packed, memory = case[0](), case[1]
    refused = unpack(packed, memory=memory)
    assert (refused.status, refused.is_refused) == (Status.FORMAT, True)
    assert refused.allocated < 16384
    words = rf"unpacking \w+ needs (\d+) bytes of memory, {memory} are allowed"
    needed = re.fullmatch(words, refused.message)
    assert needed, refused.message
    needed_bytes = int(needed[1])
    assert unpack(packed, memory=needed_bytes - 1).is_refused
    unpacked = unpack(packed, memory=needed_bytes)
    assert unpacked.status == Status.DONE, unpacked.message
    assert unpacked.allocated <= needed_bytes


@pytest.mark.parametrize(
    ("memory", "command"), [(65 * MIB, "xz -9 -T1"), (MEMORY, "zstd -19 -q"), (65536, "gzip -9")]
)
def test_what_people_pack_needs_little(memory: int, command: str) -> None:
    """With the usual 12 MiB zstd's levels up to 19, with 65 MiB all of xz."""
    unpacked = unpack(tool(*command.split(), "-c")(MIXED), memory=memory)
    assert (unpacked.status, unpacked.image) == (Status.DONE, MIXED)
    assert unpacked.allocated <= memory


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda: lzma.compress(TEXT, preset=0), lambda: PACKERS["xz -9"](NOISE)),
        (lambda: PACKERS["zstd -1"](TEXT), lambda: PACKERS["zstd --long=27"](NOISE)),
        (
            lambda: skippable(b"") + PACKERS["zstd -1"](TEXT) + skippable(b""),
            lambda: zstd_frame(window=0xFF),
        ),
    ],
    ids=["xz", "zstd", "zstd, 3.75 TiB"],
)
def test_a_later_stream_may_not_want_more(
    first: Callable[[], bytes], second: Callable[[], bytes]
) -> None:
    """The limit holds for all of them."""
    packed = first() + second()
    for pieces in (WHOLE, ([1, 1000], [60])):
        unpacked = unpack(packed, pieces)
        assert (unpacked.status, unpacked.image) == (Status.FORMAT, TEXT)
        assert not unpacked.is_refused
        assert re.search(r"needs \d+ bytes of memory, 12582912 are allowed", unpacked.message)
        assert unpacked.allocated <= MEMORY


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        (zstd_frame(dictionary=7), "the zstd data needs dictionary 7"),
        (xz_stream(check=2), "the xz data uses a filter or a check that liblzma lacks"),
        (xz_stream(check=16), "the xz data uses a filter or a check that liblzma lacks"),
        (b"\x28\xb5\x2f\xfd\x08\x58" + bytes(9), "the zstd data is damaged near byte 5"),
    ],
)
def test_what_the_library_lacks_is_said(packed: bytes, sentence: str) -> None:
    """A check that cannot be made is no reason to go without."""
    unpacked = unpack(packed)
    assert (unpacked.status, unpacked.message) == (Status.FORMAT, sentence)


@pytest.mark.parametrize("packer", ["gzip -9", "xz, small blocks", "xz for arm64", "zstd -19"])
def test_no_memory_is_an_error_of_its_own(packer: str) -> None:
    """Whichever allocation fails, and nothing is left behind."""
    undefined = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
    starving = driver("decode-starving", *undefined, HERE / "starve.c")
    (failures,) = tried("starve", PACKERS[packer](MIXED), starving)
    assert failures >= 3


# --- what was left out ---------------------------------------------------------------------------


@pytest.mark.parametrize("packer", ["gzip -1", "xz -0", "zstd -1"])
def test_a_format_that_was_left_out_is_refused(packer: str) -> None:
    """With a sentence that says so; such a build needs none of the libraries."""
    bare = driver("decode-bare", *SANITIZERS["address"], is_bare=True)
    unpacked = unpack(PACKERS[packer](TEXT), program=bare)
    assert unpacked.status == Status.FORMAT
    assert unpacked.message == f"this build does not unpack {packer.split(maxsplit=1)[0]}"


def build_with(asked: str) -> subprocess.CompletedProcess[str]:
    """Return what native/build.py would compile and link for decoders."""
    script = (
        "import build; words = build.ffi._assigned_source[3]\n"
        "print(*[w for w in words['extra_compile_args'] if 'UPD_WITH' in w])\n"
        "print(*[w for w in words['libraries'] if w not in ('curl', 'crypto', 'pthread')])"
    )
    environment = os.environ | {"UPDATER_DECODERS": asked}
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, cwd=NATIVE, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("gzip,xz,zstd", "-DUPD_WITH_GZIP -DUPD_WITH_XZ -DUPD_WITH_ZSTD\nz lzma zstd\n"),
        ("none", "\n\n"), ("zstd", "-DUPD_WITH_ZSTD\nzstd\n"),
    ],
)  # fmt: skip
def test_the_build_leaves_out_what_is_not_asked_for(asked: str, said: str) -> None:
    """UPDATER_DECODERS names the formats, or none."""
    done = build_with(asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout == said


def test_the_build_refuses_a_format_that_nobody_knows() -> None:
    """A misspelt word must not leave out what was meant."""
    done = build_with("gzip,zst")
    assert done.returncode == 1
    assert "unknown ['zst'], known are gzip, xz, zstd" in done.stderr

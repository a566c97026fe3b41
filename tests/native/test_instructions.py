# SPDX-License-Identifier: MIT
"""What each stage costs in instructions: a regression shows on a machine however noisy.

callgrind counts what one install executes in user space, and the driver is built as a device has
it, without sanitizers. The bounds are about a quarter above what was measured on x86-64 with AVX2;
libcurl, libcrypto and the compiler are the distribution's.
"""

import random
import re
import subprocess
from pathlib import Path

import pytest
from hostile import HostileServer, answer
from sanitized import HEADERS, LIBRARIES, MIB, NATIVE, SOURCES, WRAPPED, Slot, md5

from board.emulator.cache import cached, run

HERE = Path(__file__).parent
FLAGS = (
    "-std=gnu11", "-D_FILE_OFFSET_BITS=64", "-O2", "-g",
    "-DUPD_WITH_GZIP", "-DUPD_WITH_XZ", "-DUPD_WITH_ZSTD",
)  # fmt: skip
SIZE = 8 * MIB
IMAGE = random.Random(11).randbytes(SIZE)


def build() -> Path:
    """Return the driver as callgrind reads it best."""

    def compile_all(place: Path) -> None:
        wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
        words = [*FLAGS, f"-I{NATIVE}", f"-I{HERE}", *SOURCES, *wraps]
        run("gcc", *words, "-o", place / "drive", *LIBRARIES)

    return cached("drive-plain", (FLAGS, *SOURCES, *HEADERS), compile_all) / "drive"


def inclusive(report: str) -> dict[str, int]:
    """Return each function's instructions, callees included."""
    rows = re.findall(r"^ *([\d,]+) \([ \d.]+%\) +\S+?:(\w+)", report, re.MULTILINE)
    counts: dict[str, int] = {}
    for count, name in rows:
        counts[name] = max(counts.get(name, 0), int(count.replace(",", "")))
    return counts


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory, server: HostileServer) -> dict[str, int]:
    """What one install over HTTP, with read-back, costs in each function."""
    folder = tmp_path_factory.mktemp("instructions")
    program = build()
    slot = Slot(folder, program, SIZE)
    url = server.url("/counted", lambda _: answer(IMAGE))
    numbers = folder / "callgrind.out"
    orders = slot._words(IMAGE, source=url, buffer_size=MIB, buffers=8, stall_timeout_ms=30_000)
    tool = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={numbers}"]
    done = subprocess.run(
        [*tool, str(program), *orders], check=True, capture_output=True, text=True
    )
    assert f"md5 {md5(IMAGE)}" in done.stdout, done.stdout + done.stderr
    assert slot.is_whole(IMAGE)
    command = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", str(numbers)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    return inclusive(listed.stdout)


@pytest.mark.parametrize(
    ("thread", "most"),
    [
        ("upd_receive_thread", 1.45),
        ("upd_md5_thread", 13.1),
        ("upd_store_thread", 2.1),
        ("prove_thread", 1.75),
    ],
)
def test_a_byte_costs_no_more(counts: dict[str, int], thread: str, most: float) -> None:
    """Instructions per byte of each stage stay below their bound, and were counted at all."""
    per_byte = counts[thread] / SIZE
    assert most / 4 < per_byte <= most

# SPDX-License-Identifier: MIT
"""Builds the engine with a sanitizer around drive.c and medium.c, and runs it once per question."""

import enum
import hashlib
import os
import random
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from board.emulator.cache import cached, run

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "native"
SOURCES = tuple(sorted([*NATIVE.glob("*.c"), HERE / "drive.c", HERE / "medium.c"]))
HEADERS = tuple(sorted([*NATIVE.glob("*.h"), HERE / "medium.h"]))
WRAPPED = sorted(set(re.findall(r"__wrap_(\w+)\(", (HERE / "medium.c").read_text())))
FLAGS = (
    "-std=gnu11", "-D_FILE_OFFSET_BITS=64", "-O1", "-g", "-fno-omit-frame-pointer",
    "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes", "-Werror",
    "-DUPD_WITH_GZIP", "-DUPD_WITH_XZ", "-DUPD_WITH_ZSTD",
)  # fmt: skip
SANITIZERS = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-fsanitize=thread", "-Wno-tsan"),
}
LIBRARIES = ("-lcurl", "-lcrypto", "-lpthread", "-lz", "-llzma", "-lzstd")
FINDING = 99  # exit code of a sanitizer that has something to say
OPTIONS = {
    "ASAN_OPTIONS": f"exitcode={FINDING}:detect_leaks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"exitcode={FINDING}:halt_on_error=1:second_deadlock_stack=1",
}

MIB = 1 << 20
HEAD = MIB
KNOWN_BY = ((0, 512), (512, 4096))  # the first sector, and what begins at 1 KiB
OLD = b"\xa5"
BUFFER = 1 << 18
IMAGE = random.Random(7).randbytes(MIB + 2 * BUFFER + 12345)
ROOM = 2 * MIB
STALL_MS = 1000


class Status(enum.IntEnum):
    """``enum upd_status`` of the engine's header."""

    MORE = 1
    DONE = 0
    TRANSPORT = -1
    HTTP = -2
    SCHEME = -3
    LENGTH = -4
    DIGEST = -5
    SPACE = -6
    OPEN = -7
    IO = -8
    READ_BACK = -9
    SOURCE = -10
    RESOURCES = -11
    OPTIONS = -12
    AGAIN = -13
    FORMAT = -14


def md5(image: bytes) -> str:
    return hashlib.md5(image, usedforsecurity=False).hexdigest()


def build(sanitizer: str) -> Path:
    """Return the driver under *sanitizer*."""

    def compile_all(place: Path) -> None:
        wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
        words = [*FLAGS, *SANITIZERS[sanitizer], f"-I{NATIVE}", f"-I{HERE}", *SOURCES, *wraps]
        run("gcc", *words, "-o", place / "drive", *LIBRARIES)

    inputs = (FLAGS, SANITIZERS[sanitizer], *SOURCES, *HEADERS)
    return cached(f"drive-{sanitizer}", inputs, compile_all) / "drive"


@dataclass(frozen=True)
class Outcome:
    """What one run came to: the driver's lines."""

    status: Status
    message: str
    facts: Mapping[str, int]
    hexdigest: str
    said: Mapping[str, str]

    @property
    def happened(self) -> bool:
        """Whether the planned fault was reached."""
        return self.facts["happened"] == 1


class Slot:
    """A regular file that plays the block device, full of an old image, and the engine to fill it.

    Args:
        folder: Where the file is made, and the new image beside it.
        program: The driver, under its sanitizer.
        size: What the device holds, in bytes.
    """

    def __init__(self, folder: Path, program: Path, size: int = ROOM) -> None:
        self.path = folder / "slot"
        self.source = folder / "image"
        self._program = program
        self._old = OLD * size
        self.refresh()
        self.source.write_bytes(IMAGE)

    def refresh(self) -> None:
        """Put the old image back."""
        self.path.write_bytes(self._old)

    def fill(self, image: bytes = IMAGE, *, before: str = "", **orders: object) -> Outcome:
        """Run the engine once; a finding of the sanitizer fails the test with all it says.

        Args:
            image: What is announced; it comes from ``source`` unless *orders* say otherwise.
            before: Shell commands that go first, in a mount namespace of their own.
            orders: The driver's, beyond the usual ones; None leaves one out.
        """
        return _outcome(_run(self._program, self._words(image, **orders), before))

    def _words(self, image: bytes, **orders: object) -> list[str]:
        usual = {
            "device": self.path, "plays": self.path, "source": self.source, "size": len(image),
            "md5": md5(image), "buffer_size": BUFFER, "buffers": 4, "read_back": 1,
            "allow_plaintext": 1, "connect_timeout_ms": 2000, "stall_timeout_ms": STALL_MS,
            "attempts": 1, "max_redirects": 5, "decode": 1, "decoder_memory": 12 << 20,
        }  # fmt: skip
        return [f"{key}={value}" for key, value in (usual | orders).items() if value is not None]

    def die(self, image: bytes, fault: str, **orders: object) -> bool:
        """Run the engine until *fault* kills it; False if it ended without."""
        words = self._words(image, fault=fault, **orders)
        done = _run(self._program, words, "")
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        return done.returncode != 0

    def held(self) -> bytes:
        return self.path.read_bytes()

    def is_whole(self, image: bytes = IMAGE) -> bool:
        return self.held()[: len(image)] == image

    def is_blank(self) -> bool:
        return self.held()[:HEAD] == bytes(HEAD)

    def is_harmless(self) -> bool:
        """Tell whether what a slot is known by is blank, or all behind it is the old image's."""
        held = self.held()
        return all(
            not any(held[first:end]) or held[end:] == self._old[end:] for first, end in KNOWN_BY
        )

    def is_untouched(self) -> bool:
        return self.held() == self._old


def _run(program: Path, words: list[str], before: str) -> subprocess.CompletedProcess[str]:
    command = ["setarch", "--addr-no-randomize", str(program), *words]  # as TSan wants it
    if before:
        command = ["unshare", "--mount", "sh", "-ec", f'{before}; exec "$@"', "sh", *command]
    environment = os.environ | OPTIONS
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def _outcome(done: subprocess.CompletedProcess[str]) -> Outcome:
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    words = said.keys() & {"message", "md5", "sha256", "image_md5"}
    facts = {key: int(said[key]) for key in said.keys() - words}
    return Outcome(Status(facts["status"]), said["message"], facts, said["md5"], said)

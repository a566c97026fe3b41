# SPDX-License-Identifier: MIT
"""The module that Python uses, instrumented, under the tests that ask it for everything."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from board.emulator.cache import cached, run

ROOT = Path(__file__).parents[2]
PARTS = ("updater", "native", "setup.py", "pyproject.toml", "README.md")
SOURCES = sorted([*(ROOT / "native").glob("*.[ch]"), ROOT / "native/build.py"])
FINDING = 99  # exit code of a sanitizer that has something to say
# not the ones that count memory, mappings and threads: they would count the sanitizer's too
TESTS = [
    ROOT / "tests/edge/test_aes.py",
    *(ROOT / f"tests/edge/test_pipeline{what}.py" for what in ("", "_errors", "_resume", "_seam")),
]
ALL = ""
FEW = "digest or goes_on or standard_input or cancel"
# loaded before conftest.py puts the sources first in the path
RUNNER = """
import sys, pytest, updater._native
print(updater._native.__file__, flush=True)
sys.exit(pytest.main(sys.argv[1:]))
"""


def instrumented(name: str, flags: str) -> Path:
    """Return a folder with the package and a native module under a sanitizer."""

    def build(place: Path) -> None:
        for part in PARTS:
            source = ROOT / part
            ignored = shutil.ignore_patterns("_native*", "__pycache__")
            if source.is_dir():
                shutil.copytree(source, place / part, ignore=ignored)
            else:
                shutil.copy(source, place / part)
        command = ["env", f"CFLAGS={flags} -g -O1 -fno-omit-frame-pointer", f"LDFLAGS={flags}"]
        run(*command, sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=place)

    package = sorted((ROOT / "updater").rglob("*.py"))
    return cached(f"module-{name}", (flags, *SOURCES, *package), build)


def library(name: str) -> str:
    """Return the path of one of gcc's run-time libraries."""
    done = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "flags", "libraries", "which"),
    [
        ("address", "-fsanitize=address,undefined", ("libasan.so", "libubsan.so"), ALL),
        ("thread", "-fsanitize=thread", ("libtsan.so",), FEW),
        pytest.param("thread", "-fsanitize=thread", ("libtsan.so",), ALL, marks=pytest.mark.long),
    ],
)
def test_nothing_is_found(name: str, flags: str, libraries: tuple[str, ...], which: str) -> None:
    """The tests of the pipeline pass over that module, and the sanitizer is silent."""
    folder = instrumented(name, flags)
    environment = os.environ | {
        "LD_PRELOAD": ":".join(map(library, libraries)),
        "ASAN_OPTIONS": f"exitcode={FINDING}:detect_leaks=0",  # Python's own are many
        "UBSAN_OPTIONS": "halt_on_error=1",
        "TSAN_OPTIONS": f"exitcode={FINDING}",
        "PYTHONPATH": f"{folder}:{ROOT}:{ROOT / 'tests'}",
    }
    tests = ["-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT,
             *TESTS, "-q", "-k", which]  # fmt: skip
    done = subprocess.run(
        ["setarch", "--addr-no-randomize", sys.executable, "-c", RUNNER, *map(str, tests)],
        env=environment, cwd=ROOT / "tests", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.startswith(str(folder))
    assert "passed" in done.stdout
    assert "WARNING: ThreadSanitizer" not in done.stdout + done.stderr

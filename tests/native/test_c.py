# SPDX-License-Identifier: MIT
"""The C code's own rules: no warning, no finding of the analyzer, one format."""

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
SOURCES = sorted(NATIVE.glob("*.c"))
FILES = sorted(p for folder in (NATIVE, Path(__file__).parent) for p in folder.rglob("*.[ch]"))
STRICT = [
    "-std=gnu11", "-D_FILE_OFFSET_BITS=64", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wconversion",
    "-Wstrict-prototypes", "-Werror", "-DUPD_WITH_GZIP", "-DUPD_WITH_XZ", "-DUPD_WITH_ZSTD",
]  # fmt: skip


def compiled(compiler: str, source: Path, *flags: str) -> str:
    command = [compiler, *STRICT, *flags, "-c", str(source), "-o", "/dev/null"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_warning_and_no_finding(source: Path) -> None:
    """Every file passes the strict warnings and gcc's static analyzer."""
    assert compiled("gcc", source, "-fanalyzer") == ""


@pytest.mark.parametrize("source", FILES, ids=lambda path: path.name)
def test_one_format(source: Path) -> None:
    """clang-format has nothing to change, and no file has outgrown its room."""
    tool = shutil.which("clang-format")
    assert tool, "clang-format is in the list of packages"
    style = f"--style=file:{NATIVE / '.clang-format'}"
    subprocess.run([tool, style, "--dry-run", "--Werror", str(source)], check=True)
    assert source.read_text().count("\n") <= 430

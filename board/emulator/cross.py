# SPDX-License-Identifier: MIT
"""Builds this program's wheel for another architecture with Debian's cross compiler.

Headers and libraries come from a private tree of that architecture; nothing runs emulated. Each
``-dev`` package stands there with the shared library that its link points to: where that is
missing, or the link leads out of the tree, the linker takes the static archive beside it and says
nothing.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from board.emulator import debian
from board.emulator.cache import cached, run

SOURCES = Path(__file__).parent.parent.parent
_HEADERS = (
    "libpython3.11-dev",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libcurl4-openssl-dev",
    "libcurl4",
    "libssl-dev",
    "libssl3",
    "zlib1g-dev",
    "zlib1g",
    "liblzma-dev",
    "liblzma5",
    "libzstd-dev",
    "libzstd1",
)


@dataclass(frozen=True, slots=True)
class Target:
    """One architecture: Debian's name, the compiler's, and the wheel's."""

    debian: str
    triplet: str
    platform: str


ARM64 = Target("arm64", "aarch64-linux-gnu", "linux-aarch64")
ARMHF = Target("armhf", "arm-linux-gnueabihf", "linux-armv7l")


def sources() -> tuple[Path, ...]:
    """Return every file that the wheel is made of."""
    files = [SOURCES / "setup.py", SOURCES / "pyproject.toml", SOURCES / "README.md"]
    for folder, patterns in (("updater", ("*.py", "py.typed")), ("native", ("*.py", "*.c", "*.h"))):
        files += [path for pattern in patterns for path in (SOURCES / folder).rglob(pattern)]
    return tuple(sorted(files))


def _link_into(tree: Path, libraries: Path, place: Path) -> None:
    """Fill *place* with the links among *libraries* that lead out of *tree*, leading into it."""
    place.mkdir()
    for link in libraries.glob("*.so"):
        if link.is_symlink() and link.readlink().is_absolute():
            (place / link.name).symlink_to(tree / link.readlink().relative_to("/"))


def wheel(target: Target) -> Path:
    """Return the wheel for *target*; warnings are errors."""
    tree = debian.tree(f"headers-{target.debian}", target.debian, _HEADERS, closure=False)
    files = sources()
    names = tuple(str(path.relative_to(SOURCES)) for path in files)

    def build(place: Path) -> None:
        copy = place / "source"
        for path, name in zip(files, names, strict=True):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy / name)
        data = f"_sysconfigdata__{target.triplet}.py"
        (place / "config").mkdir()
        shutil.copy(tree / "usr/lib/python3.11" / data, place / "config" / data)
        include, libraries = tree / "usr/include", tree / "usr/lib" / target.triplet
        _link_into(tree, libraries, copy / "links")
        environment = {
            "PYTHONPATH": str(place / "config"),
            "_PYTHON_HOST_PLATFORM": target.platform,
            "_PYTHON_SYSCONFIGDATA_NAME": data.removesuffix(".py"),
            "CC": f"{target.triplet}-gcc",
            "LDSHARED": f"{target.triplet}-gcc -shared",
            "CFLAGS": " ".join(
                f"-isystem {p}" for p in (include, include / "python3.11", include / target.triplet)
            ),
            # what the libraries need in turn is the device's to have, and not in the tree
            "LDFLAGS": f"-L{copy}/links -L{libraries} -Wl,--allow-shlib-undefined",
            "UPDATER_WERROR": "1",
            "UPDATER_DECODERS": "gzip,xz,zstd",
        }
        run(sys.executable, "setup.py", "-q", "bdist_wheel", "-d", place, cwd=copy, env=environment)
        shutil.rmtree(copy)

    inputs = (target, tree.parent.name, names, *files, 5)
    return next(cached(f"wheel-{target.debian}", inputs, build).glob("*.whl"))

# SPDX-License-Identifier: MIT
"""U-Boot and Linux for the emulated board, from Debian's sources and the board's own options."""

import os
from pathlib import Path

from board.emulator import debian
from board.emulator.cache import cached, run

BOARD = Path(__file__).parent.parent / "qemu-arm64"
_CROSS = {"ARCH": "arm64", "CROSS_COMPILE": "aarch64-linux-gnu-"}
_LINUX_SOURCE = Path("/usr/src/linux-source-6.1.tar.xz")  # of the package linux-source-6.1


def _jobs() -> str:
    return f"-j{os.cpu_count() or 1}"


def u_boot() -> Path:
    """Return U-Boot's binary: Debian's source, the stock board, and our fragment over it."""
    version, tree = debian.source("u-boot")
    fragment, variables = BOARD / "u-boot.config", BOARD / "u-boot-env.txt"

    def build(place: Path) -> None:
        output = place / "build"
        make = ("make", "-s", "-C", tree, f"O={output}")
        environment = {"CROSS_COMPILE": _CROSS["CROSS_COMPILE"]}
        run(*make, "qemu_arm64_defconfig", env=environment)
        (output / "default-env.txt").write_text(variables.read_text())
        merge = (tree / "scripts/kconfig/merge_config.sh", "-O", output, "-m")
        run(*merge, output / ".config", fragment, cwd=tree)
        with (output / ".config").open("a") as config:
            config.write(f'CONFIG_DEFAULT_ENV_FILE="{output}/default-env.txt"\n')
        run(*make, "olddefconfig", env=environment)
        _check_options(fragment, output / ".config")
        run(*make, _jobs(), "u-boot.bin", env=environment)
        (output / "u-boot.bin").rename(place / "u-boot.bin")
        run("rm", "-r", output)

    return cached("u-boot", (version, fragment, variables, 2), build) / "u-boot.bin"


def linux() -> Path:
    """Return the kernel's image; all that the board itself needs is built in."""
    return _kernel() / "Image"


def module(name: str) -> Path:
    """Return one of the kernel's modules: flash that a test loads with faults of its choice."""
    return _kernel() / f"{name}.ko"


def _kernel() -> Path:
    """Return the folder with the kernel's image and its modules."""
    options = BOARD / "kernel.config"
    version = run("dpkg-query", "-W", "-f", "${Version}", "linux-source-6.1")

    def build(place: Path) -> None:
        output, tree = place / "build", place / "source"
        tree.mkdir()
        run("tar", "-xf", _LINUX_SOURCE, "-C", tree)
        (source,) = tree.iterdir()
        make = ("make", "-s", "-C", source, f"O={output}")
        output.mkdir()
        run(*make, "allnoconfig", env={**_CROSS, "KCONFIG_ALLCONFIG": str(options)})
        _check_options(options, output / ".config")
        run(*make, _jobs(), "Image", "modules", env=_CROSS)
        for file in (output / "arch/arm64/boot/Image", *output.rglob("*.ko")):
            file.rename(place / file.name)
        run("rm", "-r", output, tree)

    return cached("linux", (version, options, 2), build)


def _check_options(wanted: Path, config: Path) -> None:
    """Refuse a build that silently dropped an option that the board asks for."""
    have = set(config.read_text().splitlines())
    for line in wanted.read_text().splitlines():
        name, _, value = line.partition("=")
        off = f"# {name} is not set"
        known = line in have or (value == "n" and not any(x.startswith(f"{name}=") for x in have))
        if line.startswith("CONFIG_") and not known:
            raise RuntimeError(f"{wanted.name}: {line} did not hold: {off in have=}")

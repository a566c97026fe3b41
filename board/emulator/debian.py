# SPDX-License-Identifier: MIT
"""Debian's packages for another architecture, and its sources, without touching this machine's own.

A private apt root with an empty package database: apt resolves and verifies, nothing is installed
here. The mirror is whichever this machine uses.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from board.emulator.cache import ROOT, cached, run

SUITE = "bookworm"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def _mirror() -> str:
    """Return the address of the mirror that this machine has for Debian's main archive."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in lines:
        uri, _, rest = line.partition(" ")
        if rest == f"{SUITE} main":
            return uri
    raise RuntimeError(f"this machine's apt has no line for Debian {SUITE} main")


def _of(suite: str) -> str:
    """Return what tells results of *suite* from those of the usual one."""
    return "" if suite == SUITE else f"-{suite}"


def _apt_root(architecture: str, suite: str = SUITE) -> dict[str, str]:
    """Make the private root for *architecture* ready and return the environment that selects it."""
    root = ROOT / f"apt{_of(suite)}-{architecture}"
    configuration = root / "apt.conf"
    if not (root / "complete").exists():
        for folder in ("state/lists/partial", "cache/archives/partial", "sources.d"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        line = f"[signed-by={_KEYRING}] {_mirror()} {suite} main\n"
        (root / "sources.list").write_text(f"deb {line}deb-src {line}")
        configuration.write_text(
            f'APT::Architecture "{architecture}"; APT::Architectures {{"{architecture}";}};\n'
            f'Dir::Etc::sourcelist "{root}/sources.list";\n'
            f'Dir::Etc::sourceparts "{root}/sources.d";\n'
            f'Dir::State "{root}/state"; Dir::State::status "{root}/status";\n'
            f'Dir::Cache "{root}/cache"; Dir::Cache::archives "{root}/cache/archives";\n'
            'APT::Install-Recommends "false"; Debug::NoLocking "true"; APT::Sandbox::User "root";\n'
        )
        run("apt-get", "update", env={"APT_CONFIG": str(configuration)})
        (root / "complete").touch()
    return {"APT_CONFIG": str(configuration)}


def tree(
    name: str, architecture: str, packages: Sequence[str], *, closure: bool, suite: str = SUITE
) -> Path:
    """Return a folder with *packages* unpacked, and with all that they need if *closure*."""

    def build(place: Path) -> None:
        environment = _apt_root(architecture, suite)
        if closure:
            command = ("apt-get", "--yes", "--print-uris", "install", *packages)
            needed = re.findall(r"(\S+)_\S+_\S+\.deb ", run(*command, env=environment))
        else:
            needed = list(packages)
        debs = place / "debs"
        debs.mkdir()
        run("apt-get", "download", *sorted(needed), cwd=debs, env=environment)
        unpacked = place / "tree"
        for folder in ("bin", "sbin", "lib"):
            (unpacked / "usr" / folder).mkdir(parents=True)
            (unpacked / folder).symlink_to(f"usr/{folder}")
        for deb in sorted(debs.iterdir()):
            _unpack(deb, unpacked)
            deb.unlink()
        debs.rmdir()

    key = (architecture, tuple(packages), closure, 1)
    return cached(f"{name}{_of(suite)}", key, build) / "tree"


def _unpack(deb: Path, place: Path) -> None:
    """Unpack one package's files, without documentation; no maintainer script runs."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as packed:
        subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(place)]
            + [f"--exclude=./usr/share/{x}" for x in ("doc", "man", "locale", "info", "lintian")],
            stdin=packed.stdout,
            check=True,
        )
    if packed.returncode:
        raise RuntimeError(f"{deb} cannot be unpacked")


def source(package: str) -> tuple[str, Path]:
    """Return the version and the unpacked source of *package*."""
    environment = _apt_root("arm64")
    shown = run("apt-cache", "showsrc", "--only-source", package, env=environment)
    version = re.search(r"^Version: (\S+)$", shown, re.MULTILINE)
    if version is None:
        raise RuntimeError(f"no source package {package}")

    def build(place: Path) -> None:
        wanted = f"{package}={version[1]}"
        run("apt-get", "source", "--download-only", wanted, cwd=place, env=environment)
        description = next(place.glob("*.dsc"))
        run("dpkg-source", "--no-check", "-x", description.name, "source", cwd=place)
        for archive in [*place.glob("*.tar.*"), description]:
            archive.unlink()

    return version[1], cached(f"source-{package}", (version[1],), build) / "source"

# SPDX-License-Identifier: MIT
"""The wheels for other machines: they build without a warning, and they are hardened."""

import re
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from board.emulator import cross

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Built:
    """One wheel and its native module, unpacked."""

    target: cross.Target
    wheel: Path
    module: Path

    def readelf(self, *flags: str) -> str:
        command = ["readelf", "--wide", *flags, str(self.module)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=[cross.ARM64, cross.ARMHF], ids=lambda t: t.debian)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel; building it with UPDATER_WERROR=1 is the first test."""
    wheel = cross.wheel(request.param)
    place = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place)
    (module,) = place.glob("updater/_native*")
    return Built(request.param, wheel, module)


def test_one_wheel_serves_every_python(built: Built) -> None:
    """The names say abi3, the oldest Python that the project takes, and the machine."""
    platform = built.target.platform.replace("-", "_")
    assert re.fullmatch(rf"updater-[\d.]+-cp311-abi3-{platform}\.whl", built.wheel.name)
    assert built.module.name == "_native.abi3.so"


def test_the_wheel_holds_the_whole_package(built: Built) -> None:
    """Every module, and the mark that it has types."""
    package = built.module.parent
    ours = {p.relative_to(ROOT) for p in (ROOT / "updater").rglob("*.py")}
    packed = {p.relative_to(package.parent) for p in package.rglob("*.py")}
    assert packed == ours
    assert (package / "py.typed").is_file()


def test_it_is_of_that_machine(built: Built) -> None:
    """AArch64, or ARM with version 7 instructions and hardware floats."""
    machine = re.search(r"Machine: +(.*)", built.readelf("--file-header"))
    assert machine
    assert machine[1] == {"arm64": "AArch64", "armhf": "ARM"}[built.target.debian]
    if built.target is cross.ARMHF:
        attributes = built.readelf("--arch-specific")
        assert "Tag_CPU_arch: v7" in attributes
        assert "Tag_ABI_VFP_args: VFP registers" in attributes


def test_it_uses_the_devices_libraries(built: Built) -> None:
    """Network, digests and decoders are the system's, which the system's updates reach."""
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", built.readelf("--dynamic")))
    loader = {name for name in needed if name.startswith("ld-linux")}
    decoders = {"libz.so.1", "liblzma.so.5", "libzstd.so.1"}
    assert needed - loader == {"libcurl.so.4", "libcrypto.so.3", "libc.so.6"} | decoders
    assert not re.search(r"\((RPATH|RUNPATH)\)", built.readelf("--dynamic"))


def test_addresses_cannot_be_overwritten(built: Built) -> None:
    """Full RELRO: every symbol is bound before the first call, and then read-only."""
    assert "GNU_RELRO" in built.readelf("--segments")
    dynamic = built.readelf("--dynamic")
    assert "BIND_NOW" in dynamic
    assert "TEXTREL" not in dynamic


def test_data_cannot_be_executed(built: Built) -> None:
    """The stack is not executable, and no segment is writable and executable at once."""
    segments = re.findall(
        r"^ +(\w+) +0x\S+ +0x\S+ +0x\S+ +0x\S+ +0x\S+ +([R ][W ][E ])",
        built.readelf("--segments"),
        re.MULTILINE,
    )
    assert ("GNU_STACK", "RW ") in segments
    assert not [kind for kind, flags in segments if "W" in flags and "E" in flags]


def test_overflows_are_noticed(built: Built) -> None:
    """Stack protector and the checked forms of libc's functions are in use."""
    symbols = built.readelf("--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk\b", symbols.replace("__stack_chk", ""))


def test_nothing_is_exported_but_the_module(built: Built) -> None:
    """No other library's symbol can be taken for one of ours, or ours for one of theirs."""
    exported = re.findall(r"GLOBAL +DEFAULT +\d+ +(\S+)", built.readelf("--dyn-syms"))
    assert exported == ["PyInit__native"]

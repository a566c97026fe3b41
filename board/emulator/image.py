# SPDX-License-Identifier: MIT
"""Images of the emulated board: root file systems, its disk, its SD card.

A root file system is Debian's Python and libraries, a busybox init, this program's wheel and the
kernel in /boot. Images differ in the version that they name and, on purpose, in what is wrong.
"""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from board.emulator import cross, debian, firmware
from board.emulator.cache import cached, run
from updater.core import bootscript
from updater.core.config import parse_board

BOARD = firmware.BOARD
SLOT_BYTES = 128 << 20
IMAGE_BYTES = 96 << 20
SD_BYTES = 4 << 20
SECTOR_BYTES = 512
STARTS = {"boot": 2048, "rootfs-a": 18432, "rootfs-b": 280576, "data": 542720}
SIZES = {"boot": 16384, "rootfs-a": 262144, "rootfs-b": 262144, "data": 65536}
_UUID = "a5e4f5f0-0000-4000-8000-000000000000"  # the same input gives the same bytes
DISK_BYTES = (542720 + 65536 + 2048) * SECTOR_BYTES

_PACKAGES = (
    "busybox-static",
    "python3.11-minimal",
    "libpython3.11-stdlib",
    "libcurl4",
    "libssl3",
    "zlib1g",
    "liblzma5",
    "libzstd1",
    "libudev1",
    "libc-bin",
    "libubootenv-tool",
    "ca-certificates",
)
_WHEELS = ("cffi>=1.16", "paho-mqtt>=2.0", "pyudev>=0.24.1")
_APPLETS = (
    "sh", "init", "mount", "umount", "mkdir", "ls", "cat", "echo", "grep", "sleep", "reboot",
    "poweroff", "ip", "watchdog", "sync", "kill", "pidof", "dd", "cp", "mv", "rm", "ln", "sed",
    "head", "tail", "cut", "wc", "md5sum", "cmp", "df", "free", "ps", "touch", "true", "false",
    "hexdump", "dmesg", "ifconfig", "wget", "test", "[", "env", "id", "date", "blockdev",
    "devmem", "getty", "awk", "tr", "printf", "killall", "chmod", "sort",
)  # fmt: skip
_UNUSED = (
    "usr/lib/python3.11/test", "usr/lib/python3.11/lib2to3", "usr/lib/python3.11/idlelib",
    "usr/lib/python3.11/ensurepip", "usr/lib/python3.11/pydoc_data", "usr/lib/python3.11/unittest",
    "usr/lib/python3.11/tkinter", "usr/lib/python3.11/turtledemo",
    "usr/lib/aarch64-linux-gnu/perl-base",
    "usr/lib/aarch64-linux-gnu/gconv", "usr/lib/python3.11/distutils", "usr/share/perl5",
    "usr/lib/aarch64-linux-gnu/perl", "usr/share/bug", "usr/share/zoneinfo",
)  # fmt: skip


_HANG = """\
#!/bin/sh
watchdog -F -T 5 -t 60 /dev/watchdog
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A firmware: the file, and what the cloud says of it."""

    path: Path
    version: str
    md5: str
    size_bytes: int


def _tree() -> Path:
    """Return the root file system as a folder, without a version."""
    base = debian.tree("rootfs-arm64", "arm64", _PACKAGES, closure=True)
    wheel = cross.wheel(cross.ARM64)
    kernel = firmware.linux()
    overlay = sorted(p for p in (BOARD / "rootfs").rglob("*") if p.is_file())
    configs = (BOARD / "board.toml", BOARD / "fw_env.config")

    def build(place: Path) -> None:
        root = place / "root"
        shutil.copytree(base, root, symlinks=True)
        for folder in _UNUSED:
            shutil.rmtree(root / folder, ignore_errors=True)
        packages = root / "usr/lib/python3/dist-packages"
        packages.mkdir(parents=True, exist_ok=True)
        for each in (wheel, *_foreign_wheels()):
            with zipfile.ZipFile(each) as archive:
                archive.extractall(packages)
        shutil.copytree(BOARD / "rootfs", root, dirs_exist_ok=True, symlinks=True)
        for name in _APPLETS:
            applet = root / "usr/bin" / name
            if not applet.exists() and not applet.is_symlink():
                applet.symlink_to("busybox")
        (root / "usr/sbin/init").unlink(missing_ok=True)
        (root / "usr/sbin/init").symlink_to("../bin/busybox")
        (root / "usr/sbin/reboot").symlink_to("../bin/busybox")
        for folder in ("proc", "sys", "dev", "run", "tmp", "data", "boot", "etc/updater"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(root / "var", ignore_errors=True)
        (root / "var").mkdir()
        (root / "var/run").symlink_to("/run")
        (root / "var/lock").symlink_to("/run/lock")
        (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
        (root / "etc/ld.so.cache").symlink_to("/run/ld.so.cache")
        shutil.copy(configs[0], root / "etc/updater/board.toml")
        shutil.copy(configs[1], root / "etc/fw_env.config")
        (root / "etc/updater/updater.toml").symlink_to("/data/updater/updater.toml")
        shutil.copy(kernel, root / "boot/Image")
        compiled = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
        libraries = ("usr/lib/python3.11", "usr/lib/python3/dist-packages")
        places = (root / library for library in libraries)
        run(sys.executable, *compiled, "-s", root, "-p", "/", *places)

    return cached("root", (*overlay, *configs, wheel, kernel, base.name, 6), build) / "root"


def _foreign_wheels() -> list[Path]:
    """Return the wheels of the run-time dependencies for the board, as pip resolves them."""

    def build(place: Path) -> None:
        platforms = ("--platform", "manylinux2014_aarch64", "--platform", "manylinux_2_17_aarch64")
        only = ("--only-binary", ":all:", "--python-version", "3.11", "--no-deps")
        run(sys.executable, "-m", "pip", "download", "-q", *only, *platforms, *_WHEELS, "-d", place)

    return sorted(cached("wheels-arm64", (_WHEELS,), build).glob("*.whl"))


def image(version: str, fault: str = "") -> Image:
    """Return the image that names *version*.

    Args:
        version: What its version file says.
        fault: ``panic``: the kernel finds no init. ``unhealthy``: a health check fails. ``hang``:
            nothing feeds the watchdog any more. ``mute``: the updater ends as soon as it starts.
    """
    tree = _tree()

    def build(place: Path) -> None:
        root = place / "root"
        run("cp", "-a", tree, root)
        (root / "etc/updater/version").write_text(f"{version}\n")
        if fault == "panic":
            (root / "usr/sbin/init").unlink()
        elif fault == "unhealthy":
            (root / "usr/sbin/board-is-healthy").write_text("#!/bin/sh\nexit 1\n")
        elif fault == "hang":
            (root / "etc/inittab").write_text("::sysinit:/etc/init.d/hang\n")
            (root / "etc/init.d/hang").write_text(_HANG)
            (root / "etc/init.d/hang").chmod(0o755)
        elif fault == "mute":
            (root / "usr/sbin/updater").write_text("#!/bin/sh\nexit 1\n")
        file = place / "image.ext4"
        _make_ext4(file, IMAGE_BYTES, root, is_written=False)
        shutil.rmtree(root)
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False)
        (place / "md5").write_text(digest.hexdigest())

    inputs = (tree.parent.name, fault and _HANG, 5)
    place = cached("-".join(filter(None, ("image", version, fault))), inputs, build)
    file = place / "image.ext4"
    return Image(file, version, (place / "md5").read_text(), file.stat().st_size)


def _make_ext4(file: Path, size_bytes: int, content: Path, *, is_written: bool) -> None:
    """Make a file system without needing root or a mount; the same input gives the same bytes.

    Args:
        file: Where it goes.
        size_bytes: How large it is.
        content: The folder that it holds.
        is_written: The board writes to it: it has a journal, for the plug may be pulled.
    """
    with file.open("wb") as empty:
        empty.truncate(size_bytes)
    features = ("-O", "has_journal" if is_written else "^metadata_csum,^has_journal")
    identity = ("-U", _UUID, "-E", f"hash_seed={_UUID},root_owner=0:0")
    run("mkfs.ext4", "-q", "-F", "-m", "0", *features, *identity, "-d", content, file,
        env={"E2FSPROGS_FAKE_TIME": "1700000000"})  # fmt: skip


def boot_script() -> Path:
    """Return boot.scr, made from the board's committed boot.cmd."""

    def build(place: Path) -> None:
        script = ("mkimage", "-A", "arm64", "-T", "script", "-C", "none", "-n", "updater")
        run(*script, "-d", BOARD / "boot.cmd", place / "boot.scr")

    return cached("boot-script", (BOARD / "boot.cmd",), build) / "boot.scr"


def render_boot_script() -> str:
    """Return boot.cmd as board.toml and the template make it."""
    board = parse_board((BOARD / "board.toml").read_text(), "board.toml")
    slots = [(slot.bootname, slot.partlabel) for slot in board.slot]
    return bootscript.render((BOARD / "boot.cmd.in").read_text(), slots, board.boot.bootlimit)


def make_disk(path: Path, first: Image, files: dict[str, str]) -> None:
    """Make the board's disk as the factory would.

    Args:
        path: The disk's file; sparse.
        first: What slot A holds; slot B is empty.
        files: Names and texts of the files on the data partition.
    """
    with path.open("wb") as disk:
        disk.truncate(DISK_BYTES)
    table = (BOARD / "disk.sfdisk").read_bytes()
    subprocess.run(["sfdisk", "-q", path], input=table, check=True, stdout=subprocess.DEVNULL)
    work = path.with_suffix(".parts")
    folders = {"boot": work / "boot", "data": work / "data"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    shutil.copy(boot_script(), folders["boot"] / "boot.scr")
    for name, text in files.items():
        file = folders["data"] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o600)  # secrets may be among them
    for name, folder in folders.items():
        part = work / f"{name}.ext4"
        is_written = name == "data"
        _make_ext4(part, SIZES[name] * SECTOR_BYTES, folder, is_written=is_written)
        put(path, name, part)
    put(path, "rootfs-a", first.path)
    shutil.rmtree(work)


def put(disk: Path, partition: str, content: Path) -> None:
    """Write *content* to the beginning of *partition* on *disk*."""
    start = STARTS[partition] * SECTOR_BYTES
    run("dd", f"if={content}", f"of={disk}", "bs=1M", f"seek={start}", "oflag=seek_bytes",
        "conv=notrunc,sparse", "status=none")  # fmt: skip


def make_card(path: Path, variables: dict[str, str]) -> None:
    """Make the SD card with both copies of U-Boot's environment: the defaults and *variables*."""
    text = (BOARD / "u-boot-env.txt").read_text()
    text += "".join(f"{name}={value}\n" for name, value in variables.items())
    made = subprocess.run(
        ["mkenvimage", "-r", "-s", "0x4000", "-o", "-", "-"],
        input=text.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    card = bytearray(SD_BYTES)
    for offset in (0x80000, 0xC0000):
        card[offset : offset + len(made)] = made
    path.write_bytes(card)



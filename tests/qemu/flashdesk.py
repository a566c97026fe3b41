# SPDX-License-Identifier: MIT
"""The emulated board with flash on it, and a second agent that a test may do with as it likes."""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.rig import HOST, Rig

from board.emulator import firmware

TOOL = Path(__file__).parent / "guest_flash.py"
NAND = "id_bytes=0x20,0xa2,0x00,0x15 badblocks=3,17"  # 64 MiB, blocks of 128 KiB, pages of 2 KiB
LEB_BYTES = 129024  # what UBI leaves of such a block
ROOM = 62 * LEB_BYTES
NOR = {  # blocks of 256 KiB in the second bank, which keeps its content while QEMU runs
    "nor-ubi": (0x4400000, 0x400000),
    "nor-a": (0x5000000, 0x400000),
    "nor-b": (0x5400000, 0x400000),
}
# on the board: a file system that its agent takes for the root
SLOT = "/tmp/slot"  # noqa: S108 - the board is ours alone
ALONE_TOML = "/tmp/alone.toml"  # noqa: S108 - the same
SMALL_TOML = "/tmp/small.toml"  # noqa: S108 - the same with small buffers: what comes is stored soon

# A second agent beside the one that runs, and what it asks to reboot with.
ALONE = """\
sed -e s#/data/updater#/tmp/alone# -e 's#"reboot"#"touch", "/tmp/rebooted"#' \\
	/data/updater/updater.toml >/tmp/alone.toml
cat >>/tmp/alone.toml <<END
lock = "/tmp/lock"
control = "/tmp/control"
board = "/tmp/board.toml"
END
cp /etc/updater/board.toml /tmp/board.toml
sed 's/^.download.$/&\\nbuffer_bytes = 65536/' /tmp/alone.toml >/tmp/small.toml
"""
# board.sh KEY A B: the board's description with other slots, and its first one primary
BOARD = """\
rm -rf /tmp/alone /tmp/rebooted
for change in 'boot_slot A' upgrade_available bootcount updater_session; do
	fw_setenv $change
done
sed '/slot\\]\\]/,$d' /etc/updater/board.toml >/tmp/board.toml
printf '[[slot]]\\nbootname = "%s"\\n'"$1"' = "%s"\\n' A "$2" B "$3" >>/tmp/board.toml
"""
# enter.sh TYPE DEVICE LINE: mount a slot as a root, and say so on the command line
ENTER = f"""\
mkdir -p {SLOT}
mount -t "$1" "$2" {SLOT}
for folder in usr proc sys dev run tmp data etc var; do
	mkdir -p {SLOT}/$folder
	mount --bind /$folder {SLOT}/$folder
done
for link in bin lib sbin; do ln -sf usr/$link {SLOT}/$link; done
echo "$3" >/tmp/cmdline
mount --bind /tmp/cmdline {SLOT}/proc/cmdline
"""
LEAVE = f"""\
umount {SLOT}/proc/cmdline
for folder in usr proc sys dev run tmp data etc var; do umount {SLOT}/$folder; done
umount {SLOT}
"""
SCRIPTS = {"alone.sh": ALONE, "board.sh": BOARD, "enter.sh": ENTER, "leave.sh": LEAVE}


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass
class Desk:
    """The board with flash, and images that it can fetch."""

    rig: Rig
    folder: Path

    def serve(self, name: str, data: bytes) -> str:
        """Return the URL of *data*."""
        path = self.folder / name
        path.write_bytes(data)
        self.rig.web.put({name: path})
        return f"http://{HOST}:{self.rig.web.port}/{name}"

    def bring_tools(self) -> None:
        """Fetch what is lost with each reset."""
        tools = {name: text.encode() for name, text in SCRIPTS.items()}
        tools["guest_flash.py"] = TOOL.read_bytes()
        for module in ("nandsim", "jffs2"):
            tools[f"{module}.ko"] = firmware.module(module).read_bytes()
        for name, data in tools.items():
            self.shell(f"wget -q -O /tmp/{name} {self.serve(name, data)}")
        self.shell("sh -e /tmp/alone.sh")

    def shell(self, command: str) -> str:
        return self.rig.board.shell(command).strip()

    def flash(self, *words: object) -> str:
        """Run the tool on the board."""
        return self.shell(f"python3.11 /tmp/guest_flash.py {' '.join(map(str, words))}")

    def updater(
        self, *words: object, root: str = "", config: str = ALONE_TOML
    ) -> tuple[int, Mapping[str, Any]]:
        """Run the product on the board, and return its exit code and its answer."""
        command = f"updater {' '.join(map(str, words))} --config {config} --json"
        where = f"chroot {root} " if root else ""
        said = self.shell(f"{where}{command} >/tmp/out 2>/tmp/err; echo $?; cat /tmp/out /tmp/err")
        code, _, text = said.partition("\n")
        lines = [line for line in text.splitlines() if line.startswith("{")]
        assert lines, said
        return int(code), json.loads(lines[-1])

    def write(
        self, data: bytes, device: str, *words: object, root: str = ""
    ) -> tuple[int, Mapping[str, Any]]:
        """Write *data* with ``updater write``."""
        source = self.serve("image", data)
        proof = ("--md5", md5(data), "--size", len(data))
        return self.updater("write", source, "--to", device, *proof, *words, root=root)

    def write_behind(self, data: bytes, device: str) -> str:
        """Return a shell command that begins to write; it ends soon after the update's begin."""
        self.rig.web.bytes_per_s = len(data) / 8
        return (
            f"updater write {self.serve('image', data)} --to {device} --md5 {md5(data)} "
            f"--size {len(data)} --config {SMALL_TOML} >/tmp/out 2>&1 & PID=$!; "
            f"until [ $(cat /sys/class/ubi/{Path(device).name}/upd_marker) = 1 ]; "
            "do sleep 0.1; done; sleep 0.5"
        )

    def held(self, device: str, data: bytes) -> bool:
        """Tell whether *device* holds *data*."""
        return self.flash("md5", device, len(data)) == md5(data)

    def is_marked(self, device: str) -> bool:
        """Tell whether the kernel refuses to read the volume, and says why."""
        shown = self.shell(f"cat /sys/class/ubi/{Path(device).name}/upd_marker")
        refused = self.flash("md5", device, 1)
        assert (shown == "1") == (refused == "EBADF"), (shown, refused)
        return refused == "EBADF"


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)

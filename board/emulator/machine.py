# SPDX-License-Identifier: MIT
"""The emulated board under power: QEMU, its serial console, its log console, and QMP.

Everything that a person with the board on the desk could do, and no more: switch it on, read its
console, type at it, pull the plug. What it printed is kept, so that a failed test can be read.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from qemu.qmp import QMPClient

from board.emulator import firmware
from board.emulator.console import Console

_BOOT_TIMEOUT_S = 120.0


class Machine:
    """The board on the desk; a context manager that pulls the plug at its end."""

    def __init__(
        self,
        disk: Path,
        card: Path,
        flash: Path | None = None,
        listener: Callable[[str], None] | None = None,
    ) -> None:
        """Take the board's storage; nothing runs before ``power_on``.

        Args:
            disk: The virtio disk with the slots.
            card: The SD card with U-Boot's environment.
            flash: The second bank of NOR flash, 64 MiB, or None.
            listener: Hears what the serial console says, in a thread of its own.
        """
        self._disk, self._card, self._flash = disk, card, flash
        self._listener = listener
        self._folder = Path(tempfile.mkdtemp(prefix="board-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._serial: Console | None = None
        self._log: Console | None = None
        self.console_text = ""  # of earlier powers
        self.log_text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.power_off()
        shutil.rmtree(self._folder)

    @property
    def serial(self) -> Console:
        """The serial console: U-Boot, the kernel, a root shell."""
        assert self._serial is not None, "the board is off"
        return self._serial

    @property
    def log(self) -> Console:
        """Where the updater writes its log."""
        assert self._log is not None, "the board is off"
        return self._log

    def power_on(self) -> None:
        """Switch the board on."""
        assert self._process is None, "the board is on"
        sockets = {name: self._folder / name for name in ("serial", "log", "qmp")}
        for path in sockets.values():
            path.unlink(missing_ok=True)
        said = self._folder / "qemu.out"
        with said.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(sockets), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        _wait_for_sockets(sockets.values(), self._process, said)
        self._serial = Console(sockets["serial"], self._listener)
        self._log = Console(sockets["log"])
        self.qmp("cont")

    def _command(self, sockets: dict[str, Path]) -> list[str]:
        def channel(name: str) -> str:
            return f"socket,id={name},path={sockets[name]},server=on,wait=off"

        command = ["setpriv", "--pdeathsig", "KILL"]  # whoever kills us kills the board
        command += ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "1"]
        command += ["-m", "384", "-nographic", "-nodefaults", "-S", "-no-user-config"]
        command += ["-bios", str(firmware.u_boot())]
        command += ["-chardev", channel("serial"), "-serial", "chardev:serial"]
        command += ["-chardev", channel("log"), "-device", "virtio-serial-device"]
        command += ["-device", "virtconsole,chardev=log"]
        command += ["-qmp", f"unix:{sockets['qmp']},server=on,wait=off"]
        command += ["-drive", f"if=none,format=raw,file={self._disk},id=disk,cache=writeback"]
        command += ["-device", "virtio-blk-device,drive=disk"]
        command += ["-device", "sdhci-pci", "-drive", f"if=none,format=raw,file={self._card},id=sd"]
        command += ["-device", "sd-card,drive=sd"]
        if self._flash is not None:
            command += ["-drive", f"if=pflash,unit=1,format=raw,file={self._flash}"]
        command += ["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"]
        command += ["-device", "virtio-rng-device"]
        command += ["-device", "i6300esb", "-action", "watchdog=reset"]
        return command

    def power_off(self) -> None:
        """Pull the plug: no flush, no goodbye."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._serial is not None:
            self._serial.close()
            self.console_text += self._serial.text
        if self._log is not None:
            self._log.close()
            self.log_text += self._log.text
        self._serial = self._log = None

    def qmp(self, command: str, **arguments: object) -> object:
        """Execute one QMP command."""

        async def execute() -> object:
            client = QMPClient("board")
            await client.connect(str(self._folder / "qmp"))
            try:
                return await client.execute(command, arguments or None)
            finally:
                with contextlib.suppress(Exception):
                    await client.disconnect()

        return asyncio.run(execute())

    def wait_for_shell(self, *, since: int = 0) -> str:
        """Wait until Linux runs, and return the bootname of the slot that U-Boot started."""
        match = self.serial.wait_for(
            r"updater: starting slot (\w+)(?:(?!updater: starting slot)[\s\S])*?board# ",
            since=since,
            timeout_s=_BOOT_TIMEOUT_S,
        )
        return match[1]

    def shell(self, command: str, timeout_s: float = 60.0) -> str:
        """Run *command* in the board's shell and return what it printed.

        Raises:
            RuntimeError: Its exit status is not 0.
        """
        since = self.serial.mark()
        mark = f"{os.getpid()}-{since}"
        self.serial.type(f"echo '<'{mark}; {command}; echo '>'{mark}=$?=")
        match = self.serial.wait_for(
            rf"<{mark}\n([\s\S]*?)>{mark}=(\d+)=", since=since, timeout_s=timeout_s
        )
        if match[2] != "0":
            raise RuntimeError(f"{command!r} on the board ended with {match[2]}: {match[1]}")
        return match[1]


def _wait_for_sockets(
    paths: Iterable[Path], process: subprocess.Popen[bytes], output: Path
) -> None:
    """Wait until QEMU listens at *paths*."""
    deadline_s = time.monotonic() + 20.0
    for path in paths:
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"QEMU does not start: {output.read_text()[-2000:]}")
            time.sleep(0.01)

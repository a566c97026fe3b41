# SPDX-License-Identifier: MIT
"""The emulated board under power: QEMU, its serial console, its log console, and QMP.

Everything that a person with the board on the desk could do, and no more: switch it on, read its
console, type at it, pull the plug. What it printed is kept, so that a failed test can be read.
"""

import asyncio
import contextlib
import os
import re
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from qemu.qmp import QMPClient

from board.emulator import firmware

_PROMPT = "board# "
_BOOT_TIMEOUT_S = 120.0


class Console:
    """One byte stream of the board: all that it said so far, and a way to type."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._said = bytearray()
        self._news = threading.Condition()
        self._is_open = True
        self.listener: Callable[[str], None] | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._is_open:
            readable, _, _ = select.select([self._socket], [], [], 0.2)
            if not readable:
                continue
            try:
                got = self._socket.recv(65536)
            except OSError:
                got = b""
            if not got:
                break
            with self._news:
                self._said += got
                self._news.notify_all()
            if self.listener is not None:
                self.listener(got.decode("utf-8", "replace"))

    @property
    def text(self) -> str:
        """All that was said, without carriage returns."""
        return self._said.decode("utf-8", "replace").replace("\r", "")

    def mark(self) -> int:
        """Return a position: what was said so far is before it."""
        return len(self._said)

    def wait_for(self, pattern: str, *, since: int = 0, timeout_s: float = 60.0) -> re.Match[str]:
        """Return the first match of *pattern* after *since*; raise if it does not come in time."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                text = self._said[since:].decode("utf-8", "replace").replace("\r", "")
                match = re.search(pattern, text, re.MULTILINE)
                if match:
                    return match
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(
                        f"{pattern!r} did not come within {timeout_s:g} s; last:\n{text[-3000:]}"
                    )
                self._news.wait(left_s)

    def type(self, text: str) -> None:
        """Type *text* and the return key."""
        self._socket.sendall(text.encode() + b"\r")

    def close(self) -> None:
        """Stop listening."""
        self._is_open = False
        self._thread.join(2.0)
        self._socket.close()


class Machine:
    """The board on the desk; a context manager that pulls the plug at its end."""

    def __init__(self, disk: Path, card: Path, flash: Path | None = None) -> None:
        """Take the board's storage; nothing runs before ``power_on``."""
        self._disk, self._card, self._flash = disk, card, flash
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
        for file in self._folder.iterdir():
            file.unlink()
        self._folder.rmdir()

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
        self._process = subprocess.Popen(
            self._command(sockets),
            stdin=subprocess.DEVNULL,
            stdout=(self._folder / "qemu.out").open("ab"),
            stderr=subprocess.STDOUT,
        )
        _wait_for_sockets(sockets.values(), self._process, self._folder / "qemu.out")
        self._serial, self._log = Console(sockets["serial"]), Console(sockets["log"])
        self.qmp("cont")

    def _command(self, sockets: dict[str, Path]) -> list[str]:
        def channel(name: str) -> str:
            return f"socket,id={name},path={sockets[name]},server=on,wait=off"

        command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "1"]
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
        for console in (self._serial, self._log):
            if console is not None:
                console.close()
        self.console_text += self.serial.text
        self.log_text += self.log.text
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


def _wait_for_sockets(paths: object, process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until QEMU listens at *paths*."""
    deadline_s = time.monotonic() + 20.0
    for path in list(paths):  # type: ignore[call-overload]
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"QEMU does not start: {output.read_text()[-2000:]}")
            time.sleep(0.01)

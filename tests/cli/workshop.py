# SPDX-License-Identifier: MIT
"""The real program as a subprocess, over a configuration of the test's own.

``Workshop`` is a machine without slots: the configuration, an environment in two files made by
mkenvimage, and folders for state, lock and socket. ``Board`` in ``board_on_loop`` adds a disk.
"""

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

MIB = 1 << 20
IMAGE = bytes(range(256)) * (3 * MIB // 256) + b"the end"
REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT_BYTES = 0x4000
TEXT = "boot_slot=A\nupgrade_available=0\nbootcount=0\nbootlimit=3\nbootargs=root=/dev/x quiet\n"

_CONFIG = """\
[cloud]
host = "127.0.0.1"
port = {port}
product_id = "PRODUCT001"
device_name = "board-1"
auth = "none"
allow_plaintext = true
{cloud}
[download]
allow_plaintext = true
attempts = 2
backoff_s = 0.1
{download}
[health]
{health}
[state]
directory = "{folder}/state"
control = "{run}/control"
lock = "{run}/lock"
trial_over = "{run}/trial-over"
board = "{folder}/board.toml"
reboot_command = ["touch", "{folder}/rebooted"]
"""

_BOARD = """\
[board]
name = "workshop"
version_file = "{folder}/version"
[environment]
config = "{folder}/fw_env.config"
[[slot]]
bootname = "A"
partlabel = "rootfs-a"
[[slot]]
bootname = "B"
partlabel = "rootfs-b"
"""


class Workshop:
    """A folder with everything that the program is told about."""

    def __init__(
        self, folder: Path, *, port: int = 1, cloud: str = "", download: str = "", health: str = ""
    ) -> None:
        """Set it up; *port* is the broker's, the texts are further lines of their tables."""
        self.folder = folder
        self.config = folder / "updater.toml"
        self.board = folder / "board.toml"
        self.control = folder / "run/control"
        self.lock = folder / "run/lock"
        self.rebooted = folder / "rebooted"
        self.fw_env = folder / "fw_env.config"
        self.user = os.geteuid()
        facts = {"folder": folder, "run": folder / "run", "port": port}
        self.config.write_text(
            _CONFIG.format(cloud=cloud, download=download, health=health, **facts)
        )
        self.board.write_text(_BOARD.format(folder=folder))
        (folder / "version").write_text("1.0.0\n")
        (folder / "run").mkdir()
        copies = [folder / "environment-0", folder / "environment-1"]
        command = ["mkenvimage", "-r", "-s", hex(ENVIRONMENT_BYTES), "-o", "-", "-"]
        raw = subprocess.run(command, input=TEXT.encode(), capture_output=True, check=True).stdout
        for copy in copies:
            copy.write_bytes(raw)
        self.fw_env.write_text("".join(f"{copy} 0 {ENVIRONMENT_BYTES:#x}\n" for copy in copies))

    def command(self, *arguments: object) -> list[str]:
        """Return the command line that runs the program with *arguments*."""
        program = [sys.executable, "-m", "updater", "--config", str(self.config)]
        return [*self.enter(), *program, *(str(argument) for argument in arguments)]

    def enter(self) -> Sequence[str]:
        """Return what has to stand before a command so that it runs on this machine, as ``user``.

        Another user than the test's may read everything, as one of a real machine may read what
        the program needs, and has no other rights.
        """
        if self.user == os.geteuid():
            return []
        rights = "dac_read_search"
        return [
            "setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups",
            f"--inh-caps=+{rights}", f"--ambient-caps=+{rights}",
        ]  # fmt: skip

    def run(self, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run the program to its end."""
        return run(self.command(*arguments), **options)

    @contextmanager
    def start(self, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
        """Run the program beside the test; it is killed at the end of the context."""
        process = subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd="/",
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def json(self, *arguments: object) -> Any:
        """Run the program with ``--json``; return what it says, which is one object on one line."""
        done = self.run("--json", *arguments)
        assert done.stdout.count("\n") == 1, done
        value = json.loads(done.stdout)
        assert isinstance(value, dict)
        return value

    def environment(self) -> dict[str, str]:
        """Return U-Boot's variables as the field's own tool sees them."""
        done = run(["fw_printenv", "-c", str(self.fw_env)])
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def store(self, **variables: str) -> None:
        """Store variables with the field's own tool; "" deletes one."""
        for name, value in variables.items():
            run(["fw_setenv", "-c", str(self.fw_env), name, *([value] if value else [])])

    @contextmanager
    def agent(self) -> Iterator["Agent"]:
        """Run the agent for as long as the context lasts."""
        with Agent(self) as agent:
            yield agent


class Agent:
    """A running ``updater run``; what it logs is kept."""

    def __init__(self, workshop: Workshop, command: Sequence[str] = ()) -> None:
        """Run *command*, unless told otherwise the usual one."""
        self._workshop = workshop
        self._command = command or workshop.command("run")
        self._log: list[str] = []

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            cwd="/",
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._log.append(line)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return "".join(self._log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def wait_until(self, is_so: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
        """Wait until *is_so*; the agent must live on meanwhile."""
        deadline_s = time.monotonic() + timeout_s
        while not is_so():
            assert self.process.poll() is None, f"the agent has ended:\n{self.log}"
            assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}\n{self.log}"
            time.sleep(0.01)

    def wait_for_log(self, text: str, timeout_s: float = 20) -> None:
        """Wait until the log has *text*."""
        self.wait_until(lambda: text in self.log, f"{text!r} in the log", timeout_s)

    def wait_for_control(self) -> None:
        """Wait until the control socket listens."""
        self.wait_until(self._workshop.control.is_socket, "a control socket")

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 10) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        self.process.wait(timeout_s)
        self._reader.join()
        return self.process.returncode

    def memory_kib(self) -> dict[str, int]:
        """Return RssAnon, VmRSS and Pss as the kernel tells them."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        lines += Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()[1:]
        facts = dict(line.split(":", 1) for line in lines)
        return {name: int(facts[name].split()[0]) for name in ("RssAnon", "VmRSS", "Pss")}


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a subprocess: the repository importable, its bytecode kept.

    An installed program has its bytecode; one that compiles at each start needs a MiB more.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **more}


def run(command: Sequence[str | bytes], **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run *command* to its end, with its output as text."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(),
        cwd="/",
        timeout=60,
        check=False,
        **options,
    )


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until *is_so*."""
    deadline_s = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def run_on_terminal(command: Sequence[str]) -> tuple[int, str, str]:
    """Run *command* with a terminal as its stderr; return exit code, stdout, and the terminal's."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=follower, text=True, env=environment(), cwd="/"
    )
    os.close(follower)
    seen = b""
    try:
        while got := _read_terminal(leader):
            seen += got
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(leader)
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode, out, seen.decode()


def _read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 1 << 16)
    except OSError:  # the last writer has gone
        return b""


@contextmanager
def loop_device(path: Path, size_bytes: int) -> Iterator[str]:
    """A loop device over a new file, for as long as the context lasts."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    done = subprocess.run(
        ["losetup", "--find", "--show", path], check=True, capture_output=True, text=True
    )
    device = done.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def words(md5sum: str | None = None, size: object = len(IMAGE)) -> list[object]:
    """Return what the command line says of an image; of IMAGE, unless told otherwise."""
    return ["--md5", md5(IMAGE) if md5sum is None else md5sum, "--size", size]


KNOWN_BY = ((0, 512), (512, 4096))  # what a slot is known by: the first sector, what is at 1 KiB


def may_boot(held: bytes, *whole: bytes) -> bool:
    """Tell whether *held* is known as something, and behind that is none of *whole*."""
    return any(
        any(held[first:end]) and not any(held[end:] == other[end:] for other in whole)
        for first, end in KNOWN_BY
    )


def head(device: str | Path) -> bytes:
    """Return the first MiB of the medium, past the page cache."""
    fileno = os.open(device, os.O_RDONLY)
    try:
        os.posix_fadvise(fileno, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(fileno, MIB)
    finally:
        os.close(fileno)


def md5(raw: bytes) -> str:
    """Return the MD5 of *raw* in hexadecimal."""
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()

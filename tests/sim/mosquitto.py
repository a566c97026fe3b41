# SPDX-License-Identifier: MIT
"""A mosquitto that can be stopped, paused and told to read its files anew; it keeps what it says.

What it says of each packet is in ``lines``, with the time at which it said it.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TIMEOUT_S = 20


@dataclass(frozen=True)
class Line:
    """One line of the log: monotonic seconds, and the words without mosquitto's own time."""

    time_s: float
    text: str


class Mosquitto:
    """A context manager; ``folder`` is its own, and goes with it."""

    def __init__(
        self,
        configuration: str,
        *,
        port: int = 0,
        enter: Sequence[str] = (),
        types: Sequence[str] = ("error", "warning", "notice", "information"),
    ) -> None:
        """Start nothing yet.

        Args:
            configuration: Its lines; ``{folder}`` stands for the folder.
            port: Of the loopback, where it listens once it has started; 0: ``{folder}/socket``.
            enter: What stands before its command line.
            types: What it logs.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="broker-"))
        self.socket = self.folder / "socket"
        self.lines: list[Line] = []
        self._port = port
        self._types = types
        self._enter = list(enter)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.configure(configuration)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def configure(self, configuration: str) -> None:
        """Have it read *configuration* at its next start."""
        log = "".join(f"log_type {each}\n" for each in self._types)
        text = configuration.replace("{folder}", str(self.folder))
        (self.folder / "mosquitto.conf").write_text(
            f"log_dest stderr\n{log}user root\npersistence_location {self.folder}/\n{text}\n"
        )

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        command = ["setpriv", "--pdeathsig", "KILL", *self._enter, program]  # dies with us
        command += ["-c", str(self.folder / "mosquitto.conf")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
        self._process = process
        self._reader = threading.Thread(target=self._read, args=[process], daemon=True)
        self._reader.start()
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not self._listens():
            if process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise RuntimeError(f"mosquitto does not start: {self.lines[-5:]}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, by SIGTERM or as *number* says; again is allowed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TIMEOUT_S)
        process.kill()
        process.wait()
        assert self._reader is not None
        self._reader.join()
        assert process.stderr is not None
        process.stderr.close()

    def pause(self) -> None:
        """Let it stand still; the kernel goes on taking connections and bytes for it."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Have it read passwords and access lists anew, and wait until it has begun to."""
        before = len(self.lines)
        self._signal(signal.SIGHUP)
        self._await("Reloading config", before)

    def catch_up(self) -> None:
        """Wait until all that it has said so far is in ``lines``; it must listen at ``socket``."""
        before = len(self.lines)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.socket))
            self._await(f"New connection from {self.socket}", before)

    def _await(self, words: str, before: int) -> None:
        """Wait until one of the lines from *before* on begins with *words*."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not any(line.text.startswith(words) for line in self.lines[before:]):
            assert time.monotonic() < deadline_s, f"mosquitto does not say: {words}"
            time.sleep(0.02)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        for line in process.stderr:
            stamp, _, text = line.rstrip("\n").partition(": ")
            self.lines.append(Line(time.monotonic(), text if stamp.isdigit() else line))

    def _listens(self) -> bool:
        if self._port:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return True
            return False
        with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.socket))
            return True
        return False

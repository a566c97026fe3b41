# SPDX-License-Identifier: MIT
"""One mosquitto for many devices: each logs in, and may speak of itself alone.

It can be killed and started again: the cloud's subscription is on its disk, as that of a real cloud
is part of the broker, and nothing of the devices' is. What went over the wire is counted from the
broker's own log.
"""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sim.broker import free_port
from sim.cloud import PRODUCT

CLOUD = "the-cloud"
_TIMEOUT_S = 20.0
_LINE = re.compile(
    r"(\d+): (?:(Received|Sending) ([A-Z]+) (?:from|to) (\S+)"
    r"|New client connected from \S+ as (\S+))"
)
_CONFIG = """\
listener {cloud_port} 127.0.0.1
listener {port} 127.0.0.1
{tls}
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
persistence true
persistence_location {folder}/
autosave_interval 0
max_queued_messages 0
sys_interval 0
log_dest file {log}
log_type all
user root
"""
_ACL = f"""\
user {CLOUD}
topic readwrite $ota/#
pattern write $ota/report/{PRODUCT}/%u
pattern read $ota/update/{PRODUCT}/%u
"""


@dataclass(frozen=True)
class Packet:
    """One packet of a client's, as the broker has logged it; *time_s* is UNIX time, whole."""

    time_s: int
    client: str
    kind: str
    is_uplink: bool


class Broker:
    """A context manager; ``start`` and ``kill`` as often as one likes meanwhile.

    Attributes:
        port: The devices'.
        cloud_port: The cloud's, never by TLS.
    """

    def __init__(self, folder: Path, logins: Sequence[str], certificate: Path | None) -> None:
        """Set it up.

        Args:
            folder: For its files.
            logins: Who may come; each one's password is the text of the file of that name.
            certificate: PEM with its chain, beside it the key; None: devices come without TLS.
        """
        self._folder = folder
        self.port, self.cloud_port = free_port(), free_port()
        self._tls = ""
        if certificate is not None:
            self._tls = f"certfile {certificate}\nkeyfile {certificate.with_suffix('.key')}"
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        passwords = folder / "passwords"
        passwords.write_text(
            "".join(f"{name}:{(folder / name).read_text()}\n" for name in (*logins, CLOUD))
        )
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        (folder / "acl").write_text(_ACL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()

    @property
    def log(self) -> Path:
        """What the running broker logs, or the last one has."""
        return self._folder / f"log-{self._starts}"

    @property
    def pid(self) -> int:
        """The process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it and return when it began to listen, monotonic."""
        self._starts += 1
        config = self._folder / "mosquitto.conf"
        facts = {"folder": self._folder, "log": self.log, "tls": self._tls}
        ports = {"port": self.port, "cloud_port": self.cloud_port}
        config.write_text(_CONFIG.format(**facts, **ports))
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        command = ["setpriv", "--pdeathsig", "KILL", program, "-c", str(config)]
        with (self._folder / "out").open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        self._wait_for(lambda: self.log.exists() and " running\n" in self.log.read_text())
        return time.monotonic()

    def save(self) -> None:
        """Have it store who has subscribed for good."""
        database = self._folder / "mosquitto.db"
        database.unlink(missing_ok=True)
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        self._wait_for(database.exists)

    def kill(self) -> None:
        """Have it be gone from one moment to the next; again is harmless."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait_for(self, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not is_so():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                said = (self._folder / "out").read_text() + self.log.read_text()[-2000:]
                raise RuntimeError(f"mosquitto does not do as it is told: {said}")
            time.sleep(0.002)

    def mark(self) -> int:
        """Return a position in the log: what was logged so far is before it."""
        return self.log.stat().st_size

    def packets(self, since: int = 0) -> Iterator[Packet]:
        """Yield the devices' packets after *since*, of the broker that runs."""
        with self.log.open("rb") as log:
            log.seek(since)
            for line in log:
                found = _LINE.match(line.decode())
                if found is not None:
                    time_s, verb, kind, client, newcomer = found.groups()
                    if (client or newcomer) != CLOUD:
                        is_uplink = verb != "Sending"
                        yield Packet(int(time_s), client or newcomer, kind or "CONNECT", is_uplink)

# SPDX-License-Identifier: MIT
"""A mosquitto of one's own, on a free port of the loopback."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def free_port() -> int:
    """Return a TCP port of the loopback that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def broker(extra: str = "allow_anonymous true", port: int = 0) -> Iterator[int]:
    """Run mosquitto for as long as the context lasts, and return its port.

    Args:
        extra: Lines for its configuration.
        port: Which port; 0: a free one.
    """
    port = port or free_port()
    folder = Path(tempfile.mkdtemp(prefix="broker-"))
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\npersistence false\nlog_dest file {folder}/log\n"
        f"user root\n{extra}\n"
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with (folder / "out").open("wb") as output:
        process = subprocess.Popen(
            [program, "-c", folder / "mosquitto.conf"], stdout=output, stderr=output
        )
    try:
        _wait(port, process, folder)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _wait(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline_s = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"mosquitto does not start: {(folder / 'out').read_text()}")
        time.sleep(0.02)

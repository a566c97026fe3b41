# SPDX-License-Identifier: MIT
"""What everybody is measured on: images in memory, nginx on the loopback, loop devices."""

import contextlib
import hashlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
_MEMORY = "/dev/shm"  # noqa: S108 - folders of random names are made there

_NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/unused;
    proxy_temp_path {folder}/unused;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        location /slow/ {{
            alias {folder}/;
            limit_rate {rate};
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Image:
    """A file in memory that the server offers."""

    path: Path
    size: int
    md5: str
    server: str

    @property
    def url(self) -> str:
        return f"{self.server}/{self.path.name}"

    @property
    def slow_url(self) -> str:
        """Where the server holds its rate down."""
        return f"{self.server}/slow/{self.path.name}"


@dataclass(frozen=True)
class Stage:
    """A folder in memory and the server over it."""

    folder: Path
    server: str

    def image(self, name: str, size: int, zeros_every: int = 0) -> Image:
        """Make a file of random bytes; of each *zeros_every* the second half is zeros."""
        digest, path = hashlib.md5(usedforsecurity=False), self.folder / name
        with path.open("wb") as file:
            for offset in range(0, size, MIB):
                is_zero = zeros_every and offset % zeros_every >= zeros_every // 2
                digest.update(chunk := bytes(MIB) if is_zero else os.urandom(MIB))
                file.write(chunk)
        return self.offer(path, digest.hexdigest())

    def offer(self, path: Path, md5: str) -> Image:
        return Image(path, path.stat().st_size, md5, self.server)


@contextlib.contextmanager
def stage(rate_bytes: int) -> Iterator[Stage]:
    """Set up the folder and the server, and take them down again.

    Args:
        rate_bytes: What the slow location sends in a second.
    """
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx' worker may be somebody else
        with _nginx(folder, rate_bytes) as server:
            yield Stage(folder, server)


@contextlib.contextmanager
def _nginx(folder: Path, rate_bytes: int) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config, errors = folder / "nginx.conf", folder / "nginx.log"
    config.write_text(_NGINX.format(folder=folder, port=port, rate=rate_bytes))
    words = ["nginx", "-e", str(errors), "-p", str(folder), "-c", str(config)]
    with subprocess.Popen(words) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError("nginx does not listen")


@dataclass(frozen=True)
class Device:
    """A loop device whose backing file has all its blocks."""

    path: str
    backing: Path

    @property
    def number(self) -> str:
        """Major and minor, as the kernel writes them."""
        device = Path(self.path).stat().st_rdev
        return f"{os.major(device)}:{os.minor(device)}"

    def written_sectors(self) -> int:
        """Return how many sectors of 512 bytes were ever written to it."""
        return int(Path(f"/sys/block/{Path(self.path).name}/stat").read_text().split()[6])

    def fill(self, source: str, size: int) -> None:
        """Write the first *size* bytes of *source*, past the page cache."""
        words = ["dd", f"if={source}", f"of={self.path}", "bs=1M", f"count={size // MIB}"]
        words += ["oflag=direct", "iflag=fullblock", "conv=notrunc", "status=none"]
        subprocess.run(words, check=True)

    def check(self, image: Image) -> None:
        """Raise unless it holds *image*, read from the medium."""
        subprocess.run(["blockdev", "--flushbufs", self.path], check=True)
        command = ["cmp", f"--bytes={image.size}", str(image.path), self.path]
        subprocess.run(command, check=True)


@contextlib.contextmanager
def loop_device(size: int, folder: str = _MEMORY) -> Iterator[Device]:
    """Give a loop device of *size* bytes."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="bench-") as file:
        os.posix_fallocate(file.fileno(), 0, size)
        command = ["losetup", "-f", "--show", file.name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        path = done.stdout.strip()
        try:
            yield Device(path, Path(file.name))
        finally:
            subprocess.run(["losetup", "-d", path], check=True)

# SPDX-License-Identifier: MIT
"""What the tests of the pipeline share: an image, a server that misbehaves, a slot, an install."""

import gzip
import hashlib
import http.server
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import updater
from updater.core.ports import InstallRequest, Phase, Progress, RunningInstall
from updater.edge.pipeline import NativePipeline

MIB = 1 << 20
IMAGE = random.Random(1).randbytes(20 * MIB + 12345)
MD5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
SHA256 = hashlib.sha256(IMAGE).hexdigest()
HEAD = MIB
SLOT_BYTES = 32 * MIB
UNTOUCHED = b"\xa5"
REPO = Path(updater.__file__).parents[1]  # or where an instrumented copy is tested


class Answer(http.server.BaseHTTPRequestHandler):
    """One behaviour per path."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        BEHAVIOURS[self.path](self)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def give(self, body: bytes, length: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def chunked(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    def stall(self) -> None:
        self.give(IMAGE[: 2 * MIB], len(IMAGE))
        self.server.is_over.wait(20)
        self.close_connection = True

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()


def refuse(status: int) -> Callable[[Answer], None]:
    return lambda answer: answer.give(b"no", status=status)


BEHAVIOURS: dict[str, Callable[[Answer], None]] = {
    "/good": lambda a: a.give(IMAGE),
    "/chunked": lambda a: a.chunked(IMAGE),
    "/chunked-short": lambda a: a.chunked(IMAGE[:-1]),
    "/chunked-long": lambda a: a.chunked(IMAGE + b"x"),
    "/longer": lambda a: a.give(IMAGE + b"x"),
    "/shorter": lambda a: a.give(IMAGE[:-1]),
    "/flipped": lambda a: a.give(IMAGE[:-1] + bytes([IMAGE[-1] ^ 1])),
    "/stall": Answer.stall,
    "/empty": lambda a: a.give(b""),
    "/redirect": lambda a: a.redirect("/good"),
    "/loop": lambda a: a.redirect("/loop"),
    "/ftp": lambda a: a.redirect("ftp://127.0.0.1/good"),
    "/file": lambda a: a.redirect("file:///etc/hostname"),
    **{
        f"/{status}": refuse(status)
        for status in (401, 403, 404, 408, 410, 416, 429, 500, 503, 206)
    },
}


class Server(http.server.ThreadingHTTPServer):
    """Serves every behaviour; what stalls does so until it is over."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.is_over = threading.Event()


@contextmanager
def serving() -> Iterator[str]:
    """Serve every behaviour; the URL of all of them."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def attached(backing: Path, *flags: str) -> Iterator[str]:
    """Make a block device of a file; its path."""
    command = ["losetup", "-f", "--show", *flags, str(backing)]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield path
    finally:
        subprocess.run(["losetup", "-d", path], check=True)


@contextmanager
def loop(folder: Path, sector_bytes: int, *flags: str) -> Iterator[str]:
    """Make a device that nothing has been written to; ``slot`` in *folder* is behind it."""
    backing = folder / "slot"
    backing.write_bytes(UNTOUCHED * SLOT_BYTES)
    with attached(backing, "--sector-size", str(sector_bytes), *flags) as path:
        yield path


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def request_for(source: str | Path, device: str | Path) -> InstallRequest:
    """Return the plainest request: one attempt, no pause, patience for a busy machine."""
    return InstallRequest(
        str(source), str(device), len(IMAGE), MD5, allow_plaintext=True, stall_timeout_s=20.0,
        attempts=1, backoff_s=0.0,
    )  # fmt: skip


def packed(folder: Path, image: bytes, device: str) -> InstallRequest:
    """Return the request for *image* as a compressed firmware in *folder*."""
    firmware = gzip.compress(image, 1)
    source = folder / "firmware.gz"
    source.write_bytes(firmware)
    return replace(request_for(source, device), size_bytes=len(firmware), md5=md5_of(firmware))


def install(request: InstallRequest) -> list[Progress]:
    with closing(NativePipeline().open_install(request)) as running:
        return to_the_end(running)


def to_the_end(running: RunningInstall) -> list[Progress]:
    seen: list[Progress] = []
    while not seen or seen[-1].phase is not Phase.DONE:
        seen.append(running.step(0.01))
    return seen


def held(device: str | Path, size: int = len(IMAGE)) -> bytes:
    with Path(device).open("rb") as file:
        return file.read(size)

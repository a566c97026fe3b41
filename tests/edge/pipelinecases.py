# SPDX-License-Identifier: MIT
"""What the tests of the pipeline have in common: an image, a server that misbehaves, an install."""

import hashlib
import http.server
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from updater.core.ports import InstallRequest, Phase, Progress, RunningInstall
from updater.edge.pipeline import NativePipeline

MIB = 1 << 20
IMAGE = random.Random(1).randbytes(20 * MIB + 12345)
MD5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
SHA256 = hashlib.sha256(IMAGE).hexdigest()
REPO = Path(__file__).parent.parent.parent


class Server(http.server.BaseHTTPRequestHandler):
    """One behaviour per path."""

    protocol_version = "HTTP/1.1"

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
        STALLED.wait(20)
        self.close_connection = True

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()


STALLED = threading.Event()
BEHAVIOURS: dict[str, Callable[[Server], None]] = {
    "/good": lambda s: s.give(IMAGE),
    "/chunked": lambda s: s.chunked(IMAGE),
    "/chunked-short": lambda s: s.chunked(IMAGE[:-1]),
    "/chunked-long": lambda s: s.chunked(IMAGE + b"x"),
    "/longer": lambda s: s.give(IMAGE + b"x"),
    "/shorter": lambda s: s.give(IMAGE[:-1]),
    "/flipped": lambda s: s.give(IMAGE[:-1] + bytes([IMAGE[-1] ^ 1])),
    "/stall": Server.stall,
    "/empty": lambda s: s.give(b""),
    "/redirect": lambda s: s.redirect("/good"),
    "/loop": lambda s: s.redirect("/loop"),
    "/ftp": lambda s: s.redirect("ftp://127.0.0.1/good"),
    "/file": lambda s: s.redirect("file:///etc/hostname"),
    **{
        f"/{status}": lambda s, status=status: s.give(b"no", status=status)
        for status in (401, 403, 404, 408, 410, 416, 429, 500, 503, 206)
    },
}


@contextmanager
def serving() -> Iterator[str]:
    """Serve every behaviour; the URL of all of them."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        STALLED.set()
        server.shutdown()
        thread.join()
        server.server_close()


def request_for(source: str | Path, device: str | Path) -> InstallRequest:
    """Return the plainest request: one attempt, no pause, patience for a busy machine."""
    return InstallRequest(
        str(source), str(device), len(IMAGE), MD5, allow_plaintext=True, stall_timeout_s=20.0,
        attempts=1, backoff_s=0.0,
    )  # fmt: skip


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

# SPDX-License-Identifier: MIT
"""An HTTP server on the loopback that serves files, at a pace, or answers as it is told.

Whoever comes back may go on where he was, if the file is still the same.
"""

import http.server
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self


class HttpServer:
    """Serves files by name; a context manager."""

    def __init__(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        """Listen on a free port; with *context*, TLS is spoken."""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._serve(self)

            def log_message(self, *_args: object) -> None:
                pass

        self.files: dict[str, Path | int] = {}
        self.bytes_per_s: float | None = None
        self.chunk_bytes = 1 << 18  # sent at once
        self.is_stalled = False  # what is under way stands still
        self.served: list[str] = []
        self.asked: list[Mapping[str, str]] = []  # headers of each request
        self.sent_bytes = 0
        self.begins: list[int] = []  # where each transfer began
        self._cuts = 0
        self._handler = Handler
        self._server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.host, self.port = host, int(self._server.server_address[1])
        self.context = context
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.die()

    def _start(self) -> None:
        if self.context is not None:
            self._server.socket = self.context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def die(self) -> None:
        """Break off every transfer and refuse connections; again is allowed."""
        self.cut()
        if self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._thread = None

    def revive(self) -> None:
        """Serve again, at the same port."""
        self._server = http.server.ThreadingHTTPServer((self.host, self.port), self._handler)
        self._start()

    def put(self, files: Mapping[str, Path | int]) -> None:
        """Serve *files*: paths by name, or a status to answer with."""
        self.files.update(files)

    def cut(self) -> None:
        """Break off every transfer that is under way."""
        self._cuts += 1

    def _serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.partition("?")[0].lstrip("/")
        self.asked.append(dict(request.headers))
        found = self.files.get(name, 404)
        self.served.append(name)
        if isinstance(found, int):
            request.send_error(found)
            return
        held = found.stat()
        tag = f'"{held.st_mtime_ns:x}-{held.st_size:x}"'
        begin = _begin(request, tag)
        self.begins.append(begin)
        with found.open("rb") as file:
            file.seek(begin)
            request.send_response(206 if begin else 200)
            if begin:
                span = f"bytes {begin}-{held.st_size - 1}/{held.st_size}"
                request.send_header("Content-Range", span)
            request.send_header("Content-Length", str(held.st_size - begin))
            request.send_header("ETag", tag)
            request.end_headers()
            # what waits here was not sent yet: it must not count as such
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
            began_s, sent, cuts = time.monotonic(), 0, self._cuts
            try:
                while cuts == self._cuts and (chunk := file.read(self.chunk_bytes)):
                    while self.is_stalled and cuts == self._cuts:
                        time.sleep(0.02)
                    request.wfile.write(chunk)
                    sent += len(chunk)
                    self.sent_bytes += len(chunk)
                    if self.bytes_per_s:
                        due_s = began_s + sent / self.bytes_per_s
                        time.sleep(max(0.0, due_s - time.monotonic()))
                request.close_connection = cuts != self._cuts
            except OSError:
                request.close_connection = True  # the device has gone: the test meant it to


def _begin(request: http.server.BaseHTTPRequestHandler, tag: str) -> int:
    """Return where to begin: in the middle only of the same file."""
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    is_same = request.headers.get("If-Range", tag) == tag
    return int(wanted[1]) if wanted and is_same else 0

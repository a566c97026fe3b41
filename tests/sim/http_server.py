# SPDX-License-Identifier: MIT
"""An HTTP server on the loopback that serves files, at a pace, or answers as it is told."""

import http.server
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_CHUNK_BYTES = 1 << 18


class HttpServer:
    """Serves files by name; a context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """Listen on a free port."""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._serve(self)

            def log_message(self, *_args: object) -> None:
                pass

        self.files: dict[str, Path | int] = {}
        self.bytes_per_s: float | None = None
        self.served: list[str] = []
        self._server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, files: Mapping[str, Path | int]) -> None:
        """Serve *files*: paths by name, or a status to answer with."""
        self.files.update(files)

    def _serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.partition("?")[0].lstrip("/")
        found = self.files.get(name, 404)
        self.served.append(name)
        if isinstance(found, int):
            request.send_error(found)
            return
        with found.open("rb") as file:
            request.send_response(200)
            request.send_header("Content-Length", str(found.stat().st_size))
            request.end_headers()
            began_s, sent = time.monotonic(), 0
            try:
                while chunk := file.read(_CHUNK_BYTES):
                    request.wfile.write(chunk)
                    sent += len(chunk)
                    if self.bytes_per_s:
                        due_s = began_s + sent / self.bytes_per_s
                        time.sleep(max(0.0, due_s - time.monotonic()))
            except OSError:
                request.close_connection = True  # the device has gone: the test meant it to

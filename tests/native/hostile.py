# SPDX-License-Identifier: MIT
"""An HTTP server that says exactly the bytes that it is told to, at the pace that it is told to."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Self

Script = Callable[[bytes], Iterable[bytes]]
TICK_S = 0.02
RESET = bytes(bytearray(b"a reset"))  # a piece of its own: told from others by identity
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: forget what is not sent, and say so at once


class HostileServer:
    """Answers every connection by the script of its path; a context manager.

    A script gets the request and yields pieces of the answer; ``b""`` is a tick of waiting, and
    ``RESET`` resets the connection. It is closed when the script ends.

    Args:
        tls: Speak TLS with this context.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.requests: list[bytes] = []
        self._scripts: dict[str, Script] = {}
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._socket.close()
        for thread in self._threads[1:]:
            thread.join()

    def url(self, path: str, script: Script, credentials: str = "") -> str:
        """Return the URL at which *script* answers."""
        self._scripts[path] = script
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{credentials}127.0.0.1:{self.port}{path}"

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                with connection:
                    self._talk(connection)
            except OSError:
                return  # the client has had enough, which is what most tests are about

    def _talk(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            more = connection.recv(65536)
            if not more:
                return  # no request: a TLS greeting, or a client that does not trust us
            request += more
        self.requests.append(request)
        path = request.split(b" ", 2)[1].decode().partition("?")[0]
        self._answer(connection, self._scripts[path](request))

    def _answer(self, connection: socket.socket, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            if self._is_over.wait(0 if piece else TICK_S):
                return
            if piece is RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
                return
            connection.sendall(piece)


def header(request: bytes, name: str) -> str | None:
    """Return the value of a header of *request*."""
    for line in request.decode().split("\r\n")[1:]:
        key, _, value = line.partition(": ")
        if key == name:
            return value
    return None


def begin(request: bytes) -> int:
    """Return where in the object *request* asks to begin; 0 if it asks for all of it."""
    value = header(request, "Range")
    return int(value.removeprefix("bytes=").removesuffix("-")) if value else 0


def answer(
    body: bytes, *headers: str, status: str = "200 OK", length: int | None = None
) -> Iterable[bytes]:
    """Yield a plain answer with a Content-Length, true unless *length* says another."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    yield "\r\n".join([*lines, *headers, "", ""]).encode()
    yield body

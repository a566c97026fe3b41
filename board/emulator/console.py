# SPDX-License-Identifier: MIT
"""A console of the emulated board: what it said, waiting for what it will say, and typing at it."""

import codecs
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path


class Console:
    """One byte stream of the board: all that it said so far, and a way to type."""

    def __init__(self, path: Path, listener: Callable[[str], None] | None = None) -> None:
        """Listen at the socket *path*; *listener* hears every piece, in a thread of its own."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._said = ""
        self._news = threading.Condition()
        self._listener = listener
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                got = self._socket.recv(65536)
            except OSError:
                return
            if not got:
                return
            text = decoder.decode(got).replace("\r", "")
            with self._news:
                self._said += text
                self._news.notify_all()
            if self._listener is not None:
                self._listener(text)

    @property
    def text(self) -> str:
        """All that was said, without carriage returns."""
        return self._said

    def mark(self) -> int:
        """Return a position: what was said so far is before it."""
        return len(self._said)

    def wait_for(self, pattern: str, *, since: int = 0, timeout_s: float = 60.0) -> re.Match[str]:
        """Return the first match of *pattern* after *since*; raise if it does not come in time."""
        wanted = re.compile(pattern, re.MULTILINE)
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                match = wanted.search(self._said, since)
                if match:
                    return match
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    last = self._said[since:][-3000:]
                    raise TimeoutError(f"{pattern!r} not within {timeout_s:g} s; last:\n{last}")
                self._news.wait(left_s)

    def type(self, text: str) -> None:
        """Type *text* and the return key."""
        self._socket.sendall(text.encode() + b"\r")

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(2.0)
        self._socket.close()

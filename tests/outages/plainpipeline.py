# SPDX-License-Identifier: MIT
"""A pipeline without the native module, for a Python that has none: brings files by HTTP.

Implements what ``core.ports.Pipeline`` asks of an install, simply: no resume, no read-back, no
retries. ``onfiles`` puts it in the place of ``updater.edge.pipeline``.
"""

import hashlib
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path

from updater.core.errors import DigestError, NotFoundError, TransportError, UpdaterError
from updater.core.ports import InstallRequest, Phase, Progress

_CHUNK_BYTES = 1 << 14


class PlainInstall:
    """One install in a thread of its own."""

    def __init__(self, request: InstallRequest) -> None:
        self._request = request
        self._received_bytes = 0
        self._md5 = ""
        self._phase = Phase.CONNECTING
        self._error: UpdaterError | None = None
        self._is_over = threading.Event()
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable at the end."""
        return self._reader

    def step(self, timeout_s: float) -> Progress:
        """Return how far it is."""
        del timeout_s
        if self._error is not None:
            raise self._error
        done = self._received_bytes
        return Progress(self._phase, done, done, 0, self._request.size_bytes)

    def phase(self) -> Phase:
        """Return what it is doing."""
        return self._phase

    def hexdigest(self) -> str:
        """Return the digest of what came."""
        return self._md5

    def sha256_hexdigest(self) -> str:
        """Return "": nobody here asks for it."""
        return ""

    def image_hexdigest(self) -> str:
        """Return the digest of what the slot holds."""
        return self._md5

    def close(self) -> None:
        """Stop; again is allowed."""
        self._is_over.set()
        self._thread.join()
        if self._reader >= 0:
            os.close(self._reader)
            os.close(self._writer)
            self._reader = -1

    def _run(self) -> None:
        try:
            self._bring()
        except urllib.error.HTTPError as error:
            self._error = NotFoundError(f"the server answered with status {error.code}")
            error.close()
        except OSError as error:
            self._error = TransportError(str(error))
        except UpdaterError as error:
            self._error = error
        os.write(self._writer, b".")

    def _bring(self) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        with (
            urllib.request.urlopen(self._request.source, timeout=30) as source,  # noqa: S310 - ours
            Path(self._request.device).open("wb") as slot,
        ):
            self._phase = Phase.RECEIVING
            while not self._is_over.is_set() and (chunk := source.read(_CHUNK_BYTES)):
                digest.update(chunk)
                slot.write(chunk)
                self._received_bytes += len(chunk)
        self._md5 = digest.hexdigest()
        if self._md5 != self._request.md5:
            Path(self._request.device).write_bytes(b"")
            raise DigestError(f"MD5 is {self._md5}, announced was {self._request.md5}")
        self._phase = Phase.DONE


class NativePipeline:
    """By the name that it has where it is native."""

    def open_install(self, request: InstallRequest) -> PlainInstall:
        """Begin *request*."""
        return PlainInstall(request)

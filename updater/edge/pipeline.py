# SPDX-License-Identifier: MIT
"""The native pipeline behind ``core.ports.Pipeline``: the only place that crosses into C.

Owns the life of one C object per install and the one table that turns its negative codes into this
program's errors. Decides nothing: source, slot and what a failure means are the caller's.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from updater._native import ffi, lib
from updater.core.errors import (
    BusyError,
    DeviceError,
    DigestError,
    ForbiddenError,
    FormatError,
    NotFoundError,
    SchemeError,
    SpaceError,
    StartOverError,
    StorageError,
    TransportError,
    UpdaterError,
    UsageError,
)
from updater.core.ports import InstallRequest, Phase, Progress

_PHASES = tuple(Phase)  # in the order of enum upd_phase
_FORMATS = ("raw", "gzip", "xz", "zstd")  # in the order of enum upd_format

_ERRORS: Mapping[int, type[UpdaterError]] = {
    lib.UPD_TRANSPORT: TransportError,
    lib.UPD_HTTP: NotFoundError,
    lib.UPD_SCHEME: SchemeError,
    lib.UPD_LENGTH: DigestError,
    lib.UPD_DIGEST: DigestError,
    lib.UPD_OPEN: DeviceError,
    lib.UPD_IO: StorageError,
    lib.UPD_READ_BACK: StorageError,
    lib.UPD_SOURCE: StorageError,
    lib.UPD_RESOURCES: StorageError,
    lib.UPD_OPTIONS: UsageError,
    lib.UPD_AGAIN: StartOverError,
    lib.UPD_FORMAT: FormatError,
}


def _error(raw: Any, request: InstallRequest) -> UpdaterError:
    """Return the exception for what C has said."""
    message = ffi.string(raw.message).decode("ascii", "replace")
    if raw.status == lib.UPD_SPACE:
        needed_bytes = request.image_size_bytes or request.size_bytes
        told_bytes = needed_bytes if needed_bytes > raw.offset else 0  # it was compressed
        return SpaceError(told_bytes, raw.offset, request.device)
    if raw.status == lib.UPD_HTTP and raw.http_status in {401, 403}:
        return ForbiddenError(message, raw.http_status)
    if raw.status == lib.UPD_HTTP:
        return NotFoundError(message, raw.http_status)
    if raw.status in {lib.UPD_IO, lib.UPD_READ_BACK}:
        return StorageError(message, raw.offset)
    if raw.status == lib.UPD_OPEN and raw.os_errno == errno.EBUSY:
        return BusyError(message)
    return _ERRORS[raw.status](message)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _options(request: InstallRequest, *, is_digest: bool) -> tuple[Any, list[Any]]:
    """Return the options in C's words, and the strings that must live as long as they are used."""
    kept: list[Any] = []

    def text(value: str | None) -> Any:
        if value is None:
            return ffi.NULL
        kept.append(ffi.new("char[]", os.fsencode(value)))
        return kept[-1]

    options = ffi.new("struct upd_options *")
    options.source = text(request.source)
    options.device = text(None if is_digest else request.device)
    options.device_number = request.device_number
    options.checkpoint = text(request.checkpoint or None)
    options.size = request.size_bytes
    options.image_size = request.image_size_bytes
    options.md5 = text(request.md5 or None)
    options.version = text(request.version or None)
    options.sha256 = text(request.sha256)
    options.buffer_size = request.buffer_bytes
    options.buffers = request.buffers
    options.read_back = request.read_back
    options.skip_identical = request.skip_identical
    options.decode = request.decode
    options.decoder_memory = request.decoder_memory_bytes
    options.nice = request.nice
    options.io_priority = request.io_priority
    options.allow_plaintext = request.allow_plaintext
    options.connect_timeout_ms = _milliseconds(request.connect_timeout_s)
    options.stall_timeout_ms = _milliseconds(request.stall_timeout_s)
    options.attempts = request.attempts
    options.backoff_ms = _milliseconds(request.backoff_s)
    options.backoff_limit_ms = _milliseconds(request.backoff_limit_s)
    options.retry_time_ms = _milliseconds(request.retry_time_s)
    options.max_redirects = request.max_redirects
    options.bandwidth = request.bandwidth_bytes_per_s
    options.ca_file = text(request.ca_file or None)
    options.client_cert = text(request.client_cert_file or None)
    options.client_key = text(request.client_key_file or None)
    return options, kept


class _Running:
    """One pump."""

    def __init__(self, request: InstallRequest, *, is_digest: bool) -> None:
        self._request = request
        self._phase = Phase.CONNECTING
        self._received_bytes = 0
        self._pump: Any = ffi.NULL
        options, kept = _options(request, is_digest=is_digest)
        result = ffi.new("struct upd_pump **")
        error = ffi.new("struct upd_error *")
        if lib.upd_pump_open(options, result, error) < 0:
            raise _error(error, request)
        self._pump = result[0]
        del kept  # C has copied what it needs

    def fileno(self) -> int:
        """Return a descriptor that becomes readable at the end."""
        return int(lib.upd_pump_fd(self._opened()))

    def step(self, timeout_s: float) -> Progress:
        """Wait up to *timeout_s* for the end and return the progress."""
        raw = ffi.new("struct upd_progress *")
        error = ffi.new("struct upd_error *")
        status = lib.upd_pump_step(self._opened(), _milliseconds(timeout_s), raw, error)
        self._phase = _PHASES[raw.phase]
        self._received_bytes = raw.received
        if status < 0:
            raise _error(error, self._request)
        if status == lib.UPD_MORE and self._phase is Phase.DONE:
            self._phase = Phase.VERIFYING  # its threads are still ending
        return Progress(
            self._phase,
            raw.received,
            raw.written,
            raw.verified,
            raw.size or self._request.size_bytes,
            resumed_bytes=raw.resumed,
            identical_bytes=raw.identical,
            zeroed_bytes=raw.zeroed,
            retries=raw.retries,
            bad_blocks=raw.bad_blocks,
            format=_FORMATS[raw.format],
        )

    def phase(self) -> Phase:
        """Return what it was doing at the last step, or when it was closed."""
        return self._phase

    def received_bytes(self) -> int:
        """Return how much of the firmware had come at the last step, though it failed."""
        return self._received_bytes

    def hexdigest(self) -> str:
        """Return the firmware's MD5."""
        return self._hexdigests()[0]

    def sha256_hexdigest(self) -> str:
        """Return the firmware's SHA-256, or ""."""
        return self._hexdigests()[1]

    def image_hexdigest(self) -> str:
        """Return the image's MD5."""
        return self._hexdigests()[2]

    def _hexdigests(self) -> tuple[str, str, str]:
        raw = ffi.new("struct upd_hexdigests *")
        lib.upd_pump_hexdigests(self._opened(), raw)
        md5, sha256, image_md5 = (
            ffi.string(text).decode("ascii") for text in (raw.md5, raw.sha256, raw.image_md5)
        )
        return md5, sha256, image_md5

    def _opened(self) -> Any:
        """Return the pump; after ``close`` there is none, and C would not ask."""
        if not self._pump:
            raise ValueError("the install is closed")
        return self._pump

    def close(self) -> None:
        """Stop and free; again is allowed."""
        pump, self._pump = self._pump, ffi.NULL
        if pump:
            self._phase = _PHASES[lib.upd_pump_close(pump)]


def _refuse_missing(device: str) -> None:
    """Refuse a device that has gone: C would make a file of that name, and /dev is memory."""
    path = Path(device).resolve()
    if path.exists() or not path.parent.exists():
        return
    if path.parent.stat().st_dev == Path("/dev").stat().st_dev:
        raise DeviceError(f"there is no device {device}")


class NativePipeline:
    """Implements ``core.ports.Pipeline``."""

    def open_install(self, request: InstallRequest) -> _Running:
        """Begin *request*; what can be refused at once is refused here, before the first write."""
        _refuse_missing(request.device)
        return _Running(request, is_digest=False)

    def open_digest(self, device: str, size_bytes: int, sha256: str | None = None) -> _Running:
        """Begin to read the first *size_bytes* of *device*, or all, past the page cache."""
        request = InstallRequest(device, device, size_bytes, sha256=sha256, decode=False)
        return _Running(request, is_digest=True)

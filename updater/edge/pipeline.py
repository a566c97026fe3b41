# SPDX-License-Identifier: MIT
"""The native pipeline behind ``core.ports.Pipeline``: the only place that crosses into C.

Owns the life of one C object per install and the one table that turns its negative codes into this
program's errors. Decides nothing: source, slot and what a failure means are the caller's.
"""

from collections.abc import Mapping
from typing import Any

from updater._native import ffi, lib
from updater.core.errors import (
    DeviceError,
    DigestError,
    ForbiddenError,
    NotFoundError,
    SchemeError,
    SpaceError,
    StorageError,
    TransportError,
    UpdaterError,
    UsageError,
)
from updater.core.ports import InstallRequest, Phase, Progress

_PHASES = (Phase.BLANKING, Phase.RECEIVING, Phase.VERIFYING, Phase.DONE)

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
}


def _error(raw: Any, request: InstallRequest) -> UpdaterError:
    """Return the exception for what C has said."""
    message = ffi.string(raw.message).decode("ascii", "replace")
    if raw.status == lib.UPD_SPACE:
        return SpaceError(request.size_bytes, raw.offset, request.device)
    if raw.status == lib.UPD_HTTP and raw.http_status in {401, 403}:
        return ForbiddenError(message, raw.http_status)
    if raw.status == lib.UPD_HTTP:
        return NotFoundError(message, raw.http_status)
    if raw.status in {lib.UPD_IO, lib.UPD_READ_BACK}:
        return StorageError(message, raw.offset)
    return _ERRORS[raw.status](message)


class _Running:
    """One pump."""

    def __init__(self, request: InstallRequest, *, is_digest: bool) -> None:
        self._request = request
        self._pump: Any = ffi.NULL
        kept = [ffi.new("char[]", request.source.encode())]
        options = ffi.new("struct upd_options *")
        options.source = kept[0]
        options.size = request.size_bytes
        options.buffer_size = request.buffer_bytes
        options.buffers = request.buffers
        options.read_back = request.read_back
        options.source_is_direct = is_digest
        options.allow_plaintext = request.allow_plaintext
        options.connect_timeout_ms = round(request.connect_timeout_s * 1000)
        options.stall_timeout_ms = round(request.stall_timeout_s * 1000)
        if not is_digest:
            kept += [ffi.new("char[]", t.encode()) for t in (request.device, request.md5)]
            options.device, options.md5 = kept[1], kept[2]
        if request.ca_file:
            kept.append(ffi.new("char[]", request.ca_file.encode()))
            options.ca_file = kept[-1]
        self._open(options)

    def _open(self, options: Any) -> None:
        result = ffi.new("struct upd_pump **")
        error = ffi.new("struct upd_error *")
        if lib.upd_pump_open(options, result, error) < 0:
            raise _error(error, self._request)
        self._pump = result[0]

    def fileno(self) -> int:
        """Return a descriptor that becomes readable at the end."""
        return int(lib.upd_pump_fd(self._pump))

    def step(self, timeout_s: float) -> Progress:
        """Wait up to *timeout_s* for the end and return the progress."""
        raw = ffi.new("struct upd_progress *")
        error = ffi.new("struct upd_error *")
        status = lib.upd_pump_step(self._pump, round(timeout_s * 1000), raw, error)
        if status < 0:
            raise _error(error, self._request)
        phase = _PHASES[raw.phase]
        if status == lib.UPD_MORE and phase is Phase.DONE:
            phase = Phase.VERIFYING  # its threads are still ending
        return Progress(phase, raw.received, raw.written, raw.verified, self._request.size_bytes)

    def hexdigest(self) -> str:
        """Return the MD5 of what was read."""
        text = ffi.new("char[33]")
        lib.upd_pump_hexdigest(self._pump, text)
        return str(ffi.string(text).decode("ascii"))

    def close(self) -> None:
        """Stop and free; again is allowed."""
        pump, self._pump = self._pump, ffi.NULL
        lib.upd_pump_close(pump)


class NativePipeline:
    """Implements ``core.ports.Pipeline``."""

    def open_install(self, request: InstallRequest) -> _Running:
        """Begin *request*; what can be refused at once is refused here, before the first write."""
        return _Running(request, is_digest=False)

    def open_digest(self, device: str, size_bytes: int) -> _Running:
        """Begin to read the first *size_bytes* of *device*, past the page cache, into an MD5."""
        request = InstallRequest(device, device, size_bytes, "", read_back=False)
        return _Running(request, is_digest=True)

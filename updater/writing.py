# SPDX-License-Identifier: MIT
"""``updater write`` stores an image on a medium, ``updater read-back`` looks at what one holds.

Neither touches the boot environment. What can be known to fail is refused before the first byte is
written. Whatever ends a write, what it has left behind is said; the same command, with the same MD5
and size, goes on where it was.
"""

import argparse
import logging
import os
import select
import stat
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from updater.answer import Answer
from updater.core.errors import (
    BusyError,
    DeviceError,
    DigestError,
    StartOverError,
    UpdaterError,
    UsageError,
)
from updater.core.ports import InstallRequest, Phase, Pipeline, Progress, RunningInstall
from updater.core.slots import unmarked
from updater.edge.bootpartition import unprotected
from updater.edge.medium import Kind, Medium, find
from updater.inputs import check_scheme, checked_file
from updater.interruption import Interruption, interruptible
from updater.progressline import ProgressLine, progress_status
from updater.remains import STDIN, remains, untouched
from updater.summary import Digests, Meter, read_back_text, written, written_text
from updater.summary import read_back as read_back_summary
from updater.targets import check_target
from updater.writer import Writer, native_pipeline, open_writer

_log = logging.getLogger(__name__)

_STEP_S = 0.2
_STARTS = 3  # from the first byte, until an object that keeps changing is given up


def write(options: argparse.Namespace) -> Answer:
    """Write an image to a medium."""
    medium = find(options.to)
    source, size_bytes = _source(options, medium)
    with open_writer(options.config, medium) as writer:
        request = _request(writer, options, source, size_bytes)
        request = replace(request, device_number=unmarked(medium.number))
        check_scheme(source, allow_plaintext=request.allow_plaintext)
        bootname = check_target(writer.device, medium)
        if writer.device is not None and bootname:
            writer.device.journal.void(bootname)
        if options.fresh and writer.checkpoint:
            Path(writer.checkpoint).unlink(missing_ok=True)
        block = medium.number if medium.kind is Kind.BLOCK else 0
        line = ProgressLine(is_live_only=options.json)  # the last to end: a terminal may be stuck
        with line, interruptible() as interruption, unprotected(block):
            watch = _Watch(line, interruption)
            value = _written(writer.pipeline, request, medium, watch)
    return Answer(value, written_text(value))


def _source(options: argparse.Namespace, medium: Medium) -> tuple[str, int]:
    """Return where the image is, and its length; 0 if nobody knows that yet.

    Raises:
        NotFoundError: There is no such file.
        DigestError: It has another length than announced.
        UsageError: It cannot be read as a source, or is what shall be written.
    """
    text, size_bytes = options.source, options.size or 0
    if text == STDIN and (sys.stdin is None or sys.stdin.isatty()):
        what = "closed" if sys.stdin is None else "a terminal"
        raise UsageError(f"standard input is {what}: an image must come through it")
    if text == STDIN or "://" in text:
        return text, size_bytes
    path = Path(text)
    mode = path.stat().st_mode if path.exists() else 0
    if stat.S_ISFIFO(mode):
        raise UsageError(f"{text} is a pipe; let it be standard input, and name that: -")
    if mode and Path(medium.path).exists() and path.samefile(medium.path):
        raise UsageError(f"{text} and {medium.path} are the same")
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        return str(path.resolve()), size_bytes
    return checked_file(text, size_bytes), path.stat().st_size


def _request(
    writer: Writer, options: argparse.Namespace, source: str, size_bytes: int
) -> InstallRequest:
    """Return what the command line asks for, within the configuration's limits."""
    asked = InstallRequest.from_limits(
        writer.limits,
        source=source,
        device=options.to,
        size_bytes=size_bytes,
        md5=options.md5 or "",
    )
    return replace(
        asked,
        sha256=options.sha256,
        checkpoint=writer.checkpoint,
        image_size_bytes=options.image_size or 0,
        read_back=not options.no_read_back,
        skip_identical=asked.skip_identical or options.skip_identical,
        decode=asked.decode and not options.raw,
        allow_plaintext=asked.allow_plaintext or options.allow_plaintext,
    )


# --- one write -----------------------------------------------------------------------------------


def _written(
    pipeline: Pipeline, request: InstallRequest, medium: Medium, watch: "_Watch"
) -> dict[str, Any]:
    """Carry out *request*, from the first byte again if need be, and return the summary."""
    meter = Meter()
    watch.interruption.check(untouched(medium))
    for _ in range(0 if request.source == STDIN else _STARTS - 1):
        try:
            return _written_once(pipeline, request, medium, meter, watch)
        except StartOverError as error:
            watch.earlier = error.__notes__[0]
            watch.interruption.check(watch.earlier)
            _log.warning("%s; once more from the first byte", error)
    return _written_once(pipeline, request, medium, meter, watch)


def _written_once(
    pipeline: Pipeline, request: InstallRequest, medium: Medium, meter: Meter, watch: "_Watch"
) -> dict[str, Any]:
    """Carry out *request*; whatever ends it early takes along what it leaves behind."""
    running = _opened(pipeline, request, watch.earlier)
    try:
        with closing(running):
            progress = watch.to_the_end(running)
            digests = _digests(running)
    except UpdaterError as error:
        error.add_note(watch.earlier_or(medium, _remains(request, medium, running, error)))
        if isinstance(error, StartOverError) and request.source == STDIN:
            error.add_note("standard input cannot be read twice: give the image once more")
        raise
    except KeyboardInterrupt as interrupt:
        beside = interrupt.__context__
        failure = beside if isinstance(beside, UpdaterError) else None
        left = watch.earlier_or(medium, _remains(request, medium, running, failure))
        raise KeyboardInterrupt(*interrupt.args, left) from None
    return written(request, progress, digests, meter.usage())


def _opened(pipeline: Pipeline, request: InstallRequest, earlier: str) -> RunningInstall:
    """Begin *request*; whoever refuses the device does not know what the person called it."""
    try:
        return pipeline.open_install(request)
    except (BusyError, DeviceError) as error:
        named = type(error)(f"{request.device}: {error}")
        if earlier:
            named.add_note(earlier)
        raise named from error


def _digests(running: RunningInstall) -> Digests:
    return Digests(running.hexdigest(), running.sha256_hexdigest(), running.image_hexdigest())


def _remains(
    request: InstallRequest, medium: Medium, running: RunningInstall, error: UpdaterError | None
) -> str:
    """Return what is left behind by *running*, which is closed: nothing moves any more."""
    return remains(request, medium, running.phase(), error, is_kept=_is_kept(request))


def _is_kept(request: InstallRequest) -> bool:
    """Tell whether there is a checkpoint that this try could write: else it is of an older one."""
    path = request.checkpoint
    try:
        is_filled = Path(path).stat().st_size > 0  # emptied when it is of no use
    except OSError:
        return False
    return is_filled and os.access(path, os.W_OK)


class _Watch:
    """Shows how far an install is."""

    def __init__(self, line: ProgressLine, interruption: Interruption) -> None:
        self._line = line
        self.interruption = interruption
        self.earlier = ""  # what a start before this one has left behind

    def earlier_or(self, medium: Medium, left: str) -> str:
        """Return *left*, what the last start has left behind; if it was nothing, the one before."""
        return self.earlier if self.earlier and left == untouched(medium) else left

    def to_the_end(self, running: RunningInstall) -> Progress:
        """Return the last progress; a signal that comes before that raises between two steps."""
        poller = select.poll()
        poller.register(running, select.POLLIN)
        while True:
            with self.interruption.at_once():
                poller.poll(_STEP_S * 1000)
            progress = self._step(running)
            with self.interruption.at_once():  # a terminal that nobody reads takes nothing more
                self._line.show(progress_status(progress))
            if progress.phase is Phase.DONE:
                return progress

    def _step(self, running: RunningInstall) -> Progress:
        try:
            return running.step(0)
        except UpdaterError:
            self.interruption.check()  # it may have ended what gives the source, too: a pipe
            raise


# --- updater read-back ---------------------------------------------------------------------------


def read_back(options: argparse.Namespace) -> Answer:
    """Read a medium past the page cache, and compare its digests or tell them."""
    path = options.device
    if not Path(path).exists() or Path(path).is_dir():
        raise DeviceError(f"there is no device or file {path}")
    wanted = Digests(options.md5 or "", options.sha256 or "")
    meter = Meter()
    sha256 = None if options.sha256 is None else ""  # compared below, in words that fit
    opened = native_pipeline().open_digest(path, options.size or 0, sha256)
    line = ProgressLine(is_live_only=options.json, writing="reading")
    with line, closing(opened) as running:
        progress = _Watch(line, Interruption()).to_the_end(running)
        digests = _digests(running)
    _compare(options, digests.md5, wanted.md5, "MD5")
    _compare(options, digests.sha256, wanted.sha256, "SHA-256")
    value = read_back_summary(path, progress.received_bytes, digests, wanted, meter.usage())
    return Answer(value, read_back_text(value))


def _compare(options: argparse.Namespace, found: str, wanted: str, name: str) -> None:
    """Compare what was read with what was expected, if anything was.

    Raises:
        DigestError: It is something else.
    """
    if wanted in {"", found}:
        return
    error = DigestError(f"{options.device}: {name} is {found}, expected was {wanted}")
    if not options.size:
        error.add_note("all of it was read; if the image is shorter, say so: --size BYTES")
    raise error

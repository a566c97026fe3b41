# SPDX-License-Identifier: MIT
"""What people read: status, history, progress and advice, from the same objects machines get."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Self, TextIO

from updater.core import errors
from updater.core.errors import UpdaterError
from updater.core.ports import Phase, Progress

CLEAR_LINE = "\r\x1b[K"
_BAR = 30
_MIB = 1 << 20

_SLOTS = "compare the slot table in board.toml with: lsblk -o NAME,PARTLABEL,PARTUUID"
_ENVIRONMENT = "compare fw_env.config with where U-Boot stores variables: fw_printenv"

_ADVICE: Mapping[type[UpdaterError], str] = {
    errors.ConfigError: "nothing was changed; correct the file, then try again",
    errors.NotPermittedError: "nothing was changed; run it as root",
    errors.BusyError: "nothing was changed; wait until it has ended: updater status",
    errors.WrongStateError: "nothing was changed; what is going on says: updater status",
    errors.ControlError: "an agent that runs goes on with what it does; its log says more",
    errors.TransportError: "what runs now is untouched; try again once the server can be reached",
    errors.NotFoundError: "what runs now is untouched; check the address of the image",
    errors.ForbiddenError: "what runs now is untouched; get a fresh URL, then try again",
    errors.DigestError: "what runs now is untouched; check the image, its MD5 and its size",
    errors.SchemeError: "nothing was fetched; use https (or download.allow_plaintext)",
    errors.SpaceError: "nothing was written; use a smaller image or a larger device",
    errors.DeviceError: "nothing was written; who uses which device says: lsblk",
    errors.StorageError: "what runs now is untouched; the kernel says more: dmesg",
    errors.EnvironmentStoreError: f"what runs now is untouched; {_ENVIRONMENT}",
    errors.SlotError: f"nothing was written; {_SLOTS}",
    errors.JournalError: "nothing was begun; is the state directory there, writable and not full?",
    errors.CancelledError: "what runs now is untouched; the same command goes on or starts anew",
}


def advice(error: UpdaterError) -> tuple[str, ...]:
    """Return what is still safe after *error* and what to do, in one line, or nothing."""
    line = _ADVICE.get(type(error))
    return () if line is None else (line,)


def status_text(status: Any) -> str:
    """Return *status* as lines."""
    lines = [f"board {status['board']}, version {status['version']}"]
    lines += [_slot_text(slot) for slot in status["slots"] or ()]
    if status["boot"]:
        lines.append(_boot_text(status["boot"]))
    if status["session"]:
        lines.append(_session_text(status["session"]))
    if status.get("progress"):
        lines.append(progress_text(status["progress"]))
    if status["agent"]:
        lines.append(f"agent runs, link {'up' if status['link'] else 'down'}")
    else:
        lines.append("no agent runs here; it is started by: updater run")
    return "\n".join([*lines, *_problem_lines(status)])


def _slot_text(slot: Any) -> str:
    held = f"version {slot['version']}" if slot["version"] else "no verified image"
    mark = "booted" if slot["booted"] else "target"
    return f"slot {slot['bootname']}  {mark}  {slot['device']}  {held}"


def _boot_text(boot: Any) -> str:
    on_trial = f", on trial ({boot['bootcount']} boots counted)" if boot["trial"] else ""
    return f"boots next: slot {boot['primary'] or '(none set)'}{on_trial}"


def _session_text(session: Any) -> str:
    why = f": {session['reason']}" if session["reason"] else ""
    return f"session {session['id']}: version {session['version']} {session['state']}{why}"


def _problem_lines(status: Any) -> list[str]:
    """Return what is wrong, what it means, and where to look."""
    lines = [f"problem: {problem}" for problem in status["problems"]]
    if lines:
        lines.append("no firmware is installed until this is mended; what runs now keeps running")
    if status["slots"] is None:
        lines.append(f"to do: {_SLOTS}")
    if status["boot"] is None:
        lines.append(f"to do: {_ENVIRONMENT}")
    return lines


def history_text(entries: Any) -> str:
    """Return *entries* as lines, newest first; times are UTC."""
    lines = []
    for entry in entries:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry["time_s"]))
        lines.append(f"{when}  {entry['version']}  {entry['state']}  {entry['text']}")
    return "\n".join(lines) or "nothing has happened yet"


# --- progress ------------------------------------------------------------------------------------


def progress_status(progress: Progress) -> dict[str, object]:
    """Return *progress* as an object for machines."""
    return {
        "phase": progress.phase.value,
        "received_bytes": progress.received_bytes,
        "written_bytes": progress.written_bytes,
        "verified_bytes": progress.verified_bytes,
        "size_bytes": progress.size_bytes,
    }


def progress_text(progress: Any) -> str:
    """Return one line: how much of the image has come, then how much was read back."""
    is_reading_back = progress["phase"] in {Phase.VERIFYING.value, Phase.DONE.value}
    done = progress["verified_bytes"] if is_reading_back else progress["received_bytes"]
    size = progress["size_bytes"]
    percent = min(done * 100 // size, 100)
    bar = ("#" * (percent * _BAR // 100)).ljust(_BAR, ".")
    word = "reading back" if is_reading_back else progress["phase"]
    return f"{bar} {percent:3} %  {done / _MIB:.1f} of {size / _MIB:.1f} MiB  {word}"


class ProgressLine:
    """A live line on a terminal, ended by a newline; nothing where there is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Show it on *stream*: standard error, unless told otherwise."""
        self._stream = stream or sys.stderr
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._shown:
            self._stream.write("\n")
            self._stream.flush()

    def show(self, progress: Any) -> None:
        """Show *progress*, an object for machines or None, if it is news."""
        text = "" if progress is None else progress_text(progress)
        if text and text != self._shown and self._stream.isatty():
            self._stream.write(CLEAR_LINE + text)
            self._stream.flush()
            self._shown = text

# SPDX-License-Identifier: MIT
"""What people read: status, history and advice, from the same objects that machines get."""

import time
from collections.abc import Mapping
from typing import Any

from updater.core import errors
from updater.core.errors import UpdaterError
from updater.progressline import counted, progress_text

_SLOTS = "compare the slot table in board.toml with: lsblk -o NAME,PARTLABEL,PARTUUID"
_ENVIRONMENT = "compare fw_env.config with where U-Boot stores variables: fw_printenv"

_ADVICE: Mapping[type[UpdaterError], str] = {
    errors.ConfigError: "nothing was changed; correct the file, then try again",
    errors.NotPermittedError: "nothing was changed; run it as root",
    errors.BusyError: "nothing was changed; who works on it says: updater status, lsblk",
    errors.WrongStateError: "nothing was changed; what is going on says: updater status",
    errors.ControlError: "an agent that runs goes on with what it does; its log says more",
    errors.TransportError: "what runs now is untouched; try again once the server can be reached",
    errors.NotFoundError: "what runs now is untouched; check the address of the image",
    errors.ForbiddenError: "what runs now is untouched; get a fresh URL, then try again",
    errors.DigestError: "what runs now is untouched; check the image, its MD5 and its size",
    errors.SchemeError: "nothing was fetched; use https (or download.allow_plaintext)",
    errors.SpaceError: "what runs now is untouched; use a smaller image or a larger device",
    errors.DeviceError: "nothing was written; who uses which device says: lsblk",
    errors.StorageError: "what runs now is untouched; the kernel says more: dmesg",
    errors.EnvironmentStoreError: f"what runs now is untouched; {_ENVIRONMENT}",
    errors.SlotError: f"nothing was written; {_SLOTS}",
    errors.JournalError: "nothing was begun; is the state directory there, writable and not full?",
    errors.StartOverError: "what runs now is untouched; try again: it begins at the first byte",
    errors.FormatError: "what runs now is untouched; check file and download.decoder_memory_bytes",
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
    if status.get("waiting"):
        lines.append(waiting_text(status["waiting"]))
    if status["agent"]:
        lines.append(f"agent runs, {_link_text(status)}")
    else:
        lines.append("no agent runs here; it is started by: updater run")
    return "\n".join([*lines, *_problem_lines(status)])


def waiting_text(waiting: Any) -> str:
    """Return what is put off, why, and until when if that is known: local time."""
    until = ""
    if waiting["until_s"] is not None:
        when = time.strftime("%a %Y-%m-%d %H:%M", time.localtime(waiting["until_s"]))
        until = f"; until {when}"
    elif waiting["left_s"] is not None:
        until = f"; for {waiting['left_s']} s"
    return (
        f"the {waiting['what']} of version {waiting['version']} waits: {waiting['reason']}{until}"
    )


def _link_text(status: Any) -> str:
    if status.get("registering"):
        return "registering: this device has no secret yet"
    return f"link {'up' if status['link'] else 'down'}"


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


def offers_text(offers: Any) -> str:
    """Return what has failed, or was cancelled, as lines, the latest last."""
    return "\n".join(_offer_text(offer) for offer in offers) or "no offer has failed"


def _offer_text(offer: Any) -> str:
    if offer["refused"]:
        then = "refused until: updater offers clear"
    elif offer["next_try_s"]:
        kept = "tried again" if offer["kept"] else "taken again"
        then = f"{kept} in {offer['next_try_s']} s"
    else:
        then = "taken again when it is offered"
    doubt = ", and one trial that perhaps only had no link" if offer["undecided"] else ""
    doubt += ", and cancelled" if offer["cancelled"] else ""
    times = counted(offer["failures"], "failure")
    size = f"{offer['size_bytes']} bytes"
    return f"version {offer['version']}  {offer['md5']}  {size}  {times}{doubt}; {then}"


def cancelled_text(cancelled: Any) -> str:
    """Return what was cancelled as lines."""
    lines = []
    if cancelled["version"]:
        lines.append(f"the install of version {cancelled['version']} is cancelled")
    if cancelled["kept"]:
        lines.append(f"version {cancelled['kept']}, which was kept for later, is dropped")
    return "\n".join(lines)


def history_text(entries: Any) -> str:
    """Return *entries* as lines, newest first; times are UTC."""
    lines = []
    for entry in entries:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry["time_s"]))
        lines.append(f"{when}  {entry['version']}  {entry['state']}  {entry['text']}")
    return "\n".join(lines) or "nothing has happened yet"

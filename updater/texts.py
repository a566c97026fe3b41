# SPDX-License-Identifier: MIT
"""Status, history and progress as text for people, from the same objects that machines get."""

import sys
import time
from typing import Any

from updater.core.ports import Phase, Progress

_BAR = 30


def status_text(status: Any) -> str:
    """Return *status* as lines."""
    lines = [f"board {status['board']}, version {status['version']}"]
    for slot in status["slots"] or ():
        held = f"version {slot['version']}" if slot["version"] else "no verified image"
        mark = "booted" if slot["booted"] else "target"
        lines.append(f"slot {slot['bootname']}  {mark}  {slot['device']}  {held}")
    boot = status["boot"]
    if boot:
        on_trial = f", on trial ({boot['bootcount']} boots counted)" if boot["trial"] else ""
        lines.append(f"boots next: slot {boot['primary'] or '(none set)'}{on_trial}")
    session = status["session"]
    if session:
        why = f": {session['reason']}" if session["reason"] else ""
        lines.append(
            f"session {session['id']}: version {session['version']} {session['state']}{why}"
        )
    progress = status.get("progress")
    if progress:
        percent = progress["received_bytes"] * 100 // progress["size_bytes"]
        lines.append(f"{progress['phase']}: {percent} % of {progress['size_bytes']} bytes")
    if status["agent"]:
        lines.append(f"agent runs, link {'up' if status['link'] else 'down'}")
    else:
        lines.append("no agent runs here (start it with: updater run)")
    return "\n".join([*lines, *(f"problem: {problem}" for problem in status["problems"])])


def history_text(entries: Any) -> str:
    """Return *entries* as lines, newest first."""
    lines = []
    for entry in entries:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry["time_s"]))
        lines.append(f"{when}  {entry['version']}  {entry['state']}  {entry['text']}")
    return "\n".join(lines) or "nothing has happened yet"


def progress_text(progress: Progress | None, shown: str) -> str:
    """Show *progress* on a terminal's line if it differs from *shown*; return what is shown."""
    if progress is None or not sys.stderr.isatty():
        return shown
    percent = progress.received_bytes * 100 // progress.size_bytes
    bar = ("#" * (percent * _BAR // 100)).ljust(_BAR, ".")
    word = "reading back" if progress.phase is Phase.VERIFYING else progress.phase.value
    text = f"\r{bar} {percent:3} %  {word:12}"
    if text != shown:
        sys.stderr.write(text if percent < 100 else text + "\r")  # noqa: PLR2004 - per cent
        sys.stderr.flush()
    return text

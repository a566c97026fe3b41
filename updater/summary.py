# SPDX-License-Identifier: MIT
"""What ``updater write`` and ``updater read-back`` say in the end: one object, and its text.

Time and memory are this process's own: a ``Meter`` runs while the work is done.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from updater.core.ports import InstallRequest, Progress
from updater.progressline import counted

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Usage:
    """What some work has cost; memory is the most that the process ever held."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


class Meter:
    """Runs from construction on."""

    def __init__(
        self,
        wall: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._wall, self._cpu = wall, cpu
        self._began = wall(), cpu()

    def usage(self) -> Usage:
        """Return what was used so far, all threads together."""
        wall_s, cpu_s = self._began
        return Usage(self._wall() - wall_s, self._cpu() - cpu_s, _peak_rss_bytes())


def _peak_rss_bytes() -> int:
    """Return the kernel's high-water mark; that of getrusage(2) is inherited from the parent."""
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True, slots=True)
class Digests:
    """Hexadecimal digests: of the firmware, "" if not asked for, and of the image."""

    md5: str
    sha256: str
    image_md5: str = ""


def written(
    request: InstallRequest, progress: Progress, digests: Digests, usage: Usage
) -> dict[str, Any]:
    """Return what *request* has written; *progress* is the last one."""
    fresh = progress.written_bytes - progress.resumed_bytes
    return {
        "device": request.device,
        "size_bytes": progress.received_bytes,
        "image_bytes": progress.written_bytes,
        "format": progress.format,
        "md5": digests.md5,
        "md5_compared": bool(request.md5),
        "sha256": digests.sha256 or None,
        "sha256_compared": bool(request.sha256),
        "image_md5": digests.image_md5,
        "read_back": request.read_back,
        "resumed_bytes": progress.resumed_bytes,
        "identical_bytes": progress.identical_bytes,
        "zeroed_bytes": progress.zeroed_bytes,
        "bad_blocks": progress.bad_blocks,
        "retries": progress.retries,
        **_cost(fresh, usage),
    }


def _cost(done_bytes: int, usage: Usage) -> dict[str, object]:
    return {
        "wall_s": round(usage.wall_s, 3),
        "cpu_s": round(usage.cpu_s, 3),
        "mib_per_s": round(done_bytes / _MIB / max(usage.wall_s, 1e-3), 1),
        "peak_rss_bytes": usage.peak_rss_bytes,
    }


def written_text(value: Mapping[str, Any]) -> str:
    """Return the summary as lines, the first one saying what is now where."""
    proof = "read back from it" if value["read_back"] else "not read back"
    lines = [f"{value['image_bytes']} bytes written to {value['device']}, {proof}"]
    if value["format"] != "raw":
        lines.append(
            f"  {value['size_bytes']} bytes of {value['format']}; the image's MD5 is "
            f"{value['image_md5']}"
        )
    lines += _digest_lines(value)
    lines.append(f"  {_cost_text(value)}, {counted(value['retries'], 'retry', 'retries')}")
    lines.append(
        f"  not written: {value['identical_bytes']} bytes that were there already, "
        f"{value['zeroed_bytes']} bytes of zeros"
    )
    if value["resumed_bytes"]:
        lines.append(f"  {value['resumed_bytes']} bytes were there from an earlier try")
    if value["bad_blocks"]:
        lines.append(f"  {counted(value['bad_blocks'], 'erase block')} found bad and marked so")
    return "\n".join(lines)


def _digest_lines(value: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, key in (("MD5", "md5"), ("SHA-256", "sha256")):
        if value[key]:
            verdict = "matched" if value[f"{key}_compared"] else "computed, not compared"
            lines.append(f"  {name} {value[key]} {verdict}")
    return lines


def _cost_text(value: Mapping[str, Any]) -> str:
    return (
        f"{value['wall_s']:.1f} s, {value['cpu_s']:.1f} s of CPU, {value['mib_per_s']} MiB/s, "
        f"{value['peak_rss_bytes'] / _MIB:.1f} MiB of memory at most"
    )


# --- updater read-back ---------------------------------------------------------------------------


def read_back(
    device: str, size_bytes: int, digests: Digests, wanted: Digests, usage: Usage
) -> dict[str, Any]:
    """Return what was read; *wanted* has "" for what was not compared."""
    return {
        "device": device,
        "size_bytes": size_bytes,
        "md5": digests.md5,
        "md5_compared": bool(wanted.md5),
        "sha256": digests.sha256 or None,
        "sha256_compared": bool(wanted.sha256),
        **_cost(size_bytes, usage),
    }


def read_back_text(value: Mapping[str, Any]) -> str:
    """Return the same as lines."""
    lines = [f"{value['size_bytes']} bytes read from {value['device']}, past the page cache"]
    return "\n".join([*lines, *_digest_lines(value), f"  {_cost_text(value)}"])

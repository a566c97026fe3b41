# SPDX-License-Identifier: MIT
"""The summaries' texts, over values; what they cost is measured on this very process."""

from pathlib import Path
from typing import Any

import pytest

from updater.core.ports import InstallRequest, Phase, Progress
from updater.summary import (
    Digests,
    Meter,
    Usage,
    read_back,
    read_back_text,
    written,
    written_text,
)

MIB = 1 << 20
DIGESTS = Digests("a" * 32, "", "b" * 32)
USAGE = Usage(wall_s=2.0, cpu_s=0.51, peak_rss_bytes=20 * MIB)
PLAIN = f"""\
4194304 bytes written to /dev/x, read back from it
  MD5 {"a" * 32} matched
  2.0 s, 0.5 s of CPU, 2.0 MiB/s, 20.0 MiB of memory at most, 0 retries
  not written: 0 bytes that were there already, 0 bytes of zeros"""


def text(request: dict[str, Any] | None = None, **progress: Any) -> str:
    """Return the summary of a write of 4 MiB."""
    asked = {"source": "x", "device": "/dev/x", "size_bytes": 0, "md5": "a" * 32, **(request or {})}
    counts = {"received_bytes": 4 * MIB, "written_bytes": 4 * MIB, "verified_bytes": 4 * MIB}
    last = Progress(Phase.DONE, **{**counts, "size_bytes": 4 * MIB, **progress})
    return written_text(written(InstallRequest(**asked), last, DIGESTS, USAGE))


def test_a_plain_write_is_four_lines() -> None:
    """What is where, its digest, the cost, what was not written: nothing else if nothing is."""
    assert text() == PLAIN


SAID = {
    "no digest": (text({"md5": ""}), f"  MD5 {'a' * 32} computed, not compared"),
    "no read-back": (
        text({"read_back": False}), "4194304 bytes written to /dev/x, not read back",
    ),
    "retries": (
        text(retries=1),
        "  2.0 s, 0.5 s of CPU, 2.0 MiB/s, 20.0 MiB of memory at most, 1 retry",
    ),
    "resumed": (
        text(resumed_bytes=3 * MIB), "  3145728 bytes were there from an earlier try",
    ),
    "pace without what was there": (
        text(resumed_bytes=3 * MIB),
        "  2.0 s, 0.5 s of CPU, 0.5 MiB/s, 20.0 MiB of memory at most, 0 retries",
    ),
    "compressed": (
        text(received_bytes=MIB, format="xz"),
        f"  1048576 bytes of xz; the image's MD5 is {'b' * 32}",
    ),
    "skipped": (
        text(identical_bytes=7, zeroed_bytes=9),
        "  not written: 7 bytes that were there already, 9 bytes of zeros",
    ),
    "bad blocks": (text(bad_blocks=2), "  2 erase blocks found bad and marked so"),
}  # fmt: skip


@pytest.mark.parametrize(("summary", "line"), SAID.values(), ids=SAID.keys())
def test_the_summary_says(summary: str, line: str) -> None:
    """Each fact that is not as usual has a line of its own."""
    assert line in summary.splitlines()
    assert line not in PLAIN.splitlines()


def test_a_read_back_is_three_lines() -> None:
    """How much was read, its digests, the cost."""
    digests = Digests("a" * 32, "c" * 64)
    value = read_back("/dev/x", 4 * MIB, digests, Digests("a" * 32, ""), USAGE)
    assert read_back_text(value).splitlines() == [
        "4194304 bytes read from /dev/x, past the page cache",
        f"  MD5 {'a' * 32} matched",
        f"  SHA-256 {'c' * 64} computed, not compared",
        "  2.0 s, 0.5 s of CPU, 2.0 MiB/s, 20.0 MiB of memory at most",
    ]


def test_the_meter_measures_what_it_is_told() -> None:
    """Wall and CPU seconds since it began, by the clocks that it was given."""
    wall, cpu = iter([10.0, 12.5]), iter([1.0, 1.25])
    usage = Meter(lambda: next(wall), lambda: next(cpu)).usage()
    assert (usage.wall_s, usage.cpu_s) == (2.5, 0.25)


def test_memory_is_this_process_alone() -> None:
    """The most it ever held, as the kernel says: not less than it holds now."""
    peak = Meter().usage().peak_rss_bytes
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    assert 0.9 * resident <= peak < 1 << 34


def test_no_time_is_no_division_by_it() -> None:
    """A write that took no measurable time has a pace too."""
    usage = Usage(0.0, 0.0, 1)
    assert read_back("x", MIB, DIGESTS, DIGESTS, usage)["mib_per_s"] == 1000

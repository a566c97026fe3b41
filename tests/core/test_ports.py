# SPDX-License-Identifier: MIT
"""The seams: what crosses them keeps its limits and its secrets."""

from dataclasses import fields, replace

import pytest

from updater.core.config import IO_PRIORITIES, DownloadConfig
from updater.core.ports import InstallRequest, Phase, Progress

MD5 = "0" * 32
NOT_THE_PIPELINE_S = {"fresh_url_timeout_s", "resume", "io_priority"}  # the last has other words
OTHER_VALUES = {bool: lambda value: not value, str: lambda value: value + "/else.pem"}


def test_a_request_is_strict_unless_told_otherwise() -> None:
    """Encrypted, read back, within 10 s of connecting and 30 s of silence, in 8 MiB."""
    request = InstallRequest("https://example.invalid/f", "/dev/p3", 4096, MD5)
    assert not request.allow_plaintext
    assert request.read_back
    assert (request.connect_timeout_s, request.stall_timeout_s) == (10.0, 30.0)
    assert request.buffers * request.buffer_bytes == 8 << 20
    assert (request.checkpoint, request.sha256) == ("", None)


def test_an_install_request_never_shows_its_source() -> None:
    """It is a signed URL."""
    request = InstallRequest("https://example.invalid/f?sign=secret", "/dev/p3", 4096, MD5)
    assert repr(request) == f"InstallRequest(to /dev/p3, 4096 bytes, md5 {MD5})"


@pytest.mark.parametrize(
    "name", [row.name for row in fields(DownloadConfig) if row.name not in NOT_THE_PIPELINE_S]
)
def test_every_limit_reaches_the_pipeline(name: str) -> None:
    """Each key of [download] is passed on under its own name, and changes nothing else."""
    default = getattr(DownloadConfig(), name)
    value = OTHER_VALUES.get(type(default), lambda number: number + 1)(default)
    plain = InstallRequest.from_limits(DownloadConfig(), source="/f", device="/dev/p3")
    changed = InstallRequest.from_limits(
        replace(DownloadConfig(), **{name: value}), source="/f", device="/dev/p3"
    )
    assert changed == replace(plain, **{name: value})


def test_a_request_has_what_it_is_about() -> None:
    """Source, device, size and MD5 beside the limits; whoever knows no size says 0."""
    request = InstallRequest.from_limits(
        DownloadConfig(), source="/f", device="/dev/p3", size_bytes=7, md5=MD5
    )
    about = (request.source, request.device, request.size_bytes, request.md5)
    assert about == ("/f", "/dev/p3", 7, MD5)
    unknown = InstallRequest.from_limits(DownloadConfig(), source="-", device="/dev/p3")
    assert (unknown.size_bytes, unknown.md5) == (0, "")


def test_places_at_the_medium_are_in_order() -> None:
    """-1 leaves it as it is, 0 to 7 are best effort, 8 is idle."""
    places = [
        InstallRequest.from_limits(
            DownloadConfig(io_priority=name), source="/f", device="/dev/p3"
        ).io_priority
        for name in IO_PRIORITIES
    ]
    assert places == list(range(-1, 9))


def test_phases_are_those_of_the_pipeline() -> None:
    """Their order is that of enum upd_phase, and each is told in one word."""
    assert [phase.value for phase in Phase] == [
        "resuming", "connecting", "blanking", "receiving", "verifying", "done",
    ]  # fmt: skip


def test_progress_that_nothing_is_known_of_is_plain() -> None:
    """Nothing resumed, skipped, retried or marked bad; not compressed."""
    progress = Progress(Phase.RECEIVING, 3, 2, 1, 4)
    assert (progress.resumed_bytes, progress.identical_bytes, progress.zeroed_bytes) == (0, 0, 0)
    assert (progress.retries, progress.bad_blocks, progress.format) == (0, 0, "raw")

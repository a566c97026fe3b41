# SPDX-License-Identifier: MIT
"""Where Python and the engine meet: options in, a descriptor and an end out, a caller's slips."""

import os
import select
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pipelinecases import HEAD, IMAGE, held, install, request_for, to_the_end
from updater._native import ffi

from updater.core.errors import UsageError
from updater.core.ports import InstallRequest, Phase, RunningInstall
from updater.edge import pipeline
from updater.edge.pipeline import NativePipeline


def test_every_option_reaches_c() -> None:
    """Each limit under its own name, seconds as milliseconds, and no text where none is meant."""
    request = InstallRequest(
        "s", "d", 1, "m", "v", "h", "c", 2, read_back=False, skip_identical=True, decode=False,
        decoder_memory_bytes=3, nice=4, io_priority=5, allow_plaintext=True,
        connect_timeout_s=0.006, stall_timeout_s=0.007, attempts=8, backoff_s=0.009,
        backoff_limit_s=0.01, retry_time_s=604800.0, max_redirects=12,
        bandwidth_bytes_per_s=1 << 40, ca_file="ca", client_cert_file="cert", client_key_file="key",
        buffer_bytes=14, buffers=15, device_number=(1 << 64) - 16,
    )  # fmt: skip
    options, _kept = pipeline._options(request, is_digest=False)
    texts = {
        name: ffi.string(getattr(options, name)).decode()
        for name in ("source", "device", "md5", "version", "sha256", "checkpoint", "ca_file",
                     "client_cert", "client_key")
    }  # fmt: skip
    assert texts == {
        "source": "s", "device": "d", "md5": "m", "version": "v", "sha256": "h", "checkpoint": "c",
        "ca_file": "ca", "client_cert": "cert", "client_key": "key",
    }  # fmt: skip
    numbers = (
        options.size, options.image_size, options.decoder_memory, options.nice,
        options.io_priority, options.connect_timeout_ms, options.stall_timeout_ms, options.attempts,
        options.backoff_ms, options.backoff_limit_ms, options.retry_time_ms, options.max_redirects,
        options.bandwidth, options.buffer_size, options.buffers, 2**64 - options.device_number,
    )  # fmt: skip
    assert numbers == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 604_800_000, 12, 1 << 40, 14, 15, 16)
    flags = options.read_back, options.skip_identical, options.decode, options.allow_plaintext
    assert flags == (0, 1, 0, 1)
    plain, _kept = pipeline._options(InstallRequest("s", "d"), is_digest=True)
    for name in texts.keys() - {"source"}:
        assert getattr(plain, name) == ffi.NULL


def test_a_name_that_is_no_text_is_passed_on(tmp_path: Path) -> None:
    """File names are bytes; what the command line made of them comes back as it was."""
    source = tmp_path / os.fsdecode(b"image-\xff")
    source.write_bytes(IMAGE[:4096])
    with closing(NativePipeline().open_digest(str(source), 0)) as running:
        assert to_the_end(running)[-1].received_bytes == 4096


@pytest.mark.root
def test_a_cancel_is_prompt_and_leaves_no_head(url: str, device: str) -> None:
    """Closing a running install ends its threads at once; the slot cannot boot."""
    running = NativePipeline().open_install(
        replace(request_for(url + "/stall", device), stall_timeout_s=60.0)
    )
    while running.step(0.05).phase is not Phase.RECEIVING:
        pass
    start_s = time.monotonic()
    running.close()
    assert time.monotonic() - start_s < 0.5
    assert held(device, HEAD) == bytes(HEAD)


@pytest.mark.root
def test_what_is_closed_tells_how_far_it_had_come(url: str, device: str) -> None:
    """Not at the last step, but when nothing moved any more: what the device holds agrees."""
    running = NativePipeline().open_install(
        replace(request_for(url + "/stall", device), stall_timeout_s=60.0)
    )
    deadline_s = time.monotonic() + 20
    while held(device, HEAD) != bytes(HEAD):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert running.phase() is Phase.CONNECTING
    running.close()
    assert running.phase() in {Phase.BLANKING, Phase.RECEIVING}


@pytest.mark.root
def test_the_descriptor_tells_the_end(source: Path, device: str) -> None:
    """A selector can sleep on it."""
    with closing(NativePipeline().open_install(request_for(source, device))) as running:
        assert select.select([running], [], [], 20)[0] == [running]
        assert running.step(0.0).phase is Phase.DONE


@pytest.mark.root
@pytest.mark.parametrize(
    "call",
    [
        lambda running: running.step(0.0),
        lambda running: running.fileno(),
        lambda running: running.hexdigest(),
        lambda running: running.sha256_hexdigest(),
        lambda running: running.image_hexdigest(),
    ],
    ids=["step", "fileno", "hexdigest", "sha256_hexdigest", "image_hexdigest"],
)
def test_what_is_closed_is_not_asked(
    source: Path, device: str, call: Callable[[RunningInstall], object]
) -> None:
    """A mistake of the caller is an error of Python's, not a crash; closing again is none."""
    running = NativePipeline().open_install(request_for(source, device))
    running.close()
    phase = running.phase()
    running.close()
    assert running.phase() is phase
    with pytest.raises(ValueError, match="closed"):
        call(running)


@pytest.mark.root
def test_nonsense_is_refused(device: str) -> None:
    """Options that make no sense are the caller's bug."""
    with pytest.raises(UsageError):
        install(replace(request_for("/x", device), buffers=1))


def test_secrets_stay_out_of_the_representation() -> None:
    """A request that is logged shows no URL."""
    assert "secret" not in repr(request_for("https://h/?sign=secret", "/dev/x"))

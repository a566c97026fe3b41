# SPDX-License-Identifier: MIT
"""The native pipeline against real loop devices and an HTTP server that misbehaves."""

import gzip
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pipelinecases import (
    IMAGE,
    MD5,
    MIB,
    REPO,
    SHA256,
    held,
    install,
    request_for,
    serving,
    to_the_end,
)
from sim.http_server import HttpServer

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
from updater.core.ports import InstallRequest, Phase, RunningInstall
from updater.edge import pipeline
from updater.edge.pipeline import NativePipeline

HEAD = MIB
SLOT_BYTES = 32 * MIB
UNTOUCHED = b"\xa5"
pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(IMAGE)
    return path


@pytest.fixture(params=[512, 4096], ids=["512-byte sectors", "4096-byte sectors"])
def any_device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield from loop(tmp_path, request.param)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    yield from loop(tmp_path, 512)


@pytest.fixture
def locked_device(tmp_path: Path) -> Iterator[str]:
    """A device with its write protection on."""
    yield from loop(tmp_path, 512, "--read-only")


def loop(tmp_path: Path, sector_bytes: int, *flags: str) -> Iterator[str]:
    backing = tmp_path / "slot"
    backing.write_bytes(UNTOUCHED * SLOT_BYTES)
    command = ["losetup", "-f", "--show", "--sector-size", str(sector_bytes), *flags, str(backing)]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    yield path
    subprocess.run(["losetup", "-d", path], check=True)


@pytest.fixture
def full_device(tmp_path: Path) -> Iterator[str]:
    """A device of 32 MiB on a medium that has room for 8."""
    room = tmp_path / "room"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(room)], check=True)
    try:
        (room / "slot").touch()
        os.truncate(room / "slot", SLOT_BYTES)
        command = ["losetup", "-f", "--show", str(room / "slot")]
        path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        try:
            yield path
        finally:
            subprocess.run(["losetup", "-d", path], check=True)
    finally:
        subprocess.run(["umount", str(room)], check=True)


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def packed(folder: Path, image: bytes, device: str) -> InstallRequest:
    """Return the request for *image* as a compressed firmware in *folder*."""
    firmware = gzip.compress(image, 1)
    source = folder / "firmware.gz"
    source.write_bytes(firmware)
    return replace(request_for(source, device), size_bytes=len(firmware), md5=md5_of(firmware))


# --- what arrives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/good", "/chunked", "/redirect"])
@pytest.mark.parametrize("read_back", [True, False])
def test_the_slot_holds_the_image(url: str, any_device: str, path: str, read_back: bool) -> None:
    """Every byte arrives, also the ones of the last, partial block, and progress only grows."""
    seen = install(replace(request_for(url + path, any_device), read_back=read_back))
    assert held(any_device) == IMAGE
    assert [p.received_bytes for p in seen] == sorted(p.received_bytes for p in seen)
    assert seen[-1].received_bytes == seen[-1].written_bytes == len(IMAGE)
    behind = held(any_device, SLOT_BYTES)[len(IMAGE) + 4096 :]
    assert behind == UNTOUCHED * len(behind)
    assert all(p.verified_bytes <= p.written_bytes or p.phase is Phase.DONE for p in seen)
    assert seen[-1].verified_bytes == (len(IMAGE) if read_back else HEAD)


def test_a_local_file_is_a_source(source: Path, device: str) -> None:
    """A path works as a URL does, and its size must match."""
    install(request_for(source, device))
    assert held(device) == IMAGE
    with pytest.raises(DigestError):
        install(replace(request_for(source, device), size_bytes=len(IMAGE) - 1))


def test_a_small_image_is_all_head(tmp_path: Path, device: str) -> None:
    """An image below a MiB is stored and verified, and nothing of an older head stays behind it."""
    source = tmp_path / "small"
    source.write_bytes(IMAGE[:1001])
    install(replace(request_for(source, device), size_bytes=1001, md5=md5_of(IMAGE[:1001])))
    assert held(device, HEAD + 1) == IMAGE[:1001] + bytes(HEAD - 1001) + UNTOUCHED


def test_a_file_is_a_medium_too(source: Path, tmp_path: Path) -> None:
    """It has its name only once it is whole."""
    install(request_for(source, tmp_path / "copy"))
    assert held(tmp_path / "copy", len(IMAGE) + 1) == IMAGE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "image"]


@pytest.mark.parametrize("size_bytes", [0, len(IMAGE)], ids=["unknown size", "known size"])
def test_standard_input_is_a_source(device: str, size_bytes: int) -> None:
    """Whatever comes through a pipe is written and told, though nobody has announced it."""
    code = (
        "import sys\n"
        "from updater.core.ports import InstallRequest, Phase\n"
        "from updater.edge.pipeline import NativePipeline\n"
        "request = InstallRequest('-', sys.argv[1], int(sys.argv[2]))\n"
        "running = NativePipeline().open_install(request)\n"
        "while (progress := running.step(0.05)).phase is not Phase.DONE:\n"
        "    pass\n"
        "print(progress.size_bytes, progress.received_bytes, running.hexdigest())\n"
        "running.close()\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, device, str(size_bytes)],
        input=IMAGE, stdout=subprocess.PIPE, check=True, cwd=REPO, timeout=60,
    )  # fmt: skip
    size, received, md5 = child.stdout.decode().split()
    assert (int(size), int(received), md5) == (size_bytes, len(IMAGE), MD5)
    assert held(device) == IMAGE


@pytest.mark.parametrize(
    ("sha256", "told"), [(None, ""), ("", SHA256), (SHA256, SHA256)], ids=["no", "asked", "wanted"]
)
def test_digests_are_told_at_the_end(
    source: Path, device: str, sha256: str | None, told: str
) -> None:
    """MD5 always, SHA-256 if it was asked for; the image's is the firmware's if that is raw."""
    request = replace(request_for(source, device), md5="", sha256=sha256)
    with closing(NativePipeline().open_install(request)) as running:
        assert to_the_end(running)[-1].format == "raw"
        assert (running.hexdigest(), running.sha256_hexdigest()) == (MD5, told)
        assert running.image_hexdigest() == MD5


def test_a_compressed_firmware_is_told_apart_from_its_image(tmp_path: Path, device: str) -> None:
    """Received and hashed as it comes, written and read back as what is in it."""
    image = IMAGE[: 3 * MIB] + bytes(3 * MIB)
    request = packed(tmp_path, image, device)
    with closing(NativePipeline().open_install(request)) as running:
        last = to_the_end(running)[-1]
        assert (running.hexdigest(), running.image_hexdigest()) == (request.md5, md5_of(image))
    counts = (last.format, last.received_bytes, last.written_bytes)
    assert counts == ("gzip", request.size_bytes, len(image))
    assert held(device, len(image)) == image
    install(replace(request, decode=False))
    assert held(device, request.size_bytes) == Path(request.source).read_bytes()


def test_what_is_not_written_is_counted(tmp_path: Path, device: str) -> None:
    """Zeros go without being sent; what the slot holds already is left alone, if that is wanted."""
    image = IMAGE[: 4 * MIB] + bytes(4 * MIB)
    source = tmp_path / "half"
    source.write_bytes(image)
    request = replace(request_for(source, device), size_bytes=len(image), md5="")
    first, again = (install(replace(request, skip_identical=skips))[-1] for skips in (False, True))
    assert (first.identical_bytes, first.zeroed_bytes) == (0, 4 * MIB)
    assert again.identical_bytes + again.zeroed_bytes == len(image) - HEAD
    assert held(device, len(image)) == image


def test_a_slot_is_read_back_into_digests(source: Path, device: str) -> None:
    """The medium's bytes, not the page cache's, up to the image's size, or all of them."""
    install(request_for(source, device))
    whole = md5_of(held(device, SLOT_BYTES))
    for size_bytes, md5 in ((len(IMAGE), MD5), (0, whole)):
        with closing(NativePipeline().open_digest(device, size_bytes, "")) as running:
            assert to_the_end(running)[-1].received_bytes == (size_bytes or SLOT_BYTES)
            assert running.hexdigest() == running.image_hexdigest() == md5
            assert len(running.sha256_hexdigest()) == 64


def test_a_read_back_that_shall_match_says_so(source: Path) -> None:
    """The digest of a person's command."""
    with closing(NativePipeline().open_digest(str(source), 0, SHA256)) as running:
        to_the_end(running)
    with (
        closing(NativePipeline().open_digest(str(source), 0, "0" * 64)) as running,
        pytest.raises(DigestError, match="SHA-256"),
    ):
        to_the_end(running)


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/404", NotFoundError), ("/410", NotFoundError),
        ("/401", ForbiddenError), ("/403", ForbiddenError),
        ("/500", TransportError), ("/503", TransportError), ("/408", TransportError),
        ("/429", TransportError), ("/206", TransportError),
        ("/loop", TransportError), ("/ftp", SchemeError), ("/file", SchemeError),
        ("/longer", DigestError), ("/shorter", DigestError), ("/empty", DigestError),
    ],
)  # fmt: skip
def test_a_source_that_gives_nothing_leaves_the_slot_as_it_was(
    url: str, device: str, path: str, error: type[UpdaterError]
) -> None:
    """Its error says so without the URL, and nothing was blanked for it."""
    with closing(NativePipeline().open_install(request_for(url + path, device))) as running:
        with pytest.raises(error) as caught:
            to_the_end(running)
        assert running.phase() is Phase.CONNECTING
    assert "127.0.0.1" not in str(caught.value)
    assert type(caught.value) is error
    assert held(device, SLOT_BYTES) == UNTOUCHED * SLOT_BYTES


@pytest.mark.parametrize("path", ["/chunked-short", "/chunked-long", "/flipped", "/stall"])
def test_what_breaks_off_or_does_not_match_leaves_no_head(url: str, device: str, path: str) -> None:
    """The error says which, and the slot cannot boot."""
    error, patience_s = (TransportError, 2.0) if path == "/stall" else (DigestError, 20.0)
    request = replace(request_for(url + path, device), stall_timeout_s=patience_s)
    with closing(NativePipeline().open_install(request)) as running:
        with pytest.raises(UpdaterError) as caught:
            to_the_end(running)
        assert running.phase() in {Phase.RECEIVING, Phase.VERIFYING}
    assert type(caught.value) is error
    assert "127.0.0.1" not in str(caught.value)
    assert held(device, HEAD) == bytes(HEAD)


@pytest.mark.parametrize(("status", "path"), [(401, "/401"), (403, "/403"), (410, "/410")])
def test_a_status_is_a_fact_of_the_error(url: str, device: str, status: int, path: str) -> None:
    """Whoever asks for a fresh URL can see why."""
    with pytest.raises((ForbiddenError, NotFoundError)) as caught:
        install(request_for(url + path, device))
    assert isinstance(caught.value, ForbiddenError | NotFoundError)
    assert caught.value.http_status == status


def test_a_wrong_digest_names_both(source: Path, device: str) -> None:
    """The sentence has the digest that came and the one that was announced."""
    with pytest.raises(DigestError, match=f"MD5 is {MD5}, announced was {'0' * 32}"):
        install(replace(request_for(source, device), md5="0" * 32))
    with pytest.raises(DigestError, match=f"SHA-256 is {SHA256}, announced was {'0' * 64}"):
        install(replace(request_for(source, device), sha256="0" * 64))
    assert held(device, HEAD) == bytes(HEAD)


def test_plaintext_needs_leave(url: str, device: str) -> None:
    """Plain http is refused unless it was allowed."""
    with pytest.raises(SchemeError):
        install(replace(request_for(url + "/good", device), allow_plaintext=False))


def test_a_firmware_that_does_not_fit_changes_nothing(source: Path, device: str) -> None:
    """Too large is told before the first write."""
    os.truncate(source, 33 * MIB)
    with pytest.raises(SpaceError) as caught:
        install(replace(request_for(source, device), size_bytes=33 * MIB))
    assert (caught.value.needed_bytes, caught.value.held_bytes) == (33 * MIB, SLOT_BYTES)
    assert held(device, SLOT_BYTES) == UNTOUCHED * SLOT_BYTES


def test_an_image_that_is_known_not_to_fit_changes_nothing(tmp_path: Path, device: str) -> None:
    """Somebody has announced what is in a compressed firmware."""
    request = replace(packed(tmp_path, bytes(40 * MIB), device), image_size_bytes=40 * MIB)
    with pytest.raises(SpaceError) as caught:
        install(request)
    assert (caught.value.needed_bytes, caught.value.held_bytes) == (40 * MIB, SLOT_BYTES)
    assert held(device, SLOT_BYTES) == UNTOUCHED * SLOT_BYTES


def test_an_image_that_grows_too_large_has_no_size(tmp_path: Path, device: str) -> None:
    """What is in a compressed firmware shows only as it comes."""
    with pytest.raises(SpaceError, match=rf"does not fit, {device} holds {SLOT_BYTES}$") as caught:
        install(packed(tmp_path, bytes(40 * MIB), device))
    assert caught.value.needed_bytes == 0
    assert held(device, HEAD) == bytes(HEAD)


def test_a_damaged_firmware_is_one_of_its_format(tmp_path: Path, device: str) -> None:
    """Neither the transport's fault nor the medium's."""
    request = packed(tmp_path, IMAGE[: 4 * MIB], device)
    with Path(request.source).open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"\xff" * 64)
        file.truncate()
    with pytest.raises(FormatError):
        install(replace(request, size_bytes=0, md5=""))
    assert held(device, HEAD) == bytes(HEAD)


def test_a_held_device_is_refused(source: Path, device: str) -> None:
    """What somebody else holds exclusively, as a mount does, is not touched."""
    holder = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(BusyError, match="mounted or in use"):
            install(request_for(source, device))
    finally:
        os.close(holder)
    assert held(device, 4096) == UNTOUCHED * 4096


def test_a_terminal_is_no_medium(source: Path) -> None:
    """A character device of no kind that is known is refused with a sentence."""
    with pytest.raises(DeviceError):
        install(request_for(source, "/dev/null"))


def test_a_device_that_is_missing_does_not_become_a_file(source: Path) -> None:
    """A card that was pulled out is not replaced by memory that holds what was meant for it."""
    path = Path(f"/dev/updater-test-{os.getpid()}")
    try:
        with pytest.raises(DeviceError):
            install(request_for(source, path))
        assert not path.exists()
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def test_a_write_protected_device_is_refused(source: Path, locked_device: str) -> None:
    """The kernel would open it and refuse the first write: it is told before anything begins."""
    with pytest.raises(DeviceError, match="write-protected"):
        install(request_for(source, locked_device))


def test_a_medium_that_refuses_a_write_is_a_storage_error(source: Path, full_device: str) -> None:
    """The error names the place, and what had been written does not boot."""
    with pytest.raises(StorageError) as caught:
        install(request_for(source, full_device))
    assert caught.value.offset_bytes is not None
    assert 6 * MIB <= caught.value.offset_bytes <= 8 * MIB
    assert held(full_device, HEAD) == bytes(HEAD)


def test_a_medium_that_loses_a_write_is_caught(source: Path, device: str, tmp_path: Path) -> None:
    """A byte that changes under us between write and read-back is a storage error."""
    stop = threading.Event()

    def spoil() -> None:
        with (tmp_path / "slot").open("r+b") as file:
            while not stop.is_set():
                file.seek(9 * MIB)
                file.write(os.urandom(16))
                file.flush()

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        with pytest.raises(StorageError, match="does not hold what was written") as caught:
            install(request_for(source, device))
    finally:
        stop.set()
        thread.join()
    assert caught.value.offset_bytes is not None
    assert caught.value.offset_bytes <= 9 * MIB < caught.value.offset_bytes + 2 * MIB
    assert held(device, HEAD) == bytes(HEAD)


def test_nobody_listens(device: str) -> None:
    """A refused connection is a transport error."""
    with pytest.raises(TransportError):
        install(request_for("http://127.0.0.1:9/x", device))


# --- going on -------------------------------------------------------------------------------------


@pytest.fixture
def web() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


def cut_half_way(request: InstallRequest) -> int:
    """Close an install after a good half of it, and return what had come."""
    with closing(NativePipeline().open_install(request)) as running:
        while (progress := running.step(0.01)).received_bytes < 14 * MIB:
            pass
    return progress.received_bytes


def test_an_install_goes_on_where_it_was_closed(
    web: HttpServer, source: Path, device: str, tmp_path: Path
) -> None:
    """The server sends the rest and nothing twice; what is on the medium is only looked at."""
    web.put({"f": source})
    web.bytes_per_s = 40.0 * MIB
    address = f"http://127.0.0.1:{web.port}/f"
    request = replace(request_for(address, device), checkpoint=str(tmp_path / "checkpoint"))
    came_bytes = cut_half_way(request)
    assert held(device, HEAD) == bytes(HEAD)
    before_bytes, web.bytes_per_s = web.sent_bytes, None
    seen = install(request)
    resumed_bytes = seen[-1].resumed_bytes
    assert came_bytes - 16 * MIB <= resumed_bytes <= came_bytes
    assert resumed_bytes > 0
    assert web.sent_bytes - before_bytes == len(IMAGE) - resumed_bytes
    assert held(device) == IMAGE
    later = [p for p in seen if p.phase not in {Phase.RESUMING, Phase.CONNECTING}]
    assert min(p.received_bytes for p in later) >= resumed_bytes
    assert [list(Phase).index(p.phase) for p in seen] == sorted(
        list(Phase).index(p.phase) for p in seen
    )


def test_an_object_that_has_changed_meanwhile_is_no_continuation(
    web: HttpServer, source: Path, device: str, tmp_path: Path
) -> None:
    """What was written is of no use, says the first try; the next one begins at the first byte."""
    web.put({"f": source})
    web.bytes_per_s = 40.0 * MIB
    address = f"http://127.0.0.1:{web.port}/f"
    request = replace(request_for(address, device), checkpoint=str(tmp_path / "checkpoint"))
    cut_half_way(request)
    web.bytes_per_s = None
    os.utime(source, (1, 1))
    with pytest.raises(StartOverError):
        install(request)
    assert held(device, HEAD) == bytes(HEAD)
    assert install(request)[-1].resumed_bytes == 0
    assert held(device) == IMAGE


def test_a_kill_after_the_last_byte_costs_no_more_than_one_before(
    source: Path, device: str, tmp_path: Path
) -> None:
    """Until it is closed nobody may have taken note that the image is complete."""
    request = replace(request_for(source, device), checkpoint=str(tmp_path / "checkpoint"))
    code = (
        "import os, sys\n"
        "from updater.core.ports import InstallRequest, Phase\n"
        "from updater.edge.pipeline import NativePipeline\n"
        "source, device, size, md5, checkpoint = sys.argv[1:]\n"
        "request = InstallRequest(source, device, int(size), md5, checkpoint=checkpoint)\n"
        "running = NativePipeline().open_install(request)\n"
        "while running.step(0.05).phase is not Phase.DONE:\n"
        "    pass\n"
        "os.kill(os.getpid(), 9)\n"
    )
    arguments = (source, device, str(len(IMAGE)), MD5, request.checkpoint)
    killed = subprocess.run([sys.executable, "-c", code, *arguments], check=False, cwd=REPO)
    assert killed.returncode == -9
    assert held(device) == IMAGE
    assert install(request)[-1].resumed_bytes >= len(IMAGE) - 16 * MIB
    assert install(request)[-1].resumed_bytes == 0
    assert held(device) == IMAGE


def test_a_url_that_expires_in_the_middle_can_be_replaced(
    web: HttpServer, source: Path, device: str, tmp_path: Path
) -> None:
    """It is told as such, and a fresh URL of the same object goes on where the old one ended."""
    web.put({"old": source, "fresh": source})
    web.bytes_per_s = 20.0 * MIB
    address = f"http://127.0.0.1:{web.port}"
    request = replace(
        request_for(f"{address}/old", device), attempts=2, checkpoint=str(tmp_path / "checkpoint")
    )
    with closing(NativePipeline().open_install(request)) as running:
        while running.step(0.01).received_bytes < 14 * MIB:
            pass
        web.put({"old": 403})
        web.cut()
        with pytest.raises(ForbiddenError):
            to_the_end(running)
    before_bytes, web.bytes_per_s = web.sent_bytes, None
    last = install(replace(request, source=f"{address}/fresh"))[-1]
    assert last.resumed_bytes > 0
    assert web.sent_bytes - before_bytes == len(IMAGE) - last.resumed_bytes
    assert held(device) == IMAGE


def test_a_connection_that_breaks_is_made_anew(web: HttpServer, source: Path, device: str) -> None:
    """Within one install, and counted."""
    web.put({"f": source})
    web.bytes_per_s = 40.0 * MIB
    request = replace(request_for(f"http://127.0.0.1:{web.port}/f", device), attempts=3)
    with closing(NativePipeline().open_install(request)) as running:
        while running.step(0.01).received_bytes < 4 * MIB:
            pass
        web.cut()
        assert to_the_end(running)[-1].retries == 1
    assert web.served == ["f", "f"]
    assert held(device) == IMAGE


# --- the seam itself ------------------------------------------------------------------------------


def test_every_option_reaches_c() -> None:
    """Each limit under its own name, seconds as milliseconds, and no text where none is meant."""
    request = InstallRequest(
        "s", "d", 1, "m", "h", "c", 2, read_back=False, skip_identical=True, decode=False,
        decoder_memory_bytes=3, nice=4, io_priority=5, allow_plaintext=True,
        connect_timeout_s=0.006, stall_timeout_s=0.007, attempts=8, backoff_s=0.009,
        backoff_limit_s=0.01, retry_time_s=604800.0, max_redirects=12,
        bandwidth_bytes_per_s=1 << 40, ca_file="ca", client_cert_file="cert", client_key_file="key",
        buffer_bytes=14, buffers=15,
    )  # fmt: skip
    options, _kept = pipeline._options(request, is_digest=False)
    texts = {
        name: pipeline.ffi.string(getattr(options, name)).decode()
        for name in ("source", "device", "md5", "sha256", "checkpoint", "ca_file", "client_cert",
                     "client_key")
    }  # fmt: skip
    assert texts == {
        "source": "s", "device": "d", "md5": "m", "sha256": "h", "checkpoint": "c",
        "ca_file": "ca", "client_cert": "cert", "client_key": "key",
    }  # fmt: skip
    numbers = (
        options.size, options.image_size, options.decoder_memory, options.nice,
        options.io_priority, options.connect_timeout_ms, options.stall_timeout_ms, options.attempts,
        options.backoff_ms, options.backoff_limit_ms, options.retry_time_ms, options.max_redirects,
        options.bandwidth, options.buffer_size, options.buffers,
    )  # fmt: skip
    assert numbers == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 604_800_000, 12, 1 << 40, 14, 15)
    flags = options.read_back, options.skip_identical, options.decode, options.allow_plaintext
    assert flags == (0, 1, 0, 1)
    plain, _kept = pipeline._options(InstallRequest("s", "d"), is_digest=True)
    for name in texts.keys() - {"source"}:
        assert getattr(plain, name) == pipeline.ffi.NULL


def test_a_name_that_is_no_text_is_passed_on(tmp_path: Path) -> None:
    """File names are bytes; what the command line made of them comes back as it was."""
    source = tmp_path / os.fsdecode(b"image-\xff")
    source.write_bytes(IMAGE[:4096])
    with closing(NativePipeline().open_digest(str(source), 0)) as running:
        assert to_the_end(running)[-1].received_bytes == 4096


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


def test_the_descriptor_tells_the_end(source: Path, device: str) -> None:
    """A selector can sleep on it."""
    import select  # noqa: PLC0415 - one test alone needs it

    with closing(NativePipeline().open_install(request_for(source, device))) as running:
        assert select.select([running], [], [], 20)[0] == [running]
        assert running.step(0.0).phase is Phase.DONE


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
    running.close()
    assert running.phase() is Phase.CONNECTING
    with pytest.raises(ValueError, match="closed"):
        call(running)


def test_nonsense_is_refused(device: str) -> None:
    """Options that make no sense are the caller's bug."""
    with pytest.raises(UsageError):
        install(replace(request_for("/x", device), buffers=1))


def test_secrets_stay_out_of_the_representation() -> None:
    """A request that is logged shows no URL."""
    assert "secret" not in repr(request_for("https://h/?sign=secret", "/dev/x"))

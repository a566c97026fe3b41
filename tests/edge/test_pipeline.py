# SPDX-License-Identifier: MIT
"""The native pipeline against real loop devices and an HTTP server that misbehaves."""

import hashlib
import http.server
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

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
from updater.edge.pipeline import NativePipeline

MIB = 1 << 20
HEAD = MIB
IMAGE = random.Random(1).randbytes(20 * MIB + 12345)
MD5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
pytestmark = pytest.mark.root


class Server(http.server.BaseHTTPRequestHandler):
    """One behaviour per path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        BEHAVIOURS[self.path](self)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def give(self, body: bytes, length: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def chunked(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    def close_early(self) -> None:
        self.give(IMAGE[: 5 * MIB], len(IMAGE))
        self.close_connection = True

    def stall(self) -> None:
        self.give(IMAGE[:MIB], len(IMAGE))
        STALLED.wait(20)
        self.close_connection = True

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()


STALLED = threading.Event()
BEHAVIOURS: dict[str, Callable[[Server], None]] = {
    "/good": lambda s: s.give(IMAGE),
    "/chunked": lambda s: s.chunked(IMAGE),
    "/chunked-short": lambda s: s.chunked(IMAGE[:-1]),
    "/chunked-long": lambda s: s.chunked(IMAGE + b"x"),
    "/longer": lambda s: s.give(IMAGE + b"x"),
    "/shorter": lambda s: s.give(IMAGE[:-1]),
    "/flipped": lambda s: s.give(IMAGE[:-1] + bytes([IMAGE[-1] ^ 1])),
    "/early": Server.close_early,
    "/stall": Server.stall,
    "/empty": lambda s: s.give(b""),
    "/redirect": lambda s: s.redirect("/good"),
    "/loop": lambda s: s.redirect("/loop"),
    "/ftp": lambda s: s.redirect("ftp://127.0.0.1/good"),
    "/file": lambda s: s.redirect("file:///etc/passwd"),
    **{
        f"/{status}": lambda s, status=status: s.give(b"no", status=status)
        for status in (401, 403, 404, 408, 410, 416, 429, 500, 503, 206)
    },
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    STALLED.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=[512, 4096], ids=["512-byte sectors", "4096-byte sectors"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield from loop(tmp_path, 32 * MIB, request.param)


def loop(tmp_path: Path, size: int, sector: int, *flags: str) -> Iterator[str]:
    backing = tmp_path / "slot"
    backing.write_bytes(b"\xa5" * size)
    command = ["losetup", "-f", "--show", "--sector-size", str(sector), *flags, str(backing)]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    yield path
    subprocess.run(["losetup", "-d", path], check=True)


@pytest.fixture
def locked_device(tmp_path: Path) -> Iterator[str]:
    """A device with its write protection on."""
    yield from loop(tmp_path, 32 * MIB, 512, "--read-only")


@pytest.fixture
def full_device(tmp_path: Path) -> Iterator[str]:
    """A device of 32 MiB on a medium that has room for 8."""
    room = tmp_path / "room"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(room)], check=True)
    try:
        (room / "slot").touch()
        os.truncate(room / "slot", 32 * MIB)
        command = ["losetup", "-f", "--show", str(room / "slot")]
        path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        try:
            yield path
        finally:
            subprocess.run(["losetup", "-d", path], check=True)
    finally:
        subprocess.run(["umount", str(room)], check=True)


def request_for(source: str, device: str) -> InstallRequest:
    return InstallRequest(
        source, device, len(IMAGE), MD5, allow_plaintext=True, stall_timeout_s=0.5
    )


def install(request: InstallRequest) -> list[Progress]:
    running = NativePipeline().open_install(request)
    seen = []
    try:
        while not seen or seen[-1].phase is not Phase.DONE:
            seen.append(running.step(0.01))
    finally:
        running.close()
    return seen


def held(device: str, size: int = len(IMAGE)) -> bytes:
    with Path(device).open("rb") as file:
        return file.read(size)


@pytest.mark.parametrize("path", ["/good", "/chunked", "/redirect"])
@pytest.mark.parametrize("read_back", [True, False])
def test_the_slot_holds_the_image(url: str, device: str, path: str, read_back: bool) -> None:
    """Every byte arrives, also the ones of the last, partial block, and progress only grows."""
    seen = install(replace(request_for(url + path, device), read_back=read_back))
    assert held(device) == IMAGE
    assert [p.received_bytes for p in seen] == sorted(p.received_bytes for p in seen)
    assert seen[-1].received_bytes == seen[-1].written_bytes == len(IMAGE)
    assert held(device, 32 * MIB)[len(IMAGE) + 4096 :] == b"\xa5" * (11 * MIB - 12345 + MIB - 4096)
    assert all(p.verified_bytes <= p.written_bytes or p.phase is Phase.DONE for p in seen)
    assert seen[-1].verified_bytes == (len(IMAGE) if read_back else HEAD)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/404", NotFoundError), ("/410", NotFoundError), ("/416", NotFoundError),
        ("/401", ForbiddenError), ("/403", ForbiddenError),
        ("/500", TransportError), ("/503", TransportError), ("/408", TransportError),
        ("/429", TransportError), ("/206", TransportError),
        ("/early", TransportError), ("/stall", TransportError), ("/loop", TransportError),
        ("/longer", DigestError), ("/shorter", DigestError), ("/empty", DigestError),
        ("/chunked-short", DigestError), ("/chunked-long", DigestError), ("/flipped", DigestError),
        ("/ftp", SchemeError), ("/file", SchemeError),
    ],
)  # fmt: skip
def test_what_goes_wrong_has_its_error_and_leaves_no_head(
    url: str, device: str, path: str, error: type[UpdaterError]
) -> None:
    """Whatever the server does, the error says so and the slot cannot boot; no URL is told."""
    with pytest.raises(error) as caught:
        install(request_for(f"{url}{path}", device))
    assert held(device, HEAD) == bytes(HEAD)
    assert "127.0.0.1" not in str(caught.value)
    assert type(caught.value) is error


def test_a_wrong_digest_names_both(url: str, device: str) -> None:
    """The sentence has the digest that came and the one that was announced."""
    with pytest.raises(DigestError, match=f"MD5 is {MD5}, announced was {'0' * 32}"):
        install(replace(request_for(url + "/good", device), md5="0" * 32))


def test_plaintext_needs_leave(url: str, device: str) -> None:
    """Plain http is refused unless it was allowed."""
    with pytest.raises(SchemeError):
        install(replace(request_for(url + "/good", device), allow_plaintext=False))


def test_an_image_that_does_not_fit_changes_nothing(url: str, device: str) -> None:
    """Too large is told before the first write."""
    with pytest.raises(SpaceError) as caught:
        install(replace(request_for(url + "/good", device), size_bytes=33 * MIB))
    assert (caught.value.needed_bytes, caught.value.held_bytes) == (33 * MIB, 32 * MIB)
    assert held(device, 32 * MIB) == b"\xa5" * (32 * MIB)


def test_a_held_device_is_refused(url: str, device: str) -> None:
    """What somebody else holds exclusively, as a mount does, is not touched."""
    holder = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(DeviceError, match="mounted or in use"):
            install(request_for(url + "/good", device))
    finally:
        os.close(holder)
    assert held(device, 4096) == b"\xa5" * 4096


@pytest.mark.parametrize("device_path", ["/dev/does-not-exist", "/dev/null", "/etc/passwd"])
def test_only_block_devices_are_written(url: str, device_path: str) -> None:
    """Anything else is refused with a sentence."""
    with pytest.raises(DeviceError):
        install(request_for(url + "/good", device_path))


def test_a_write_protected_device_is_refused(url: str, locked_device: str) -> None:
    """The kernel would open it and refuse the first write: it is told before anything begins."""
    with pytest.raises(DeviceError, match="write-protected"):
        install(request_for(url + "/good", locked_device))


def test_a_medium_that_refuses_a_write_is_a_storage_error(url: str, full_device: str) -> None:
    """The error names the place, and what had been written does not boot."""
    with pytest.raises(StorageError) as caught:
        install(request_for(url + "/good", full_device))
    assert caught.value.offset_bytes is not None
    assert 6 * MIB <= caught.value.offset_bytes <= 8 * MIB
    assert held(full_device, HEAD) == bytes(HEAD)


def test_nobody_listens(device: str) -> None:
    """A refused connection is a transport error."""
    with pytest.raises(TransportError):
        install(request_for("http://127.0.0.1:9/x", device))


def test_a_local_file_is_a_source(tmp_path: Path, device: str) -> None:
    """A path works as a URL does, and its size must match."""
    source = tmp_path / "image"
    source.write_bytes(IMAGE)
    install(request_for(str(source), device))
    assert held(device) == IMAGE
    with pytest.raises(DigestError):
        install(replace(request_for(str(source), device), size_bytes=len(IMAGE) - 1))


def test_a_cancel_is_prompt_and_leaves_no_head(url: str, device: str) -> None:
    """Closing a running install ends its threads at once; the slot cannot boot."""
    running = NativePipeline().open_install(
        replace(request_for(url + "/stall", device), stall_timeout_s=60.0)
    )
    while running.step(0.05).received_bytes < MIB:
        pass
    start_s = time.monotonic()
    running.close()
    assert time.monotonic() - start_s < 0.5
    assert held(device, HEAD) == bytes(HEAD)


def test_the_descriptor_tells_the_end(url: str, device: str) -> None:
    """A selector can sleep on it."""
    import select  # noqa: PLC0415 - one test alone needs it

    running = NativePipeline().open_install(request_for(url + "/good", device))
    try:
        assert select.select([running], [], [], 20)[0] == [running]
        assert running.step(0.0).phase is Phase.DONE
    finally:
        running.close()


def test_a_small_image_is_all_head(tmp_path: Path, device: str) -> None:
    """An image below a MiB is stored and verified, and nothing of an older head stays behind it."""
    source = tmp_path / "image"
    source.write_bytes(IMAGE[:1001])
    md5 = hashlib.md5(IMAGE[:1001], usedforsecurity=False).hexdigest()
    install(replace(request_for(str(source), device), size_bytes=1001, md5=md5))
    assert held(device, HEAD + 1) == IMAGE[:1001] + bytes(HEAD - 1001) + b"\xa5"


def test_a_slot_is_read_back_into_a_digest(tmp_path: Path, device: str) -> None:
    """The medium's bytes, not the page cache's, up to the image's size."""
    source = tmp_path / "image"
    source.write_bytes(IMAGE)
    install(request_for(str(source), device))
    running = NativePipeline().open_digest(device, len(IMAGE))
    while running.step(0.1).phase is not Phase.DONE:
        pass
    assert running.hexdigest() == MD5
    running.close()


def test_a_medium_that_loses_a_write_is_caught(tmp_path: Path, device: str) -> None:
    """A byte that changes under us between write and read-back is a storage error."""
    backing = tmp_path / "slot"
    source = tmp_path / "image"
    source.write_bytes(IMAGE)
    stop = threading.Event()

    def spoil() -> None:
        with backing.open("r+b") as file:
            while not stop.is_set():
                file.seek(9 * MIB)
                file.write(os.urandom(16))
                file.flush()

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        with pytest.raises(StorageError, match="does not hold what was written") as caught:
            install(request_for(str(source), device))
    finally:
        stop.set()
        thread.join()
    assert caught.value.offset_bytes is not None
    assert caught.value.offset_bytes <= 9 * MIB < caught.value.offset_bytes + MIB
    assert held(device, HEAD) == bytes(HEAD)


def test_nonsense_is_refused(device: str) -> None:
    """Options that make no sense are the caller's bug."""
    with pytest.raises(UsageError):
        install(replace(request_for("/x", device), buffers=1))


def test_secrets_stay_out_of_the_representation() -> None:
    """A request that is logged shows no URL."""
    assert "secret" not in repr(request_for("https://h/?sign=secret", "/dev/x"))

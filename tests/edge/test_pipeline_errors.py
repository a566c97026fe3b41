# SPDX-License-Identifier: MIT
"""The native pipeline, where something goes wrong: which error says so, and what the slot holds.

Sources that lie, media that refuse: real loop devices and an HTTP server that misbehaves.
"""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pipelinecases import (
    HEAD,
    IMAGE,
    MD5,
    MIB,
    SHA256,
    SLOT_BYTES,
    UNTOUCHED,
    attached,
    held,
    install,
    loop,
    packed,
    request_for,
    to_the_end,
)

from updater.core.errors import (
    BusyError,
    DeviceError,
    DigestError,
    ForbiddenError,
    FormatError,
    NotFoundError,
    SchemeError,
    SpaceError,
    StorageError,
    TransportError,
    UpdaterError,
)
from updater.core.ports import Phase
from updater.edge.pipeline import NativePipeline

pytestmark = pytest.mark.root


@pytest.fixture
def locked_device(tmp_path: Path) -> Iterator[str]:
    """A device with its write protection on."""
    with loop(tmp_path, 512, "--read-only") as path:
        yield path


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    room = tmp_path / "room"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(room)], check=True)
    try:
        yield room
    finally:
        subprocess.run(["umount", str(room)], check=True)


@pytest.fixture
def full_device(room: Path) -> Iterator[str]:
    """A device of 32 MiB on a medium that has room for 8."""
    (room / "slot").touch()
    os.truncate(room / "slot", SLOT_BYTES)
    with attached(room / "slot") as path:
        yield path


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
        assert (running.received_bytes() == request.size_bytes) is (path == "/flipped")
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


def test_a_file_system_that_runs_full_has_no_room(url: str, room: Path) -> None:
    """Nobody knew the size: it is the image's, and not the medium's fault, and nothing is left."""
    request = replace(request_for(url + "/chunked", room / "copy"), size_bytes=0)
    with pytest.raises(SpaceError, match=rf"does not fit, {room}/copy holds {8 * MIB}$") as caught:
        install(request)
    assert caught.value.exit_code == 15
    assert list(room.iterdir()) == []


def test_a_damaged_firmware_is_one_of_its_format(tmp_path: Path, device: str) -> None:
    """Neither the transport's fault nor the medium's."""
    request = packed(tmp_path, IMAGE[: 4 * MIB], device)
    with Path(request.source).open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"\xff" * 64)
        file.truncate()
    with pytest.raises(FormatError):
        install(replace(request, size_bytes=0, md5=""))
    assert held(device, HEAD) in {bytes(HEAD), UNTOUCHED * HEAD}  # the decoder may be faster


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

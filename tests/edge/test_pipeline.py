# SPDX-License-Identifier: MIT
"""The native pipeline on real loop devices: what arrives there, and what is told about it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pipelinecases import (
    HEAD,
    IMAGE,
    MD5,
    MIB,
    REPO,
    SHA256,
    SLOT_BYTES,
    UNTOUCHED,
    held,
    install,
    loop,
    md5_of,
    packed,
    request_for,
    to_the_end,
)

from updater.core.errors import DigestError
from updater.core.ports import Phase
from updater.edge.pipeline import NativePipeline

pytestmark = pytest.mark.root


@pytest.fixture(params=[512, 4096], ids=["512-byte sectors", "4096-byte sectors"])
def any_device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with loop(tmp_path, request.param) as path:
        yield path


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

# SPDX-License-Identifier: MIT
"""``updater write`` and ``updater read-back``, as a person meets them: what they do and say."""

import gzip
import hashlib
import json
import lzma
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sim.http_server import HttpServer
from workshop import (
    IMAGE,
    MIB,
    Workshop,
    environment,
    head,
    loop_device,
    md5,
    run_on_terminal,
    words,
)

KEYS = {
    "device", "size_bytes", "image_bytes", "format", "md5", "md5_compared", "sha256",
    "sha256_compared", "image_md5", "read_back", "resumed_bytes", "identical_bytes", "zeroed_bytes",
    "bad_blocks", "retries", "wall_s", "cpu_s", "mib_per_s", "peak_rss_bytes",
}  # fmt: skip
SHA256 = hashlib.sha256(IMAGE).hexdigest()


# --- the summary ---------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("source", ["file", "url"])
def test_write_writes(
    workshop: Workshop, image: Path, device: str, web: HttpServer, source: str
) -> None:
    """The device holds the image, and the one summary says what was proven and what it cost."""
    where = image if source == "file" else f"http://127.0.0.1:{web.port}/image"
    done = workshop.run("write", where, "--to", device, *words(md5(IMAGE).upper()))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        rf"{len(IMAGE)} bytes written to {device}, read back from it\n"
        rf"  MD5 {md5(IMAGE)} matched\n"
        r"  [\d.]+ s, [\d.]+ s of CPU, [\d.]+ MiB/s, [\d.]+ MiB of memory at most, 0 retries\n"
        r"  not written: 0 bytes that were there already, 0 bytes of zeros\n",
        done.stdout,
    )
    assert Path(device).read_bytes()[: len(IMAGE)] == IMAGE


@pytest.mark.root
def test_the_summary_for_machines_is_true(workshop: Workshop, image: Path, device: str) -> None:
    """One object whose keys carry their units; stderr is silent where there is no terminal."""
    done = workshop.run("write", image, "--to", device, "--sha256", SHA256, "--json", *words())
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert set(said) == KEYS
    fixed = {
        "device": device, "size_bytes": len(IMAGE), "image_bytes": len(IMAGE), "format": "raw",
        "md5": md5(IMAGE), "md5_compared": True, "sha256": SHA256, "sha256_compared": True,
        "image_md5": md5(IMAGE), "read_back": True, "resumed_bytes": 0, "identical_bytes": 0,
        "zeroed_bytes": 0, "bad_blocks": 0, "retries": 0,
    }  # fmt: skip
    assert {key: said[key] for key in fixed} == fixed
    assert 0 < said["cpu_s"] < 20
    assert 0 < said["wall_s"] < 20
    assert said["mib_per_s"] == pytest.approx(len(IMAGE) / MIB / said["wall_s"], rel=0.2, abs=0.2)
    assert 8 * MIB < said["peak_rss_bytes"] < 200 * MIB


@pytest.mark.root
def test_without_a_digest_nothing_is_claimed(workshop: Workshop, image: Path, device: str) -> None:
    """MD5 and SHA-256 are told as computed, and that nothing was compared with them."""
    done = workshop.run("write", image, "--to", device, "--sha256")
    assert done.returncode == 0
    assert f"\n  MD5 {md5(IMAGE)} computed, not compared\n" in done.stdout
    assert f"\n  SHA-256 {SHA256} computed, not compared\n" in done.stdout
    said = workshop.json("write", image, "--to", device)
    assert (said["md5"], said["md5_compared"], said["sha256"]) == (md5(IMAGE), False, None)


@pytest.mark.root
def test_without_a_read_back_none_is_claimed(workshop: Workshop, image: Path, device: str) -> None:
    """The answer says that the medium was not read."""
    done = workshop.run("write", image, "--to", device, "--no-read-back", *words())
    assert done.stdout.startswith(f"{len(IMAGE)} bytes written to {device}, not read back\n")


@pytest.mark.root
def test_what_was_not_written_is_told(workshop: Workshop, device: str) -> None:
    """Zeros that the device was told of, and what it held already, are counted in bytes."""
    image = workshop.folder / "half-zero"
    image.write_bytes(os.urandom(2 * MIB) + bytes(2 * MIB))
    said = workshop.json("write", image, "--to", device)
    assert (said["zeroed_bytes"], said["identical_bytes"]) == (2 * MIB, 0)
    said = workshop.json("write", image, "--to", device, "--skip-identical")
    assert said["identical_bytes"] + said["zeroed_bytes"] >= 3 * MIB  # the head is always written
    text = workshop.run("write", image, "--to", device, "--skip-identical").stdout
    assert re.search(r"\n  not written: \d{7} bytes that were there already, \d+ bytes of", text)


# --- sources -------------------------------------------------------------------------------------


def through(command: str, arguments: list[str], **more: Any) -> "subprocess.CompletedProcess[str]":
    """Run the program with a shell's pipeline as its standard input."""
    return subprocess.run(
        ["sh", "-c", f'{command} | "$@"', "sh", *arguments],
        capture_output=True, text=True, env=environment(), timeout=60, check=False, **more,
    )  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("proof", [[], words()], ids=["nothing known", "all known"])
def test_standard_input_is_a_source(
    workshop: Workshop, image: Path, device: str, proof: list[object]
) -> None:
    """What comes through a pipe is written, whether its length is known or not."""
    done = through(f"cat {image}", workshop.command("write", "-", "--to", device, *proof))
    assert done.returncode == 0, done.stderr
    assert Path(device).read_bytes()[: len(IMAGE)] == IMAGE


@pytest.mark.root
def test_a_device_is_a_source(workshop: Workshop, device: str) -> None:
    """The beginning of one medium is copied into a file."""
    copy = workshop.folder / "copy"
    said = workshop.json("write", device, "--to", copy, "--size", 5 * MIB + 512)
    assert said["size_bytes"] == 5 * MIB + 512
    assert copy.read_bytes() == b"\xa5" * (5 * MIB + 512)


def zstd(raw: bytes) -> bytes:
    """Return *raw* as the field's own tool packs it."""
    return subprocess.run(["zstd", "-c"], input=raw, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "xz": lambda raw: lzma.compress(raw, preset=1), "zstd": zstd,
}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("packer", PACKERS)
def test_a_compressed_source_is_unpacked(workshop: Workshop, device: str, packer: str) -> None:
    """Told by its first bytes, not by a name; digests are those of what was given, and of both."""
    packed = workshop.folder / "firmware"
    packed.write_bytes(PACKERS[packer](IMAGE))
    proof = words(md5(packed.read_bytes()), packed.stat().st_size)
    said = workshop.json("write", packed, "--to", device, "--image-size", len(IMAGE), *proof)
    assert (said["format"], said["image_bytes"]) == (packer, len(IMAGE))
    assert (said["size_bytes"], said["md5"]) == (packed.stat().st_size, proof[1])
    assert said["image_md5"] == md5(IMAGE)
    assert Path(device).read_bytes()[: len(IMAGE)] == IMAGE
    text = workshop.run("write", packed, "--to", device).stdout
    assert (
        f"\n  {packed.stat().st_size} bytes of {packer}; the image's MD5 is {md5(IMAGE)}\n" in text
    )


def test_raw_leaves_a_source_packed(workshop: Workshop) -> None:
    """With --raw the bytes are written as they are."""
    packed, copy = workshop.folder / "firmware.gz", workshop.folder / "copy.gz"
    packed.write_bytes(gzip.compress(IMAGE))
    said = workshop.json("write", packed, "--to", copy, "--raw")
    assert (said["format"], said["image_md5"]) == ("raw", md5(packed.read_bytes()))
    assert copy.read_bytes() == packed.read_bytes()


# --- a file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, b"the old content"], ids=["new", "replaced"])
def test_a_file_is_written(workshop: Workshop, image: Path, before: bytes | None) -> None:
    """It is complete or as it was before, and nothing is left beside it."""
    folder = workshop.folder / "data"
    folder.mkdir()
    copy = folder / "copy"
    if before is not None:
        copy.write_bytes(before)
    wrong = workshop.run("write", image, "--to", copy, *words("0" * 32))
    assert wrong.returncode == 13
    assert (copy.read_bytes() if copy.exists() else None) == before
    done = workshop.run("write", image, "--to", copy, *words())
    assert done.returncode == 0, done.stderr
    assert copy.read_bytes() == IMAGE
    assert list(folder.iterdir()) == [copy]


# --- progress ------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_terminal_has_one_live_line(workshop: Workshop, device: str, web: HttpServer) -> None:
    """Pace and time left are on it; it is ended by a newline, and the summary follows on stdout."""
    web.bytes_per_s = 2e6
    url = f"http://127.0.0.1:{web.port}/image"
    code, out, seen = run_on_terminal(workshop.command("write", url, "--to", device, *words()))
    assert code == 0
    assert out.startswith(f"{len(IMAGE)} bytes written")
    assert seen.startswith("\r\x1b[K")
    assert seen.endswith(f"{'#' * 30} 100 %  3.0 of 3.0 MiB  done\r\n")
    assert seen.count("\n") == 1
    assert re.search(r" of 3\.0 MiB  \d\.\d MiB/s  0:0\d left  writing", seen)
    assert all(len(line) < 80 for line in seen.split("\r\x1b[K"))


@pytest.mark.root
def test_elsewhere_there_are_few_plain_lines(
    workshop: Workshop, device: str, web: HttpServer
) -> None:
    """A line per phase at least, without a bar or anything that moves a cursor; on stderr."""
    web.bytes_per_s = 3e6
    url = f"http://127.0.0.1:{web.port}/image"
    done = workshop.run("write", url, "--to", device, *words())
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 8
    assert all(re.match(r"[ \d]{3} %  \d\.\d of 3\.0 MiB  ", line) for line in lines)
    assert any(line.endswith("writing") for line in lines)
    assert "#" not in done.stderr


@pytest.mark.root
def test_json_and_a_live_line_go_together(workshop: Workshop, device: str, web: HttpServer) -> None:
    """A person at the terminal sees the line while a machine reads stdout."""
    web.bytes_per_s = 6e6
    url = f"http://127.0.0.1:{web.port}/image"
    command = workshop.command("write", url, "--to", device, "--json")
    _code, out, seen = run_on_terminal(command)
    assert json.loads(out)["md5"] == md5(IMAGE)
    assert "  writing" in seen


@pytest.mark.root
def test_an_error_stands_below_the_live_line(
    workshop: Workshop, device: str, web: HttpServer
) -> None:
    """What went wrong begins a line of its own; what it has left, and what to do, follow."""
    web.bytes_per_s = 6e6
    url = f"http://127.0.0.1:{web.port}/image"
    command = workshop.command("write", url, "--to", device, *words("0" * 32))
    code, out, seen = run_on_terminal(command)
    assert (code, out) == (13, "")
    live, error, left, advice, nothing = seen.split("\r\n")
    assert live.startswith("\r\x1b[K")
    assert error.startswith("updater: MD5 is ")
    assert left.startswith(f"  {device} is incomplete and boots nowhere")
    assert advice.startswith("  what runs now is untouched")
    assert nothing == ""


# --- updater read-back ---------------------------------------------------------------------------


@pytest.mark.root
def test_read_back_tells_what_a_device_holds(workshop: Workshop, image: Path, device: str) -> None:
    """Digests of the whole device or of its beginning; no configuration is needed."""
    Path(device).write_bytes(IMAGE + b"\xff" * (8 * MIB - len(IMAGE)))
    workshop.config.unlink()
    whole = Path(device).read_bytes()
    done = workshop.run("read-back", device)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        rf"{8 * MIB} bytes read from {device}, past the page cache\n"
        rf"  MD5 {md5(whole)} computed, not compared\n"
        r"  [\d.]+ s, [\d.]+ s of CPU, [\d.]+ MiB/s, [\d.]+ MiB of memory at most\n",
        done.stdout,
    )
    said = workshop.json("read-back", device, "--sha256", SHA256, *words())
    assert (said["size_bytes"], said["md5"], said["md5_compared"]) == (
        len(IMAGE), md5(IMAGE), True,
    )  # fmt: skip
    assert (said["sha256"], said["sha256_compared"]) == (SHA256, True)
    assert set(said) == {
        "device", "size_bytes", "md5", "md5_compared", "sha256", "sha256_compared", "wall_s",
        "cpu_s", "mib_per_s", "peak_rss_bytes",
    }  # fmt: skip
    assert workshop.json("read-back", image)["md5"] == md5(IMAGE)


@pytest.mark.root
@pytest.mark.parametrize("digest", ["--md5", "--sha256"])
def test_read_back_finds_a_difference(workshop: Workshop, device: str, digest: str) -> None:
    """Exit code 13, and a sentence that names both digests and what may be the matter."""
    found = {"--md5": "md5", "--sha256": "sha256"}[digest]
    wrong = "0" * {"--md5": 32, "--sha256": 64}[digest]
    done = workshop.run("read-back", device, digest, wrong)
    truth = hashlib.new(found, Path(device).read_bytes()).hexdigest()
    assert (done.returncode, done.stdout) == (13, "")
    assert f"updater: {device}: " in done.stderr
    assert f" is {truth}, expected was {wrong}\n" in done.stderr
    assert "if the image is shorter, say so: --size BYTES\n" in done.stderr


@pytest.mark.root
def test_read_back_sees_the_medium_and_not_the_cache(workshop: Workshop, device: str) -> None:
    """What was changed beneath the page cache is what counts."""
    backing = workshop.folder / "medium"
    before = workshop.json("read-back", device)["md5"]
    assert head(device) == b"\xa5" * MIB
    with Path(device).open("rb") as cached:
        cached.read()
    with backing.open("r+b") as file:
        file.write(b"changed")
        os.fsync(file.fileno())
    assert workshop.json("read-back", device)["md5"] != before


def test_read_back_of_nothing_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    """A missing device, a folder: exit code 16."""
    for path in ("/dev/no-such-device", tmp_path):
        done = workshop.run("read-back", path)
        assert (done.returncode, done.stdout) == (16, "")
        assert str(path) in done.stderr


@pytest.mark.root
def test_read_back_of_more_than_there_is_fails(workshop: Workshop, device: str) -> None:
    """A medium that is shorter than the image cannot hold it."""
    done = workshop.run("read-back", device, "--size", 9 * MIB)
    assert (done.returncode, done.stdout) == (13, "")


@pytest.mark.root
def test_what_write_has_told_read_back_confirms(workshop: Workshop, device: str) -> None:
    """The image's digest and length from one summary are what the other command takes."""
    with loop_device(workshop.folder / "other", 8 * MIB) as other:
        packed = workshop.folder / "firmware"
        packed.write_bytes(gzip.compress(IMAGE))
        said = workshop.json("write", packed, "--to", other)
        proof = ["--md5", said["image_md5"], "--size", said["image_bytes"]]
        assert workshop.run("read-back", other, *proof).returncode == 0
        assert workshop.run("read-back", device, *proof).returncode == 13

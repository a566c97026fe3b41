# SPDX-License-Identifier: MIT
"""What ``updater write`` refuses: one sentence, an exit code for each kind, and nothing written."""

import gzip
import json
import os
import re
import shutil
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sim.broker import free_port
from sim.http_server import HttpServer
from workshop import IMAGE, MIB, Workshop, environment, head, loop_device, run, words

from updater.edge.lock import Lock
from updater.settings import DEFAULT_CONFIG

WRONG = "0" * 32
UNTOUCHED = b"\xa5" * MIB


# --- the source ----------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("source", ["file", "url"])
def test_a_wrong_digest_boots_nowhere(
    workshop: Workshop, image: Path, device: str, web: HttpServer, source: str
) -> None:
    """Exit code 13, both digests in the sentence, and what is said to be left is what is left.

    An image that is no larger than the ring may be found wrong before a byte of it is written.
    """
    where = image if source == "file" else f"http://127.0.0.1:{web.port}/image"
    said = {
        bytes(MIB): "is incomplete and boots nowhere: its beginning is blank; the same command "
        "begins anew",
        UNTOUCHED: "is as it was",
    }
    for digest, wrong in (("--md5", WRONG), ("--sha256", WRONG * 2)):
        done = workshop.run("write", where, "--to", device, digest, wrong, "--size", len(IMAGE))
        assert (done.returncode, done.stdout) == (13, "")
        assert re.search(rf"updater: (MD5|SHA-256) is \w+, announced was {wrong}\n", done.stderr)
        assert f"\n  {device} {said[head(device)]}\n" in done.stderr
        if head(device) != UNTOUCHED:
            Path(device).write_bytes(UNTOUCHED)


@pytest.mark.root
@pytest.mark.parametrize(
    ("page", "code"), [("missing", 11), ("gone", 11), ("forbidden", 12), ("broken", 10)]
)
def test_what_the_server_says_is_told(
    workshop: Workshop, device: str, web: HttpServer, page: str, code: int
) -> None:
    """What a server refuses has a code of its own; the URL is not told, the device not touched."""
    url = f"http://127.0.0.1:{web.port}/{page}?sign=secret"
    done = workshop.run("write", url, "--to", device, "--json", *words())
    said = json.loads(done.stdout)
    assert (done.returncode, said["exit_code"]) == (code, code)
    assert said["notes"] == [f"{device} is as it was"]
    assert "secret" not in done.stdout + done.stderr
    assert head(device) == UNTOUCHED


@pytest.mark.root
def test_a_dead_url_is_told(workshop: Workshop, device: str) -> None:
    """Nobody listens there: exit code 10, and the device is as it was."""
    done = workshop.run("write", f"http://127.0.0.1:{free_port()}/image", "--to", device)
    assert (done.returncode, done.stdout) == (10, "")
    assert f"\n  {device} is as it was\n" in done.stderr
    assert head(device) == UNTOUCHED


@pytest.mark.root
def test_what_is_known_to_fail_is_refused_at_once(
    workshop: Workshop, image: Path, device: str
) -> None:
    """No file, a folder, another length, nothing in it, no scheme, no room: the device stays."""
    big, empty = image.with_name("big"), image.with_name("empty")
    with big.open("wb") as file:
        file.truncate(9 * MIB)
    empty.touch()
    cases: list[tuple[object, list[object], int, str]] = [
        (image.with_name("none"), words(), 11, "there is no file "),
        (image.parent, words(), 11, "there is no file "),
        (image, words(size=len(IMAGE) + 1), 13, f"{image} has {len(IMAGE)} bytes, announced were"),
        (empty, [], 13, f"{empty} has 0 bytes: that is no image"),
        ("ftp://127.0.0.1/image", words(), 14, "the URL is neither https nor http"),
        (big, words(size=9 * MIB), 15, f"image needs {9 * MIB} bytes, {device} holds {8 * MIB}"),
        (big, [], 15, f"image needs {9 * MIB} bytes, {device} holds {8 * MIB}"),
        (device, [], 2, f"{device} and {device} are the same"),
    ]
    for source, proof, code, sentence in cases:
        done = workshop.run("write", source, "--to", device, *proof)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert f"updater: {sentence}" in done.stderr
        assert head(device) == UNTOUCHED


@pytest.mark.root
def test_plaintext_is_for_those_who_allow_it(
    workshop: Workshop, device: str, web: HttpServer
) -> None:
    """An http URL is refused unless configuration or command line allows it: exit code 14."""
    workshop.config.write_text(workshop.config.read_text().replace(
        "[download]\nallow_plaintext = true", "[download]"
    ))  # fmt: skip
    command = ["write", f"http://127.0.0.1:{web.port}/image", "--to", device, *words()]
    done = workshop.run(*command)
    assert (done.returncode, head(device)) == (14, UNTOUCHED)
    assert "use https" in done.stderr
    assert workshop.run(*command, "--allow-plaintext").returncode == 0


def test_a_pipe_by_its_name_is_explained(workshop: Workshop) -> None:
    """What can be read once only has to come through standard input."""
    pipe = workshop.folder / "pipe"
    os.mkfifo(pipe)
    done = workshop.run("write", pipe, "--to", workshop.folder / "copy")
    assert done.returncode == 2
    assert f"{pipe} is a pipe; let it be standard input, and name that: -" in done.stderr


def test_a_closed_input_is_explained(workshop: Workshop) -> None:
    """As a service manager or a shell may leave it: a sentence, and nothing is made."""
    copy = workshop.folder / "copy"
    command = workshop.command("write", "-", "--to", copy)
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command],
        capture_output=True, text=True, env=environment(), check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, copy.exists()) == (2, False)
    assert "standard input is closed" in done.stderr


STREAMS = {
    "nothing": (b"", [], 13, "the source is empty"),
    "less": (IMAGE, ["--size", len(IMAGE) + 1], 13, f"ended after {len(IMAGE)} of "),
    "more": (IMAGE, ["--size", len(IMAGE) - 1], 13, "is longer than announced"),
    "another image": (IMAGE, ["--image-size", MIB], 13, f"has {len(IMAGE)} bytes, announced were "),
    "damaged": (gzip.compress(IMAGE)[:-9], [], 26, "the gzip data ends too soon"),
}


@pytest.mark.parametrize(("raw", "more", "code", "words"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_that_is_not_what_was_announced_is_refused(
    workshop: Workshop, raw: bytes, more: list[object], code: int, words: str
) -> None:
    """Of another length, empty, or broken off: no new file, and what is wrong is said."""
    copy = workshop.folder / "copy"
    command = workshop.command("write", "-", "--to", copy, *more)
    done = subprocess.run(
        command, input=raw, capture_output=True, env=environment(), timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (code, b"")
    assert words.encode() in done.stderr
    assert not copy.exists()


@pytest.mark.root
def test_a_stream_that_does_not_fit_is_told(workshop: Workshop, device: str) -> None:
    """Nobody knows beforehand: exit code 15 when the medium is full, and it boots nowhere."""
    command = workshop.command("write", "-", "--to", device)
    done = subprocess.run(
        command, input=bytes(9 * MIB), capture_output=True, env=environment(), timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (15, b"")
    assert f"  {device} is incomplete and boots nowhere".encode() in done.stderr
    assert head(device) == bytes(MIB)


# --- the medium ----------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("what", ["the device", "a partition of it"])
def test_what_is_mounted_is_refused(
    workshop: Workshop, image: Path, device: str, tmp_path: Path, what: str
) -> None:
    """Exit code 5, and where it is mounted; the file system on it lives on."""
    with ExitStack() as stack:
        mounted = device
        if what == "a partition of it":
            subprocess.run(["addpart", device, "1", "2048", "12288"], check=True)
            stack.callback(subprocess.run, ["delpart", device, "1"], check=True)
            mounted = f"{device}p1"
        subprocess.run(["mkfs.ext4", "-q", "-F", mounted], check=True)
        folder = tmp_path / "mounted"
        folder.mkdir()
        subprocess.run(["mount", mounted, folder], check=True)
        stack.callback(subprocess.run, ["umount", folder], check=True)
        (folder / "file").write_text("here")
        done = workshop.run("write", image, "--to", device, *words())
        assert (folder / "file").read_text() == "here"
    assert (done.returncode, done.stdout) == (5, "")
    how = "" if mounted == device else f"in use: partition {Path(mounted).name} on it is "
    assert done.stderr.startswith(f"updater: {device} is {how}mounted at {folder}\n")
    assert "nothing was changed" in done.stderr


@pytest.mark.root
def test_what_only_the_kernel_knows_is_refused(
    workshop: Workshop, image: Path, device: str
) -> None:
    """Another process holds the device for itself alone: exit code 5."""
    fileno = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        done = workshop.run("write", image, "--to", device, *words())
    finally:
        os.close(fileno)
    assert (done.returncode, done.stdout) == (5, "")
    assert "in use" in done.stderr
    assert device in done.stderr
    assert head(device) == UNTOUCHED


@pytest.mark.root
def test_what_is_write_protected_is_refused(workshop: Workshop, image: Path, device: str) -> None:
    """A card with its switch in the wrong place: exit code 16."""
    subprocess.run(["blockdev", "--setro", device], check=True)
    try:
        done = workshop.run("write", image, "--to", device, *words())
    finally:  # or whoever has this loop device next would find it so
        subprocess.run(["blockdev", "--setrw", device], check=True)
    assert (done.returncode, done.stdout) == (16, "")
    assert "the device is write-protected" in done.stderr
    assert head(device) == UNTOUCHED


@pytest.mark.root
def test_the_booted_root_is_refused(workshop: Workshop, image: Path, tmp_path: Path) -> None:
    """The root is told by its device number: another node for it is refused alike."""
    node = tmp_path / "another-name"
    os.mknod(node, 0o600 | 0o060000, Path("/").stat().st_dev)
    done = workshop.run("write", image, "--to", node, *words())
    assert (done.returncode, done.stdout) == (16, "")
    assert done.stderr.startswith(f"updater: {node} is the booted root: it is never written\n")


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/dev/no-such-device", "there is no device /dev/no-such-device"),
        ("/dev/null", "/dev/null is a character device that holds no image"),
        ("{folder}", "{folder} is a folder; name the file in it"),
        ("{folder}/none/file", "there is no folder for {folder}/none/file"),
    ],
)
def test_what_is_no_medium_is_refused(
    workshop: Workshop, image: Path, target: str, sentence: str
) -> None:
    """A device that is missing, and what cannot hold an image: exit code 16, and nothing made."""
    path = target.format(folder=workshop.folder)
    done = workshop.run("write", image, "--to", path, *words())
    assert (done.returncode, done.stdout) == (16, "")
    assert done.stderr.startswith(f"updater: {sentence.format(folder=workshop.folder)}")
    assert not Path("/dev/no-such-device").exists()
    assert not (workshop.folder / "none").exists()


# --- a machine without a configuration -----------------------------------------------------------


@pytest.fixture
def laptop() -> None:
    """A machine that is no board."""
    if Path(DEFAULT_CONFIG).exists():
        pytest.skip(f"this machine is a board: it has {DEFAULT_CONFIG}")


def bare(workshop: Workshop, *arguments: object) -> list[str]:
    """Return the command line without a word about a configuration."""
    command = workshop.command(*arguments)
    at = command.index("--config")
    return command[:at] + command[at + 2 :]


@pytest.mark.root
@pytest.mark.usefixtures("laptop")
def test_a_laptop_needs_no_configuration(workshop: Workshop, image: Path, device: str) -> None:
    """With nothing set up the defaults do, for a card and for a file; no checkpoint is kept."""
    for target in (device, workshop.folder / "copy"):
        done = run(bare(workshop, "write", image, "--to", target, *words()))
        assert done.returncode == 0, done.stderr
        assert Path(target).read_bytes()[: len(IMAGE)] == IMAGE
    assert not Path("/var/lib/updater").exists()


@pytest.mark.root
@pytest.mark.usefixtures("laptop")
def test_a_laptop_writes_several_cards_at_once(
    workshop: Workshop, image: Path, device: str
) -> None:
    """The lock there is one of the medium's: another one can be written meanwhile."""
    lock = f"/run/updater/write-{Path(device).stat().st_rdev:x}"
    with closing(Lock(lock)), loop_device(workshop.folder / "other", 8 * MIB) as other:
        refused = run(bare(workshop, "write", image, "--to", device, *words()))
        done = run(bare(workshop, "write", image, "--to", other, *words()))
    assert refused.returncode == 5
    assert f"(process {os.getpid()})" in refused.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.root
@pytest.mark.usefixtures("laptop")
def test_a_board_that_lost_its_configuration_is_no_laptop(
    workshop: Workshop, image: Path, device: str
) -> None:
    """The bootloader says that a slot was booted: without a table nothing is written."""
    line = workshop.folder / "cmdline"
    line.write_text("console=ttyS0 updater.slot=A\n")
    script = f'mount --bind {line} /proc/cmdline; exec "$@"'
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
    done = run([*enter, *bare(workshop, "write", image, "--to", device, *words())])
    assert (done.returncode, done.stdout) == (3, "")
    assert "this system was booted as slot A, and there is no /etc/updater" in done.stderr
    assert head(device) == UNTOUCHED


@pytest.mark.usefixtures("laptop")
def test_a_configuration_that_was_named_must_be_there(workshop: Workshop, image: Path) -> None:
    """A typing error in --config does not make a board a laptop: exit code 3."""
    workshop.config.unlink()
    copy = workshop.folder / "copy"
    done = workshop.run("write", image, "--to", copy, *words())
    assert (done.returncode, done.stdout) == (3, "")
    assert not copy.exists()


@pytest.fixture
def user(workshop: Workshop) -> Path:
    """A folder of a user who is not root."""
    folder = workshop.folder / "home"
    folder.mkdir()
    shutil.chown(folder, 65534, 65534)
    workshop.user = 65534
    return folder


@pytest.mark.root
@pytest.mark.usefixtures("laptop")
def test_a_user_writes_his_own_files(workshop: Workshop, image: Path, user: Path) -> None:
    """No rights are needed where no device is written; a device is not his: exit code 16."""
    done = run(bare(workshop, "write", image, "--to", user / "copy", *words()))
    assert done.returncode == 0, done.stderr
    assert (user / "copy").read_bytes() == IMAGE
    with loop_device(workshop.folder / "medium", 8 * MIB) as device:
        done = run(bare(workshop, "write", image, "--to", device, *words()))
    assert done.returncode in {4, 16}
    assert "Permission denied" in done.stderr

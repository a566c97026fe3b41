# SPDX-License-Identifier: MIT
"""What ends ``updater write`` early: signals, kills, an object that changes; and how it goes on."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from sim.http_server import HttpServer
from workshop import MIB, Workshop, environment, head, loop_device, md5, run, wait_until, words

pytestmark = pytest.mark.root

SIZE = 40 * MIB
COST_LIMIT = 16 * MIB  # of repeated download after a kill
SIGNALLED = Path(__file__).with_name("signalled.py")
AS_IT_WAS = "is as it was"
BLANK = "is incomplete and boots nowhere: its beginning is blank; the same command begins anew"
COMPLETE = "is complete"


class Bench:
    """A device, and a server that has an image of 40 MiB for it, slowly."""

    def __init__(self, workshop: Workshop, web: HttpServer, device: str) -> None:
        self.workshop, self.web, self.device = workshop, web, device
        self.raw = os.urandom(SIZE)
        self.path = workshop.folder / "large"
        self.path.write_bytes(self.raw)
        web.put({"large": self.path})
        self.proof = words(md5(self.raw), SIZE)

    def words(self, to: str | Path | None = None) -> list[object]:
        url = f"http://127.0.0.1:{self.web.port}/large"
        return ["write", url, "--to", to or self.device, *self.proof]

    @contextmanager
    def until(self, sent_bytes: int, to: str | Path | None = None) -> Iterator[
        "subprocess.Popen[str]"
    ]:  # fmt: skip
        """Let the program run until the server has sent so much, and hand it over."""
        self.web.bytes_per_s = 20e6
        self.web.sent_bytes = 0
        with self.workshop.start(*self.words(to)) as process:
            deadline_s = time.monotonic() + 20
            while self.web.sent_bytes < sent_bytes:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline_s
                time.sleep(0.002)
            yield process
        self.web.bytes_per_s = None

    def again(self, *more: object, to: str | Path | None = None) -> dict[str, int]:
        """Give the same command again, and return its summary."""
        said = self.workshop.json(*self.words(to), *more)
        assert said["md5"] == md5(self.raw)
        assert Path(to or self.device).read_bytes()[:SIZE] == self.raw
        return said


@pytest.fixture
def bench(workshop: Workshop) -> Iterator[Bench]:
    with ExitStack() as stack:
        web = stack.enter_context(HttpServer())
        device = stack.enter_context(loop_device(workshop.folder / "medium", 48 * MIB))
        Path(device).write_bytes(b"\xa5" * MIB)
        yield Bench(workshop, web, device)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Let *path* be on a medium that takes no writes."""
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        yield
    finally:
        subprocess.run(["umount", path], check=True)


# --- a kill --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["device", "file"])
def test_a_killed_write_goes_on(bench: Bench, kind: str) -> None:
    """After kill -9 the same command brings what is missing and 16 MiB more at most."""
    to = bench.device if kind == "device" else bench.workshop.folder / "copy"
    with bench.until(30 * MIB, to) as process:
        process.kill()
        process.communicate(timeout=20)
    came = bench.web.sent_bytes
    if kind == "device":
        assert head(bench.device) == bytes(MIB)
    said = bench.again(to=to)
    assert bench.web.begins == [0, said["resumed_bytes"]]
    assert said["resumed_bytes"] >= came - COST_LIMIT


def test_a_fresh_write_begins_anew(bench: Bench) -> None:
    """With --fresh nothing of an earlier try is used."""
    with bench.until(30 * MIB) as process:
        process.kill()
        process.communicate(timeout=20)
    assert bench.again("--fresh")["resumed_bytes"] == 0
    assert bench.web.begins == [0, 0]


def test_what_was_changed_meanwhile_is_not_gone_on_with(bench: Bench) -> None:
    """A medium that no longer holds what was written is written from its first byte."""
    with bench.until(30 * MIB) as process:
        process.kill()
        process.communicate(timeout=20)
    with Path(bench.device).open("r+b") as medium:
        medium.seek(3 * MIB)
        medium.write(b"changed")
    assert bench.again()["resumed_bytes"] == 0


def test_a_summary_is_of_this_try(bench: Bench) -> None:
    """The text tells what was there; the pace does not count it."""
    with bench.until(30 * MIB) as process:
        process.kill()
        process.communicate(timeout=20)
    done = bench.workshop.run(*bench.words())
    assert "were there from an earlier try" in done.stdout


def test_a_checkpoint_that_cannot_be_opened_is_no_promise(bench: Bench) -> None:
    """Where an older one has become read-only, nobody says that the next try goes on."""
    with bench.until(30 * MIB) as process:
        process.kill()
        process.communicate(timeout=20)
    with read_only(bench.workshop.folder / "state/checkpoint"), bench.until(20 * MIB) as process:
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert "its beginning is blank; the same command begins anew\n" in err
    bench.again()  # brings what is missing or all of it: whichever the medium proves


# --- a signal ------------------------------------------------------------------------------------

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_interrupted_write_says_what_it_leaves(bench: Bench, number: signal.Signals) -> None:
    """Ctrl-C and its like: the exit code is a shell's, the head blank, and the next try goes on."""
    with bench.until(20 * MIB) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (SIGNALS[number], "")
    assert err.endswith(
        "updater: interrupted\n"
        f"  {bench.device} is incomplete and boots nowhere: its beginning is blank; the same "
        "command goes on there\n"
    )
    assert head(bench.device) == bytes(MIB)
    assert bench.again()["resumed_bytes"] >= 4 * MIB


def test_an_interrupted_file_is_as_it_was(bench: Bench) -> None:
    """What the file held stands; beside it waits what has come."""
    copy = bench.workshop.folder / "copy"
    copy.write_bytes(b"old")
    with bench.until(20 * MIB, copy) as process:
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert f"\n  {copy} is as it was; the same command goes on there, with {copy}.part\n" in err
    assert copy.read_bytes() == b"old"
    assert bench.again(to=copy)["resumed_bytes"] >= 4 * MIB


def test_without_md5_and_size_an_interrupted_write_begins_anew(bench: Bench) -> None:
    """Nobody could tell that it is the same image; that is said."""
    bench.proof = []
    with bench.until(20 * MIB) as process:
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert "its beginning is blank; the same command begins anew\n" in err
    assert bench.again()["resumed_bytes"] == 0


def test_an_interrupt_is_an_object_for_machines(bench: Bench) -> None:
    """With --json the state of the device is in notes, and the exit code is 130."""
    bench.proof = ["--json"]
    with bench.until(20 * MIB) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    said = json.loads(out)
    assert (said["message"], said["exit_code"], process.returncode) == ("interrupted", 130, 130)
    assert said["notes"][0].startswith(f"{bench.device} is incomplete")
    assert err == ""


def test_before_the_first_byte_nothing_is_touched(bench: Bench) -> None:
    """Ctrl-C while the server says nothing leaves the device as it was."""
    before = head(bench.device)
    command = bench.workshop.command("write", "-", "--to", bench.device)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert process.stderr.readline().endswith("connecting\n")
            process.send_signal(signal.SIGINT)
            _out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"\n  {bench.device} is as it was\n" in f"\n{err}"
    assert head(bench.device) == before


@pytest.mark.parametrize("size", [[], ["--size", SIZE]], ids=["unknown size", "known size"])
def test_a_signal_that_ends_a_whole_pipe_is_one(bench: Bench, size: list[object]) -> None:
    """As a terminal's Ctrl-C does: what ends too soon is neither a wrong image nor a good one."""
    command = bench.workshop.command("write", "-", "--to", bench.device, *size)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(),
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(bench.raw[: 3 * MIB])
            wait_until(lambda: head(bench.device) == bytes(MIB))
            process.send_signal(signal.SIGINT)
            _out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    told = [f"{bench.device} is incomplete and boots nowhere: ", f"whether {bench.device} is "]
    assert any(each.encode() in err for each in told)


# --- an object that changes ----------------------------------------------------------------------


def test_an_object_that_changes_meanwhile_is_fetched_anew(bench: Bench) -> None:
    """What was written is of no use then: the write begins at the first byte, by itself."""
    with bench.until(20 * MIB) as process:
        os.utime(bench.path, (1, 1))  # another version of it, as its ETag says
        bench.web.cut()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "once more from the first byte\n" in err
    assert f" bytes written to {bench.device}, read back" in out
    assert Path(bench.device).read_bytes()[:SIZE] == bench.raw


# --- eMMC boot partitions ------------------------------------------------------------------------
# No emulated machine here has one: a loop device plays it, in a sysfs that calls it so.


class Emmc(Workshop):
    """A machine on which a loop device is /dev/mmcblk0boot0, as far as sysfs tells."""

    def protect(self, device: str) -> Path:
        """Call *device* so, write-protected, and return what protects it."""
        switch = self.folder / "devices/mmcblk0boot0/force_ro"
        switch.parent.mkdir(parents=True)
        switch.write_text("1\n")
        number = Path(device).stat().st_rdev
        name = f"{os.major(number)}:{os.minor(number)}"
        (self.folder / "block").mkdir()
        (self.folder / "block" / name).symlink_to(switch.parent)
        return switch

    def enter(self) -> Sequence[str]:
        script = f'mount --bind {self.folder}/block /sys/dev/block; exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]


@pytest.fixture
def boot_partition(tmp_path: Path) -> Iterator[tuple[Bench, Path]]:
    """The bench on such a machine, and what protects the device."""
    workshop = Emmc(tmp_path)
    with ExitStack() as stack:
        web = stack.enter_context(HttpServer())
        device = stack.enter_context(loop_device(tmp_path / "medium", 48 * MIB))
        yield Bench(workshop, web, device), workshop.protect(device)


def test_a_boot_partition_is_protected_again(boot_partition: tuple[Bench, Path]) -> None:
    """Its write protection is lifted while it is written, and after that it is as before."""
    bench, switch = boot_partition
    with bench.until(20 * MIB) as process:
        assert switch.read_text() == "0"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == SIGNALS[signal.SIGTERM]
    assert switch.read_text() == "1"
    assert bench.again()["resumed_bytes"] > 0
    assert switch.read_text() == "1"
    bench.proof = words("0" * 32, SIZE)
    assert bench.workshop.run(*bench.words()).returncode == 13
    assert switch.read_text() == "1"


def test_a_signal_at_any_line_ends_it_in_order(
    boot_partition: tuple[Bench, Path], tmp_path: Path
) -> None:
    """Nobody writes any more, the protection is back, and what is said of the device is true."""
    bench, switch = boot_partition
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"\xa5" * 2 * MIB)
    new.write_bytes(bench.raw[: 3 * MIB // 2])
    program = [*bench.workshop.enter(), sys.executable, SIGNALLED, old, bench.device, switch]
    command = ["--config", bench.workshop.config, "write", new, "--to", bench.device]
    done = run([*program, *command])
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    begins = {AS_IT_WAS: b"\xa5" * 4096, BLANK: bytes(4096), COMPLETE: bench.raw[:4096]}
    said = set()
    for each in found:
        assert (each["threads"], each["protection"]) == ([], "1"), each
        assert each["code"] in {0, 130}, each
        *_, last = ["", *each["said"].splitlines()]
        note = COMPLETE if each["code"] == 0 else last.removeprefix(f"  {bench.device} ")
        if not note.startswith("  whether "):
            assert bytes.fromhex(each["head"]) == begins[note], each
        said.add(note)
    assert len(found) > 50
    assert said >= {AS_IT_WAS, COMPLETE}


def test_a_terminal_that_takes_nothing_keeps_no_device_writable(
    boot_partition: tuple[Bench, Path],
) -> None:
    """The write ends and the protection is back, although nobody can be told yet."""
    bench, switch = boot_partition
    with stuck_terminal() as (leader, follower):
        command = bench.workshop.command("write", bench.path, "--to", bench.device)
        with subprocess.Popen(command, stderr=follower, env=environment(), cwd="/") as process:
            try:
                wait_until(lambda: switch.read_text() == "0")
                time.sleep(0.5)  # until it is stuck
                process.terminate()
                wait_until(lambda: switch.read_text() == "1")
                assert process.poll() is None
                while process.poll() is None:
                    with suppress(BlockingIOError):
                        os.read(leader, 1 << 16)
            finally:
                process.kill()
    assert process.returncode == 143


@contextmanager
def stuck_terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal that has no room for what is written to it."""
    leader, follower = pty.openpty()
    try:
        os.set_blocking(leader, False)
        os.set_blocking(follower, False)
        for _ in range(10):  # what the kernel has passed on makes room again
            with suppress(BlockingIOError):
                while os.write(follower, b"x"):
                    pass
            time.sleep(0.02)
        os.set_blocking(follower, True)
        yield leader, follower
    finally:
        os.close(leader)
        os.close(follower)


def test_a_killed_write_leaves_a_boot_partition_writable(
    boot_partition: tuple[Bench, Path],
) -> None:
    """Nobody is left to protect it; the documentation says so, and the next boot does it."""
    bench, switch = boot_partition
    with bench.until(20 * MIB) as process:
        process.kill()
        process.communicate(timeout=20)
    assert switch.read_text() == "0"

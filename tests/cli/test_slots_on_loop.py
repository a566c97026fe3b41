# SPDX-License-Identifier: MIT
"""Whole installs by the real program, on slots that are partitions of a loop device."""

import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from board_on_loop import MIB, ROOT_BYTES, Board, disk, make_image
from sim.broker import broker
from sim.cloud import Cloud, Message
from sim.http_server import HttpServer
from workshop import Agent, run_on_terminal

pytestmark = pytest.mark.root

IMAGE_BYTES = 256 * MIB
SMALL_BYTES = ROOT_BYTES
INSTALLING_KIB = 28 * 1024
FAST = "link_deadline_s = 20.0"


@dataclass(frozen=True)
class Image:
    """A firmware as the cloud names it."""

    path: Path
    md5: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> "Image":
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        return cls(path, digest.hexdigest(), path.stat().st_size)

    def words(self) -> list[object]:
        """Return what the command line says of it."""
        return ["--md5", self.md5, "--size", self.size_bytes]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A file system that boots, and installs in no time."""
    return Image.of(make_image(tmp_path_factory.mktemp("images") / "small.ext4", SMALL_BYTES))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The same, long enough for growth to show."""
    return Image.of(make_image(tmp_path_factory.mktemp("images") / "large.ext4", IMAGE_BYTES))


@pytest.fixture
def board(tmp_path: Path, small: Image) -> Iterator[Board]:
    """A board that has booted slot A, connected to nothing."""
    with disk(tmp_path, small.path) as device:
        yield Board(tmp_path, device, health="link = false")


@dataclass
class World:
    """The board, and what it is connected to."""

    board: Board
    cloud: Cloud
    web: HttpServer

    def serve(self, image: Image) -> str:
        """Serve *image* and return its URL, which is a secret."""
        self.web.put({"firmware": image.path})
        return f"http://127.0.0.1:{self.web.port}/firmware?sign=secret"

    def offer(self, image: Image, md5: str = "") -> None:
        """Start a task for version 2.0.0."""
        self.cloud.offer("2.0.0", self.serve(image), md5 or image.md5, image.size_bytes)


@pytest.fixture
def make_world(tmp_path: Path, small: Image) -> Iterator[Callable[..., World]]:
    """Make a board that has booted slot A, in its world."""
    with ExitStack() as stack:

        def make(*, health: str = FAST) -> World:
            port = stack.enter_context(broker())
            web = stack.enter_context(HttpServer())
            cloud = stack.enter_context(Cloud(port))
            device = stack.enter_context(disk(tmp_path, small.path))
            return World(Board(tmp_path, device, port=port, health=health), cloud, web)

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A board that has booted slot A, in its world."""
    return make_world()


def holds(board: Board, slot: str, image: Image) -> bool:
    """Tell whether *slot* holds *image*, read past what the page cache may say."""
    digest = hashlib.md5(usedforsecurity=False)
    fileno = os.open(board.slots[slot], os.O_RDONLY)
    try:
        os.posix_fadvise(fileno, 0, 0, os.POSIX_FADV_DONTNEED)
        left = image.size_bytes
        while left:
            chunk = os.read(fileno, min(left, MIB))
            digest.update(chunk)
            left -= len(chunk)
    finally:
        os.close(fileno)
    return digest.hexdigest() == image.md5


def reboot(board: Board, agent: Agent) -> str:
    """Wait until the board asks for a reboot, end the agent as init does, and boot."""
    agent.wait_until(board.rebooted.exists, "a reboot")
    assert agent.end() == 0
    return board.boot()


def states(messages: list[Message]) -> list[str]:
    """Return what was reported, without repetitions."""
    said = [message.state or f"version {message.version}" for message in messages]
    return [word for before, word in zip(["", *said], said, strict=False) if word != before]


# --- an offer ------------------------------------------------------------------------------------


def test_an_offer_becomes_the_running_system(world: World, large: Image) -> None:
    """Offer, download, flip, reboot, trial, done: the whole way, in the promised memory."""
    board, cloud = world.board, world.cloud
    world.web.bytes_per_s = 128e6
    with board.agent() as agent:
        cloud.wait_for_version("1.0.0")
        world.offer(large)
        used = watch(agent, until=board.rebooted.exists)
        cloud.wait_for_state("burning")
        environment = board.environment()
        assert (environment["boot_slot"], environment["upgrade_available"]) == ("B", "1")
        assert environment["bootcount"] == "0"
        assert holds(board, "B", large)
        assert reboot(board, agent) == "B"
    with board.agent() as agent:
        cloud.wait_for_state("done")
        cloud.wait_for_version("2.0.0")
        assert agent.end() == 0
    assert states(cloud.messages) == [
        "version 1.0.0", "downloading", "burning", "done", "version 2.0.0",
    ]  # fmt: skip
    percents = [message.percent for message in cloud.messages if message.state == "downloading"]
    assert percents[0] == 0
    assert percents[-1] == 100
    assert percents == sorted(percents)
    assert board.environment()["upgrade_available"] == "0"
    status = board.json("status")
    assert [(s["bootname"], s["booted"], s["version"]) for s in status["slots"]] == [
        ("B", True, "2.0.0"), ("A", False, None),
    ]  # fmt: skip
    assert status["problems"] == []
    early, late = used[len(used) // 4], used[-len(used) // 8]
    assert max(used) <= INSTALLING_KIB
    assert late - early <= 1024


def watch(agent: Agent, until: Callable[[], bool]) -> list[int]:
    """Return the agent's private memory over time, KiB, until something is so."""
    used: list[int] = []
    largest = {"RssAnon": 0}
    deadline_s = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline_s, agent.log
        now = agent.memory_kib()
        used.append(now["RssAnon"])
        largest = max(largest, now, key=lambda memory: memory["RssAnon"])
        time.sleep(0.02)
    print(f"installing, at most: {largest} KiB, in {len(used)} samples")
    return used


def test_a_wrong_digest_is_refused_and_what_runs_goes_on(world: World, small: Image) -> None:
    """An image that is not the announced one is reported -4; its head is blank; A boots."""
    board, cloud = world.board, world.cloud
    with board.agent() as agent:
        cloud.wait_for_version("1.0.0")
        world.offer(small, md5="0" * 32)
        said = cloud.wait_for_state("fail")
        assert said.code == -4
        assert small.md5 in said.reason
        assert agent.end() == 0
    assert board.head("B") == bytes(MIB)
    assert not board.rebooted.exists()
    assert board.boot() == "A"


def test_a_trial_that_nobody_marks_good_falls_back(world: World, small: Image) -> None:
    """The bootloader counts, returns to A, and the cloud hears why, once."""
    board, cloud = world.board, world.cloud
    with board.agent() as agent:
        world.offer(small)
        assert reboot(board, agent) == "B"
    assert [board.boot() for _ in range(3)] == ["B", "B", "A"]
    with board.agent() as agent:
        said = cloud.wait_for_state("fail")
        assert (said.code, said.reason) == (
            -5, "trial: fell back after 3 boots without being marked good",
        )  # fmt: skip
        cloud.end_task()
        cloud.wait_for_version("1.0.0", since=cloud.messages.index(said))
        assert agent.end() == 0
    assert "updater_session" not in board.environment()
    assert [m.state for m in cloud.messages].count("fail") == 1


def test_an_unhealthy_trial_is_rolled_back(
    make_world: Callable[..., World], small: Image, tmp_path: Path
) -> None:
    """A health command that fails in the trial alone returns the board to A."""
    check = (
        'deadline_s = 1.0\n[[health.command]]\nname = "app"\nretry_s = 0.1\n'
        f'argv = ["test", "-e", "{tmp_path}/app"]'
    )
    (tmp_path / "app").touch()
    world = make_world(health=check)
    board, cloud = world.board, world.cloud
    with board.agent() as agent:
        world.offer(small)
        assert reboot(board, agent) == "B"
    (tmp_path / "app").unlink()
    with board.agent() as agent:
        assert reboot(board, agent) == "A"
    with board.agent():
        said = cloud.wait_for_state("fail")
    assert (said.code, said.reason) == (-5, "health: app: exit status 1")


# --- updater install -----------------------------------------------------------------------------


def test_install_without_an_agent_flips_and_reboots(board: Board, small: Image) -> None:
    """The command does what the agent would, and the next boot is the new slot's trial."""
    done = board.run("install", small.path, "--firmware-version", "2.0.0", *small.words())
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("version 2.0.0 is in slot B, which boots next, on trial; rebooting\n")
    assert done.stderr == ""
    assert board.rebooted.exists()
    assert holds(board, "B", small)
    assert board.boot() == "B"
    assert board.run("mark-good").stdout == "slot B is good\n"
    assert (board.folder / "run/trial-over").exists()
    assert board.environment()["upgrade_available"] == "0"
    assert "  2.0.0  good  slot B is good\n" in board.run("history").stdout


def test_install_shows_a_live_line(world: World, small: Image) -> None:
    """On a terminal one line lives and ends with a newline, before the answer."""
    world.web.bytes_per_s = 24e6
    command = world.board.command(
        "install", world.serve(small), "--firmware-version", "2.0.0", *small.words()
    )
    code, out, seen = run_on_terminal(command)
    assert code == 0
    assert out.endswith("rebooting\n")
    check_live_line(seen)


def check_live_line(seen: str) -> None:
    """Assert that *seen* is one line drawn again and again, with percents that only grow."""
    assert seen.endswith("\r\n")
    assert seen.count("\n") == 1
    lines = seen.removesuffix("\r\n").split("\r\x1b[K")
    assert lines[0] == ""
    assert len(lines) > 3
    percents = [int(line.split()[1]) for line in lines if line.endswith("writing")]
    assert percents == sorted(percents)
    assert all(len(line) < 80 for line in lines)


@pytest.mark.parametrize("is_agent_running", [False, True], ids=["alone", "by the agent"])
def test_install_of_a_wrong_digest_fails_alike(
    world: World, small: Image, *, is_agent_running: bool
) -> None:
    """With and without an agent the command waits for the end, and its exit code is 13."""
    board = world.board
    words = ["install", world.serve(small), "--firmware-version", "2.0.0", "--size", SMALL_BYTES]
    with ExitStack() as stack:
        if is_agent_running:
            stack.enter_context(board.agent()).wait_for_control()
        done = board.run(*words, "--md5", "0" * 32)
    assert done.returncode == 13
    assert done.stdout == ""
    assert done.stderr.startswith(f"updater: install: MD5 is {small.md5}, announced was 000")
    assert board.head("B") == bytes(MIB)
    assert board.environment()["boot_slot"] == "A"
    assert not board.rebooted.exists()


def test_install_by_the_agent_waits_for_the_reboot(board: Board, small: Image) -> None:
    """The command follows the agent's session, and returns once the new slot boots next."""
    with board.agent() as agent:
        agent.wait_for_control()
        said = board.json("install", small.path, "--firmware-version", "2.0.0", *small.words())
        assert (said["state"], said["target"]) == ("activated", "B")
        assert board.environment()["boot_slot"] == "B"
        again = board.run("install", small.path, "--firmware-version", "3.0", *small.words())
        assert again.returncode == 5
        assert reboot(board, agent) == "B"


def test_install_does_not_wait_for_a_url_that_nobody_brings(world: World) -> None:
    """Without an agent a URL that was refused is final at once: exit code 12."""
    world.web.put({"firmware": 403})
    url = f"http://127.0.0.1:{world.web.port}/firmware?sign=secret"
    done = world.board.run(
        "install", url, "--firmware-version", "2.0.0", "--md5", "0" * 32, "--size", MIB
    )
    assert (done.returncode, done.stdout) == (12, "")
    assert "get a fresh URL" in done.stderr
    assert "secret" not in done.stderr


def test_install_tells_that_the_agent_has_ended(world: World, small: Image) -> None:
    """The agent that is followed is killed: exit code 7, and the next one goes on by itself."""
    board = world.board
    world.web.bytes_per_s = 1e6
    words = ["install", world.serve(small), "--firmware-version", "2.0.0", *small.words()]
    with board.agent() as agent:
        agent.wait_for_control()
        with board.start(*words) as process:
            agent.wait_until(lambda: bool(world.web.served), "a download")
            agent.end(signal.SIGKILL)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (7, "")
    assert re.match(
        r"updater: the agent has ended while session \w+ was open; it goes on when ", err
    )
    world.web.bytes_per_s = None
    with board.agent() as agent:
        assert reboot(board, agent) == "B"


def test_install_need_not_wait(world: World, small: Image) -> None:
    """With --no-wait the command returns when the agent has begun; status shows how far it is."""
    board = world.board
    world.web.bytes_per_s = 1e6
    with board.agent() as agent:
        agent.wait_for_control()
        words = ["install", world.serve(small), "--firmware-version", "2.0.0", *small.words()]
        done = board.run(*words, "--no-wait")
        session = json.loads(board.run("status", "--json").stdout)["session"]
        assert done.stdout == f"session {session['id']} has begun; see: updater status\n"
        assert session["state"] == "installing"
        text = board.run("status").stdout
        assert f"session {session['id']}: version 2.0.0 installing" in text
        assert re.search(r" of 24\.0 MiB  (connecting|preparing the medium|writing)\n", text)
        busy = board.run("write", small.path, "--to", board.slots["B"], *small.words())
        assert busy.returncode == 5
        assert f"process {agent.pid}" in busy.stderr
        world.web.bytes_per_s = None
        assert reboot(board, agent) == "B"


def test_an_interrupted_install_goes_on(world: World, small: Image) -> None:
    """Ctrl-C leaves B without a head and A untouched; the same command then succeeds."""
    board = world.board
    world.web.bytes_per_s = 1e6
    words = ["install", world.serve(small), "--firmware-version", "2.0.0", *small.words()]
    with board.start(*words) as process:
        deadline_s = time.monotonic() + 20
        while not world.web.served:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert err == (
        "updater: interrupted\n"
        "  what runs now is untouched; the same command goes on or starts anew\n"
    )
    assert board.head("B") == bytes(MIB)
    world.web.bytes_per_s = None
    other = board.run("write", small.path, "--to", board.slots["B"], *small.words())
    assert other.returncode == 5
    done = board.run(*words)
    assert done.returncode == 0, done.stderr
    assert board.boot() == "B"


# --- verdicts ------------------------------------------------------------------------------------


def install(board: Board, version: str, image: Image) -> None:
    """Bring *version* in and keep it."""
    done = board.run("install", image.path, "--firmware-version", version, *image.words())
    assert done.returncode == 0, done.stderr
    board.boot()
    assert board.run("mark-good").returncode == 0


def test_without_a_trial_there_is_nothing_to_judge(board: Board) -> None:
    """mark-good and rollback say so, with exit code 6, and change nothing."""
    before = board.environment()
    good = board.run("mark-good")
    assert (good.returncode, good.stdout) == (6, "")
    assert good.stderr.startswith("updater: slot A is not on trial: there is nothing to judge\n")
    back = board.run("rollback")
    assert back.returncode == 6
    assert back.stderr.startswith("updater: slot B holds no image that this device verified\n")
    assert board.environment() == before
    assert not board.rebooted.exists()


def test_a_trial_is_rolled_back_on_request(board: Board) -> None:
    """In a trial rollback needs no record: the other slot ran before."""
    board.store(upgrade_available="1", bootcount="1")
    done = board.run("rollback")
    assert (done.returncode, done.stdout) == (0, "slot B boots next; rebooting\n")
    environment = board.environment()
    assert (environment["boot_slot"], environment["upgrade_available"]) == ("B", "0")
    assert board.rebooted.exists()


@pytest.mark.parametrize("is_agent_running", [False, True], ids=["alone", "by the agent"])
def test_rollback_needs_what_was_verified(
    board: Board, small: Image, *, is_agent_running: bool
) -> None:
    """The other slot is read back first: a match boots it, a flipped bit is exit code 13."""
    install(board, "2.0.0", small)
    install(board, "3.0.0", small)
    assert board.booted == "A"
    with ExitStack() as stack:
        if is_agent_running:
            stack.enter_context(board.agent()).wait_for_control()
        flip(board.slots["B"], 5 * MIB)
        done = board.run("rollback")
        assert done.returncode == 13
        assert done.stderr.startswith("updater: slot B no longer holds version 2.0.0: its MD5 is ")
        assert board.environment()["boot_slot"] == "A"
        assert not board.rebooted.exists()
        flip(board.slots["B"], 5 * MIB)
        done = board.run("rollback")
        assert (done.returncode, done.stdout) == (0, "slot B boots next; rebooting\n")
        deadline_s = time.monotonic() + 10
        while not board.rebooted.exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    assert board.boot() == "B"
    assert board.json("status")["version"] == "2.0.0"


def flip(device: str, offset: int) -> None:
    """Flip one bit on the medium."""
    fileno = os.open(device, os.O_RDWR | os.O_SYNC)
    try:
        byte = os.pread(fileno, 1, offset)[0]
        os.pwrite(fileno, bytes([byte ^ 1]), offset)
    finally:
        os.close(fileno)


def test_rollback_waits_for_an_open_session(board: Board, small: Image) -> None:
    """A slot that is activated and not yet booted is never taken for a verified return."""
    done = board.run("install", small.path, "--firmware-version", "2.0.0", *small.words())
    assert done.returncode == 0
    back = board.run("rollback")
    assert back.returncode == 5
    assert " is activated; it must end first\n" in back.stderr
    assert board.environment()["upgrade_available"] == "1"


# --- updater write -------------------------------------------------------------------------------


def test_write_fills_the_free_slot_and_voids_its_record(board: Board, small: Image) -> None:
    """The slot holds the image; nothing boots it, and nothing says that it was verified."""
    install(board, "2.0.0", small)
    install(board, "3.0.0", small)
    before = board.environment()
    done = board.run("write", small.path, "--to", board.slots["B"], *small.words())
    assert done.returncode == 0, done.stderr
    assert holds(board, "B", small)
    assert board.environment() == before
    assert board.run("rollback").returncode == 6


REFUSALS = {
    "the booted slot": ("A", {}, "is the booted root"),
    "the slot that boots next": ("B", {"boot_slot": "B"}, "which boots next"),
    "what a trial falls back to": (
        "B", {"upgrade_available": "1"}, "which the trial under way falls back to",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("slot", "variables", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_write_refuses(
    board: Board, small: Image, slot: str, variables: dict[str, str], reason: str
) -> None:
    """What a boot counts on is never written; the exit code is 16 and the slot as it was."""
    board.store(**variables)
    refuse(board, small, slot, reason)


def refuse(board: Board, image: Image, slot: str, reason: str) -> None:
    """Assert that *slot* is not written, for *reason*."""
    before = board.head(slot)
    done = board.run("write", image.path, "--to", board.slots[slot], *image.words())
    assert (done.returncode, done.stdout) == (16, "")
    assert done.stderr.startswith(f"updater: {board.slots[slot]} ")
    assert reason in done.stderr
    assert board.head(slot) == before


def test_write_refuses_in_a_contradiction(board: Board, small: Image) -> None:
    """If the bootloader says another slot than the root does, no slot is written at all."""
    board.command_line.write_text("updater.slot=B")
    refuse(board, small, "B", "may be a slot that is needed: the command line says updater.slot=B")
    assert board.run("status").stdout.count("problem: the command line says updater.slot=B") == 1

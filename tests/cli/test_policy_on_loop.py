# SPDX-License-Identifier: MIT
"""In control of when, by the real program: on partitions of a loop device, with a real broker."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import file_digest, md5
from pathlib import Path
from typing import Any

import pytest
from board_on_loop import ROOT_BYTES, Board, disk, make_image
from sim.broker import broker
from sim.cloud import Cloud
from sim.http_server import HttpServer
from workshop import Agent, run

pytestmark = pytest.mark.root


class Device:
    """A board with a policy, in its world."""

    def __init__(self, board: Board, cloud: Cloud, web: HttpServer, image: Path) -> None:
        self.board, self.cloud, self.web, self.image = board, cloud, web, image
        with image.open("rb") as file:
            self.md5 = file_digest(file, lambda: md5(usedforsecurity=False)).hexdigest()
        web.put({"firmware": image})
        self.url = f"http://127.0.0.1:{web.port}/firmware?sign=secret"

    def offer(self) -> None:
        """Have the cloud offer version 2.0.0."""
        self.cloud.offer("2.0.0", self.url, self.md5, self.image.stat().st_size)

    def waiting(self) -> Any:
        """Return what `updater status` says that waits."""
        return self.board.json("status")["waiting"]

    def history(self) -> list[str]:
        return [each["text"] for each in self.board.json("history")["entries"]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file system that boots."""
    return make_image(tmp_path_factory.mktemp("images") / "small.ext4", ROOT_BYTES)


@pytest.fixture
def make(tmp_path: Path, image: Path) -> Iterator[Callable[[str], Device]]:
    """Make a device with rows of policy."""
    with ExitStack() as stack:

        def made(policy: str) -> Device:
            port = stack.enter_context(broker())
            cloud = stack.enter_context(Cloud(port))
            web = stack.enter_context(HttpServer())
            device = stack.enter_context(disk(tmp_path, image))
            board = Board(tmp_path, device, port=port, health="link_deadline_s = 20.0")
            with board.config.open("a") as file:
                file.write(f"[policy]\nretry_s = 1\n{policy}")
            return Device(board, cloud, web, image)

        yield made


def zone_in_which_it_is(hour: int, before_s: int) -> str:
    """Return a time zone in which it is *before_s* before *hour* now."""
    behind_s = (int(time.time()) - (hour * 3600 - before_s)) % 86400
    return f"XXX{behind_s // 3600:02}:{behind_s // 60 % 60:02}:{behind_s % 60:02}"


def hook(folder: Path, when: str, script: str) -> str:
    """Return the rows of a hook that runs *script*, and notes its environment."""
    path = folder / f"{when}.sh"
    path.write_text(f"env > {folder}/{when}.env\n{script}\n")
    return f'[[policy.hook]]\nname = "{when}"\nwhen = "{when}"\nargv = ["sh", "{path}"]\n'


def test_a_day_of_a_device_with_a_policy(
    make: Callable[[str], Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shut window, window, install, hooks, request, reboot, done: each seen from outside."""
    monkeypatch.setenv("TZ", zone_in_which_it_is(2, before_s=8))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/updater.service")
    device = make(
        'install_windows = ["02:00-04:00"]\nreboot = "on-request"\n'
        f'power_command = ["test", "!", "-e", "{tmp_path}/battery-low"]\n'
        + hook(tmp_path, "before-install", "exit 0")
        + hook(tmp_path, "after-install", "exit 0")
        + hook(tmp_path, "before-activation", f"test -e {tmp_path}/migrated || exit 75")
    )
    board = device.board
    with board.agent() as agent:
        device.cloud.wait_for_version("1.0.0")
        said = len(device.cloud.messages)
        device.offer()
        agent.wait_for_log("waits: no install window is open (02:00-04:00)")
        found = device.waiting()
        assert (found["what"], found["version"], found["is_asking"]) == ("install", "2.0.0", False)
        assert 0 <= found["left_s"] <= 8
        assert "02:00\n" in board.run("status").stdout
        assert device.cloud.messages[said:] == []
        assert board.run("activate").returncode == 6
        agent.wait_for_log("the activation waits: it is asked for by: updater activate", 40)
        assert "the activation of version 2.0.0 waits" in board.run("status").stdout
        assert "the activation waits: it is asked for by: updater activate" in device.history()
        (tmp_path / "battery-low").touch()
        told = board.run("activate")
        assert (told.returncode, told.stderr) == (0, "")
        agent.wait_for_log("not enough power (power_command: exit status 1)")
        (tmp_path / "battery-low").unlink()
        agent.wait_for_log("hook before-activation: exit status 75")
        assert not board.rebooted.exists()
        (tmp_path / "migrated").touch()
        agent.wait_until(board.rebooted.exists, "a reboot")
        assert agent.end() == 0
        assert "secret" not in agent.log
    assert board.boot() == "B"
    with board.agent():
        assert device.cloud.wait_for_state("done").version == "2.0.0"
        device.cloud.wait_for_version("2.0.0")
    for when in ("before-install", "after-install", "before-activation"):
        known = dict(
            row.split("=", 1) for row in (tmp_path / f"{when}.env").read_text().splitlines()
        )
        assert known["UPDATER_SLOT"] == "B"
        assert not {"CREDENTIALS_DIRECTORY", "TZ", "HOME"} & set(known)
        assert "secret" not in str(known)


@pytest.mark.parametrize("is_running", [True, False], ids=["by the agent", "alone"])
def test_a_person_is_answered_by_power_and_hooks(
    make: Callable[[str], Device], tmp_path: Path, is_running: bool
) -> None:
    """A sentence and an exit code; windows and requests do not hold a person up."""
    device = make(
        'install_windows = ["Mon 00:00-00:01"]\nreboot = "on-request"\n'
        f'power_command = ["test", "!", "-e", "{tmp_path}/battery-low"]\n'
        + hook(tmp_path, "before-install", f"cat {tmp_path}/answer; exit $(cat {tmp_path}/status)")
        + hook(tmp_path, "before-activation", f"exit $(cat {tmp_path}/status)")
    )
    board = device.board
    size = device.image.stat().st_size
    words = ["install", device.image, "--md5", device.md5, "--size", size]

    def install() -> tuple[int, str]:
        done = board.run(*words, "--firmware-version", "2.0.0")
        return done.returncode, done.stderr

    def answer(status: int, text: str) -> None:
        (tmp_path / "status").write_text(f"{status}\n")
        (tmp_path / "answer").write_text(f"{text}\n")

    with ExitStack() as stack:
        if is_running:
            stack.enter_context(board.agent()).wait_for_control()
        (tmp_path / "battery-low").touch()
        code, said = install()
        assert (code, "not now: not enough power" in said) == (6, True)
        (tmp_path / "battery-low").unlink()
        answer(75, "the pump runs")
        code, said = install()
        assert (code, "not now: hook before-install: the pump runs" in said) == (6, True)
        answer(3, "this site is frozen")
        code, said = install()
        assert (code, "hook before-install: this site is frozen" in said) == (22, True)
        assert board.json("status")["session"] is None
        answer(0, "")
        assert install() == (0, "")
        assert board.rebooted.exists()


def test_an_installed_firmware_that_is_put_off_is_told_to_its_installer(
    make: Callable[[str], Device], tmp_path: Path
) -> None:
    """Exit code 6, with what it waits for; the agent goes on with it by itself."""
    device = make(hook(tmp_path, "before-activation", f"test -e {tmp_path}/migrated || exit 75"))
    board = device.board
    words = ["install", device.image, "--md5", device.md5, "--size", device.image.stat().st_size]
    done = board.run("--json", *words, "--firmware-version", "2.0.0")
    assert done.returncode == 6
    assert json.loads(done.stdout)["message"] == (
        "version 2.0.0 is installed; the activation of version 2.0.0 waits: "
        "hook before-activation: exit status 75"
    )
    with Agent(board) as agent:
        agent.wait_for_log("the activation waits: hook before-activation: exit status 75")
        (tmp_path / "migrated").touch()
        agent.wait_until(board.rebooted.exists, "a reboot")


def test_a_cancel_ends_what_waits_and_kills_the_hook_that_runs(
    make: Callable[[str], Device], tmp_path: Path
) -> None:
    """An offer that is put off is refused; a hook goes with its whole group, for good."""
    device = make(
        hook(tmp_path, "before-install", f"test -e {tmp_path}/open || exit 75")
        + hook(tmp_path, "after-install", f"sleep 40 & echo $$ $! > {tmp_path}/pids; wait")
    )
    board, cloud, pids = device.board, device.cloud, tmp_path / "pids"
    with board.agent() as agent:
        cloud.wait_for_version("1.0.0")
        device.offer()
        agent.wait_for_log("waits: hook before-install: exit status 75")
        done = board.run("cancel", "--reason", "too early")
        assert done.stdout == "version 2.0.0, which was kept for later, is dropped\n"
        assert cloud.wait_for_state("fail").reason == "cancelled: too early"
        assert device.waiting() is None
        assert board.json("offers", "clear") == {"cleared": 1}
        (tmp_path / "open").touch()
        said = len(cloud.messages)
        device.offer()
        agent.wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), "a hook", 40)
        assert device.waiting()["reason"] == "hook after-install is asked"
        assert board.json("cancel", "--reason", "too late")["version"] == "2.0.0"
        failure = cloud.wait_for_state("fail", since=said)
        assert (failure.code, failure.reason) == (-5, "cancelled: too late")
        ran = pids.read_text().split()
        agent.wait_until(lambda: not any(is_running(pid) for pid in ran), "the end of the hook")
        assert device.waiting() is None
        pids.unlink()
        assert agent.end() == 0
    with board.agent():
        cloud.wait_for_version("1.0.0", since=len(cloud.messages))
        assert device.waiting() is None
    assert not pids.exists()
    assert not board.rebooted.exists()


def is_running(pid: str) -> bool:
    """Tell whether process *pid* runs: one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_of_a_policy_is_loaded_where_there_is_none() -> None:
    """The agent's memory is for what is configured."""
    names = ["passage", "paced", "meter", "core.policy", "core.windows"]
    script = (
        "import sys, updater.service, updater.commands\n"
        f"print(sorted({{'updater.' + name for name in {names}}} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", script]).stdout == "[]\n"

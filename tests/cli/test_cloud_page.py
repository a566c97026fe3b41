# SPDX-License-Identifier: MIT
"""docs/cloud.md is followed to the letter, as a newcomer would, and ends in an update."""

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from board_on_loop import ROOT_BYTES, Board, disk, make_image
from cloudpage import Block, block, blocks
from edge.newerpython import device_by, newer_python
from pagemachine import PageMachine, wait

from board.emulator import image

pytestmark = pytest.mark.root

UPDATES = "/etc/mosquitto/updates"
ON_THE_DEVICE = {  # by its name there: what the page has copied to /data/updater
    "ca.pem": "ca.pem",
    "password": "board-1.password",
    "board-1.pem": "board-1.pem",
    "board-1.key": "board-1.key",
    "device-secret": "board-1.device-secret",
}
MACHINE, DEVICE, UPDATE = "The machine", "The device", "The update"
NO_BOARD = "Without a board"
WAYS = ("A certificate", "A pre-shared key", "WebSocket")
_STATE = """
control = "{run}/control"
lock = "{run}/lock"
trial_over = "{run}/trial-over"
board = "{folder}/board.toml"
reboot_command = ["touch", "{folder}/rebooted"]
"""


class PageBoard(Board):
    """A board in small within the page's network, whose settings are the page's."""

    def __init__(self, folder: Path, disk: str, machine: PageMachine, settings: str) -> None:
        """Take the page's *settings*; those of a board that is not one's own come behind them."""
        self._network = machine.enter
        super().__init__(folder, disk)
        more = _STATE.format(folder=folder, run=folder / "run")
        self.config.write_text(machine.here(settings) + more)

    def enter(self) -> Sequence[str]:
        """Return what has to stand before a command so that it runs on this board."""
        return [*self._network, *super().enter()]


def copy_to_the_device(machine: PageMachine, names: Sequence[str]) -> None:
    for name in names:
        to = machine.place(f"/data/updater/{name}")
        shutil.copy(machine.place(f"{UPDATES}/{ON_THE_DEVICE[name]}"), to)
        to.chmod(0o600)


def set_up(machine: PageMachine, heading: str) -> None:
    """Save and type what stands under *heading*, in its order, but the ear and the settings."""
    for each in blocks(heading=heading):
        if each.language == "sh" and not each.text.startswith("mosquitto_sub"):
            machine.type(each)
        elif each.language in {"conf", "nginx"}:
            machine.save(each)


@pytest.fixture(scope="module")
def machine() -> Iterator[PageMachine]:
    """The Debian machine, its broker and web server running as the page has them."""
    with PageMachine() as it:
        set_up(it, MACHINE)
        it.serve()
        yield it


@pytest.fixture(scope="module")
def every_way(machine: PageMachine) -> PageMachine:
    """The same, with all listeners of the page."""
    for heading in WAYS:
        set_up(machine, heading)
    machine.serve()
    return machine


def without_names(text: str) -> list[str]:
    """Return the lines of a status without what differs from board to board."""
    names = re.compile(r"(?<=^board )\S+|/dev/\S+|(?<=^session )\w+", re.MULTILINE)
    return names.sub("…", text).splitlines()


def in_order(lines: Sequence[str], said: str) -> bool:
    """Tell whether *said* has all *lines*, in their order, and perhaps others between them."""
    left = iter(said.splitlines())
    return all(line in left for line in lines)


def test_the_walk_ends_in_the_new_version(machine: PageMachine, tmp_path: Path) -> None:
    """Typed as it stands, the page leads to `done`, to what the ear hears and `status` says."""
    firmware = make_image(tmp_path / "image.ext4", ROOT_BYTES)
    copy_to_the_device(machine, ("ca.pem", "password"))
    settings = block("toml", DEVICE).text
    expected = block("text", UPDATE, "$ota").text.splitlines()
    with (
        machine.ear(block("sh", MACHINE, "mosquitto_sub").text) as heard,
        disk(tmp_path, firmware) as loop,
    ):
        board = PageBoard(tmp_path, loop, machine, settings)
        with board.agent() as agent:
            agent.wait_until(lambda: in_order(expected[:1], heard.read_text()), "a version")
            machine.type(block("sh", DEVICE, "mosquitto_pub"))
            shutil.copy(firmware, machine.place("/srv/firmware/image-1.1.0.ext4"))
            assert machine.may_read("www-data", "/srv/firmware/image-1.1.0.ext4")
            machine.type(block("sh", UPDATE, "cd /srv/firmware"))
            agent.wait_until(board.rebooted.exists, "a reboot")
            assert "can be read by others" not in agent.log
            assert agent.end() == 0
        assert board.boot() == "B"
        with board.agent() as agent:
            agent.wait_until(lambda: in_order(expected, heard.read_text()), "the page's end")
            said = board.run("status").stdout
        assert '"fail"' not in heard.read_text()
    assert without_names(block("text", UPDATE, "board ").text) == without_names(said)


@pytest.mark.qemu
def test_the_walk_needs_no_board(machine: PageMachine, tmp_path: Path) -> None:
    """The same with the emulated board, whose settings are the page's to the letter."""
    image.image("1.0.0")  # building is not what is waited for
    image.image("1.1.0")
    expected = block("text", UPDATE, "$ota").text.splitlines()
    said = tmp_path / "console"
    machine.type(Block("sh", "", f"cd {tmp_path}"))
    machine.type(block("sh", NO_BOARD, "mkdir"))
    (tmp_path / "device/updater.toml").write_text(block("toml", DEVICE).text)
    boot = block("sh", NO_BOARD, "make").text.replace("device", f"{tmp_path}/device").split()
    with (
        machine.ear(block("sh", MACHINE, "mosquitto_sub").text) as heard,
        machine.program(*boot, said=said) as console,
    ):
        wait(lambda: in_order(expected[:1], heard.read_text()), "a version", timeout_s=240)
        machine.type(block("sh", DEVICE, "mosquitto_pub"))
        [newer] = re.findall(r"an image of version 1\.1\.0: (\S+)", said.read_text())
        shutil.copy(newer, machine.place("/srv/firmware/image-1.1.0.ext4"))
        machine.type(block("sh", UPDATE, "cd /srv/firmware"))
        wait(lambda: in_order(expected, heard.read_text()), "the page's end", timeout_s=360)
        console.write("updater status\n")
        console.flush()
        wait(lambda: "agent runs, link up" in said.read_text(), "a status", timeout_s=60)
        assert '"fail"' not in heard.read_text()


def test_its_packages_are_those_of_the_tests() -> None:
    """What the page installs is what this was tried with."""
    named = block("sh", MACHINE, "apt install").text.split()[2:]
    listed = Path(__file__).parents[2].joinpath(".ci/packages.txt").read_text()
    assert set(named) <= set(re.findall(r"^([a-z][a-z0-9.+-]+)", listed, re.MULTILINE))


@pytest.mark.parametrize("name", ["server.pem", "server.key", "passwords", "acl", "psk", "ca.pem"])
def test_the_brokers_own_user_can_read_its_files(every_way: PageMachine, name: str) -> None:
    """The modes that come of the page's commands let mosquitto in."""
    assert every_way.may_read("mosquitto", f"{UPDATES}/{name}")


@pytest.mark.parametrize("name", ["ca.key", "board-1.key", "passwords", "psk", "cloud.password"])
def test_nobody_else_can_read_what_is_secret(every_way: PageMachine, name: str) -> None:
    """And they keep everybody else out."""
    assert every_way.may_read("www-data", "/etc/mosquitto")
    assert not every_way.may_read("www-data", f"{UPDATES}/{name}")


def settings_of(machine: PageMachine, each: Block) -> dict[str, object]:
    """Return the ``[cloud]`` of one of the page's settings, with the paths of this machine."""
    found: dict[str, object] = tomllib.loads(machine.here(each.text))["cloud"]
    return found


@pytest.mark.parametrize("heading", [DEVICE, *WAYS])
def test_every_way_in_leads_in(every_way: PageMachine, tmp_path: Path, heading: str) -> None:
    """A device of the page's own settings connects, may report, and is acknowledged."""
    copy_to_the_device(every_way, list(ON_THE_DEVICE))
    settings = settings_of(every_way, block("toml", heading))
    python = newer_python() if settings["auth"] == "psk" else sys.executable
    found = device_by([*every_way.enter, python], tmp_path, settings)
    assert found == {"acknowledged": True, "reasons": []}


def test_a_device_hears_its_own_offers_alone(machine: PageMachine) -> None:
    """Whoever has one device's password hears nothing of another's, whatever he subscribes to."""
    subscribe = (
        f"""mosquitto_sub -u board-1 -P "$(cat {UPDATES}/board-1.password)" -v -t '$ota/#'"""
    )
    with machine.ear(subscribe) as heard:
        for device in ("board-2", "board-1"):
            topic = f"$ota/update/MYPRODUCT1/{device}"
            machine.run("mosquitto_pub", "-t", topic, "-m", device)
        wait(lambda: bool(heard.read_text()), "an offer")
        assert heard.read_text() == "$ota/update/MYPRODUCT1/board-1 board-1\n"

# SPDX-License-Identifier: MIT
"""Firmwares that boot and are no good: each way back is another one, each ends in one ``fail``."""

from pathlib import Path

from sim.rig import Rig

from board.emulator import image
from board.emulator.image import Image


def fails(rig: Rig, bad: Image, timeout_s: float = 120.0) -> str:
    """Offer *bad*, see it fail and the old slot run on, and return the reason."""
    rig.board.power_on()
    rig.cloud.wait_for_version("0.1", timeout_s=90)
    rig.offer(bad)
    failure = rig.cloud.wait_for_state("fail", timeout_s=timeout_s)
    since = rig.cloud.messages.index(failure)
    rig.cloud.end_task()
    rig.cloud.wait_for_version("0.1", since=since, timeout_s=30)
    assert (failure.code, failure.version) == (-5, bad.version)
    assert not [m for m in rig.cloud.messages if m.state == "done"]
    environment = rig.environment()
    assert environment["boot_slot"] == "A"
    assert environment["upgrade_available"] == "0"
    return failure.reason


def test_an_unhealthy_firmware_is_rolled_back_by_the_updater(tmp_path: Path, old: Image) -> None:
    """A health check that fails up to its deadline ends the trial, with the check's name."""
    with Rig(tmp_path, old, replaced={"deadline_s = 60.0": "deadline_s = 3.0"}) as rig:
        reason = fails(rig, image.image("0.2", fault="unhealthy"))
    assert "data-is-mounted" in reason


def test_a_hanging_firmware_is_reset_by_the_watchdog(tmp_path: Path, old: Image) -> None:
    """Nobody feeds the hardware watchdog: three resets, then U-Boot falls back."""
    with Rig(tmp_path, old) as rig:
        reason = fails(rig, image.image("0.2", fault="hang"))
        assert rig.board.serial.text.count("starting slot B updater.trial=1") == 3
    assert "3 boots" in reason


def test_a_firmware_without_updater_is_ended_by_the_dead_man(tmp_path: Path, old: Image) -> None:
    """The dead-man timer depends on nothing of this program: three reboots, then the old slot."""
    with Rig(tmp_path, old, files={"updater/dead-man-seconds": "4"}) as rig:
        reason = fails(rig, image.image("0.2", fault="mute"))
        assert rig.board.serial.text.count("starting slot B updater.trial=1") == 3
    assert "3 boots" in reason

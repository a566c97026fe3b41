# SPDX-License-Identifier: MIT
"""The plug is pulled at the worst moments: a complete image boots, and the end is right."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sim.rig import COPIES, Rig

from board.emulator import image
from board.emulator.image import Image

SLOW_BYTES_PER_S = 12e6
NEVER_REBOOT = {'["reboot"]': '["sleep", "100000"]'}
SLOW_CHECK = {
    "[state]": '[[health.command]]\nname = "slow"\nargv = ["sleep", "5"]\n\n[state]',
}
HOLD_THE_LOCK = (
    "python3.11 -c 'import fcntl, time; f = open(\"/run/fw_printenv.lock\", \"a\"); "
    "fcntl.flock(f, 2); print(\"held\", flush=True); time.sleep(1000)' & sleep 2"
)  # fmt: skip


@pytest.fixture
def rig(tmp_path: Path, old: Image, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Return a desk whose board runs slot A and has reported its version."""
    with Rig(tmp_path, old, replaced=getattr(request, "param", None)) as rig:
        rig.board.power_on()
        rig.cloud.wait_for_version("0.1", timeout_s=90)
        yield rig
        rig.show()


def assert_ends_well(rig: Rig, new: Image, since: int = 0) -> None:
    """Wait for ``done`` and the new version, and look at what the board holds."""
    rig.cloud.wait_for_state("done", since=since, timeout_s=120)
    rig.cloud.wait_for_version("0.2", since=since)
    assert [m.state for m in rig.cloud.messages if m.state in {"done", "fail"}] == ["done"]
    assert rig.slot_md5("rootfs-b", new.size_bytes) == new.md5
    environment = rig.environment()
    assert environment["boot_slot"] == "B"
    assert environment["upgrade_available"] == "0"
    assert "updater_session" not in environment


def wait_until_half_way(rig: Rig, new: Image) -> None:
    """Let the download come to its middle."""
    rig.web.bytes_per_s = SLOW_BYTES_PER_S
    rig.offer(new)
    rig.cloud.wait_for(lambda m: (m.percent or 0) >= 40, timeout_s=60)


def head(rig: Rig, partition: str) -> bytes:
    """Return the first MiB of *partition*."""
    with rig.disk.open("rb") as disk:
        disk.seek(image.STARTS[partition] * image.SECTOR_BYTES)
        return disk.read(1 << 20)


def test_cut_while_it_downloads(rig: Rig, new: Image) -> None:
    """The old slot boots, and the session goes on by itself to its good end."""
    wait_until_half_way(rig, new)
    rig.cut_power()
    rig.web.bytes_per_s = None
    assert rig.board.wait_for_shell() == "A"
    assert_ends_well(rig, new)


def test_a_target_with_a_blank_head_does_not_boot(rig: Rig, new: Image) -> None:
    """Even where the environment prefers the half-written slot, the old one boots."""
    wait_until_half_way(rig, new)
    rig.board.power_off()
    assert not any(head(rig, "rootfs-b"))
    assert any(rig.slot_md5("rootfs-b", 8 << 20))
    rig.store({"boot_slot": "B"})
    rig.board.power_on()
    rig.board.serial.wait_for("updater: slot B cannot be started")
    assert rig.board.wait_for_shell() == "A"
    rig.web.bytes_per_s = None
    assert_ends_well(rig, new)


def test_cut_just_before_the_environment_store(rig: Rig, new: Image) -> None:
    """The old slot boots; the activation is made again and the new slot is tried."""
    wait_until_half_way(rig, new)
    rig.board.shell(HOLD_THE_LOCK)
    rig.web.bytes_per_s = None
    rig.board.log.wait_for("activated: activation", timeout_s=60)
    rig.cut_power()
    assert rig.environment()["boot_slot"] == "A"
    assert rig.board.wait_for_shell() == "A"
    assert_ends_well(rig, new)


@pytest.mark.parametrize("rig", [NEVER_REBOOT], indirect=True)
def test_cut_just_after_the_environment_store(rig: Rig, new: Image) -> None:
    """The store took: the new slot boots on trial."""
    rig.offer(new)
    rig.board.log.wait_for("rebooting", timeout_s=60)
    rig.cut_power()
    assert rig.board.wait_for_shell() == "B"
    assert_ends_well(rig, new)


@pytest.mark.parametrize("rig", [NEVER_REBOOT], indirect=True)
def test_cut_in_the_middle_of_the_environment_store(rig: Rig, new: Image) -> None:
    """A copy that is half there is none: the old slot boots, and the store is made again."""
    rig.offer(new)
    rig.board.log.wait_for("rebooting", timeout_s=60)
    rig.board.power_off()
    tear(rig)
    rig.board.power_on()
    assert rig.board.wait_for_shell() == "A"
    rig.board.log.wait_for("rebooting", timeout_s=60)
    rig.cut_power()
    assert rig.board.wait_for_shell() == "B"
    assert_ends_well(rig, new)


def tear(rig: Rig) -> None:
    """Leave of the newest copy its first sector only, as a cut in its write could."""
    copies = rig.copies()
    newest = max(range(2), key=lambda index: copies[index].flag)
    with rig.card.open("r+b") as card:
        card.seek(COPIES[newest] + 512)
        card.write(b"\xa5" * 512)
    assert not rig.copies()[newest].is_valid


@pytest.mark.parametrize("rig", [SLOW_CHECK], indirect=True)
def test_cut_during_the_trial(rig: Rig, new: Image) -> None:
    """One try is lost and no more: the new slot boots again and is kept."""
    rig.offer(new)
    rig.board.log.wait_for("trial: the target slot booted on trial", timeout_s=60)
    rig.cut_power()
    assert rig.board.wait_for_shell() == "B"
    assert rig.environment()["bootcount"] == "2"
    assert_ends_well(rig, new)


@pytest.mark.parametrize("rig", [SLOW_CHECK], indirect=True)
def test_cuts_in_every_trial_boot(rig: Rig, old: Image, new: Image) -> None:
    """Once the tries are used up the old slot boots, and one ``fail`` says how many there were."""
    rig.offer(new)
    for _ in range(3):
        rig.board.log.wait_for("booted.* on trial", timeout_s=60)
        rig.cut_power()
    assert rig.board.wait_for_shell() == "A"
    failure = rig.cloud.wait_for_state("fail", timeout_s=60)
    assert failure.code == -5
    assert "3 boots" in failure.reason
    rig.cloud.wait_for_version("0.1", since=rig.cloud.messages.index(failure))
    assert [m.state for m in rig.cloud.messages if m.state in {"done", "fail"}] == ["fail"]
    assert rig.slot_md5("rootfs-a", old.size_bytes) == old.md5

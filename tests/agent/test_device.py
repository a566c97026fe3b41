# SPDX-License-Identifier: MIT
"""What the device tells of itself, and that it says so when it cannot tell."""

from dataclasses import replace

from sim.settings import CONFIG, NEW
from sim.world import World

from updater.core.config import DownloadConfig
from updater.core.errors import SlotError
from updater.core.ports import InstallRequest
from updater.core.slots import character


def test_a_fresh_device_has_a_status() -> None:
    """Slots without records, no session, no problem; the version is the image's own."""
    world = World()
    world.run_until_calm()
    status = world.agent.device.status()
    assert status == {
        "board": "memory",
        "version": "0.1",
        "slots": [
            {"bootname": "A", "device": "/dev/a", "size_bytes": 64 << 20, "booted": True,
             "version": None, "md5": None},
            {"bootname": "B", "device": "/dev/b", "size_bytes": 64 << 20, "booted": False,
             "version": None, "md5": None},
        ],
        "boot": {"primary": "A", "trial": False, "bootcount": 0, "session": ""},
        "session": None,
        "problems": [],
    }  # fmt: skip


def test_a_session_is_shown_without_its_url() -> None:
    """The URL is signed and therefore secret."""
    world = World()
    world.offer(NEW)
    world.run(lambda: "downloading 0" in world.heard)
    status = world.agent.device.status()
    assert status["session"] == {
        "id": "0000000000000001",
        "state": "installing",
        "version": "0.2",
        "md5": NEW.md5,
        "size_bytes": NEW.size_bytes,
        "target": "B",
        "result_code": 0,
        "reason": "",
    }
    assert "sign" not in repr(status)


def test_what_cannot_be_told_is_a_problem_and_the_rest_is_told() -> None:
    """Each reason once, in the words of whoever knows it."""
    world = World()
    world.run_until_calm()
    device = world.agent.device
    world.environment.is_readable = world.journal.is_readable = False
    world.finder.error = SlotError("this system runs from none of A, B")
    status = device.status()
    assert (status["slots"], status["boot"], status["session"]) == (None, None, None)
    assert status["version"] == "0.1"
    assert status["problems"] == [
        "this system runs from none of A, B",
        "no copy of the environment is valid",
        "journal: database or disk is full",
    ]


def test_one_reason_for_several_gaps_is_said_once() -> None:
    """The journal is asked for each slot and for the session."""
    world = World()
    world.run_until_calm()
    world.journal.is_readable = False
    status = world.agent.device.status()
    assert (status["slots"], status["session"]) == (None, None)
    assert status["problems"] == ["journal: database or disk is full"]


def test_the_record_of_the_booted_slot_names_the_running_version() -> None:
    """What was verified and kept there comes before what the image says of itself."""
    world = World()
    world.offer(NEW)
    world.run_until_calm()
    device = world.agent.device
    record = world.journal.records["B"]
    firmware = replace(record.firmware, version="0.2-signed")
    world.journal.records["B"] = replace(record, firmware=firmware)
    assert device.running_version() == "0.2-signed"
    world.journal.is_readable = False
    assert device.running_version() == "0.2"


def test_the_pipeline_is_ordered_by_configuration() -> None:
    """Every limit of the download section is passed on, and where the checkpoint is."""
    limits = DownloadConfig(read_back=False, attempts=7, ca_file="/ca.pem", io_priority="idle")
    state = replace(CONFIG.state, directory="/data/updater")
    world = World(replace(CONFIG, download=limits, state=state))
    world.run_until_calm()
    session = world.session_for(NEW, "https://firmware.test/f")
    request = world.agent.device.request_for(session, world.finder.slots.target)
    assert request == InstallRequest(
        source="https://firmware.test/f", device="/dev/b", size_bytes=NEW.size_bytes, md5=NEW.md5,
        version="0.2", read_back=False, attempts=7, ca_file="/ca.pem", io_priority=8,
        retry_time_s=3600.0,
        checkpoint="/data/updater/checkpoint", device_number=world.finder.slots.target.number,
    )  # fmt: skip
    assert "firmware.test" not in repr(request)


def test_a_volume_is_written_by_its_own_number() -> None:
    """What marks it among slots is no part of it."""
    world = World(CONFIG)
    world.run_until_calm()
    session = world.session_for(NEW, "https://firmware.test/f")
    volume = replace(world.finder.slots.target, number=character(0xFA01))
    assert world.agent.device.request_for(session, volume).device_number == 0xFA01


def test_who_does_not_resume_has_no_checkpoint() -> None:
    """``download.resume = false``: every install begins at the first byte."""
    world = World(replace(CONFIG, download=DownloadConfig(resume=False)))
    world.run_until_calm()
    session = world.session_for(NEW, "https://firmware.test/f")
    request = world.agent.device.request_for(session, world.finder.slots.target)
    assert request.checkpoint == world.agent.device.checkpoint == ""

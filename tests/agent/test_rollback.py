# SPDX-License-Identifier: MIT
"""The return to the other slot that a person asks for."""

from collections.abc import Callable

import pytest
from sim.flash import Image, Medium
from sim.settings import NEW, OLD
from sim.storage import Fault
from sim.world import World

from updater import activity
from updater.activity import NEVER_S
from updater.core.errors import (
    BusyError,
    DigestError,
    EnvironmentStoreError,
    StorageError,
    UpdaterError,
    WrongStateError,
)
from updater.rollback import Rollback


def updated() -> World:
    """Return a world that runs the way there and back: both slots have a record; A is booted."""
    world = World()
    for image in (NEW, OLD):
        world.offer(image)
        world.run_until_calm()
    assert world.booted.slot == "A"
    return world


def returning(world: World) -> Rollback:
    return Rollback(world.agent.device, world.system)


def run(world: World, rollback: Rollback, meanwhile: Callable[[], None] = lambda: None) -> object:
    """Run *rollback* to its end and return what is told."""
    told: list[UpdaterError | None] = []
    assert rollback.start(told.append) == "B"
    meanwhile()
    world.clock.limit_s = world.clock.now_s + 60
    while not told:
        assert rollback.is_running
        activity.step([rollback], world.clock, world.clock)
    assert not rollback.is_running
    return told[0]


def test_a_slot_that_still_holds_its_image_is_returned_to() -> None:
    """Read back, compared, made primary in one store; it boots, and the cloud hears the version."""
    world = updated()
    assert run(world, returning(world)) is None
    assert world.boot_state.primary == "B"
    world.agent.reboot()
    world.run_until_calm()
    assert world.booted.image == NEW
    assert not world.booted.is_trial
    assert world.heard[-1] == "report_version 0.2"


def test_a_slot_whose_firmware_was_compressed_is_returned_to() -> None:
    """It is compared with the image that it holds, not with the file that it came in."""
    world = World()
    packed = Image("0.2", is_packed=True)
    for image in (packed, OLD):
        world.offer(image)
        world.run_until_calm()
    record = world.journal.records["B"]
    assert (record.firmware.md5, record.firmware.size_bytes) == (packed.md5, packed.size_bytes)
    assert (record.image_md5, record.image_size_bytes) == (
        packed.unpacked_md5, packed.unpacked_bytes,
    )  # fmt: skip
    assert run(world, returning(world)) is None
    assert world.boot_state.primary == "B"


def test_a_slot_that_has_changed_is_not_returned_to() -> None:
    """The medium decides, not the record."""
    world = updated()
    world.media["B"].body = None
    error = run(world, returning(world))
    assert isinstance(error, DigestError)
    assert "slot B no longer holds version 0.2" in str(error)
    assert world.boot_state.primary == "A"


def test_a_slot_without_a_record_is_not_returned_to() -> None:
    """Nobody knows what it holds."""
    world = World(spare=Image("0.0"))
    world.run_until_calm()
    rollback = returning(world)
    with pytest.raises(WrongStateError, match="slot B holds no image"):
        rollback.start(lambda _error: None)
    assert not rollback.is_running


@pytest.mark.parametrize(
    "image",
    [Image("0.3", panics=True), Image("0.3", is_healthy=False), Image("0.3", loads=False)],
    ids=["panics", "is-not-healthy", "does-not-load"],
)
def test_a_slot_whose_image_has_failed_is_not_returned_to(image: Image) -> None:
    """It is complete and it matches, and it would boot without a trial: for ever."""
    world = World()
    world.offer(image)
    world.run_until_calm()
    assert world.media["B"] == Medium(image, image)
    with pytest.raises(WrongStateError):
        returning(world).start(lambda _error: None)


@pytest.mark.parametrize("word", ["downloading 0", "burning"])
def test_an_open_session_stands_before_a_rollback(word: str) -> None:
    """The other slot is its target, whole or not."""
    world = updated()
    world.offer(Image("0.3"))
    world.run(lambda: world.heard[-1] == word)
    with pytest.raises(BusyError, match="must end first"):
        returning(world).start(lambda _error: None)


def test_a_session_that_begins_meanwhile_takes_the_way_back() -> None:
    """The slot that is being written is never made primary."""
    world = updated()

    def begin() -> None:
        world.offer(Image("0.3"))
        world.run(lambda: "B" not in world.journal.records)

    error = run(world, returning(world), begin)
    assert isinstance(error, BusyError)
    assert world.boot_state.primary == "A"


def test_a_read_back_that_fails_is_told() -> None:
    """The medium's error is the answer, and the descriptor is closed."""
    world = updated()
    rollback = returning(world)
    told: list[UpdaterError | None] = []
    rollback.start(told.append)
    broken = StorageError("read of /dev/b at 0: Input/output error")
    world.pipeline.breaks_with = broken
    world.clock.advance(1.0)
    rollback.wake({})
    assert told == [broken]
    assert rollback.interests() == {}


def test_a_store_that_does_not_take_is_told() -> None:
    """The booted slot stays primary."""
    world = updated()
    world.environment.faults = iter([Fault.REFUSED])
    assert isinstance(run(world, returning(world)), EnvironmentStoreError)
    assert world.boot_state.primary == "A"


def test_at_rest_it_wants_nothing() -> None:
    """No descriptor, no time, no work."""
    world = updated()
    rollback = returning(world)
    assert (rollback.interests(), rollback.deadline_s()) == ({}, NEVER_S)
    rollback.wake({})
    assert not rollback.is_running

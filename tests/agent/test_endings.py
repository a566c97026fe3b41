# SPDX-License-Identifier: MIT
"""Ends that the journal does not take: nothing is told before it is journalled, and told once."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim.flash import Image
from sim.settings import NEW, OLD
from sim.stories import STORIES, assert_ended_well
from sim.uplink import spoken
from sim.world import World

from updater.core.errors import OfferError
from updater.core.model import Firmware, Offer, State
from updater.endings import report_of
from updater.reception import refuse

FULL = "journal: database or disk is full"


def offered(image: Image = NEW, *, until: str) -> World:
    """Return a world whose journal is full from the moment on at which the cloud hears *until*."""
    world = World()
    world.offer(image)
    world.run(lambda: until in world.heard)
    world.journal.is_writable = False
    return world


def test_an_install_that_cannot_be_journalled_fails_once_it_can() -> None:
    """-5 with the journal's own words, held until the journal has it."""
    world = offered(until="downloading 0")
    world.run_for(300)
    assert not world.outcomes
    assert world.agent.is_end_unsaved
    world.journal.is_writable = True
    world.run_until_calm()
    assert [(m.code, m.reason) for m in world.outcomes] == [(-5, f"installed: {FULL}")]
    assert [boot.slot for boot in world.boots] == ["A"]


def test_other_bytes_of_a_version_whose_end_is_not_journalled_wait() -> None:
    """A refusal would be taken for that end: the cloud tells both by the version."""
    world = offered(until="downloading 0")
    world.offer(replace(NEW, size_bytes=NEW.size_bytes // 2))
    world.run_for(300)
    assert not world.outcomes
    world.journal.is_writable = True
    world.run_until_calm()
    assert [m.reason for m in world.outcomes] == ["superseded by version 0.2"]


def test_a_refusal_that_comes_late_is_not_taken_for_such_an_end() -> None:
    """A hook may say no to other bytes of the version meanwhile: the end alone is told."""
    world = offered(until="downloading 0")
    world.run(lambda: world.agent.is_end_unsaved)
    other = replace(NEW, size_bytes=NEW.size_bytes // 2)
    refuse(world.agent, Offer(other.firmware, "https://x.test/f"), OfferError("hook: no"))
    world.run_for(60)
    assert not world.outcomes
    world.journal.is_writable = True
    world.run_until_calm()
    assert [m.reason for m in world.outcomes] == [f"installed: {FULL}"]


def test_an_activation_that_cannot_be_journalled_is_not_begun() -> None:
    """The environment stays untouched: the old slot boots."""
    world = World()
    world.problems["gateway"] = None
    world.offer(NEW)
    world.run(lambda: "B" in world.journal.records)
    world.journal.is_writable = False
    world.run_for(300)
    assert world.boot_state.primary == "A"
    world.journal.is_writable = True
    world.run_until_calm()
    assert [(m.code, m.reason) for m in world.outcomes] == [(-5, f"activated: {FULL}")]


def test_a_restart_goes_on_from_what_the_journal_has() -> None:
    """The end was never told, so that the session may end otherwise: once."""
    world = offered(until="downloading 0")
    world.run_for(300)
    world.journal.is_writable = True
    world.lose_power()
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["done"]
    assert world.booted.image == NEW


@pytest.mark.parametrize("cut", ["nothing", "process", "power"])
def test_a_good_slot_is_kept_and_told_later(cut: str) -> None:
    """The verdict needs no journal; done waits for it, through any restart."""
    world = World()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.journal.is_writable = False
    world.run(lambda: not world.boot_state.is_trial, 60)
    world.run_for(300)
    assert "done" not in world.heard
    assert world.heard[-1] == "report_version 0.2"
    {"nothing": lambda: None, "process": world.lose_process, "power": world.lose_power}[cut]()
    world.run_for(300)
    world.journal.is_writable = True
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["done"]


@pytest.mark.parametrize("cut", ["nothing", "process", "power"])
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image("0.2", panics=True), "trial: fell back after 3 boots without being marked good"),
        (Image("0.2", hangs=True), "trial: fell back after 3 boots without being marked good"),
        (Image("0.2", loads=False), "boot: target could not be loaded, old slot booted (try 1)"),
    ],
    ids=["panics", "hangs", "does-not-load"],
)
def test_why_the_old_slot_boots_is_not_forgotten(image: Image, reason: str, cut: str) -> None:
    """The environment keeps its word until it is journalled; the image is not tried again."""
    world = World()
    world.offer(image)
    world.run(lambda: world.boot_state.is_trial)
    world.run(lambda: world.boots[-1].slot == "A" and len(world.boots) > 1)
    world.journal.is_writable = False
    boots = len(world.boots)
    world.run_for(300)
    {"nothing": lambda: None, "process": world.lose_process, "power": world.lose_power}[cut]()
    world.run_for(300)
    assert not world.outcomes
    world.journal.is_writable = True
    world.run_until_calm()
    assert [m.code for m in world.outcomes] == [-5]
    if cut == "nothing" or image.loads:
        assert world.outcomes[0].reason == reason
    assert {boot.slot for boot in world.boots[boots:]} <= {"A"}
    assert world.booted.image == OLD


def test_the_same_offer_waits_while_its_end_is_not_journalled() -> None:
    """A refusal now and an outcome later would be two answers to one offer."""
    world = offered(until="downloading 0")
    world.run_for(60)
    said = len(world.heard)
    assert world.cloud.task is not None
    world.cloud.send(world.cloud.task)
    world.run_for(5)
    assert len(world.heard) == said


def test_another_offer_is_refused_while_the_journal_is_full() -> None:
    """-5 with the journal's words, and no session."""
    world = offered(until="downloading 0")
    world.run_for(60)
    world.offer(Image("0.3"))
    world.run(lambda: bool(world.refusals), 1)
    assert world.refusals[0].reason == FULL
    assert len(world.journal.sessions) == 1


def test_another_offer_brings_the_end_before_it_begins() -> None:
    """The journal takes writes again: first the old end, then the new session."""
    world = offered(until="downloading 0")
    world.run_for(61)
    world.journal.is_writable = True
    world.offer(Image("0.3"))
    world.run_until_calm()
    assert [(m.version, m.state) for m in world.outcomes] == [("0.2", "fail"), ("0.3", "done")]
    assert [line.state for line in world.journal.lines[:3]] == [
        "installing", "failed", "installing",
    ]  # fmt: skip


def test_a_person_cannot_install_while_the_journal_is_full() -> None:
    """The error is the journal's."""
    world = offered(until="downloading 0")
    world.run_for(60)
    with pytest.raises(Exception, match=FULL):
        world.agent.offered(Offer(Firmware("0.3", "0" * 32, 1), "/image", is_local=True))


def test_a_local_session_owes_nothing() -> None:
    """Nor does an open one."""
    world = World()
    world.run_until_calm()
    session = world.session_for(NEW, "/image")
    assert report_of(session) is None


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(STORIES)),
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=4),
    st.lists(st.sampled_from(["lose_power", "lose_process", "lose_network"]), max_size=4),
)
def test_a_journal_that_comes_and_goes_breaks_no_law(
    name: str, spans: list[tuple[int, bool]], cuts: list[str]
) -> None:
    """Whenever it is full, and whatever is cut meanwhile: one outcome, and the slot that fits."""
    story = STORIES[name]
    world = story.begin()
    world.run(lambda: world.session is not None)
    for number, (seconds, is_writable) in enumerate(spans):
        world.journal.is_writable = is_writable
        world.run_for(seconds / 4)
        if number < len(cuts):
            getattr(world, cuts[number])()
    world.journal.is_writable = True
    world.run_until_calm()
    assert_ended_well(world, story, cuts=len(cuts))
    assert world.session is not None
    assert world.session.state in {State.GOOD, State.FAILED}

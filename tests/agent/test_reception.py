# SPDX-License-Identifier: MIT
"""Offers: accepted, adopted, superseded, refused, answered, or left for after a reboot."""

from dataclasses import replace

import pytest
from sim.flash import MIB, Image
from sim.instants import cut_power
from sim.settings import CONFIG, NEW, OLD
from sim.uplink import spoken
from sim.world import World

from updater.core.config import DownloadConfig
from updater.core.errors import JournalError, OfferError, SpaceError
from updater.core.model import Firmware, Offer, State

OTHER = Image("0.3")


def started(config: object = CONFIG, **how: object) -> World:
    world = World(config, **how)
    world.run_until_calm()
    return world


# --- refused before anything is written -----------------------------------------------------------


def test_an_image_larger_than_the_slot_is_refused_without_a_write() -> None:
    """-5 with both numbers; what the slot holds, and its record, stay."""
    world = started(spare=Image("0.0"))
    world.offer(Image("0.2", size_bytes=64 * MIB + 1))
    world.run_until_calm()
    assert spoken(world.outcomes[0]) == "fail -5"
    assert world.outcomes[0].reason == "offer: image needs 67108865 bytes, slot B holds 67108864"
    assert world.media["B"].is_complete
    assert not world.pipeline.requests


def test_a_refused_image_leaves_the_way_back_open() -> None:
    """The other slot was not touched, so that its record still holds."""
    world = started()
    world.offer(NEW)
    world.run_until_calm()
    world.offer(OLD)
    world.run_until_calm()
    world.offer(Image("0.2", size_bytes=65 * MIB))
    world.run_until_calm()
    assert world.journal.records["B"].firmware == NEW.firmware


@pytest.mark.parametrize("url", ["http://firmware.test/f", "HTTP://firmware.test/f"])
def test_a_plaintext_url_is_refused_without_a_write(url: str) -> None:
    """-5: https is the default."""
    world = started(spare=Image("0.0"))
    world.cloud.offer(NEW.firmware, "https://firmware.test/f")
    world.run(lambda: bool(world.outcomes))
    assert world.outcomes[0].code == -2  # nothing is served there: so much for the control
    offer = Offer(NEW.firmware, url, is_local=True)
    world.agent.offered(offer)
    assert world.session is not None
    assert world.session.reason.startswith("offer: the URL is http")


def test_plaintext_from_the_cloud_is_refused_and_told() -> None:
    """The cloud hears why."""
    world = started(spare=Image("0.0"))
    world.offer(NEW, url="http://firmware.test/f")
    world.run_until_calm()
    assert (world.outcomes[0].code, world.outcomes[0].reason) == (
        -5,
        "offer: the URL is http, and download.allow_plaintext is not set",
    )
    assert world.media["B"].is_complete
    assert not world.pipeline.requests


def test_plaintext_is_taken_where_it_is_allowed() -> None:
    """``download.allow_plaintext = true``: the demo's way."""
    world = started(replace(CONFIG, download=DownloadConfig(allow_plaintext=True)))
    world.offer(NEW, url="http://firmware.test/f")
    world.run_until_calm()
    assert world.booted.image == NEW


@pytest.mark.parametrize("is_plain", [False, True])
def test_a_refusal_that_was_cut_is_a_refusal_after_the_restart(is_plain: bool) -> None:
    """Between the session and its end nothing is written either."""
    world = started(spare=Image("0.0"))
    image = NEW if is_plain else Image("0.2", size_bytes=65 * MIB)
    world.instants.at(len(world.instants.names) + 1, cut_power)
    world.offer(image, url="http://firmware.test/f" if is_plain else "")
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["fail -5"]
    assert world.media["B"].is_complete


def test_a_refusal_that_was_cut_may_be_an_install_after_the_restart() -> None:
    """The configuration allows it by then: the record goes before the head (law 2)."""
    world = started()
    for image in (NEW, OLD):
        world.offer(image)
        world.run_until_calm()
    assert "B" in world.journal.records
    world.instants.at(len(world.instants.names) + 1, cut_power)
    world.offer(OTHER, url="http://firmware.test/f")
    world.config = replace(CONFIG, download=DownloadConfig(allow_plaintext=True))
    world.run_until_calm()
    assert world.booted.image == OTHER


def test_a_foreign_kind_of_firmware_is_refused() -> None:
    """-5 at once, with its own fw_type echoed; no session is begun."""
    world = started(replace(CONFIG, cloud=replace(CONFIG.cloud, fw_type="mcu")))
    world.offer(NEW, fw_type="modem", task_id=7)
    world.run(lambda: bool(world.refusals), 1)
    assert world.refusals[0].body["report"] == {
        "progress": {
            "state": "fail",
            "result_code": "-5",
            "result_msg": "offer: fw_type modem is not for here",
        },
        "version": "0.2",
        "task_id": 7,
        "fw_type": "modem",
    }
    assert world.session is None


def test_a_task_is_named_in_everything_that_is_said_of_it() -> None:
    """task_id and fw_type are echoed as they came, and the version report has the device's own."""
    world = started(replace(CONFIG, cloud=replace(CONFIG.cloud, fw_type="mcu")))
    world.offer(NEW, fw_type="mcu", task_id=7)
    world.run_until_calm()
    said = [m.body["report"] for m in world.cloud.messages if m.type == "report_progress"]
    assert {(report["task_id"], report["fw_type"]) for report in said} == {(7, "mcu")}
    assert world.cloud.messages[-1].body["report"] == {"version": "0.2", "fw_type": "mcu"}


def test_a_person_is_told_at_once_what_is_refused() -> None:
    """A local offer that becomes no session raises."""
    world = started(replace(CONFIG, cloud=replace(CONFIG.cloud, fw_type="mcu")))
    with pytest.raises(OfferError):
        world.agent.offered(Offer(NEW.firmware, "/image", fw_type="modem", is_local=True))
    world.journal.is_writable = False
    with pytest.raises(JournalError):
        world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    assert world.heard == ["report_version 0.1"]


def test_a_refusal_needs_a_link_or_a_journal() -> None:
    """Without either, an offer that is refused while the link goes down changes nothing."""
    world = started()
    world.journal.is_writable = False
    world.cloud.send(b"{}")
    world.lose_network()
    world.run(lambda: not world.agent.cloud.is_connected)
    assert world.agent.cloud is not None
    world.agent.cloud.refuse(Offer(NEW.firmware, "https://x.test/"), SpaceError(2, 1, "slot B"))
    assert world.heard == ["report_version 0.1"]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[]", b"{}", b'{"type": "update_firmware"}', b'{"type": "future"}',
     b'{"type": "report_version_rsp"}'],
)  # fmt: skip
def test_what_is_no_message_is_ignored(payload: bytes) -> None:
    """Nothing is answered, nothing changes, and the next offer is taken."""
    world = started()
    world.cloud.send(payload)
    world.run_for(100)
    assert world.heard == ["report_version 0.1"]
    world.offer(NEW)
    world.run_until_calm()
    assert world.booted.image == NEW


# --- while a session is open ----------------------------------------------------------------------


def test_the_same_offer_again_changes_nothing() -> None:
    """Duplicates are normal: one session, one outcome."""
    world = started()
    world.offer(NEW)
    world.run_for(0.3)
    lines = len(world.journal.lines)
    for _ in range(5):
        assert world.cloud.task is not None
        world.cloud.send(world.cloud.task)
        world.run_for(0.3)
    assert len(world.journal.lines) == lines  # nor is the medium worn out
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["done"]
    assert len(world.journal.sessions) == 1
    assert len(world.pipeline.requests) == 0  # of the second boot: nothing was begun again


def test_the_same_offer_brings_its_new_task_and_url() -> None:
    """Reports go by the latest task; the URL is taken at the next attempt."""
    world = started()
    world.offer(NEW, task_id=1)
    world.run(lambda: "downloading 50" in world.heard)
    world.offer(NEW, task_id=2, url="https://firmware.test/again")
    world.run_until_calm()
    assert world.outcomes[0].body["report"]["task_id"] == 2
    assert world.web.requests == ["https://firmware.test/0.2?sign=1"]


def test_a_journal_that_cannot_take_the_new_url_is_no_harm() -> None:
    """The running install goes on with it."""
    world = started()
    world.offer(NEW)
    world.run_for(1.0)
    world.journal.is_writable = False
    world.offer(NEW)
    world.run_for(0.1)
    world.journal.is_writable = True
    world.run_until_calm()
    assert world.booted.image == NEW


@pytest.mark.parametrize("when", ["downloading 0", "burning"])
def test_another_offer_supersedes_what_is_not_activated(when: str) -> None:
    """The first session ends in fail -5 naming its successor, then the second one is installed."""
    world = started()
    world.parts = 40
    world.offer(NEW)
    world.run(lambda: when in world.heard)
    world.offer(OTHER)
    world.run_until_calm()
    assert [(m.version, m.state, m.reason) for m in world.outcomes] == [
        ("0.2", "fail", "superseded by version 0.3"),
        ("0.3", "done", ""),
    ]
    assert world.booted.image == OTHER
    assert len(world.boots) == 2


def test_superseding_a_verified_image_withdraws_its_record() -> None:
    """An image that was never tried is nothing to return to."""
    world = started()
    world.problems["gateway"] = None  # the baseline takes its time
    world.offer(NEW)
    world.run(lambda: "B" in world.journal.records)
    world.offer(Image("0.3", size_bytes=65 * MIB))
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["fail -5", "fail -5"]
    assert "B" not in world.journal.records


def test_the_running_version_offered_meanwhile_only_ends_the_session() -> None:
    """There is nothing to install: the device stays as it is and says so."""
    world = started()
    world.offer(NEW)
    world.run_for(1.0)
    world.offer(OLD)
    world.run_for(120)
    assert [spoken(message) for message in world.outcomes] == ["fail -5"]
    assert len(world.journal.sessions) == 1
    assert world.heard[-1] == "report_version 0.1"


@pytest.mark.parametrize("again", [NEW, OTHER])
def test_an_offer_while_a_reboot_is_due_waits(again: Image) -> None:
    """It is decided by whoever boots next; nothing is said, and nothing is written."""
    world = started()
    world.reboot_s = 60.0
    world.lose_power()
    world.offer(NEW)
    world.run(lambda: world.boot_state.is_trial)
    said = len(world.heard)
    world.offer(again)
    world.run_for(30)
    assert len(world.heard) == said
    assert world.session is not None
    assert world.session.state is State.ACTIVATED
    world.run_until_calm()
    assert world.booted.image == again
    assert {spoken(message) for message in world.outcomes} == {"done"}


def test_an_offer_in_a_trial_waits() -> None:
    """The trial is judged first; then the cloud repeats its offer."""
    world = started()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    world.problems["application"] = None
    world.run(lambda: world.cloud.link is not None)
    world.offer(OTHER)
    world.run_for(5)
    assert world.is_on_trial
    world.problems.clear()
    world.run_until_calm()
    assert world.booted.image == OTHER


def test_the_same_offer_in_a_trial_proves_the_link_once_more() -> None:
    """It is adopted, and the trial goes on."""
    world = started()
    world.offer(NEW)
    world.run(lambda: world.runs(NEW) and world.cloud.link is not None)
    world.offer(NEW, task_id=9)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert world.outcomes[0].body["report"]["task_id"] == 9


def test_a_cloud_offer_takes_a_persons_install_of_the_same_firmware_over() -> None:
    """From then on the cloud hears of it."""
    world = started()
    world.parts = 40
    world.lose_power()
    world.run_until_calm()
    world.web.serve("/image", NEW)
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run_for(2.0)
    world.offer(NEW)
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["done"]


# --- without a session ----------------------------------------------------------------------------


def test_the_running_version_is_answered_by_a_version_report() -> None:
    """No download: the cloud learns what runs, at most a minute later."""
    world = started()
    world.run_for(300)
    world.offer(OLD)
    world.run_for(1)
    assert world.heard == ["report_version 0.1"] * 2
    for _ in range(20):
        world.offer(OLD)
        world.run_for(1)
    world.run_for(600)
    assert world.heard == ["report_version 0.1"] * 3
    assert world.session is None


def test_an_offer_that_was_lost_is_made_again() -> None:
    """It was sent while the device was away: the next version report brings it."""
    world = World()
    world.offer(NEW)
    assert world.cloud.link is None
    world.run_until_calm()
    assert world.booted.image == NEW


def test_a_version_is_no_identity() -> None:
    """The same version with other bytes supersedes: what counts is version, digest and size."""
    world = started()
    world.parts = 40
    again = Image("0.2", size_bytes=4 * MIB)
    world.offer(NEW)
    world.run_for(2.0)
    world.offer(again)
    world.run_until_calm()
    assert world.booted.image == again
    assert [spoken(message) for message in world.outcomes] == ["fail -5", "done"]
    assert world.journal.records["B"].firmware == Firmware("0.2", again.md5, 4 * MIB)

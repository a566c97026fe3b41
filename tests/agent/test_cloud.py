# SPDX-License-Identifier: MIT
"""What is said to the cloud and when: order, pace, repetition, and what a lost link costs."""

from dataclasses import replace
from itertools import pairwise

import pytest
from sim.cloud import Message
from sim.flash import Image
from sim.settings import CONFIG, NEW
from sim.uplink import spoken
from sim.world import World

from updater.cloud import Mode
from updater.core import messages
from updater.core.config import HealthCommand, HealthConfig
from updater.core.errors import NotFoundError, SlotError
from updater.core.model import Firmware, Offer, Session, State


def started() -> World:
    world = World()
    world.run_until_calm()
    return world


def times(world: World, word: str) -> list[float]:
    """Return when the cloud heard what begins with *word*."""
    return [m.time_s for m in world.cloud.messages if spoken(m).startswith(word)]


def gaps(world: World, word: str) -> list[float]:
    """Return the pauses between messages that begin with *word*."""
    return [later - earlier for earlier, later in pairwise(times(world, word))]


# --- the version ----------------------------------------------------------------------------------


def test_an_unanswered_version_is_repeated_with_growing_pauses() -> None:
    """After 10, 20, 40 s, and from then on once a minute."""
    world = World()
    world.cloud.result_code = None
    world.run_for(400)
    wanted = [10, 20, 40, 60, 60, 60, 60, 60]
    assert gaps(world, "report_version") == pytest.approx(wanted, abs=0.1)


def test_a_version_that_is_refused_is_repeated_too() -> None:
    """A result code that is not 0 is no reason to stop: ever less often, once an hour at least."""
    world = World()
    world.cloud.result_code = 405
    world.run_for(6 * 3600)
    wanted = [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    assert gaps(world, "report_version") == pytest.approx(wanted, abs=0.1)
    world.cloud.result_code = 0
    world.run_for(4 * 3600)
    assert len(times(world, "report_version")) == len(wanted) + 2
    world.cloud.result_code = 405
    world.lose_network()
    world.run_for(100)
    assert gaps(world, "report_version")[-1] == pytest.approx(60, abs=0.1)


def test_a_refusal_that_comes_twice_or_unasked_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It puts nothing off, and asks for nothing."""
    world = started()
    refusal = {"type": "report_version_rsp", "result_code": "-1", "version": "0.1"}
    for _ in range(3):
        world.cloud.send(refusal)
    world.run_for(9000)
    assert world.heard == ["report_version 0.1"]
    assert [r.message for r in caplog.records if "refused" in r.message] == [
        "cloud: report_version refused with code -1"
    ] * 3


def test_a_question_is_put_though_the_last_one_was_refused() -> None:
    """A fresh URL is not waited for until the back-off is over."""
    world = World()
    world.cloud.result_code = 405
    world.run_for(1000)
    world.cloud.result_code = 0
    said = len(world.heard)
    world.agent.ask()
    world.run_for(1)
    assert world.heard[said:] == ["report_version 0.1"]


@pytest.mark.parametrize("version", ["", "1.0 beta", "x" * 33, "v1\u00e9", 'a"b', "1/2"])
def test_what_is_no_version_is_not_reported(version: str, caplog: pytest.LogCaptureFixture) -> None:
    """A version file with junk in it: the cloud hears ``unknown``, and the log says why."""
    world = World(image=Image(version))
    world.run(lambda: bool(world.heard))
    assert world.heard == ["report_version unknown"]
    assert "cannot be reported" in caplog.text
    assert messages.is_version(messages.UNKNOWN_VERSION)


def test_pauses_begin_anew_with_each_answer_and_each_session() -> None:
    """What was long ago left unanswered says nothing of now."""
    world = World()
    world.cloud.result_code = None
    world.run_for(100)
    world.cloud.result_code = 0
    world.run_for(300)
    world.cloud.result_code = None
    world.lose_network()
    world.run_for(60)
    assert gaps(world, "report_version")[-2:] == pytest.approx([10, 20], abs=0.1)
    world.offer(NEW, url="http://firmware.test/f")
    world.run(lambda: bool(world.outcomes))
    world.run_for(35)
    assert gaps(world, "report_version")[-2:] == pytest.approx([10, 20], abs=0.1)


def test_an_answered_version_is_not_repeated() -> None:
    """An idle device is quiet for hours."""
    world = started()
    world.run_for(9 * 3600)
    assert world.heard == ["report_version 0.1"]


def test_a_version_is_reported_after_each_connect() -> None:
    """An offer may have been lost meanwhile: the report brings it again."""
    world = started()
    for _ in range(3):
        world.run_for(100)
        world.lose_network()
        world.run_for(100)
    assert world.heard == ["report_version 0.1"] * 4
    plain = {"type": "report_version", "report": {"version": "0.1"}}
    assert [message.body for message in world.cloud.messages] == [plain] * 4


def test_a_version_is_reported_after_each_session() -> None:
    """Also after one that has changed nothing: the cloud may have something else."""
    world = started()
    world.offer(Image("0.2", size_bytes=65 << 20))
    world.run_until_calm()
    assert world.heard == ["report_version 0.1", "fail -5", "report_version 0.1"]


def test_a_link_that_flaps_is_no_flood_of_versions() -> None:
    """Whatever the connection does, an answered version is said once a minute at most."""
    world = started()
    for _ in range(100):
        world.run_for(7)
        world.lose_network()
    assert len(times(world, "report_version")) == 12
    assert min(gaps(world, "report_version")) >= 60


def test_questions_are_put_once_a_minute_at_most() -> None:
    """However often somebody wants the cloud to repeat itself."""
    world = started()
    for _ in range(100):
        world.agent.ask()
        world.run_for(3)
    assert len(times(world, "report_version")) == 6
    assert min(gaps(world, "report_version")) >= 60


def test_nothing_is_said_without_a_link() -> None:
    """A session goes on; what is owed is told once there is a link again."""
    world = started()
    world.cloud.is_reachable = False
    world.lose_network()
    world.run_for(1)
    url = world.offer(Image("0.2"))
    world.cloud.task = None
    world.web.fail(url, SlotError("anything"))
    world.agent.offered(Offer(Image("0.2").firmware, url))
    world.run_for(600)
    assert world.session is not None
    assert world.session.state is State.FAILED
    assert world.heard == ["report_version 0.1"]
    world.cloud.is_reachable = True
    world.run_until_calm()
    assert world.heard == ["report_version 0.1", "fail -5", "report_version 0.1"]


def test_the_version_is_not_said_while_a_report_is_owed() -> None:
    """First the PUBACK of the terminal report, then the version: also after a reconnect."""
    world = started()
    world.offer(Image("0.2"), served=Image("0.3"))
    world.run(lambda: "burning" in world.heard)
    world.cloud.acknowledges = False
    world.run(lambda: bool(world.outcomes))
    for _ in range(3):
        world.run_for(100)
        world.lose_network()
    assert world.heard[-3:] == ["fail -4"] * 3
    world.agent.ask()
    world.run_for(100)
    world.cloud.acknowledges = True
    world.lose_network()
    world.run_until_calm()
    assert world.heard[-2:] == ["fail -4", "report_version 0.1"]
    assert len({m.reason for m in world.outcomes}) == 1


def test_an_unacknowledged_report_survives_reboots() -> None:
    """It is told at each start until the broker has it."""
    world = started()
    lost = {"fail"}

    def lose(message: Message, _raw: bytes) -> None:
        world.cloud.acknowledges = message.state not in lost

    world.cloud.checks.append(lose)
    world.offer(Image("0.2", is_healthy=False))
    world.run(lambda: bool(world.outcomes), 4000)
    for number in range(3):
        world.run_for(60)
        assert len(world.outcomes) == number + 1
        world.lose_power()
    lost.clear()
    world.run_until_calm()
    assert [spoken(m) for m in world.outcomes] == ["fail -5"] * 4
    assert world.heard[-1] == "report_version 0.1"


def test_two_reports_are_told_one_after_the_other() -> None:
    """Oldest first, each with its own PUBACK, the version last."""
    world = started()
    world.parts = 40
    world.lose_power()
    world.run_until_calm()
    world.offer(NEW)
    world.run_for(1)
    world.lose_network()
    world.cloud.is_reachable = False
    world.agent.offered(_offer("0.3"))
    world.agent.offered(_offer("0.4"))
    world.run(lambda: world.session is not None and world.session.state.is_final)
    world.cloud.task = None
    world.cloud.is_reachable = True
    world.run_until_calm()
    assert [m.version for m in world.outcomes] == ["0.2", "0.3", "0.4"]


def _offer(version: str) -> Offer:
    firmware = Firmware(version, "0" * 32, 1)
    return Offer(firmware, f"https://firmware.test/{version}-that-is-not-there")


def _session(version: str) -> Session:
    return Session("5e55", State.INSTALLING, _offer(version), "B", "A")


# --- progress -------------------------------------------------------------------------------------


def slow(parts: int) -> World:
    """Return a world in which a download takes *parts* quarters of a second."""
    world = World()
    world.parts = parts
    world.offer(NEW)
    world.run_until_calm()
    return world


def test_progress_is_said_once_a_second_at_most() -> None:
    """Between 0 and 100, which are always said."""
    world = slow(400)
    percents = [m.percent for m in world.cloud.messages if m.state == "downloading"]
    assert (percents[0], percents[-1]) == (0, 100)
    assert percents == sorted(set(percents))
    assert len(percents) == pytest.approx(100, abs=10)
    assert min(gaps(world, "downloading")[:-1]) >= 1.0


def test_progress_is_said_on_change_only() -> None:
    """A download of an hour says each per cent once."""
    world = slow(4 * 3600)
    percents = [m.percent for m in world.cloud.messages if m.state == "downloading"]
    assert percents == list(range(101))


def test_a_download_of_an_instant_says_0_and_100() -> None:
    """Both, in this order, whatever the pace."""
    world = slow(1)
    assert [word for word in world.heard if "downloading" in word] == [
        "downloading 0",
        "downloading 100",
    ]


def test_0_and_100_are_said_at_once() -> None:
    """Whatever was said in the same second; and all of it at QoS 0."""
    world = started()
    assert world.agent.cloud is not None
    world.agent.cloud.enter(Mode.OPEN, _session("0.9"))
    for percent in (0, 1, 99, 100):
        world.agent.cloud.downloading(percent)
    assert [(m.percent, m.qos) for m in world.cloud.messages[1:]] == [(0, 0), (100, 0)]


def test_each_session_says_0() -> None:
    """Also if the last one came no further."""
    world = started()
    for number in (1, 2):
        world.cloud.offer(NEW.firmware, f"https://firmware.test/nowhere-{number}")
        world.run_until_calm()
    assert [word for word in world.heard if "report" not in word] == [
        "downloading 0", "fail -2", "downloading 0", "fail -2",
    ]  # fmt: skip


def test_progress_is_said_once_and_never_less() -> None:
    """A download that goes on after a cut begins in its middle; one that begins again waits."""
    world = started()
    assert world.agent.cloud is not None
    world.agent.cloud.enter(Mode.OPEN, _session("0.9"))
    for percent in (57, 57, 0, 56, 100, 3):
        world.agent.cloud.downloading(percent)
        world.run_for(2)
    assert world.heard == ["report_version 0.1", "downloading 57", "downloading 100"]


@pytest.mark.parametrize("reached", [0, 40, 100])
def test_of_progress_without_a_link_the_latest_is_said(reached: int) -> None:
    """Once there is one again, and only if it has changed meanwhile."""
    world = started()
    assert world.agent.cloud is not None
    world.agent.cloud.enter(Mode.OPEN, _session("0.9"))
    world.lose_network()
    world.run(lambda: not world.agent.cloud.is_connected)
    for percent in range(reached + 1):
        world.agent.cloud.downloading(percent)
    world.run_for(70)
    assert [m.percent for m in world.cloud.messages if m.state] == [reached]
    world.lose_network()
    world.run_for(70)
    assert [m.percent for m in world.cloud.messages if m.state] == [reached]


def test_100_is_said_before_the_burning_that_follows_it() -> None:
    """Though both wait for the link."""
    world = started()
    world.problems["gateway"] = None
    world.offer(NEW)
    world.run(lambda: "downloading 50" in world.heard)
    world.cloud.is_reachable = False
    assert world.cloud.link is not None
    world.cloud.link.drop("the connection was reset")
    world.run_for(10)
    world.cloud.is_reachable = True
    world.run(lambda: "burning" in world.heard)
    assert world.heard[-2:] == ["downloading 100", "burning"]


def test_progress_of_a_session_that_has_ended_is_not_said() -> None:
    """What was kept for want of a link goes with it."""
    world = started()
    url = world.offer(NEW)
    world.web.fail(url, (75, NotFoundError("gone")))
    world.run(lambda: "downloading 0" in world.heard)
    world.cloud.is_reachable = False
    assert world.cloud.link is not None
    world.cloud.link.drop("the connection was reset")
    world.run(lambda: world.session is not None and world.session.state.is_final)
    world.cloud.is_reachable = True
    world.run_until_calm()
    assert world.heard[-3:] == ["downloading 0", "fail -2", "report_version 0.1"]


# --- burning --------------------------------------------------------------------------------------

PATIENT = replace(
    CONFIG,
    health=HealthConfig(
        deadline_s=900.0, command=(HealthCommand(name="slow", argv=("x",), timeout_s=310.0),)
    ),
)


def test_burning_is_repeated_each_minute_of_a_baseline() -> None:
    """The cloud's time-out must not take slow health checks for a dead device."""
    world = World(PATIENT)
    world.problems["slow"] = None
    world.offer(NEW)
    world.run(lambda: world.boot_state.is_trial)
    assert gaps(world, "burning") == pytest.approx([60] * 5, abs=0.1)
    assert [m.qos for m in world.cloud.messages if m.state == "burning"] == [1, 0, 0, 0, 0, 0]


def test_burning_is_repeated_each_minute_of_a_trial() -> None:
    """The first one proves the link and is to be acknowledged, the others only show life."""
    world = World(PATIENT)
    world.offer(NEW)
    world.run(lambda: world.runs(NEW))
    said = len(world.cloud.messages)
    world.problems["slow"] = None
    world.run(lambda: len(world.boots) == 3)
    burning = world.cloud.messages[said:]
    assert {m.state for m in burning} == {"burning"}
    assert [m.qos for m in burning] == [1] + [0] * 14


def test_each_session_says_burning_at_once_and_surely() -> None:
    """However short ago the last one was burning."""
    world = started()
    world.offer(NEW, served=Image("0.3"))
    world.run_until_calm()
    world.offer(NEW)
    world.run(lambda: world.boot_state.is_trial)
    assert [m.qos for m in world.cloud.messages if m.state == "burning"] == [1, 1]


def test_burning_waits_for_the_link() -> None:
    """The last byte came while the link was down: it is said, surely, once there is one."""
    world = World(PATIENT)
    world.problems["slow"] = None
    world.offer(NEW)
    world.run(lambda: "downloading 0" in world.heard)
    world.cloud.is_reachable = False
    assert world.cloud.link is not None
    world.cloud.link.drop("the connection was reset")
    world.run_for(100)
    assert "burning" not in world.heard
    world.cloud.is_reachable = True
    world.run(lambda: "burning" in world.heard, 6)
    assert [m.qos for m in world.cloud.messages if m.state == "burning"] == [1]


def test_nothing_is_said_between_activation_and_reboot() -> None:
    """Not after a reconnect, not what is owed, and no version though it is unanswered."""
    world = World()
    world.reboot_s = 300.0
    world.run_until_calm()
    world.cloud.acknowledges = False
    world.offer(NEW, url="http://firmware.test/f")
    world.run(lambda: bool(world.outcomes))
    world.cloud.result_code = None
    world.offer(Image("0.3"))
    world.run(lambda: world.boot_state.is_trial)
    said = len(world.heard)
    world.run_for(100)
    world.lose_network()
    world.run_for(100)
    assert len(world.heard) == said
    world.cloud.acknowledges, world.cloud.result_code = True, 0
    world.run_until_calm()
    assert [(m.version, m.state) for m in world.outcomes[-2:]] == [("0.2", "fail"), ("0.3", "done")]


def test_an_unanswered_version_is_not_repeated_before_the_reboot() -> None:
    """The next boot reports its own."""
    world = World()
    world.reboot_s = 300.0
    world.cloud.result_code = None
    world.offer(NEW)
    world.run(lambda: world.boot_state.is_trial)
    said = len(world.heard)
    world.run_for(200)
    assert len(world.heard) == said


# --- what is acknowledged -------------------------------------------------------------------------


def test_a_journal_that_cannot_take_note_of_a_puback_is_no_flood() -> None:
    """The report is not told again, also not after a restart if the journal takes note by then."""
    world = started()
    world.offer(NEW)
    world.run(lambda: world.session is not None and world.session.state is State.GOOD)
    world.journal.is_writable = False
    world.run_for(600)
    assert world.heard[-2:] == ["done", "report_version 0.2"]
    assert len(world.outcomes) == 1
    world.journal.is_writable = True
    world.run_for(61)
    world.lose_power()
    world.run_until_calm()
    assert len(world.outcomes) == 1

# SPDX-License-Identifier: MIT
"""In control of when: windows, power, hooks and requests, in the simulated world."""

from collections.abc import Callable

import pytest
from policycases import (
    HOUR_S,
    LATER,
    MIDNIGHT_S,
    NIGHT,
    NO,
    NO_POWER,
    OTHER,
    ask,
    begun,
    hook,
    hour,
    installed,
    put_off,
    set_clock,
    started,
    texts,
    told,
    with_policy,
)
from sim.flash import MIB, Image
from sim.settings import CONFIG, NEW, OLD
from sim.uplink import spoken
from sim.world import World

from updater.core.commands import Outcome
from updater.core.errors import BusyError, OfferError, WrongStateError
from updater.core.model import Offer, State
from updater.desk import waiting

# --- before an install ----------------------------------------------------------------------------


def test_an_offer_waits_for_its_window_in_silence() -> None:
    """Nothing is journalled and nothing said; when the window opens it is installed."""
    world = started(with_policy(install_windows=NIGHT))
    said = len(world.heard)
    world.offer(NEW)
    world.run_for(9 * HOUR_S)
    assert not begun(world)
    assert world.heard[said:] == []
    assert told(world) == {
        "what": "install", "version": "0.2", "reason": "no install window is open (22:00-05:00)",
        "until_s": MIDNIGHT_S + 22 * HOUR_S, "left_s": pytest.approx(HOUR_S, abs=60),
        "is_asking": False,
    }  # fmt: skip
    world.run(lambda: begun(world))
    assert hour(world) == pytest.approx(22.0, abs=0.01)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert waiting(world.agent) is None


def test_within_its_window_an_offer_waits_for_nothing() -> None:
    """It is begun at once, and goes on past the window's end."""
    world = started(with_policy(install_windows=NIGHT), "04:59")
    world.offer(NEW)
    world.run(lambda: begun(world), 5)
    set_clock(world, "05:00")
    world.run_until_calm()
    assert world.booted.image == NEW


def test_a_repeated_offer_brings_a_fresh_url_and_another_takes_the_place() -> None:
    """One offer is kept, the latest; an older URL has perhaps expired by then."""
    world = started(with_policy(install_windows=NIGHT))
    world.offer(OTHER)
    world.run_for(60)
    world.offer(NEW, task_id=1)
    world.run_for(60)
    world.offer(NEW, task_id=2, url="https://firmware.test/fresh")
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)
    world.run_until_calm()
    assert world.web.requests == ["https://firmware.test/fresh"]
    assert [spoken(m) for m in world.outcomes] == ["done"]
    assert world.outcomes[0].body["report"]["task_id"] == 2


def test_the_running_version_ends_the_wait() -> None:
    """The cloud has changed its mind."""
    world = started(with_policy(install_windows=NIGHT))
    world.offer(NEW)
    world.run_for(60)
    world.offer(OLD)
    world.run_for(24 * HOUR_S)
    assert not begun(world)


@pytest.mark.parametrize("cut", [World.lose_network, World.lose_process, World.lose_power])
def test_a_wait_survives_what_it_cannot_remember(cut: Callable[[World], None]) -> None:
    """After a disconnect or a restart the cloud repeats its offer, and the window still holds."""
    world = started(with_policy(install_windows=NIGHT))
    world.offer(NEW)
    world.run_for(60)
    cut(world)
    world.run_for(9 * HOUR_S)
    assert not begun(world)
    assert told(world)["what"] == "install"
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)
    world.run_until_calm()


def test_a_clock_that_is_not_set_opens_no_window() -> None:
    """In 1970 it was always some hour; soon after the time arrives, the window opens."""
    world = World(with_policy(install_windows=("00:00-24:00",)))
    world.run_until_calm()
    world.offer(NEW)
    world.run_for(3 * HOUR_S)
    assert not begun(world)
    assert told(world)["reason"] == "the clock is not set"
    set_clock(world, "12:00")
    world.run(lambda: begun(world), 61)


def test_a_clock_that_is_set_back_is_noticed() -> None:
    """What was due in a minute is due in a day then, and the other way round."""
    world = started(with_policy(install_windows=NIGHT), "21:59")
    world.offer(NEW)
    world.run_for(30)
    set_clock(world, "06:00")
    world.run_for(15 * HOUR_S)
    assert not begun(world)
    set_clock(world, "23:00")
    world.run(lambda: begun(world), 301)


def test_power_is_asked_before_an_install() -> None:
    """Until there is enough, the offer waits, and is asked about every few minutes."""
    world = started(with_policy(power_command=("power",), retry_s=100.0))
    world.outcomes_of["power"] = NO_POWER
    world.offer(NEW)
    world.run_for(1000)
    assert not begun(world)
    assert told(world)["reason"] == "not enough power (power_command: exit status 1)"
    asked = len(world.commands.asked)
    assert asked == pytest.approx(10, abs=1)
    world.outcomes_of["power"] = Outcome(0, "exit status 0")
    world.run(lambda: begun(world), 101)
    world.run_until_calm()
    assert world.booted.image == NEW


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (None, "not enough power (power_command: no result in time)"),
        (Outcome(None, "cannot start: No such file"),
         "not enough power (power_command: cannot start: No such file)"),
    ],
)  # fmt: skip
def test_power_that_nobody_can_tell_is_not_enough(outcome: Outcome | None, reason: str) -> None:
    """A command that hangs or cannot be started lets nothing in, and status says so."""
    world = started(with_policy(power_command=("power",)))
    world.outcomes_of["power"] = outcome
    world.offer(NEW)
    world.run_for(30)
    assert not begun(world)
    assert told(world)["reason"] == reason


def test_a_hook_may_defer_an_offer() -> None:
    """Exit status 75: it is asked again; what it says is the reason."""
    world = started(with_policy(hook=(hook("before-install", "pump"),)))
    world.outcomes_of["pump"] = LATER
    world.offer(NEW)
    world.run_for(900)
    assert not begun(world)
    assert told(world)["reason"] == "hook pump: the pump runs"
    assert world.outcomes + world.refusals == []
    del world.outcomes_of["pump"]
    world.run_until_calm()
    assert world.booted.image == NEW


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (NO, "offer: hook site: this site is frozen"),
        (Outcome(1, "exit status 1"), "offer: hook site: exit status 1"),
        (Outcome(None, "killed by signal 9"), "offer: hook site: killed by signal 9"),
        (None, "offer: hook site: no result in time"),
    ],
)
def test_a_hook_may_refuse_an_offer(outcome: Outcome | None, said: str) -> None:
    """The cloud hears -5 and what the hook says; it may offer again, and is asked again."""
    world = started(with_policy(hook=(hook("before-install", "site"),)))
    world.outcomes_of["site"] = outcome
    world.offer(NEW)
    world.run(lambda: len(world.refusals) == 1)
    assert not begun(world)
    (refusal,) = world.refusals
    assert (refusal.code, refusal.reason) == (-5, said)
    del world.outcomes_of["site"]
    world.offer(NEW)
    world.run_until_calm()
    assert world.booted.image == NEW


def test_what_waits_ends_no_session() -> None:
    """Another offer that has to wait lets the running install go on; at its time it comes."""
    world = started(with_policy(install_windows=("10:00-12:00",)), "11:59", parts=40)
    world.offer(OTHER)
    world.run(lambda: begun(world))
    set_clock(world, "12:00")
    world.offer(NEW)
    world.run(lambda: world.runs(OTHER))
    world.run(lambda: world.runs(NEW), 30 * HOUR_S)
    world.run_until_calm()
    assert [(m.version, m.state) for m in world.outcomes] == [("0.3", "done"), ("0.2", "done")]


def test_what_its_hook_lets_in_replaces_a_running_session() -> None:
    """Asked once: the older session ends superseded, the newer one begins."""
    world = started(with_policy(hook=(hook("before-install"),)), parts=400)
    world.offer(OTHER)
    world.run(lambda: begun(world))
    world.offer(NEW)
    world.run(lambda: len(world.journal.sessions) == 2)
    assert len(world.commands.asked) == 2
    world.run_until_calm()
    assert [(m.version, m.state) for m in world.outcomes] == [("0.3", "fail"), ("0.2", "done")]


def test_hooks_get_to_know_the_offer_and_no_secret() -> None:
    """What comes, from where to where; no URL, nothing else."""
    config = with_policy(
        hook=(hook("before-install"), hook("after-install"), hook("before-activation")),
        reboot="on-request",
    )
    world = put_off(config)
    asked = list(world.commands.asked)
    world.agent.pace.request()
    world.run(lambda: world.session is not None and world.session.state is State.ACTIVATED)
    asked += world.commands.asked[len(asked) :]
    assert [name for name, _known in asked] == [
        "before-install", "after-install", "before-activation",
    ]  # fmt: skip
    known = {
        "UPDATER_VERSION": "0.2",
        "UPDATER_RUNNING_VERSION": "0.1",
        "UPDATER_MD5": NEW.md5,
        "UPDATER_SIZE_BYTES": str(8 * MIB),
        "UPDATER_SLOT": "B",
        "UPDATER_DEVICE": "/dev/b",
    }
    assert asked[0][1] == known
    assert world.session is not None
    assert asked[1][1] == asked[2][1] == {**known, "UPDATER_SESSION": world.session.id}


@pytest.mark.parametrize(
    ("image", "url"), [(Image("0.2", size_bytes=65 * MIB), ""), (NEW, "http://firmware.test/0.2")]
)
def test_what_can_never_be_installed_does_not_wait(image: Image, url: str) -> None:
    """Too large, or plaintext: it fails at once, whatever the time."""
    world = started(with_policy(install_windows=NIGHT))
    world.offer(image, url=url)
    world.run(lambda: bool(world.outcomes), 60)
    assert world.outcomes[0].code == -5
    assert world.pipeline.requests == []


# --- before the activation ------------------------------------------------------------------------


def test_an_activation_waits_for_its_window_and_shows_life() -> None:
    """The session stays installed, burning is repeated each minute, history has a line of why."""
    world = put_off(with_policy(reboot="in-window", reboot_windows=("03:00-04:00",)))
    assert told(world)["what"] == "activation"
    assert told(world)["reason"] == "no reboot window is open (03:00-04:00)"
    said = len(world.heard)
    world.run_for(HOUR_S)
    assert 59 <= world.heard[said:].count("burning") <= 61
    assert texts(world)[-1] == (
        "the activation waits: no reboot window is open (03:00-04:00)"
    )  # fmt: skip
    assert len(texts(world)) == 3
    world.run(lambda: len(world.boots) == 2, 24 * HOUR_S)
    assert hour(world) == pytest.approx(3.0, abs=0.02)
    world.run_until_calm()
    assert world.booted.image == NEW


def test_the_windows_of_the_install_are_those_of_the_reboot_unless_it_has_its_own() -> None:
    """A long download may end after its night: it is activated in the next one."""
    world = started(with_policy(install_windows=NIGHT, reboot="in-window"), "04:59")
    world.offer(NEW)
    world.run(lambda: begun(world))
    set_clock(world, "05:00")
    world.run(lambda: installed(world))
    world.run_for(HOUR_S)
    assert told(world)["until_s"] == MIDNIGHT_S + 22 * HOUR_S
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)
    world.run_until_calm()


def test_on_request_waits_for_a_person() -> None:
    """For days; then it is activated at once, and only once."""
    world = put_off(with_policy(reboot="on-request"))
    world.run_for(48 * HOUR_S)
    assert installed(world)
    assert told(world)["reason"] == "it is asked for by: updater activate"
    world.agent.pace.request()
    assert waiting(world.agent) is None
    world.run(lambda: len(world.boots) == 2, 60)
    world.run_until_calm()
    assert world.booted.image == NEW


def test_a_request_opens_a_window_and_no_hook() -> None:
    """A person knows the time; whether the data can be migrated, the hook knows."""
    config = with_policy(
        reboot="in-window", reboot_windows=NIGHT, hook=(hook("before-activation", "data"),)
    )
    world = put_off(config)
    world.outcomes_of["data"] = LATER
    world.agent.pace.request()
    world.run_for(HOUR_S)
    assert installed(world)
    assert told(world)["reason"] == "hook data: the pump runs"
    del world.outcomes_of["data"]
    world.run(lambda: len(world.boots) == 2, 400)


@pytest.mark.parametrize("rows", [{}, {"reboot": "on-request"}])
def test_there_is_nothing_to_request_where_nothing_is_installed(rows: dict[str, object]) -> None:
    """A person who is too early, or too late, is told so."""
    world = started(with_policy(**rows))
    with pytest.raises(WrongStateError, match="no installed firmware waits"):
        world.agent.pace.request()


def test_power_is_asked_again_before_the_activation() -> None:
    """The battery may have gone meanwhile: what is installed stays, and waits."""
    world = put_off(with_policy(power_command=("power",), reboot="on-request"))
    world.outcomes_of["power"] = NO_POWER
    world.agent.pace.request()
    world.run_for(HOUR_S)
    assert installed(world)
    assert told(world)["reason"] == "not enough power (power_command: exit status 1)"
    del world.outcomes_of["power"]
    world.run_until_calm()
    assert world.booted.image == NEW


@pytest.mark.parametrize("when", ["after-install", "before-activation"])
def test_a_hook_may_end_what_is_installed(when: str) -> None:
    """One fail -5 with its reason; the old slot stays, and the new one's record goes."""
    world = started(with_policy(hook=(hook(when, "data"),)))
    world.outcomes_of["data"] = NO
    world.offer(NEW)
    world.run(lambda: bool(world.outcomes))
    (outcome,) = world.outcomes
    assert (outcome.code, outcome.reason) == (-5, "policy: hook data: this site is frozen")
    assert world.booted.image == OLD
    assert "B" not in world.journal.records
    world.run_for(600)
    assert len(world.boots) == 1


@pytest.mark.parametrize("when", ["after-install", "before-activation"])
def test_a_hook_may_put_off_what_is_installed(when: str) -> None:
    """Exit status 75 leaves it installed until the hook is content."""
    world = started(with_policy(hook=(hook(when, "data"),)))
    world.outcomes_of["data"] = LATER
    world.offer(NEW)
    world.run(lambda: installed(world))
    world.run_for(HOUR_S)
    assert installed(world)
    assert texts(world)[-1] == "the activation waits: hook data: the pump runs"
    del world.outcomes_of["data"]
    world.run_until_calm()
    assert world.booted.image == NEW


def test_a_hook_after_the_install_is_asked_once_in_a_process() -> None:
    """However long the activation waits after it; a restart asks it again."""
    config = with_policy(
        hook=(hook("after-install", "data"),), reboot="in-window", reboot_windows=NIGHT
    )
    world = put_off(config)
    world.run_for(5 * HOUR_S)
    assert [name for name, _known in world.commands.asked] == ["data"]
    world.lose_process()
    world.run_for(HOUR_S)
    assert [name for name, _known in world.commands.asked] == ["data"]
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)


@pytest.mark.parametrize("cut", [World.lose_network, World.lose_process, World.lose_power])
def test_an_installed_session_waits_on_after_a_cut(cut: Callable[[World], None]) -> None:
    """It is the same session, it is not downloaded again, and its time is the same."""
    world = put_off(with_policy(reboot="in-window", reboot_windows=NIGHT))
    cut(world)
    world.run_for(HOUR_S)
    assert installed(world)
    assert told(world)["until_s"] == MIDNIGHT_S + 22 * HOUR_S
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)
    world.run_until_calm()
    assert len(world.web.requests) == 1
    assert [spoken(m) for m in world.outcomes] == ["done"]


def test_an_offer_replaces_what_waits_for_its_activation() -> None:
    """It ends superseded, its hook is not asked any more, and the other one is activated."""
    config = with_policy(reboot="in-window", reboot_windows=NIGHT, hook=(hook("before-install"),))
    world = put_off(config)
    world.offer(OTHER)
    world.run(lambda: world.runs(OTHER), 24 * HOUR_S)
    world.run_until_calm()
    assert [(m.version, m.state) for m in world.outcomes] == [("0.2", "fail"), ("0.3", "done")]


def test_a_superseded_hook_is_killed() -> None:
    """Nothing of a session that has ended goes on."""
    world = started(with_policy(hook=(hook("after-install", "data"),)))
    world.outcomes_of["data"] = None
    world.offer(NEW)
    world.run(lambda: len(world.commands.asked) == 1)
    open_before = world.clock.open_descriptors
    world.agent.withdraw("superseded by a test")
    assert world.clock.open_descriptors == open_before - 1


def test_an_agent_that_ends_leaves_nothing_open() -> None:
    """Neither a hook that is asked about an offer, nor one about a session, nor a person's."""
    for when in ("before-install", "after-install"):
        world = started(with_policy(hook=(hook(when, "data"),)))
        world.outcomes_of["data"] = None
        world.offer(NEW)
        world.run(lambda world=world: len(world.commands.asked) == 1)  # type: ignore[misc]
        world.end_agent()


def test_the_same_offer_is_adopted_while_its_session_waits() -> None:
    """A fresh task and URL; the wait goes on, and the report has the new task."""
    world = put_off(with_policy(reboot="on-request"))
    world.offer(NEW, task_id=9)
    world.run_for(60)
    assert installed(world)
    world.agent.pace.request()
    world.run_until_calm()
    assert world.outcomes[-1].body["report"]["task_id"] == 9


def test_a_journal_that_takes_no_line_puts_nothing_off() -> None:
    """History lacks the reason, and the device waits all the same."""
    world = started(with_policy(reboot="in-window", reboot_windows=NIGHT))
    world.offer(NEW)
    world.run(lambda: installed(world))
    world.journal.is_writable = False
    world.lose_process()
    world.run_for(60)
    assert told(world)["what"] == "activation"
    world.journal.is_writable = True
    world.run(lambda: world.runs(NEW), 24 * HOUR_S)


def test_slots_that_are_lost_end_an_activation() -> None:
    """Nobody knows any more what would be activated."""
    world = put_off(with_policy(reboot="on-request"))
    world.agent.problem = OfferError("the disk is gone")
    world.agent.pace.activate(world.agent.session)
    world.run(lambda: bool(world.outcomes))
    assert (world.outcomes[0].code, world.outcomes[0].reason) == (-5, "policy: the disk is gone")


# --- a person's install ---------------------------------------------------------------------------


def test_a_person_waits_for_no_window_no_budget_and_no_request() -> None:
    """Who is there knows what time it is."""
    config = with_policy(install_windows=NIGHT, reboot="on-request", daily_budget_bytes=1)
    world = started(config)
    assert ask(world) == [None]
    world.agent.offered(Offer(NEW.firmware, "/image", is_local=True))
    world.run(lambda: world.runs(NEW), 600)


@pytest.mark.parametrize(
    ("outcomes", "answer"),
    [
        ({}, None),
        ({"power": NO_POWER}, "not now: not enough power (power_command: exit status 1)"),
        ({"site": LATER}, "not now: hook site: the pump runs"),
        ({"site": NO}, "offer: hook site: this site is frozen"),
    ],
)
def test_a_person_is_told_what_power_and_hooks_say(
    outcomes: dict[str, Outcome | None], answer: str | None
) -> None:
    """At once, in a sentence; nothing is kept for later, and the cloud hears nothing."""
    world = started(with_policy(power_command=("power",), hook=(hook("before-install", "site"),)))
    world.outcomes_of = outcomes
    said = len(world.heard)
    answers = ask(world)
    with pytest.raises(BusyError):
        ask(world)
    world.run(lambda: bool(answers), 60)
    assert answers[0] is None if answer is None else str(answers[0]) == answer
    world.run_for(HOUR_S)
    assert not begun(world)
    assert world.heard[said:] == []
    assert len(ask(world)) == 0  # may be asked again


def test_without_a_policy_a_person_is_answered_at_once() -> None:
    """Nothing is asked."""
    world = started(CONFIG)
    assert ask(world) == [None]

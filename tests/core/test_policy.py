# SPDX-License-Identifier: MIT
"""What has to be so before a step, and what an answer means: tables over facts."""

import re
import textwrap
from pathlib import Path

import pytest

from updater.core.commands import Outcome
from updater.core.config import Config, parse_config
from updater.core.errors import ConfigError
from updater.core.policy import (
    Ask,
    Condition,
    Facts,
    Go,
    Kind,
    Point,
    Refuse,
    Verdict,
    Wait,
    check,
    judge,
    steps,
)
from updater.core.policyconfig import HookConfig, PolicyConfig
from updater.core.ports import LocalTime

MONDAY_S = 1_772_409_600.0  # 2026-03-02, 00:00 UTC
DAY_S = 86400.0
CLOUD = '[cloud]\nhost = "h"\nproduct_id = "P"\ndevice_name = "d"\n'


def local(time_s: float) -> LocalTime:
    """Return UTC."""
    day, rest_s = divmod(int(time_s), 86400)
    return LocalTime(day, rest_s // 60, rest_s % 60)


def facts(hour: float = 12.0, **more: object) -> Facts:
    return Facts(MONDAY_S + hour * 3600, local, **more)  # type: ignore[arg-type]


def hooks(*when: str) -> tuple[HookConfig, ...]:
    return tuple(HookConfig(name=each, when=each, argv=("x",)) for each in when)


ALL = PolicyConfig(
    install_windows=("22:00-05:00",),
    reboot="in-window",
    metered_command=("m",),
    daily_budget_bytes=100,
    power_command=("p",),
    hook=hooks("before-install", "after-install", "before-activation"),
)


def words(policy: PolicyConfig, point: Point, *, is_local: bool = False) -> list[str]:
    """Return the steps, a word each."""
    found = steps(policy, point, is_local=is_local)
    return [step.name if isinstance(step, Ask) else step.name.lower() for step in found]


@pytest.mark.parametrize(
    ("point", "is_local", "wanted"),
    [
        (Point.INSTALL, False, ["install_window", "metered_command", "budget", "power_command",
                                "hook before-install"]),
        (Point.INSTALL, True, ["power_command", "hook before-install"]),
        (Point.DOWNLOAD, False, ["metered_command", "budget"]),
        (Point.DOWNLOAD, True, []),
        (Point.ACTIVATION, False, ["hook after-install", "activation", "power_command",
                                   "hook before-activation"]),
        (Point.ACTIVATION, True, ["hook after-install", "power_command", "hook before-activation"]),
    ],
)  # fmt: skip
def test_each_point_has_its_steps_in_order(point: Point, is_local: bool, wanted: list[str]) -> None:
    """What costs nothing comes first, hooks last; a person waits for no time and no budget."""
    assert words(ALL, point, is_local=is_local) == wanted


@pytest.mark.parametrize("point", Point)
def test_nothing_configured_asks_for_nothing(point: Point) -> None:
    """Every step may be taken at once."""
    assert words(PolicyConfig(), point) == []


def test_a_cap_alone_asks_only_before_a_download() -> None:
    """It keeps nothing from being begun."""
    policy = PolicyConfig(metered_command=("m",), metered_bandwidth_bytes_per_s=2048)
    assert words(policy, Point.INSTALL) == []
    assert words(policy, Point.DOWNLOAD) == ["metered_command", "budget"]


def test_only_the_hook_after_the_install_is_asked_once() -> None:
    """The others are asked again after each wait, and the activation's time may be long."""
    once = [
        step.name
        for point in Point
        for step in steps(ALL, point, is_local=False)
        if isinstance(step, Ask) and step.is_once
    ]
    assert once == ["hook after-install"]


# --- conditions -----------------------------------------------------------------------------------

NIGHT = PolicyConfig(install_windows=("22:00-05:00",), reboot="in-window")
OWN = PolicyConfig(
    install_windows=("22:00-05:00",), reboot="in-window", reboot_windows=("03:00-04:00",)
)
ASKED = PolicyConfig(reboot="on-request")
BUDGET = PolicyConfig(daily_budget_bytes=100)
UNSET = Facts(3600.0 * 23, local, spent_bytes=0, need_bytes=1)


@pytest.mark.parametrize(
    ("condition", "policy", "known", "wanted"),
    [
        (Condition.INSTALL_WINDOW, NIGHT, facts(23), Go(is_metered=True)),
        (Condition.INSTALL_WINDOW, NIGHT, facts(21.99),
         Wait("no install window is open (22:00-05:00)", pytest.approx(36), MONDAY_S + 22 * 3600)),
        (Condition.INSTALL_WINDOW, NIGHT, facts(12),
         Wait("no install window is open (22:00-05:00)", 300, MONDAY_S + 22 * 3600)),
        (Condition.INSTALL_WINDOW, NIGHT, UNSET, Wait("the clock is not set", 60)),
        (Condition.ACTIVATION, NIGHT, facts(23), Go(is_metered=True)),
        (Condition.ACTIVATION, NIGHT, facts(12),
         Wait("no reboot window is open (22:00-05:00)", 300, MONDAY_S + 22 * 3600)),
        (Condition.ACTIVATION, OWN, facts(2),
         Wait("no reboot window is open (03:00-04:00)", 300, MONDAY_S + 3 * 3600)),
        (Condition.ACTIVATION, OWN, facts(2, is_requested=True), Go(is_metered=True)),
        (Condition.ACTIVATION, ASKED, facts(), Wait("it is asked for by: updater activate", 300)),
        (Condition.ACTIVATION, ASKED, facts(is_requested=True), Go(is_metered=True)),
        (Condition.BUDGET, BUDGET, facts(spent_bytes=99, need_bytes=1000), Go(is_metered=True)),
        (Condition.BUDGET, BUDGET, facts(spent_bytes=100, need_bytes=1),
         Wait("100 of the day's budget of 100 bytes are spent", 300, MONDAY_S + DAY_S)),
        (Condition.BUDGET, BUDGET, facts(23.99, spent_bytes=120, need_bytes=1),
         Wait("120 of the day's budget of 100 bytes are spent", pytest.approx(36),
              MONDAY_S + DAY_S)),
        (Condition.BUDGET, BUDGET, facts(spent_bytes=120, need_bytes=0), Go(is_metered=True)),
        (Condition.BUDGET, BUDGET, facts(spent_bytes=120, need_bytes=1, is_metered=False), Go()),
        (Condition.BUDGET, PolicyConfig(), facts(spent_bytes=120, need_bytes=1),
         Go(is_metered=True)),
        (Condition.BUDGET, BUDGET, UNSET, Wait("the clock is not set", 60)),
        (Condition.BUDGET, BUDGET, facts(spent_bytes=40, need_bytes=60, is_whole=True),
         Go(is_metered=True)),
        (Condition.BUDGET, BUDGET, facts(spent_bytes=41, need_bytes=60, is_whole=True),
         Wait("41 of the day's budget of 100 bytes are spent, and 60 have to come in one piece",
              300, MONDAY_S + DAY_S)),
        (Condition.BUDGET, BUDGET, facts(need_bytes=101, is_whole=True),
         Refuse("101 bytes have to come in one piece, and the budget of a day is 100 bytes")),
    ],
)  # fmt: skip
def test_a_condition_is_judged_by_facts(
    condition: Condition, policy: PolicyConfig, known: Facts, wanted: Verdict
) -> None:
    """Go, or why not and until when."""
    assert check(condition, policy, known) == wanted


def test_a_window_that_never_opens_is_looked_at_again() -> None:
    """Until when is not known then."""
    stuck = Facts(MONDAY_S, lambda _time_s: LocalTime(0, 0))
    policy = PolicyConfig(install_windows=("02:00-04:00",))
    found = check(Condition.INSTALL_WINDOW, policy, stuck)
    assert found == Wait("no install window is open (02:00-04:00)", 300, None)


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "outcome", "wanted"),
    [
        (Kind.METERED, Outcome(0, "exit status 0"), Go(is_metered=True)),
        (Kind.METERED, Outcome(1, "exit status 1"), Go()),
        (Kind.METERED, Outcome(None, "no result within 10 s"), Go(is_metered=True)),
        (Kind.POWER, Outcome(0, "exit status 0", "95 %"), Go()),
        (Kind.POWER, Outcome(1, "exit status 1", "5 %"),
         Wait("not enough power (it: exit status 1)", 7)),
        (Kind.POWER, Outcome(None, "cannot start: x"),
         Wait("not enough power (it: cannot start: x)", 7)),
        (Kind.HOOK, Outcome(0, "exit status 0", "fine"), Go()),
        (Kind.HOOK, Outcome(75, "exit status 75", "busy"), Wait("it: busy", 7)),
        (Kind.HOOK, Outcome(75, "exit status 75"), Wait("it: exit status 75", 7)),
        (Kind.HOOK, Outcome(1, "exit status 1", "no room"), Refuse("it: no room")),
        (Kind.HOOK, Outcome(1, "exit status 1"), Refuse("it: exit status 1")),
        (Kind.HOOK, Outcome(None, "killed by signal 9"), Refuse("it: killed by signal 9")),
    ],
)  # fmt: skip
def test_an_answer_has_its_meaning(kind: Kind, outcome: Outcome, wanted: Verdict) -> None:
    """What could not be asked is taken for the worse."""
    assert judge(Ask(kind, "it", ("x",), 1.0), outcome, 7.0) == wanted


# --- the configuration ----------------------------------------------------------------------------


def parsed(rows: str) -> Config:
    return parse_config(f"{CLOUD}[policy]\n{rows}", "c.toml")


def test_every_row_of_policy_is_read() -> None:
    """As docs/policy.md has them."""
    policy = parsed(
        'install_windows = ["Mon-Fri 22:00-05:00"]\nreboot = "in-window"\n'
        'reboot_windows = ["Sun 03:00-04:00"]\nmetered_command = ["m"]\n'
        "daily_budget_bytes = 33554432\nmetered_bandwidth_bytes_per_s = 1024\n"
        'power_command = ["p", "-q"]\nretry_s = 60\n'
        '[[policy.hook]]\nname = "n"\nwhen = "before-install"\nargv = ["h"]\ntimeout_s = 5\n'
    ).policy
    assert policy.power_command == ("p", "-q")
    assert policy.hook == (HookConfig(name="n", when="before-install", argv=("h",), timeout_s=5.0),)
    assert parse_config(CLOUD, "c.toml").policy == PolicyConfig()


HOOK = '[[policy.hook]]\nname = "n"\nwhen = "before-install"\nargv = ["h"]\n'


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ('install_windows = ["22-05"]', r"policy\.install_windows: '22-05' is no window"),
        ('reboot = "in-window"\nreboot_windows = ["x"]', r"policy\.reboot_windows: 'x' is no"),
        ('reboot = "in-window"', "in-window needs policy.reboot_windows or install_windows"),
        ('reboot_windows = ["02:00-03:00"]', "reboot_windows needs policy.reboot = in-window"),
        ("metered_bandwidth_bytes_per_s = 1023", "0 for no limit, or 1024 at least, is 1023"),
        ("daily_budget_bytes = 33554431", "0 for no limit, or 33554432 at least, is 33554431"),
        (HOOK + HOOK, "each policy.hook needs a name of its own"),
        (HOOK.replace('["h"]', "[]"), r"policy\.hook\.argv is empty"),
        (HOOK.replace("before-install", "sometimes"), "must be one of before-install, after-"),
    ],
)
def test_what_cannot_be_meant_is_refused(rows: str, reason: str) -> None:
    """By the name of its row."""
    with pytest.raises(ConfigError, match=reason):
        parsed(rows)


def test_the_page_of_the_policy_shows_what_can_be_read() -> None:
    """Its example is a configuration, and so are the commands further down."""
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.MULTILINE)
    rows = [textwrap.dedent(block) for block in blocks]
    policy = parse_config(CLOUD + next(each for each in rows if "[policy]" in each), "x").policy
    assert policy.hook[0].when == "before-install"
    more = [each.strip() for each in rows if each.strip().startswith(("power_", "metered_"))]
    assert len(more) == 2
    assert all(parsed(each) for each in more)

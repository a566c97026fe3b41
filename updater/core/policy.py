# SPDX-License-Identifier: MIT
"""In control of when: what has to be so before a step is taken, and what an answer means.

Three steps may have to wait: to begin an install from an offer, to open its download, and to
activate what is installed. For each, ``steps`` lists conditions, which are judged from facts, and
commands, which are asked; they are gone through in order, and from the first one again after each
wait. The wall clock may be wrong: before it can be right no window is open and no day has a budget.

A person's install is held up by power and hooks alone: windows and budgets are for the cloud's.
"""

import enum
from dataclasses import dataclass

from updater.core import windows
from updater.core.commands import Outcome
from updater.core.policyconfig import (
    AFTER_INSTALL,
    BEFORE_ACTIVATION,
    BEFORE_INSTALL,
    HookConfig,
    PolicyConfig,
)
from updater.core.windows import LocalClock

TRY_AGAIN = 75  # exit status of a hook that asks for time: EX_TEMPFAIL of sysexits.h
NOTE_BYTES = 4 << 20  # of a budget that are noted as spent before they are
_CLOCK_IS_SET_S = 1704067200.0  # 2024-01-01: this program is younger
_LOOK_S = 300.0  # at the latest: somebody may have set the clock
_CLOCK_LOOK_S = 60.0


class Point(enum.Enum):
    """What may have to wait; the value is its word in `updater status`."""

    INSTALL = "install"
    DOWNLOAD = "download"
    ACTIVATION = "activation"


class Condition(enum.Enum):
    """What is judged from facts."""

    INSTALL_WINDOW = "an install window is open"
    BUDGET = "the day's budget is not spent"
    ACTIVATION = "it is asked for, or a window for the reboot is open"


class Kind(enum.Enum):
    """What the answer of a command is about."""

    METERED = "metered_command"
    POWER = "power_command"
    HOOK = "hook"


@dataclass(frozen=True, slots=True)
class Ask:
    """A command to ask.

    Attributes:
        is_once: It has its answer for good: it is not asked again after a later step has waited.
    """

    kind: Kind
    name: str
    argv: tuple[str, ...]
    timeout_s: float
    is_once: bool = False


Step = Condition | Ask


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions are judged by.

    Attributes:
        time_s: UNIX seconds, as far as the device knows them.
        spent_bytes: Of the local day's budget.
        need_bytes: What still has to come.
        is_whole: All of that has to come in one piece: it cannot be gone on with.
        is_metered: The link is metered.
        is_requested: A person has asked for the activation.
    """

    time_s: float
    local: LocalClock
    spent_bytes: int = 0
    need_bytes: int = 0
    is_whole: bool = False
    is_metered: bool = True
    is_requested: bool = False


@dataclass(frozen=True, slots=True)
class Go:
    """The step may be taken, on a link that is metered or is not."""

    is_metered: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """It may not be taken yet.

    Attributes:
        reason: Why, for people.
        look_s: In how many seconds that is looked at again, at the latest.
        until_s: Until when, UNIX seconds, if that is known.
    """

    reason: str
    look_s: float
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """It is not taken at all; the reason is for the cloud and for people."""

    reason: str


Verdict = Go | Wait | Refuse


def steps(policy: PolicyConfig, point: Point, *, is_local: bool) -> tuple[Step, ...]:
    """Return what has to be so at *point*, in order; *is_local*: a person has asked for it."""
    budget: tuple[Step, ...] = ()
    has_cap = point is Point.DOWNLOAD and policy.metered_bandwidth_bytes_per_s > 0
    if not is_local and (policy.daily_budget_bytes or has_cap):
        budget = (*_command(policy, Kind.METERED), Condition.BUDGET)
    power = _command(policy, Kind.POWER)
    match point:
        case Point.INSTALL:
            has_window = bool(policy.install_windows) and not is_local
            window = (Condition.INSTALL_WINDOW,) if has_window else ()
            return (*window, *budget, *power, *_hooks(policy, BEFORE_INSTALL))
        case Point.DOWNLOAD:
            return budget
        case _:
            is_timed = policy.reboot != "at-once" and not is_local
            timing = (Condition.ACTIVATION,) if is_timed else ()
            before, after = _hooks(policy, BEFORE_ACTIVATION), _hooks(policy, AFTER_INSTALL)
            return (*after, *timing, *power, *before)


def _command(policy: PolicyConfig, kind: Kind) -> tuple[Step, ...]:
    is_metered = kind is Kind.METERED
    argv = policy.metered_command if is_metered else policy.power_command
    timeout_s = policy.metered_timeout_s if is_metered else policy.power_timeout_s
    return (Ask(kind, kind.value, argv, timeout_s),) if argv else ()


def _hooks(policy: PolicyConfig, when: str) -> tuple[Step, ...]:
    return tuple(_hook(each) for each in policy.hook if each.when == when)


def _hook(hook: HookConfig) -> Ask:
    is_once = hook.when == AFTER_INSTALL
    return Ask(Kind.HOOK, f"hook {hook.name}", hook.argv, hook.timeout_s, is_once)


# --- conditions -----------------------------------------------------------------------------------


def check(condition: Condition, policy: PolicyConfig, facts: Facts) -> Verdict:
    """Return what *facts* say of *condition*."""
    match condition:
        case Condition.INSTALL_WINDOW:
            return _window(policy.install_windows, "install", facts)
        case Condition.BUDGET:
            return _budget(policy.daily_budget_bytes, facts)
        case _:
            if facts.is_requested:
                return Go(facts.is_metered)
            if policy.reboot == "on-request":
                return Wait("it is asked for by: updater activate", _LOOK_S)
            return _window(policy.reboot_windows or policy.install_windows, "reboot", facts)


def _window(texts: tuple[str, ...], what: str, facts: Facts) -> Verdict:
    if facts.time_s < _CLOCK_IS_SET_S:
        return _clock_is_not_set()
    known = windows.parse_windows(texts)
    if windows.is_open(known, facts.local(facts.time_s)):
        return Go(facts.is_metered)
    opening_s = windows.next_opening_s(known, facts.time_s, facts.local)
    return _until(f"no {what} window is open ({'; '.join(texts)})", opening_s, facts)


def _budget(budget_bytes: int, facts: Facts) -> Verdict:
    if budget_bytes == 0 or not facts.is_metered or facts.need_bytes == 0:
        return Go(facts.is_metered)
    if facts.time_s < _CLOCK_IS_SET_S:
        return _clock_is_not_set()
    if facts.is_whole and facts.need_bytes > budget_bytes:
        return Refuse(
            f"{facts.need_bytes} bytes have to come in one piece, and the budget of a day is "
            f"{budget_bytes} bytes"
        )
    least_bytes = facts.need_bytes if facts.is_whole else 1
    if facts.spent_bytes + least_bytes <= budget_bytes:
        return Go(facts.is_metered)
    reason = f"{facts.spent_bytes} of the day's budget of {budget_bytes} bytes are spent"
    if facts.is_whole:
        reason += f", and {facts.need_bytes} have to come in one piece"
    return _until(reason, windows.next_day_s(facts.time_s, facts.local), facts)


def _clock_is_not_set() -> Wait:
    return Wait("the clock is not set", _CLOCK_LOOK_S)


def _until(reason: str, until_s: float | None, facts: Facts) -> Wait:
    left_s = _LOOK_S if until_s is None else until_s - facts.time_s
    return Wait(reason, min(left_s, _LOOK_S), until_s)


# --- commands -------------------------------------------------------------------------------------


def judge(ask: Ask, outcome: Outcome, retry_s: float) -> Verdict:
    """Return what *outcome* means; what could not be asked is taken for the worse.

    Args:
        ask: What was asked.
        outcome: How it has ended.
        retry_s: In how many seconds it is asked again, if it wants to be.
    """
    if ask.kind is Kind.METERED:
        return Go(is_metered=outcome.status is None or outcome.status == 0)
    if outcome.status == 0:
        return Go()
    if ask.kind is Kind.POWER:
        return Wait(f"not enough power ({ask.name}: {outcome.detail})", retry_s)
    said = f"{ask.name}: {outcome.line or outcome.detail}"
    return Wait(said, retry_s) if outcome.status == TRY_AGAIN else Refuse(said)

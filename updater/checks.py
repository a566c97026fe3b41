# SPDX-License-Identifier: MIT
"""Health checks: the configured commands and the proof of the link, within their deadlines.

``Baseline`` runs each check once before an activation and remembers what failed; ``Rounds``
judges a trial, where a check that fails is tried again until the deadline. Knows no slot and no
environment.
"""

import select
from collections.abc import Callable, Collection, Mapping

from updater.activity import NEVER_S, Clock
from updater.core.breaker import LINK_ALONE
from updater.core.config import LINK_CHECK, HealthConfig
from updater.core.ports import Health, HealthCheck, Verdict

_LOOK_S = 1.0  # how often a command is looked at that may run out of time without a sign


class Baseline:
    """Runs every health command once and tells which failed."""

    def __init__(
        self,
        health: Health,
        settings: HealthConfig,
        clock: Clock,
        told: Callable[[tuple[str, ...]], None],
    ) -> None:
        """Tell the names of the failed checks by *told*."""
        self._names = [check.name for check in settings.command]
        self._clock = clock
        self._told = told
        self._running: list[HealthCheck] = []
        self._failed: list[str] = []
        self._health = health
        self._look_s = NEVER_S

    def start(self) -> None:
        """Begin; the answer comes by the callable, at the earliest in the next turn of the loop."""
        self.stop()
        self._failed = []
        self._running = list(self._health.start(self._names))
        self._look_s = self._clock.monotonic_s()

    def stop(self) -> None:
        """Forget it."""
        for check in self._running:
            check.close()
        self._running = []
        self._look_s = NEVER_S

    def interests(self) -> Mapping[int, int]:
        """Wait for the commands' ends."""
        return {check.fileno(): select.POLLIN for check in self._running}

    def deadline_s(self) -> float:
        """Look again soon, as a check may run out of time without its descriptor saying so."""
        return self._look_s

    def wake(self, ready: Mapping[int, int]) -> None:
        """Collect verdicts."""
        del ready
        if self._look_s == NEVER_S:
            return
        for verdict in _collect(self._running):
            self._failed += [] if verdict.is_passed else [verdict.name]
        if self._running:
            self._look_s = self._clock.monotonic_s() + _LOOK_S
        else:
            self._look_s = NEVER_S
            self._told(tuple(self._failed))


class Rounds:
    """Runs the checks, round by round, until all have passed or a deadline is over."""

    def __init__(
        self,
        health: Health,
        settings: HealthConfig,
        clock: Clock,
        told: Callable[[str], None],
    ) -> None:
        """Tell the verdict by *told*: "" is healthy, else the reason why not."""
        self._health = health
        self._settings = settings
        self._clock = clock
        self._told = told
        self._open: dict[str, str] = {}
        self._running: list[HealthCheck] = []
        self._deadline_s = self._link_deadline_s = self._look_s = self._retry_s = NEVER_S
        self._is_judging = False

    def start(self, excused: Collection[str], *, is_link_up: bool) -> None:
        """Begin to judge.

        Args:
            excused: Checks that had failed before the update and therefore condemn nobody.
            is_link_up: The link is proven already.
        """
        self.stop()
        now_s = self._clock.monotonic_s()
        self._is_judging = True
        self._deadline_s = now_s + self._settings.deadline_s
        self._link_deadline_s = now_s + self._settings.link_deadline_s
        commands = [check.name for check in self._settings.command if check.name not in excused]
        self._open = dict.fromkeys(commands, "no result yet")
        if self._settings.link and not is_link_up:
            self._open[LINK_CHECK] = "not proven"
        self._run()

    def link_proven(self) -> None:
        """Take note that the broker has acknowledged a message of this boot."""
        if self._open.pop(LINK_CHECK, None) is not None and not self._open:
            self._retry_s = self._clock.monotonic_s()

    def stop(self) -> None:
        """Stop judging, without a verdict."""
        for check in self._running:
            check.close()
        self._running = []
        self._open = {}
        self._is_judging = False
        self._deadline_s = self._link_deadline_s = self._look_s = self._retry_s = NEVER_S

    def interests(self) -> Mapping[int, int]:
        """Wait for the commands' ends."""
        return {check.fileno(): select.POLLIN for check in self._running}

    def deadline_s(self) -> float:
        """Wake for the next round, or when the time of something that is still open is over."""
        next_s = self._look_s if self._running else self._retry_s
        commands_s = self._deadline_s if self._commands() else NEVER_S
        link_s = self._link_deadline_s if LINK_CHECK in self._open else NEVER_S
        return min(next_s, commands_s, link_s)

    def wake(self, ready: Mapping[int, int]) -> None:
        """Collect verdicts, begin the next round, or judge."""
        del ready
        if not self._is_judging:
            return
        for verdict in _collect(self._running):
            self._note(verdict)
        if self._clock.monotonic_s() >= self._look_s:
            self._look_s = self._clock.monotonic_s() + _LOOK_S
        self._judge()

    def _note(self, verdict: Verdict) -> None:
        """Remember what one check says."""
        if verdict.is_passed:
            self._open.pop(verdict.name, None)
        else:
            self._open[verdict.name] = verdict.detail or "failed"

    def _commands(self) -> list[str]:
        """Return the commands that have not passed yet."""
        return [name for name in self._open if name != LINK_CHECK]

    def _judge(self) -> None:
        """Tell the verdict once it stands, else see to the next round."""
        now_s = self._clock.monotonic_s()
        commands = self._commands()
        if not self._open:
            self._tell("")
        elif commands and now_s >= self._deadline_s:
            self._tell(f"health: {commands[0]}: {self._open[commands[0]]}")
        elif LINK_CHECK in self._open and now_s >= self._link_deadline_s:
            within = f"within {self._settings.link_deadline_s:g} s"
            others = f"health: {commands[0]} and link not proven" if commands else LINK_ALONE
            self._tell(f"{others} {within}")
        elif not self._running and now_s >= self._retry_s:
            self._run()

    def _run(self) -> None:
        """Run every command that has not passed yet, once more."""
        now_s = self._clock.monotonic_s()
        self._look_s = now_s + _LOOK_S
        wanted = [check for check in self._settings.command if check.name in self._open]
        self._retry_s = now_s + min((check.retry_s for check in wanted), default=NEVER_S)
        if not self._open:
            self._retry_s = now_s
        if wanted:
            self._running = list(self._health.start([check.name for check in wanted]))

    def _tell(self, reason: str) -> None:
        """End with a verdict."""
        self.stop()
        self._told(reason)


def _collect(running: list[HealthCheck]) -> list[Verdict]:
    """Take from *running* the checks that have ended, and return what they say."""
    verdicts = []
    for check in list(running):
        verdict = check.poll()
        if verdict is not None:
            check.close()
            running.remove(check)
            verdicts.append(verdict)
    return verdicts

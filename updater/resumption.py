# SPDX-License-Identifier: MIT
"""Where the machine stands when this program starts, and how it goes on from there.

``core.reconcile`` compares journal, environment and booted slot; this module carries its finding
out. What cannot be read stops what depends on it and nothing else: without slots or environment
nothing is written at all, without the journal no install is begun and a trial is still judged.
"""

import logging
from typing import TYPE_CHECKING

from updater import trial
from updater.cloud import Mode
from updater.core import machine, reconcile
from updater.core.bootflow import BootState
from updater.core.errors import JournalError, UpdaterError
from updater.core.model import Slots, State
from updater.core.reconcile import Finding

if TYPE_CHECKING:
    from updater.agent import Agent

_log = logging.getLogger(__name__)


def resume(agent: "Agent") -> None:
    """Find out what happened meanwhile, and go on with *agent* from there."""
    agent.problem = None
    try:
        agent.session = agent.device.journal.current()
    except JournalError as error:
        agent.problem = error
        _log.error("%s; no install is begun until this is mended", error)
    try:
        agent.found = agent.device.finder.find()
        state = agent.device.boot_state()
    except UpdaterError as error:
        _stand_still(agent, error)
    else:
        _go_on(agent, state, agent.found)


def _stand_still(agent: "Agent", error: UpdaterError) -> None:
    """Write nothing and promise nothing: this may be a trial, or the wrong disk."""
    agent.problem = error
    _log.error("%s; nothing will be written until this is mended", error)
    session = agent.session
    if agent.cloud is not None and session is not None and not session.state.is_final:
        agent.cloud.enter(Mode.SILENT, None)


def _go_on(agent: "Agent", state: BootState, found: Slots) -> None:
    booted = found.booted.bootname
    if state.primary == booted and not state.is_trial:
        agent.device.system.trial_over()  # the process may have died between verdict and telling
    finding = reconcile.find(agent.session, state, booted, found.tried_first)
    _log.info("start: %s", finding.value)
    event = reconcile.event_of(finding, state)
    agent.is_boot_awaited = finding is Finding.AWAITED
    if finding is Finding.ORPHAN_TRIAL:
        _judge_orphan(agent, state, booted)
    elif finding is Finding.RETURN_DUE:
        agent.rejected(finding.value)
    elif finding is Finding.LOST_TO_OTHERS and isinstance(event, machine.Failed):
        _give_up(agent, event, booted)
    elif event is not None:
        if isinstance(event, machine.FellBack) and finding is not Finding.NOT_RETURNED:
            trial.roll_back(agent.device, booted)  # a failed session's target never boots again
        agent.apply(event, finding.value)
    elif agent.session is not None:
        agent.is_activation_repeated = agent.session.state is State.ACTIVATED
        agent.perform()
    else:
        agent.settle()


def _judge_orphan(agent: "Agent", state: BootState, booted: str) -> None:
    """Judge a trial without a session, unless its session has failed and said so."""
    agent.is_orphan = True
    last = agent.session
    if (
        last is not None
        and last.state is State.FAILED
        and (last.id, last.target) == (state.session, booted)
    ):
        agent.rejected("trial: its session has failed already")
    else:
        agent.judge_orphan()


def _give_up(agent: "Agent", event: machine.Failed, booted: str) -> None:
    """End the session; a target that runs unjudged and is no longer preferred is not kept."""
    assert agent.session is not None  # noqa: S101 - only an open session can be lost
    if booted != agent.session.target:
        trial.roll_back(agent.device, booted)
        agent.apply(event, event.reason)
        return
    if agent.session.state is State.ACTIVATED:
        agent.apply(machine.TargetBooted(), event.reason)
        agent.trial.stop()
    agent.apply(machine.HealthFailed(event.reason), event.reason)

# SPDX-License-Identifier: MIT
"""What each command does: by the running agent if there is one, else with its lock taken.

Returns an answer for machines and its text for people; prints nothing and knows no exit codes.
``install`` is in ``images``, ``write`` and ``read-back`` in ``writing``.
"""

import argparse
import gc
import select
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from updater import activity
from updater.agent import Agent
from updater.alone import open_agent
from updater.answer import Answer
from updater.assembly import open_device, open_locked_device
from updater.cancelling import cancel_alone
from updater.core.cancel import check_reason
from updater.core.errors import NotPermittedError, UpdaterError, WrongStateError
from updater.core.policyconfig import BEFORE_INSTALL, PolicyConfig
from updater.desk import ON_REQUEST, history_line
from updater.device import Device
from updater.edge.control import call
from updater.edge.envstore import EnvironmentStore
from updater.rollback import Rollback
from updater.settings import read_settings
from updater.texts import cancelled_text, history_text, status_text, waiting_text


def ask(options: argparse.Namespace, method: str, **parameters: object) -> Mapping[str, Any] | None:
    """Return the running agent's answer, or None if there is no agent."""
    settings, _board = read_settings(options.config)
    path = settings.state.control
    try:
        return call(path, method, parameters, _patience_s(settings.policy, method))
    except UpdaterError as error:
        if isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError):
            return None  # no socket, or one that a killed agent has left behind
        if isinstance(error.__cause__, PermissionError):
            raise NotPermittedError(f"this user may not talk to the agent at {path}") from error
        raise


def _patience_s(policy: PolicyConfig, method: str) -> float:
    """Return how long the agent may be asking others before it answers, seconds."""
    if method != "Install":
        return 0.0
    hooks = sum(hook.timeout_s for hook in policy.hook if hook.when == BEFORE_INSTALL)
    return hooks + policy.power_timeout_s


def run(options: argparse.Namespace) -> Answer:
    """Run the agent until it is told to end."""
    gc.collect()  # the command line's grammar: what comes now has room there, some 90 KiB
    from updater import service  # noqa: PLC0415 - paho's memory is for the agent alone

    service.serve(options.config)
    return Answer(None, "")


# --- looking -------------------------------------------------------------------------------------


def status(options: argparse.Namespace) -> Answer:
    """Say what runs, what each slot holds, what is going on; explain what cannot be told."""
    answer = ask(options, "GetStatus")
    if answer is not None:
        value = answer["status"]
    else:
        settings, board = read_settings(options.config)
        with open_device(settings, board) as device:
            value = {**device.status(), "agent": False}
    return Answer(value, status_text(value))


def history(options: argparse.Namespace) -> Answer:
    """Say what happened, newest first."""
    answer = ask(options, "GetHistory", limit=options.limit)
    entries: object
    if answer is not None:
        entries = answer["entries"]
    else:
        settings, board = read_settings(options.config)
        with open_device(settings, board) as device:
            entries = [history_line(entry) for entry in device.journal.history(options.limit)]
    return Answer({"entries": entries}, history_text(entries))


def env_print(options: argparse.Namespace) -> Answer:
    """Print the boot environment; read directly, so that it works beside any agent."""
    _config, board = read_settings(options.config)
    variables = dict(EnvironmentStore(board.environment).read())
    return Answer(variables, "\n".join(f"{name}={variables[name]}" for name in sorted(variables)))


# --- getting in ----------------------------------------------------------------------------------


def register(options: argparse.Namespace) -> Answer:
    """Get this device's secret from the cloud and store it; beside any agent, which notices it."""
    from updater.edge.secret import warn_of_open_files  # noqa: PLC0415 - once in a device's life
    from updater.registrar import Registrar  # noqa: PLC0415

    settings, _board = read_settings(options.config)
    warn_of_open_files(settings)
    cloud = settings.cloud
    with closing(Registrar(cloud).start(again=options.again)) as attempt:
        select.select([attempt.fileno()], [], [])  # Ctrl-C ends this, and loses no answer
        attempt.result()
    value = {"device_name": cloud.device_name, "secret_file": cloud.secret_file}
    text = f"device {cloud.device_name} is registered; its secret is in {cloud.secret_file}"
    return Answer(value, text)


# --- changing ------------------------------------------------------------------------------------


def activate(options: argparse.Namespace) -> Answer:
    """Have the running agent activate what it has installed, whatever the time is."""
    answer = ask(options, "Activate")
    if answer is None:
        raise WrongStateError("no agent runs here; it is started by: updater run")
    if answer["waiting"] is None:
        return Answer(dict(answer), "what is installed is activated; a reboot follows")
    return Answer(dict(answer), waiting_text(answer["waiting"]))


def mark_good(options: argparse.Namespace) -> Answer:
    """Keep the booted slot."""
    answer = ask(options, "MarkGood")
    if answer is None:
        with open_agent(options.config) as agent:
            agent.device.refuse_without_trial()
            agent.start()
            answer = {"bootname": agent.trial.mark_good()}
    return Answer(dict(answer), f"slot {answer['bootname']} is good")


def cancel(options: argparse.Namespace) -> Answer:
    """End the install that goes on; without an agent, the one that waits for the next agent."""
    text = check_reason(options.reason)
    answer = ask(options, "Cancel", reason=text)
    if answer is None:
        with open_locked_device(options.config) as device:
            answer = cancel_alone(device, text)
    return Answer(dict(answer), cancelled_text(answer))


def rollback(options: argparse.Namespace) -> Answer:
    """Return to the other slot and reboot."""
    answer = ask(options, "Rollback")
    if answer is None:
        with open_agent(options.config) as agent:
            answer = {"bootname": _roll_back_here(agent)}
    return Answer(dict(answer), f"slot {answer['bootname']} boots next; rebooting")


def _roll_back_here(agent: Agent) -> str:
    """End a trial against the booted slot, or return to a verified other one."""
    device = agent.device
    slots = device.finder.find()
    state = device.boot_state()
    if state.is_trial and state.primary == slots.booted.bootname:
        agent.start()
        agent.trial.reject(ON_REQUEST)
        return slots.target.bootname
    bootname = _verified_return(device)
    device.system.reboot()
    return bootname


def _verified_return(device: Device) -> str:
    ended: list[UpdaterError | None] = []
    returning = Rollback(device, device.system)
    bootname = returning.start(ended.append)
    poller = activity.Poller(device.system)
    while not ended:
        activity.step([returning], device.system, poller)
    if ended[0] is not None:
        raise ended[0]
    return bootname

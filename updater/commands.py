# SPDX-License-Identifier: MIT
"""What each command does: by the running agent if there is one, else with its lock taken.

Returns an answer for machines and its text for people; prints nothing and knows no exit codes.
"""

import argparse
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from updater import activity, trial
from updater.agent import Agent
from updater.assembly import open_device, open_locked_device, read_settings
from updater.core.errors import (
    BusyError,
    DeviceError,
    EnvironmentStoreError,
    HealthError,
    SlotError,
    UpdaterError,
    WrongStateError,
)
from updater.core.model import Offer, Session, State
from updater.core.ports import InstallRequest, Phase
from updater.desk import history_line, local_offer
from updater.device import Device, session_status
from updater.edge.control import call
from updater.edge.envstore import EnvironmentStore
from updater.rollback import Rollback
from updater.texts import history_text, progress_text, status_text

_STEP_S = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say: *value* for machines, *text* for people."""

    value: object
    text: str


def _ask(
    options: argparse.Namespace, method: str, **parameters: object
) -> Mapping[str, object] | None:
    """Return the running agent's answer, or None if there is no agent."""
    settings, _board = read_settings(options.config)
    path = settings.state.control
    if not Path(path).is_socket():
        return None
    try:
        return call(path, method, parameters)
    except UpdaterError as error:
        if isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError):
            return None  # a socket that a killed agent has left behind
        raise


def run(options: argparse.Namespace) -> Answer:
    """Run the agent until it is told to end."""
    from updater import service  # noqa: PLC0415 - paho's memory is for the agent alone

    service.serve(options.config)
    return Answer(None, "")


# --- looking -------------------------------------------------------------------------------------


def status(options: argparse.Namespace) -> Answer:
    """Say what runs, what each slot holds, what is going on; explain what cannot be told."""
    answer = _ask(options, "GetStatus")
    if answer is not None:
        value = answer["status"]
    else:
        settings, board = read_settings(options.config)
        with open_device(settings, board) as device:
            value = {**device.status(), "agent": False}
    return Answer(value, status_text(value))


def history(options: argparse.Namespace) -> Answer:
    """Say what happened, newest first."""
    answer = _ask(options, "GetHistory", limit=options.limit)
    entries: object
    if answer is not None:
        entries = answer["entries"]
    else:
        settings, board = read_settings(options.config)
        with open_device(settings, board) as device:
            entries = [history_line(entry) for entry in device.journal.history(options.limit)]
    return Answer(entries, history_text(entries))


def env_print(options: argparse.Namespace) -> Answer:
    """Print the boot environment; read directly, so that it works beside any agent."""
    _config, board = read_settings(options.config)
    variables = dict(EnvironmentStore(board.environment).read())
    return Answer(variables, "\n".join(f"{name}={variables[name]}" for name in sorted(variables)))


# --- changing ------------------------------------------------------------------------------------


def install(options: argparse.Namespace) -> Answer:
    """Install one firmware, by the running agent or by one that lives as long as this command."""
    source = options.source if "://" in options.source else str(Path(options.source).resolve())
    parameters = {
        "source": source,
        "version": options.firmware_version,
        "md5": options.md5,
        "size_bytes": options.size,
    }
    answer = _ask(options, "Install", **parameters)
    if answer is not None:
        return Answer(dict(answer), f"session {answer['session']} has begun; see: updater status")
    offer = local_offer(parameters)
    with open_locked_device(options.config) as device, closing(Agent(device, None)) as agent:
        agent.start()
        session = _install_here(agent, offer)
        return Answer(
            session_status(session),
            f"version {offer.firmware.version} is in slot {session.target}; the next boot is its "
            "trial",
        )


def _install_here(agent: Agent, offer: Offer) -> Session:
    """Run *agent* until *offer* is activated and the reboot was asked for."""
    before = agent.session
    if before is not None and not before.state.is_final:
        raise BusyError(f"session {before.id} is {before.state.value}; it must end first")
    agent.offered(offer)
    if agent.session is None or agent.session is before:
        raise WrongStateError(f"version {offer.firmware.version} is already running")
    poller = activity.Poller(agent.device.system)
    shown = ""
    while not agent.is_reboot_due and not agent.session.state.is_final:
        activity.step(agent.activities(), agent.device.system, poller)
        shown = progress_text(agent.progress, shown)
    if agent.session.state is State.FAILED:
        raise HealthError(agent.session.reason)
    return agent.session


def write(options: argparse.Namespace) -> Answer:
    """Write an image to a device; the boot environment is not touched."""
    with open_locked_device(options.config) as device:
        target = _check_target(device, options.to)
        if target:
            device.journal.void(target)
        limits = device.config.download
        request = InstallRequest(
            source=options.source,
            device=options.to,
            size_bytes=options.size,
            md5=options.md5.lower(),
            allow_plaintext=limits.allow_plaintext,
            read_back=not options.no_read_back,
            ca_file=limits.ca_file,
            buffer_bytes=limits.buffer_bytes,
            buffers=limits.buffers,
        )
        with closing(device.pipeline.open_install(request)) as running:
            shown = ""
            while (progress := running.step(_STEP_S)).phase is not Phase.DONE:
                shown = progress_text(progress, shown)
    value = {"device": options.to, "size_bytes": options.size, "md5": request.md5}
    return Answer(value, f"{options.size} bytes written to {options.to} and verified")


def _check_target(device: Device, path: str) -> str:
    """Return the bootname of the slot at *path*, or "" if it is none.

    Raises:
        DeviceError: It is the booted slot, or the one that boots next.
    """
    try:
        number = Path(path).stat().st_rdev
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from error
    if number == Path("/").stat().st_dev:
        raise DeviceError(f"{path} is the booted root: it is never written")
    try:
        slots = device.finder.find()
    except SlotError:
        return ""  # a machine without slots: a workshop's computer, say
    if number == slots.booted.number:
        raise DeviceError(f"{path} is the booted slot {slots.booted.bootname}: never written")
    if number != slots.target.number:
        return ""
    try:
        state = device.boot_state()
    except EnvironmentStoreError as error:
        raise DeviceError(f"{path} may be the slot that boots next: {error}") from error
    if state.primary == slots.target.bootname:
        raise DeviceError(f"{path} is slot {state.primary}, which boots next; roll back first")
    return slots.target.bootname


def mark_good(options: argparse.Namespace) -> Answer:
    """Keep the booted slot."""
    answer = _ask(options, "MarkGood")
    if answer is None:
        with open_locked_device(options.config) as device:
            answer = {"bootname": trial.mark_good(device)}
    return Answer(dict(answer), f"slot {answer['bootname']} is good")


def rollback(options: argparse.Namespace) -> Answer:
    """Return to the other slot and reboot."""
    answer = _ask(options, "Rollback")
    if answer is None:
        with open_locked_device(options.config) as device:
            answer = {"bootname": _roll_back_here(device)}
            device.system.reboot()
    return Answer(dict(answer), f"slot {answer['bootname']} boots next; rebooting")


def _roll_back_here(device: Device) -> str:
    """End a trial against the booted slot, or return to a verified other one."""
    slots = device.finder.find()
    state = device.boot_state()
    if state.is_trial and state.primary == slots.booted.bootname:
        trial.roll_back(device, slots.target.bootname)
        return slots.target.bootname
    return _verified_return(device)


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

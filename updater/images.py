# SPDX-License-Identifier: MIT
"""The commands that bring an image in: ``install`` boots it on trial, ``write`` only stores it.

What can be known to fail is refused before the target's head is blanked: a file that is not there
or of another length, a scheme, a device that a boot counts on. Progress is a live line.
"""

import argparse
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from updater import activity
from updater.assembly import open_agent, open_locked_device
from updater.commands import Answer, ask
from updater.core import cmdline
from updater.core.config import Config
from updater.core.errors import (
    BusyError,
    CancelledError,
    ControlError,
    DeviceError,
    DigestError,
    EnvironmentStoreError,
    NotFoundError,
    SlotError,
)
from updater.core.model import Offer, Session, State
from updater.core.ports import InstallRequest, Phase
from updater.desk import check_scheme, failure, local_offer, offer_here
from updater.device import Device, session_status
from updater.texts import ProgressLine, progress_status

_STEP_S = 0.2
_POLL_S = 0.3
_BEFORE_REBOOT = {State.INSTALLING.value, State.INSTALLED.value}


def install(options: argparse.Namespace) -> Answer:
    """Install one firmware, by the running agent or by one that lives as long as this command."""
    parameters = {
        "source": _checked_source(options),
        "version": options.firmware_version,
        "md5": options.md5,
        "size_bytes": options.size,
    }
    offer = local_offer(parameters)
    answer = ask(options, "Install", **parameters)
    if answer is None:
        session: Mapping[str, Any] = session_status(_install_here(options.config, offer))
    elif options.no_wait:
        return Answer(dict(answer), f"session {answer['session']} has begun; see: updater status")
    else:
        session = _follow(options, answer["session"])
    return Answer(
        dict(session),
        f"version {session['version']} is in slot {session['target']}, which boots next, on trial; "
        "rebooting",
    )


def _checked_source(options: argparse.Namespace) -> str:
    """Return the URL, or the path of a file that is there and as long as announced.

    Raises:
        NotFoundError: There is no such file.
        DigestError: Its length is another one.
    """
    if "://" in options.source:
        return str(options.source)
    path = Path(options.source).resolve()
    if not path.is_file():
        raise NotFoundError(f"there is no file {options.source}")
    if path.stat().st_size != options.size:
        raise DigestError(
            f"{options.source} has {path.stat().st_size} bytes, announced were {options.size}"
        )
    return str(path)


def _follow(options: argparse.Namespace, session_id: str) -> Mapping[str, Any]:
    """Watch the agent's session until the reboot is due, and return it.

    Raises:
        UpdaterError: The session has failed, or cannot be watched any more.
    """
    with ProgressLine() as line:
        while True:
            status = _watched(options, session_id)
            session: Mapping[str, Any] = status["session"]
            if session["state"] == State.FAILED.value:
                raise failure(session["result_code"], session["reason"])
            if session["state"] not in _BEFORE_REBOOT:
                return session
            line.show(status.get("progress"))
            time.sleep(_POLL_S)


def _watched(options: argparse.Namespace, session_id: str) -> Mapping[str, Any]:
    """Return the agent's status while its session is the one that is watched.

    Raises:
        ControlError: The agent has ended.
        CancelledError: Another session has taken its place.
    """
    try:
        answer = ask(options, "GetStatus")
    except ControlError:
        answer = None
    if answer is None:
        raise ControlError(
            f"the agent has ended while session {session_id} was open; it goes on when an agent "
            "starts again"
        )
    status: Mapping[str, Any] = answer["status"]
    if status["session"] is None or status["session"]["id"] != session_id:
        raise CancelledError(f"session {session_id} gave way to another one")
    return status


def _install_here(config_path: str, offer: Offer) -> Session:
    """Install without a running agent, up to the request to reboot."""
    with open_agent(config_path) as agent, ProgressLine() as line:
        agent.start()
        session = offer_here(agent, offer)
        poller = activity.Poller(agent.device.system)
        while not agent.is_reboot_due and not session.state.is_final:
            activity.step(agent.activities(), agent.device.system, poller)
            line.show(None if agent.progress is None else progress_status(agent.progress))
            session = agent.session or session
    if session.state is State.FAILED:
        raise failure(session.code, session.reason)
    return session


# --- updater write -------------------------------------------------------------------------------


def write(options: argparse.Namespace) -> Answer:
    """Write an image to a device; the boot environment is not touched."""
    source = _checked_source(options)
    with open_locked_device(options.config) as device:
        check_scheme(source, allow_plaintext=device.config.download.allow_plaintext)
        target = _checked_target(device, options.to)
        request = _write_request(device.config, options, source)
        if target:
            device.journal.void(target)
        with closing(device.pipeline.open_install(request)) as running, ProgressLine() as line:
            while (progress := running.step(_STEP_S)).phase is not Phase.DONE:
                line.show(progress_status(progress))
            line.show(progress_status(progress))
    value = {"device": options.to, "size_bytes": options.size, "md5": request.md5}
    proof = "read back from it" if request.read_back else "not read back"
    return Answer(value, f"{options.size} bytes written to {options.to}, MD5 matched, {proof}")


def _write_request(config: Config, options: argparse.Namespace, source: str) -> InstallRequest:
    limits = config.download
    return InstallRequest(
        source=source,
        device=options.to,
        size_bytes=options.size,
        md5=options.md5,
        allow_plaintext=limits.allow_plaintext,
        read_back=not options.no_read_back,
        connect_timeout_s=limits.connect_timeout_s,
        stall_timeout_s=limits.stall_timeout_s,
        ca_file=limits.ca_file,
        buffer_bytes=limits.buffer_bytes,
        buffers=limits.buffers,
    )


def _checked_target(device: Device, path: str) -> str:
    """Return the bootname of the slot at *path*, or "" if it is none.

    Raises:
        DeviceError: It is the booted slot, or the one that boots next or after a failed trial.
        BusyError: A session is open for it.
    """
    try:
        number = Path(path).stat().st_rdev
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from error
    if number == Path("/").stat().st_dev:
        raise DeviceError(f"{path} is the booted root: it is never written")
    try:
        slots = device.finder.find()
    except SlotError as error:
        if _is_booted_as_slot():
            raise DeviceError(f"{path} may be a slot that is needed: {error}") from error
        return ""  # a machine without slots: a workshop's computer, say
    if number == slots.booted.number:
        raise DeviceError(f"{path} is the booted slot {slots.booted.bootname}: never written")
    if number != slots.target.number:
        return ""
    _check_unneeded(device, path, slots.target.bootname)
    return slots.target.bootname


def _is_booted_as_slot() -> bool:
    """Tell whether the bootloader says that it has booted one of its slots."""
    text = Path("/proc/cmdline").read_text("ascii", "replace")
    return bool(cmdline.parse(text).slot)


def _check_unneeded(device: Device, path: str, bootname: str) -> None:
    """Refuse to write a slot that a boot or a session counts on."""
    try:
        state = device.boot_state()
    except EnvironmentStoreError as error:
        raise DeviceError(f"{path} may be the slot that boots next: {error}") from error
    if state.primary == bootname:
        raise DeviceError(f"{path} is slot {bootname}, which boots next; roll back first")
    if state.is_trial:
        raise DeviceError(f"{path} is slot {bootname}, which the trial under way falls back to")
    session = device.journal.current()
    if session is not None and not session.state.is_final:
        raise BusyError(f"session {session.id} for slot {bootname} is {session.state.value}")

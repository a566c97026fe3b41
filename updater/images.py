# SPDX-License-Identifier: MIT
"""``updater install``: brings a firmware in and boots it on trial, as an offer of the cloud does.

By the running agent, or by one that lives as long as this command. What can be known to fail is
refused before the target's head is blanked: a file that is not there or of another length.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

from updater import activity
from updater.alone import open_agent
from updater.answer import Answer
from updater.commands import ask
from updater.core.errors import (
    CancelledError,
    ControlError,
    UpdaterError,
    WrongStateError,
)
from updater.core.model import Offer, Session, State
from updater.desk import failure, offer_here, waiting
from updater.device import session_status
from updater.inputs import checked_file, local_offer
from updater.progressline import ProgressLine, progress_status
from updater.texts import waiting_text

_POLL_S = 0.3
_BEFORE_REBOOT = {State.INSTALLING.value, State.INSTALLED.value}


def install(options: argparse.Namespace) -> Answer:
    """Install one firmware, by the running agent or by one that lives as long as this command."""
    parameters = {
        "source": _source(options),
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


def _source(options: argparse.Namespace) -> str:
    if "://" in options.source:
        return str(options.source)
    return checked_file(options.source, options.size)


def _follow(options: argparse.Namespace, session_id: str) -> Mapping[str, Any]:
    """Watch the agent's session until the reboot is due, and return it.

    Raises:
        UpdaterError: The session has failed, or cannot be watched any more.
    """
    with ProgressLine(is_live_only=True) as line:
        while True:
            status = _watched(options, session_id)
            session: Mapping[str, Any] = status["session"]
            if session["state"] == State.FAILED.value:
                raise failure(session["result_code"], session["reason"])
            if session["state"] not in _BEFORE_REBOOT:
                return session
            if session["state"] == State.INSTALLED.value:
                _refuse_put_off(status.get("waiting"))
            line.show(status.get("progress"))
            time.sleep(_POLL_S)


def _refuse_put_off(put_off: Mapping[str, Any] | None) -> None:
    """Tell that what is installed is not activated now: an agent goes on with it by itself.

    Raises:
        WrongStateError: It is put off, for longer than a command takes to answer.
    """
    if put_off is not None and not put_off["is_asking"]:
        raise WrongStateError(f"version {put_off['version']} is installed; {waiting_text(put_off)}")


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
    with open_agent(config_path) as agent, ProgressLine(is_live_only=True) as line:
        agent.start()
        poller = activity.Poller(agent.device.system)
        answers: list[UpdaterError | None] = []
        agent.keeper.ask(offer, answers.append)
        while not answers:
            activity.step(agent.activities(), agent.device.system, poller)
        if answers[0] is not None:
            raise answers[0]
        session = offer_here(agent, offer)
        while not agent.is_reboot_due and not session.state.is_final:
            activity.step(agent.activities(), agent.device.system, poller)
            line.show(None if agent.progress is None else progress_status(agent.progress))
            session = agent.session or session
            if session.state is State.INSTALLED:
                _refuse_put_off(waiting(agent))
    if session.state is State.FAILED:
        raise failure(session.code, session.reason)
    return session

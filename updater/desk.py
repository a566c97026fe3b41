# SPDX-License-Identifier: MIT
"""Where local callers are served: each method of the control socket, and who may call it.

Reading is for everybody whom the socket's mode lets in; what changes the device needs root or the
agent's own user. Parameters are as hostile here as they are from the network.
"""

import select
from collections.abc import Callable, Mapping

from updater.agent import Agent
from updater.core import messages
from updater.core.errors import (
    BusyError,
    NotPermittedError,
    UpdaterError,
    UsageError,
)
from updater.core.model import Firmware, HistoryEntry, Offer, State
from updater.core.ports import Call, Control
from updater.rollback import Rollback

_HISTORY_LIMIT = 500


class Desk:
    """Serves the control socket of one agent."""

    def __init__(self, control: Control, agent: Agent) -> None:
        self._control = control
        self._agent = agent
        self._rollback = Rollback(agent.device, agent.device.system)

    # --- activity --------------------------------------------------------------------------------

    def interests(self) -> Mapping[int, int]:
        """Wait for callers, and for a read-back that one of them has asked for."""
        callers = dict.fromkeys(self._control.filenos(), select.POLLIN)
        return {**callers, **self._rollback.interests()}

    def deadline_s(self) -> float:
        """Wake for the read-back."""
        return self._rollback.deadline_s()

    def wake(self, ready: Mapping[int, int]) -> None:
        """Serve whoever calls."""
        self._rollback.wake(ready)
        for fileno in ready:
            if fileno in self._control.filenos():
                for call in self._control.pump(fileno):
                    self._serve(call)

    def close(self) -> None:
        """Close the socket."""
        self._control.close()

    # --- methods ---------------------------------------------------------------------------------

    def _serve(self, call: Call) -> None:
        """Answer *call*, or keep it until there is an answer."""
        try:
            needs_privilege, method = _METHODS[call.method]
            if needs_privilege and not call.is_privileged:
                raise NotPermittedError(f"{call.method} is for root or the agent's own user")
            method(self, call)
        except KeyError:
            call.fail(UsageError(f"there is no method {call.method!r}"))
        except UpdaterError as error:
            call.fail(error)

    def _get_status(self, call: Call) -> None:
        status = self._agent.device.status()
        status["agent"] = True
        status["link"] = self._agent.cloud is not None and self._agent.cloud.is_connected
        progress = self._agent.progress
        if progress is not None:
            status["progress"] = {
                "phase": progress.phase.value,
                "received_bytes": progress.received_bytes,
                "written_bytes": progress.written_bytes,
                "verified_bytes": progress.verified_bytes,
                "size_bytes": progress.size_bytes,
            }
        call.reply({"status": status})

    def _get_history(self, call: Call) -> None:
        limit = call.parameters.get("limit")
        wanted = _HISTORY_LIMIT if limit is None else _integer(limit, "limit", _HISTORY_LIMIT)
        entries = self._agent.device.journal.history(wanted)
        call.reply({"entries": [history_line(entry) for entry in entries]})

    def _get_environment(self, call: Call) -> None:
        call.reply({"variables": dict(self._agent.device.environment.read())})

    def _install(self, call: Call) -> None:
        offer = local_offer(call.parameters)
        session = self._agent.session
        if session is not None and not session.state.is_final:
            raise BusyError(f"session {session.id} is {session.state.value}")
        self._agent.offered(offer)
        begun = self._agent.session
        if begun is None or begun is session:
            raise BusyError(
                f"version {offer.firmware.version} is already running, or a reboot is due"
            )
        call.reply({"session": begun.id})

    def _mark_good(self, call: Call) -> None:
        call.reply({"bootname": self._agent.trial.mark_good()})

    def _rollback_or_reject(self, call: Call) -> None:
        """Reject the trial that is under way, else return to a verified other slot."""
        session = self._agent.session
        if self._agent.is_orphan or (session is not None and session.state is State.TRIAL):
            other = self._agent.slots.target.bootname
            self._agent.trial.reject("trial: rolled back on request")
            call.reply({"bootname": other})
            return
        if self._rollback.is_running or (session is not None and not session.state.is_final):
            raise BusyError("a session is open; it must end first")
        bootname = self._rollback.start(lambda error: self._returned(call, bootname, error))

    def _returned(self, call: Call, bootname: str, error: UpdaterError | None) -> None:
        if error is not None:
            call.fail(error)
            return
        call.reply({"bootname": bootname})
        self._agent.reboot()


_METHODS: Mapping[str, tuple[bool, Callable[[Desk, Call], None]]] = {
    # method: (needs privilege, how it is served)
    "GetStatus": (False, Desk._get_status),
    "GetHistory": (False, Desk._get_history),
    "GetEnvironment": (True, Desk._get_environment),
    "Install": (True, Desk._install),
    "MarkGood": (True, Desk._mark_good),
    "Rollback": (True, Desk._rollback_or_reject),
}


def history_line(entry: HistoryEntry) -> dict[str, object]:
    """Return *entry* as an object for machines."""
    return {
        "time_s": entry.time_s,
        "session": entry.session_id,
        "version": entry.version,
        "state": entry.state,
        "text": entry.text,
    }


def local_offer(parameters: Mapping[str, object]) -> Offer:
    """Return the offer that a person makes, within the same limits as the cloud's.

    Raises:
        UsageError: Something is missing.
        OfferError: Something is out of its limits.
    """
    missing = [key for key in ("source", "version", "md5", "size_bytes") if key not in parameters]
    if missing:
        raise UsageError(f"install needs {', '.join(missing)}")
    firmware = Firmware(
        version=messages.check_version(parameters["version"]),
        md5=messages.check_md5(parameters["md5"]),
        size_bytes=messages.check_size_bytes(parameters["size_bytes"]),
    )
    return Offer(firmware, str(parameters["source"]), is_local=True)


def _integer(value: object, name: str, limit: int) -> int:
    """Return *value* if it is a number from 1 to *limit*."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
        raise UsageError(f"{name} is a number from 1 to {limit}")
    return value

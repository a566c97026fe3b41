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
    DigestError,
    ForbiddenError,
    NotFoundError,
    NotPermittedError,
    ResultCode,
    SchemeError,
    SpaceError,
    TransportError,
    UpdaterError,
    UsageError,
    WrongStateError,
)
from updater.core.model import Firmware, HistoryEntry, Offer, Session, State
from updater.core.ports import Call, Control
from updater.progressline import progress_status
from updater.rollback import Rollback

HISTORY_LIMIT = 500
ON_REQUEST = "trial: rolled back on request"
_MAX_SOURCE = 4096


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
        needs_privilege, method = _METHODS.get(call.method, (False, Desk._refuse))
        try:
            if needs_privilege and not call.is_privileged:
                raise NotPermittedError(f"{call.method} is for root or the agent's own user")
            method(self, call)
        except UpdaterError as error:
            call.fail(error)

    def _refuse(self, call: Call) -> None:
        raise UsageError(f"there is no method {call.method!r}")

    def _get_status(self, call: Call) -> None:
        status = self._agent.device.status()
        status["agent"] = True
        status["link"] = self._agent.cloud is not None and self._agent.cloud.is_connected
        if self._agent.progress is not None:
            status["progress"] = progress_status(self._agent.progress)
        call.reply({"status": status})

    def _get_history(self, call: Call) -> None:
        limit = call.parameters.get("limit")
        wanted = HISTORY_LIMIT if limit is None else history_limit(limit)
        entries = self._agent.device.journal.history(wanted)
        call.reply({"entries": [history_line(entry) for entry in entries]})

    def _get_environment(self, call: Call) -> None:
        call.reply({"variables": dict(self._agent.device.environment.read())})

    def _install(self, call: Call) -> None:
        offer = local_offer(call.parameters)
        session = self._agent.session
        if session is not None and not session.state.is_final:
            raise BusyError(f"session {session.id} is {session.state.value}")
        call.reply({"session": offer_here(self._agent, offer).id})

    def _mark_good(self, call: Call) -> None:
        call.reply({"bootname": self._agent.trial.mark_good()})

    def _rollback_or_reject(self, call: Call) -> None:
        """Reject the trial that is under way, else return to a verified other slot."""
        session = self._agent.session
        if self._agent.is_orphan or (session is not None and session.state is State.TRIAL):
            other = self._agent.slots.target.bootname
            self._agent.trial.reject(ON_REQUEST)
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


def check_scheme(source: str, *, allow_plaintext: bool) -> None:
    """Refuse what would be refused later, when the target's head is blank already.

    Raises:
        SchemeError: *source* is a URL, and neither of https nor of an allowed http.
    """
    scheme, separator, _rest = source.partition("://")
    if separator and scheme.lower() not in {"http", "https"}:
        raise SchemeError("the URL is neither https nor http")
    if separator and scheme.lower() == "http" and not allow_plaintext:
        raise SchemeError("the URL is http, and download.allow_plaintext is not set")


def offer_here(agent: Agent, offer: Offer) -> Session:
    """Make *offer* to *agent* on a person's behalf, and return the session that answers it.

    Raises:
        WrongStateError: The offer changes nothing: it runs already, or a reboot has to decide.
        UpdaterError: It was refused before anything was written.
    """
    target = agent.slots.target
    check_scheme(offer.url, allow_plaintext=agent.device.config.download.allow_plaintext)
    if offer.firmware.size_bytes > target.size_bytes:
        raise SpaceError(offer.firmware.size_bytes, target.size_bytes, f"slot {target.bootname}")
    before = agent.session
    agent.offered(offer)
    session = agent.session
    if session is not None and session.state is State.FAILED and session is not before:
        raise failure(session.code, session.reason)
    if session is not None and session is not before:
        return session
    if agent.is_orphan or (before is not None and not before.state.is_final):
        raise WrongStateError("a trial or a reboot is due, which has to end first")
    if agent.is_reboot_due:
        raise WrongStateError("a reboot is due")
    raise WrongStateError(f"version {offer.firmware.version} is already running")


_FAILURES: Mapping[ResultCode, type[UpdaterError]] = {
    ResultCode.TRANSPORT: TransportError,
    ResultCode.NOT_FOUND: NotFoundError,
    ResultCode.FORBIDDEN: ForbiddenError,
    ResultCode.DIGEST: DigestError,
}


def failure(code: int, reason: str) -> UpdaterError:
    """Return the error that ended a session, as far as its result code tells."""
    return _FAILURES.get(ResultCode(code), UpdaterError)(reason)


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
    return Offer(firmware, _source(parameters["source"]), is_local=True)


def _source(value: object) -> str:
    """Return *value* if it can be where an image is: not every text can name a file."""
    if not isinstance(value, str) or len(value) > _MAX_SOURCE or not value.isprintable():
        raise UsageError(f"source is a text of at most {_MAX_SOURCE} printable characters")
    if "://" not in value and not value.startswith("/"):
        raise UsageError("source is an http(s) URL or an absolute path")
    return value


def history_limit(value: object) -> int:
    """Return *value* if it is a number of lines that may be asked for."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= HISTORY_LIMIT:
        raise UsageError(f"limit is a number from 1 to {HISTORY_LIMIT}")
    return value

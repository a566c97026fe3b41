# SPDX-License-Identifier: MIT
"""Where local callers are served: each method of the control socket, and who may call it.

Reading is for everybody whom the socket's mode lets in; what changes the device needs root or the
agent's own user. Parameters are as hostile here as they are from the network.
"""

import select
from collections.abc import Callable, Mapping

from updater.agent import Agent
from updater.cancelling import cancel_here
from updater.core.cancel import CANCELLED, check_reason
from updater.core.errors import (
    BusyError,
    CancelledError,
    DigestError,
    ForbiddenError,
    NotFoundError,
    NotPermittedError,
    ResultCode,
    SpaceError,
    TransportError,
    UpdaterError,
    UsageError,
    WrongStateError,
)
from updater.core.model import HistoryEntry, Offer, Session, State
from updater.core.ports import Call, Control
from updater.inputs import HISTORY_LIMIT, check_scheme, history_limit, local_offer
from updater.progressline import progress_status
from updater.rollback import Rollback

ON_REQUEST = "trial: rolled back on request"


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
        cloud = self._agent.cloud
        status["link"] = cloud is not None and cloud.is_connected
        status["registering"] = cloud is not None and cloud.is_registering
        if self._agent.progress is not None:
            status["progress"] = progress_status(self._agent.progress)
        status["waiting"] = waiting(self._agent)
        call.reply({"status": status})

    def _get_history(self, call: Call) -> None:
        limit = call.parameters.get("limit")
        wanted = HISTORY_LIMIT if limit is None else history_limit(limit)
        entries = self._agent.device.journal.history(wanted)
        call.reply({"entries": [history_line(entry) for entry in entries]})

    def _get_offers(self, call: Call) -> None:
        call.reply({"offers": self._agent.retries.listing(self._agent.keeper.held)})

    def _clear_offers(self, call: Call) -> None:
        call.reply({"cleared": self._agent.retries.clear()})

    def _get_environment(self, call: Call) -> None:
        call.reply({"variables": dict(self._agent.device.environment.read())})

    def _install(self, call: Call) -> None:
        offer = local_offer(call.parameters)
        self._refuse_while_open()
        check_offer(self._agent, offer)
        self._agent.keeper.ask(offer, lambda refusal: self._asked(call, offer, refusal))

    def _asked(self, call: Call, offer: Offer, refusal: UpdaterError | None) -> None:
        """Begin *offer* if the policy lets it."""
        try:
            if refusal is not None:
                raise refusal
            self._refuse_while_open()
            call.reply({"session": offer_here(self._agent, offer).id})
        except UpdaterError as error:
            call.fail(error)

    def _refuse_while_open(self) -> None:
        session = self._agent.session
        if session is not None and not session.state.is_final:
            raise BusyError(f"session {session.id} is {session.state.value}")

    def _activate(self, call: Call) -> None:
        self._agent.pace.request()
        call.reply({"waiting": waiting(self._agent)})

    def _cancel(self, call: Call) -> None:
        text = check_reason(call.parameters.get("reason"))
        call.reply(cancel_here(self._agent, text))

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
    "GetOffers": (False, Desk._get_offers),
    "ClearOffers": (True, Desk._clear_offers),
    "GetEnvironment": (True, Desk._get_environment),
    "Install": (True, Desk._install),
    "Cancel": (True, Desk._cancel),
    "Activate": (True, Desk._activate),
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


def waiting(agent: Agent) -> dict[str, object] | None:
    """Return what *agent* has put off, and why, if anything: its session's step, or an offer."""
    return agent.pace.waiting() or agent.keeper.waiting()


def check_offer(agent: Agent, offer: Offer) -> None:
    """Refuse what a person offers and can be known to fail.

    Raises:
        UpdaterError: It was refused before anything was written.
    """
    target = agent.slots.target
    check_scheme(offer.url, allow_plaintext=agent.device.config.download.allow_plaintext)
    if offer.firmware.size_bytes > target.size_bytes:
        raise SpaceError(offer.firmware.size_bytes, target.size_bytes, f"slot {target.bootname}")


def offer_here(agent: Agent, offer: Offer) -> Session:
    """Make *offer* to *agent* on a person's behalf, and return the session that answers it.

    Raises:
        WrongStateError: The offer changes nothing: it runs already, or a reboot has to decide.
        UpdaterError: It was refused before anything was written.
    """
    check_offer(agent, offer)
    before = agent.session
    agent.offered(offer)
    session = agent.session
    if session is not None and session.state is State.FAILED and session is not before:
        raise failure(session.code, session.reason)
    if session is not None and (session is not before or _goes_on_with(session, offer)):
        return session
    if agent.is_orphan or (before is not None and not before.state.is_final):
        raise WrongStateError("a trial or a reboot is due, which has to end first")
    if agent.is_reboot_due:
        raise WrongStateError("a reboot is due")
    raise WrongStateError(f"version {offer.firmware.version} is already running")


def _goes_on_with(session: Session, offer: Offer) -> bool:
    """Tell whether *session* brings in what *offer* names: nothing had to change for it."""
    is_under_way = session.state in {State.INSTALLING, State.INSTALLED}
    return is_under_way and session.offer.firmware == offer.firmware


_FAILURES: Mapping[ResultCode, type[UpdaterError]] = {
    ResultCode.TRANSPORT: TransportError,
    ResultCode.NOT_FOUND: NotFoundError,
    ResultCode.FORBIDDEN: ForbiddenError,
    ResultCode.DIGEST: DigestError,
}


def failure(code: int, reason: str) -> UpdaterError:
    """Return the error that ended a session, as far as its result code and its reason tell."""
    if reason.startswith(CANCELLED):
        return CancelledError(reason)
    return _FAILURES.get(ResultCode(code), UpdaterError)(reason)

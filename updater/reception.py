# SPDX-License-Identifier: MIT
"""What becomes of an offer: accepted, adopted, refused, or left until a reboot has decided.

``core.machine.answer`` decides; this module carries it out, and refuses what can be known to fail
before anything is written: no room, a plaintext URL, slots or a journal that cannot be trusted.
"""

import logging
from typing import TYPE_CHECKING

from updater.core import machine
from updater.core.errors import OfferError, SchemeError, SpaceError, UpdaterError
from updater.core.machine import Answer
from updater.core.model import Offer, Session, Slots, State
from updater.device import Device

if TYPE_CHECKING:
    from updater.agent import Agent

_log = logging.getLogger(__name__)


def receive(agent: "Agent", offer: Offer) -> None:
    """Answer *offer*, whoever makes it."""
    kind = agent.device.config.cloud.fw_type
    reply = machine.answer(offer, agent.session, agent.device.running_version(), kind)
    if agent.is_orphan or agent.is_reboot_due or agent.is_boot_awaited or _is_untold(agent, offer):
        reply = Answer.WAIT
    if agent.problem is not None and reply is Answer.ADOPT:
        reply = Answer.WAIT  # nothing goes on that could be gone on with
    _log.info("offer of version %s: %s", offer.firmware.version, reply.value)
    match reply:
        case Answer.ACCEPT | Answer.SUPERSEDE if not _is_admitted(agent, offer):
            pass  # it was refused, or is made again later
        case Answer.ACCEPT:
            _begin(agent, offer)
        case Answer.ADOPT:
            agent.adopt(offer)
        case Answer.SUPERSEDE:
            agent.withdraw(f"superseded by version {offer.firmware.version}")
            receive(agent, offer)
        case Answer.REFUSE:
            refuse(agent, offer, OfferError(f"offer: fw_type {offer.fw_type} is not for here"))
        case Answer.RUNNING:
            if not offer.is_local:
                agent.keeper.drop()  # the cloud has changed its mind
            agent.ask()
        case Answer.WAIT:
            pass  # the cloud repeats its offer at the next version report


def _is_admitted(agent: "Agent", offer: Offer) -> bool:
    """Tell whether *offer* may be begun now: it may have failed before, or be ill-timed."""
    if offer.is_local:
        return True
    if agent.cloud is not None and agent.cloud.is_backlogged():
        _log.warning("offer left: the broker has to acknowledge what it was told before")
        return False
    try:
        return agent.keeper.admit(offer)
    except UpdaterError as error:
        refuse(agent, offer, error)
        return False


def _is_taken_for_an_end(agent: "Agent", offer: Offer) -> bool:
    """Tell whether a refusal of *offer* would be taken for an end that no journal has yet.

    The cloud tells both by the version.
    """
    session = agent.session
    is_same = session is not None and session.offer.firmware.version == offer.firmware.version
    return is_same and agent.is_end_unsaved


def _is_untold(agent: "Agent", offer: Offer) -> bool:
    """Tell whether *offer* may have crossed the report of how it ended here: it is no new one."""
    session = agent.session
    if session is None or session.offer.firmware.version != offer.firmware.version:
        return False
    if _is_taken_for_an_end(agent, offer):
        return True
    is_owed = agent.cloud is not None and agent.cloud.owes(session.id)
    return is_owed and session.offer.firmware == offer.firmware and not offer.is_local


def _begin(agent: "Agent", offer: Offer) -> None:
    """Begin a session for *offer*, after everything that can be refused without a write."""
    try:
        slots = agent.slots
        session = Session(
            id=agent.device.system.random_id(),
            state=State.INSTALLING,
            offer=offer,
            target=slots.target.bootname,
            other=slots.booted.bootname,
        )
        refusal = _refusal(agent.device, offer, slots.target.size_bytes, slots.target.bootname)
        agent.begin(session, void=None if refusal else slots.target.bootname)
    except UpdaterError as error:
        refuse(agent, offer, error)
        return
    if refusal is not None:
        agent.fail(refusal, machine.InstallFailed, "offer")
    else:
        agent.perform()


def slots_for(agent: "Agent", offer: Offer) -> Slots:
    """Return the slots, if *offer* can be installed at all.

    Raises:
        UpdaterError: Nobody has to wait for this one.
    """
    slots = agent.slots
    refusal = _refusal(agent.device, offer, slots.target.size_bytes, slots.target.bootname)
    if refusal is not None:
        raise refusal
    return slots


def _refusal(device: Device, offer: Offer, held_bytes: int, bootname: str) -> UpdaterError | None:
    """Return why *offer* cannot be installed here, as far as that is known beforehand."""
    if offer.firmware.size_bytes > held_bytes:
        return SpaceError(offer.firmware.size_bytes, held_bytes, f"slot {bootname}")
    is_plain = offer.url.lower().startswith("http:")
    if is_plain and not device.config.download.allow_plaintext:
        return SchemeError("the URL is http, and download.allow_plaintext is not set")
    return None


def refuse(agent: "Agent", offer: Offer, error: UpdaterError) -> None:
    """Say no to an offer that never became a session."""
    _log.warning("offer refused: %s", error)
    is_told = not offer.is_local and not _is_taken_for_an_end(agent, offer)
    if agent.cloud is not None and is_told:
        agent.cloud.refuse(offer, error)
    if offer.is_local:
        raise error

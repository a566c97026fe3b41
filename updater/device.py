# SPDX-License-Identifier: MIT
"""The device as the agent and the command line see it: every port in one place, and what it tells.

Owns no state. What can be answered or done without an agent (status, an orphan's verdict) is here
so that the control socket and the command line do it in the same words.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from updater.core import bootflow
from updater.core.commands import Commands
from updater.core.config import Board, Config
from updater.core.errors import UpdaterError, WrongStateError
from updater.core.journal import Journal
from updater.core.model import Session, Slot, Slots
from updater.core.ports import (
    Environment,
    Health,
    InstallRequest,
    Pipeline,
    SlotFinder,
    System,
)
from updater.core.slots import unmarked

CHECKPOINT_NAME = "checkpoint"  # in the state directory


@dataclass(frozen=True, slots=True)
class Device:
    """Every outside thing but the link and the control socket, which only an agent has."""

    config: Config
    board: Board
    environment: Environment
    finder: SlotFinder
    journal: Journal
    pipeline: Pipeline
    system: System
    health: Health
    commands: Commands

    def running_version(self) -> str:
        """Return the record of the booted slot, else what the version file says."""
        try:
            record = self.journal.record(self.finder.find().booted.bootname)
        except UpdaterError:
            record = None
        return record.firmware.version if record else self.system.version()

    def boot_state(self) -> bootflow.BootState:
        """Return what the environment says about booting."""
        return bootflow.read(self.environment.read())

    @property
    def checkpoint(self) -> str:
        """Path of what is needed to go on with an image after a cut; "" if that is not wanted."""
        if not self.config.download.resume:
            return ""
        return f"{self.config.state.directory}/{CHECKPOINT_NAME}"

    def request_for(self, session: Session, target: Slot) -> InstallRequest:
        """Return the native pipeline's orders for *session*."""
        firmware = session.offer.firmware
        request = InstallRequest.from_limits(
            self.config.download,
            source=session.offer.url,
            device=target.device,
            size_bytes=firmware.size_bytes,
            md5=firmware.md5,
        )
        return replace(
            request,
            version=firmware.version,
            checkpoint=self.checkpoint,
            device_number=unmarked(target.number),
        )

    def status(self) -> dict[str, object]:
        """Return what a person asks first; what cannot be told is a sentence saying why."""
        problems: list[str] = []
        status: dict[str, object] = {
            "board": self.board.board.name,
            "version": self._told(self.running_version, problems),
            "slots": self._told(self._slot_status, problems),
            "boot": self._told(self._boot_status, problems),
            "session": self._told(self._session_status, problems),
        }
        self._told(lambda: self.journal.history(1), problems)
        status["problems"] = problems
        return status

    @staticmethod
    def _told(ask: Callable[[], object], problems: list[str]) -> object:
        """Return the answer, or None and a sentence in *problems*."""
        try:
            return ask()
        except UpdaterError as error:
            if str(error) not in problems:
                problems.append(str(error))
            return None

    def _slot_status(self) -> list[dict[str, object]]:
        slots = self.finder.find()
        return [self._one_slot(slot, slots) for slot in (slots.booted, slots.target)]

    def _one_slot(self, slot: Slot, slots: Slots) -> dict[str, object]:
        record = self.journal.record(slot.bootname)
        return {
            "bootname": slot.bootname,
            "device": slot.device,
            "size_bytes": slot.size_bytes,
            "booted": slot is slots.booted,
            "version": record.firmware.version if record else None,
            "md5": record.firmware.md5 if record else None,
        }

    def _boot_status(self) -> dict[str, object]:
        state = self.boot_state()
        return {
            "primary": state.primary,
            "trial": state.is_trial,
            "bootcount": state.count,
            "session": state.session,
        }

    def _session_status(self) -> dict[str, object] | None:
        session = self.journal.current()
        return None if session is None else session_status(session)

    def refuse_without_trial(self) -> str:
        """Return the booted slot's name if it is on trial.

        Raises:
            WrongStateError: There is nothing to judge.
        """
        booted = self.finder.find().booted.bootname
        state = self.boot_state()
        if not state.is_trial or state.primary != booted:
            raise WrongStateError(f"slot {booted} is not on trial: there is nothing to judge")
        return booted


def session_status(session: Session) -> dict[str, object]:
    """Return *session* for people and machines; the URL is secret and not among it."""
    return {
        "id": session.id,
        "state": session.state.value,
        "version": session.offer.firmware.version,
        "md5": session.offer.firmware.md5,
        "size_bytes": session.offer.firmware.size_bytes,
        "target": session.target,
        "result_code": int(session.code),
        "reason": session.reason,
    }

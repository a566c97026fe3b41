# SPDX-License-Identifier: MIT
"""The laws that hold in every story, asserted in the moment in which they could be broken.

1  every boot is of a complete image, and the bootloader never stops for want of one
2  the booted slot is never written, and no slot is written that the environment prefers or
that the journal still vouches for
3  no version is reported in a trial, none before the PUBACK of an owed terminal report, and
none but that of the running image
4  a terminal report is journalled before it is told; a refusal needs no session, and is never
that of an open one that is the cloud's
5  what the journal holds for the cloud goes out in its order, the next after the PUBACK of the one
before, and each row once in a connection
6  no session of the cloud's begins while every window for it is shut, or before the clock is set,
and no day's budget is exceeded by more than one part of an image
"""

from typing import TYPE_CHECKING

from sim.cloud import Message
from sim.flash import Medium
from sim.machine import Boot
from sim.uplink import is_terminal
from updater.core import messages, windows
from updater.core.model import Session

if TYPE_CHECKING:
    from sim.world import World

_MOST_BOOTS = 200  # more than any story needs
_AGE_S = 1704067200.0  # this program is younger
_LARGEST_BYTES = 64 << 20  # of an image that fits a slot


class Laws:
    """The laws of one world; knows the refusals, which are no outcomes."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.refusals: list[Message] = []

    def check_boot(self, boot: Boot, medium: Medium) -> None:
        """Law 1, as a kernel is started."""
        assert medium.is_complete, f"slot {boot.slot} boots incomplete"
        assert len(self._world.boots) < _MOST_BOOTS, "the device boots for ever"

    def check_target(self, bootname: str) -> None:
        """Law 2, just before a slot loses its head."""
        world = self._world
        assert bootname != world.booted.slot, "the booted slot is never written"
        assert world.boot_state.primary == world.booted.slot, "the environment prefers the target"
        assert not world.boot_state.is_trial, "the environment speaks of a trial"
        assert bootname not in world.journal.records, "the target still has its record"

    def check_begin(self, session: Session) -> None:
        """Law 6, as a session is journalled that nobody knew."""
        world, texts = self._world, self._world.config.policy.install_windows
        firmware, url = session.offer.firmware, session.offer.url
        is_hopeless = firmware.size_bytes > _LARGEST_BYTES or url.startswith("http:")
        if texts and not session.offer.is_local and not is_hopeless:
            time_s = world.system.time_s()
            assert time_s >= _AGE_S, "an install begins before the clock is set"
            known = windows.parse_windows(texts)
            now = world.system.local_time(time_s)
            assert windows.is_open(known, now), "an install begins outside of its windows"

    def check_budget(self, spent_bytes: int) -> None:
        """Law 6, as it is noted what a day's downloads have brought."""
        world = self._world
        part_bytes = _LARGEST_BYTES // world.parts
        limit_bytes = world.config.policy.daily_budget_bytes + part_bytes
        assert spent_bytes <= limit_bytes, "a day brings more than its budget"

    def check_message(self, message: Message, payload: bytes) -> None:
        """Laws 3 to 5, as a message reaches the cloud."""
        journal = self._world.journal
        owed = [r.payload for r in journal.reports if r.id not in journal.settled]
        self._check_order(message, payload)
        if message.type == "report_version":
            self._check_version(message, owed)
        elif is_terminal(message) and payload not in owed:
            self._check_refusal(message)
            self.refusals.append(message)

    def _check_order(self, message: Message, payload: bytes) -> None:
        journal, cloud = self._world.journal, self._world.cloud
        rows = journal.undelivered
        waiting = [row for row in rows if row.payload not in cloud.acknowledged]
        ours = [row for row in waiting if row.payload == payload]
        if message.qos and ours and cloud.link is not None:
            assert ours[0] is waiting[0], "a later report overtakes an earlier one"
            assert ours[0].id not in cloud.link.given, "a report is given to the link twice"
            cloud.link.given.add(ours[0].id)

    def _check_version(self, message: Message, owed: list[bytes]) -> None:
        world = self._world
        assert not world.is_on_trial, "a version is reported in a trial"
        assert world.cloud.acknowledged.issuperset(owed), "a terminal report comes first"
        version = world.booted.image.version
        runs = version if messages.is_version(version) else messages.UNKNOWN_VERSION
        assert message.version == runs, "that is not what runs"

    def _check_refusal(self, message: Message) -> None:
        session = self._world.session
        assert message.state == "fail", "a session's end is told, and no journal has it"
        if session is not None and not session.state.is_final and not session.offer.is_local:
            version = session.offer.firmware.version
            assert message.version != version, "a session's end is told before it is journalled"

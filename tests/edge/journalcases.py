# SPDX-License-Identifier: MIT
"""What the tests of the journal have in common: a session, a record, and a look at the file."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from updater.core.model import Firmware, Offer, Session, SlotRecord, State
from updater.edge.journal import FILE_NAME

FIRMWARE = Firmware("2.0", "0" * 32, 1 << 40)
URL = "https://host/image?q-signature=very-secret"
OFFER = Offer(FIRMWARE, URL, task_id=123456, fw_type="mcu")
SESSION = Session("0123456789abcdef", State.INSTALLING, OFFER, "B", "A")
GOOD = replace(SESSION, state=State.GOOD)
RECORD = SlotRecord("B", FIRMWARE, "1" * 32, 1 << 41)


def raw(folder: str) -> sqlite3.Connection:
    """The file as any other program sees it."""
    return sqlite3.connect(Path(folder) / FILE_NAME, isolation_level=None)

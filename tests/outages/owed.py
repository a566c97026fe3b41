# SPDX-License-Identifier: MIT
"""What a device's journal says that it owes, or has owed; read beside the agent that writes it."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One report."""

    session_id: str
    payload: bytes
    is_settled: bool


def rows(folder: Path, table: str) -> list[Row]:
    """Return what *table* has, in order; it is made with its first row."""
    path = folder / "state/journal.sqlite"
    is_there = "SELECT count(*) FROM sqlite_master WHERE name = ?"
    query = f"SELECT session_id, payload, is_settled FROM {table} ORDER BY id"  # noqa: S608 - constants
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as journal:
        known = journal.execute(is_there, [table]).fetchone()[0]
        found = journal.execute(query).fetchall() if known else []
    return [Row(name, payload, bool(flag)) for name, payload, flag in found]

# SPDX-License-Identifier: MIT
"""The journal behind ``core.journal.Journal``: SQLite on the data partition, each method durable.

A method returns when its transaction is on the medium. Both slots' versions of this program share
the file, so the schema only ever grows: a reader names the columns that it knows and ignores the
others. URLs are secrets: a session's URL is erased when the session has ended, from the write-ahead
log too.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from updater.core.errors import JournalError
from updater.core.journal import REFUSALS_LIMIT
from updater.core.journalrows import (
    FAILURES_COLUMNS,
    REFUSAL,
    SESSION_COLUMNS,
    failures_of,
    record_of,
    refusal_key,
    refusals_of,
    session_of,
    session_row,
)
from updater.core.journalschema import SCHEMA, YOUNGER, YOUNGER_COLUMNS
from updater.core.model import Failures, HistoryEntry, Offer, OwedReport, Session, SlotRecord
from updater.edge.database import Database

FILE_NAME = "journal.sqlite"
HISTORY_LIMIT = 500
_BUDGETS_LIMIT = 30  # days, the latest noted ones: a clock that jumps about has each of them once


class SqliteJournal:
    """One file; may be opened by the agent and by readers at the same time."""

    def __init__(self, directory: str, time_s: Callable[[], float] = time.time) -> None:
        """Open the journal in *directory*, which is made if need be.

        Raises:
            JournalError: It cannot be opened, or is none.
        """
        self._time_s = time_s
        self._db = Database(Path(directory) / FILE_NAME, SCHEMA)
        try:
            self.current()  # what cannot say this is lost: better told now than in a trial
        except JournalError:
            self._db.close()
            raise

    def current(self) -> Session | None:
        """Return the session that has not ended, or the last one that has, or None."""
        with self._db.translated():
            rows = self._db.rows(
                f"SELECT {SESSION_COLUMNS} FROM sessions ORDER BY number DESC LIMIT 1"  # noqa: S608 - a constant
            )
        with self._db.understood("a session"):
            return session_of(rows[0]) if rows else None

    def save(  # noqa: PLR0913 - what is one transaction
        self,
        session: Session,
        text: str,
        *,
        report: bytes | None = None,
        record: SlotRecord | None = None,
        void: str | None = None,
        failures: Failures | None = None,
    ) -> None:
        """Store *session* as it stands now, with a line of history and what goes with it."""
        with self._db.transaction():
            values = session_row(session)
            marks = ", ".join("?" * len(values))
            updates = ", ".join(f"{c} = excluded.{c}" for c in SESSION_COLUMNS.split(", ")[1:])
            self._db.execute(
                f"INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ({marks}) "  # noqa: S608 - constants
                f"ON CONFLICT (id) DO UPDATE SET {updates}",
                values,
            )
            self._add_history(session, text)
            if void is not None:
                self._db.execute("DELETE FROM slot_records WHERE bootname = ?", (void,))
            if record is not None:
                self._store_record(record)
            if report is not None:  # the first terminal report of a session is its only one
                self._db.execute(
                    "INSERT OR IGNORE INTO owed_reports (session_id, payload) VALUES (?, ?)",
                    (session.id, report),
                )
            if failures is not None:
                self._store_failures(failures)
            if not session.state.is_final and not session.offer.is_local:
                self._drop_refusals(session.offer)
        if session.state.is_final:
            self._db.forget()  # the URL, which is still there

    def owe(self, session_id: str, payload: bytes) -> None:
        """Owe the cloud that a session is burning; the first time is the only one."""
        with self._db.transaction():
            self._owe_between(session_id, payload)
            self._db.execute(
                "DELETE FROM owed_burnings WHERE id <= (SELECT max(id) FROM owed_burnings) - ?",
                (HISTORY_LIMIT,),
            )

    def owe_refusal(self, offer: Offer, payload: bytes) -> None:
        """Owe the cloud that *offer* is refused, once at a time; the oldest of many give way."""
        refused = "substr(session_id, 1, ?) = ?"
        prefix = len(REFUSAL), REFUSAL
        with self._db.transaction():
            self._grow("owed_burnings")
            self._db.execute(
                f"DELETE FROM owed_burnings WHERE {refused} AND is_settled",  # noqa: S608 - a constant
                prefix,
            )
            self._owe_between(refusal_key(offer), payload)
            self._db.execute(
                f"DELETE FROM owed_burnings WHERE {refused} AND id NOT IN "  # noqa: S608 - a constant
                f"(SELECT id FROM owed_burnings WHERE {refused} ORDER BY id DESC LIMIT ?)",
                (*prefix, *prefix, REFUSALS_LIMIT),
            )

    def _owe_between(self, key: str, payload: bytes) -> None:
        """Owe what ends no session, unless it is owed; after all that has ended before it."""
        self._grow("owed_burnings")
        self._db.execute(
            "INSERT OR IGNORE INTO owed_burnings (session_id, payload, after_id) "
            "VALUES (?, ?, (SELECT coalesce(max(id), 0) FROM owed_reports))",
            (key, payload),
        )

    def _drop_refusals(self, offer: Offer) -> None:
        """Owe no refusal any more that the cloud could take for the end of *offer*'s session."""
        if self._db.has("owed_burnings"):
            key = refusals_of(offer)
            self._db.execute(
                "DELETE FROM owed_burnings WHERE substr(session_id, 1, ?) = ?", (len(key), key)
            )

    def owed(self) -> Sequence[OwedReport]:
        """Return the reports that the broker has not acknowledged, in the order of their being.

        What a version that knows no burning has left behind is none of them once the session's end
        is acknowledged.
        """
        query = "SELECT id, session_id, payload, 1, id AS place FROM owed_reports"
        query += " WHERE NOT is_settled"
        with self._db.translated():
            if self._db.has("owed_burnings"):
                query += (
                    " UNION ALL SELECT id, session_id, payload, 0, after_id + 0.5"
                    " FROM owed_burnings AS burning WHERE NOT is_settled AND NOT EXISTS"
                    " (SELECT 1 FROM owed_reports AS ended"
                    " WHERE ended.session_id = burning.session_id AND ended.is_settled)"
                )
            rows = self._db.rows(f"{query} ORDER BY place, id")
        return [OwedReport(row[0], row[1], row[2], bool(row[3])) for row in rows]

    def settle(self, report: OwedReport) -> None:
        """Note that the broker has acknowledged *report*; what is long settled is dropped."""
        table = "owed_reports" if report.is_terminal else "owed_burnings"
        with self._db.transaction():
            # both: the id of a refusal that is void may have come to a younger row
            self._db.execute(
                f"UPDATE {table} SET is_settled = 1 WHERE id = ? AND session_id = ?",  # noqa: S608 - constants
                (report.id, report.session_id),
            )
            self._db.execute(
                f"DELETE FROM {table} WHERE is_settled AND id <= ?",  # noqa: S608 - constants
                (report.id - HISTORY_LIMIT,),
            )

    def failures(self) -> Sequence[Failures]:
        """Return every firmware that has failed, the latest last."""
        with self._db.translated():
            if not self._db.has("failures"):
                return []
            rows = self._db.named_rows("SELECT * FROM failures ORDER BY number")
        with self._db.understood("a failure"):
            return [failures_of(row) for row in rows]

    def note(self, failures: Failures) -> None:
        """Store what is known of one firmware, in place of what was."""
        with self._db.transaction():
            self._store_failures(failures)

    def forgive(self) -> None:
        """Forget every failure."""
        with self._db.transaction():
            if self._db.has("failures"):
                self._db.execute("DELETE FROM failures")

    def spent_bytes(self, day: int) -> int:
        """Return what downloads have brought on *day*."""
        with self._db.translated():
            if not self._db.has("budgets"):
                return 0
            rows = self._db.rows("SELECT spent_bytes FROM budgets WHERE day = ?", (day,))
        with self._db.understood("a budget"):
            return int(rows[0][0]) if rows else 0

    def spend(self, day: int, spent_bytes: int) -> None:
        """Store what downloads have brought on *day*, in place of what was."""
        with self._db.transaction():
            self._grow("budgets")
            self._db.execute(
                "INSERT OR REPLACE INTO budgets (day, spent_bytes) VALUES (?, ?)",
                (day, spent_bytes),
            )
            self._db.execute(
                "DELETE FROM budgets WHERE number NOT IN "
                "(SELECT number FROM budgets ORDER BY number DESC LIMIT ?)",
                (_BUDGETS_LIMIT,),
            )

    def record(self, bootname: str) -> SlotRecord | None:
        """Return what *bootname* is known to hold."""
        with self._db.translated():
            query = "SELECT * FROM slot_records WHERE bootname = ?"
            rows = self._db.named_rows(query, (bootname,))
        with self._db.understood(f"the record of slot {bootname}"):
            return record_of(rows[0]) if rows else None

    def void(self, bootname: str) -> None:
        """Forget what *bootname* holds; it is about to be written."""
        with self._db.transaction():
            self._db.execute("DELETE FROM slot_records WHERE bootname = ?", (bootname,))

    def history(self, limit: int) -> Sequence[HistoryEntry]:
        """Return the newest *limit* lines of history, newest first."""
        with self._db.translated():
            rows = self._db.rows(
                "SELECT time_s, session_id, version, state, text FROM history "
                "ORDER BY id DESC LIMIT ?",
                (limit,),
            )
        return [HistoryEntry(*row) for row in rows]

    def close(self) -> None:
        """Close the journal."""
        self._db.close()

    def _grow(self, table: str) -> None:
        """Have *table* with all that this version knows of it."""
        self._db.grow(table, YOUNGER.get(table), YOUNGER_COLUMNS.get(table, {}))

    def _store_failures(self, failures: Failures) -> None:
        """Put *failures* in its firmware's place, or nothing; the oldest give way."""
        self._grow("failures")
        firmware = failures.firmware
        identity = (firmware.version, firmware.md5, firmware.size_bytes)
        self._db.execute(
            "DELETE FROM failures WHERE version = ? AND md5 = ? AND size_bytes = ?", identity
        )
        if not failures.is_none:
            number = self._db.execute(
                f"INSERT INTO failures ({FAILURES_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
                (
                    *identity,
                    failures.count,
                    failures.time_s,
                    failures.is_undecided,
                    failures.is_cancelled,
                ),
            )
            self._db.execute("DELETE FROM failures WHERE number <= ?", (number - HISTORY_LIMIT,))

    def _store_record(self, record: SlotRecord) -> None:
        self._grow("slot_records")
        firmware = record.firmware
        self._db.execute(
            "INSERT OR REPLACE INTO slot_records "
            "(bootname, version, md5, size_bytes, image_md5, image_size_bytes) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (record.bootname, firmware.version, firmware.md5, firmware.size_bytes,
             record.image_md5, record.image_size_bytes),
        )  # fmt: skip

    def _add_history(self, session: Session, text: str) -> None:
        row = (
            self._time_s(),
            session.id,
            session.offer.firmware.version,
            session.state.value,
            text,
        )
        number = self._db.execute(
            "INSERT INTO history (time_s, session_id, version, state, text) VALUES (?, ?, ?, ?, ?)",
            row,
        )
        self._db.execute("DELETE FROM history WHERE id <= ?", (number - HISTORY_LIMIT,))
        self._db.execute(
            "DELETE FROM sessions WHERE number <= (SELECT max(number) FROM sessions) - ?",
            (HISTORY_LIMIT,),
        )

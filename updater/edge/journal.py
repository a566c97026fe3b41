# SPDX-License-Identifier: MIT
"""The journal behind ``core.ports.Journal``: SQLite on the data partition, each method durable.

journal_mode=WAL and synchronous=FULL: a method returns when its transaction is on the medium. Both
slots' versions of this program share the file, so the schema only ever grows: a reader names the
columns that it knows and ignores the others. URLs are secrets: the file's mode is 0600, and a
session's URL is erased when the session has ended, from the write-ahead log too.
"""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from updater.core.errors import JournalError, ResultCode
from updater.core.model import (
    Firmware,
    HistoryEntry,
    Offer,
    OwedReport,
    Session,
    SlotRecord,
    State,
)

FILE_NAME = "journal.sqlite"
HISTORY_LIMIT = 500
_BUSY_TIMEOUT_S = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
    version TEXT NOT NULL, md5 TEXT NOT NULL, size_bytes INTEGER NOT NULL, url TEXT NOT NULL,
    task_id TEXT NOT NULL, fw_type TEXT, is_local INTEGER NOT NULL,
    target TEXT NOT NULL, other TEXT NOT NULL,
    code INTEGER NOT NULL, reason TEXT NOT NULL, baseline TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS slot_records (
    bootname TEXT PRIMARY KEY, version TEXT NOT NULL, md5 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS owed_reports (
    id INTEGER PRIMARY KEY, session_id TEXT NOT NULL UNIQUE, payload BLOB NOT NULL,
    is_settled INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY, time_s REAL NOT NULL, session_id TEXT NOT NULL,
    version TEXT NOT NULL, state TEXT NOT NULL, text TEXT NOT NULL);
"""

# Of slot_records, and younger than it: added with the first record that needs them, never at a
# start, which may be that of a trial. A version that does not know them leaves the defaults.
_IMAGE_COLUMNS = {
    "image_md5": "TEXT NOT NULL DEFAULT ''",
    "image_size_bytes": "INTEGER NOT NULL DEFAULT 0",
}

_SESSION_COLUMNS = (
    "id, state, version, md5, size_bytes, url, task_id, fw_type, is_local, "
    "target, other, code, reason, baseline"
)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeEncodeError, OverflowError) as error:
        raise JournalError(f"journal {path}: {error}") from error


@contextmanager
def _understood(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise JournalError(f"journal {path}: {what} makes no sense: {error}") from error


class SqliteJournal:
    """One file; may be opened by the agent and by readers at the same time."""

    def __init__(self, directory: str, time_s: Callable[[], float] = time.time) -> None:
        """Open the journal in *directory*, which is made if need be.

        Raises:
            JournalError: It cannot be opened, or is none.
        """
        self._path = Path(directory) / FILE_NAME
        self._time_s = time_s
        with _translated(self._path):
            _make_private(self._path)
            self._db = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, cached_statements=16
            )
        try:
            self._prepare()
        except JournalError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with _translated(self._path):
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.execute("PRAGMA cache_size=-256")
            self._db.executescript(_SCHEMA)
        self.current()  # what cannot say this is lost: better told now than in a trial

    def current(self) -> Session | None:
        """Return the session that has not ended, or the last one that has, or None."""
        with _translated(self._path):
            row = self._db.execute(
                f"SELECT {_SESSION_COLUMNS} FROM sessions ORDER BY number DESC LIMIT 1"  # noqa: S608 - a constant
            ).fetchone()
        with _understood(self._path, "a session"):
            return None if row is None else _session(row)

    def save(
        self,
        session: Session,
        text: str,
        *,
        report: bytes | None = None,
        record: SlotRecord | None = None,
        void: str | None = None,
    ) -> None:
        """Store *session* as it stands now, with a line of history and what goes with it."""
        with self._transaction():
            values = _row(session)
            marks = ", ".join("?" * len(values))
            updates = ", ".join(f"{c} = excluded.{c}" for c in _SESSION_COLUMNS.split(", ")[1:])
            self._db.execute(
                f"INSERT INTO sessions ({_SESSION_COLUMNS}) VALUES ({marks}) "  # noqa: S608 - constants
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
        if session.state.is_final:
            self._forget()

    def owed(self) -> Sequence[OwedReport]:
        """Return the reports that the broker has not acknowledged, oldest first."""
        with _translated(self._path):
            rows = self._db.execute(
                "SELECT id, session_id, payload FROM owed_reports WHERE NOT is_settled ORDER BY id"
            ).fetchall()
        return [OwedReport(*row) for row in rows]

    def settle(self, report: OwedReport) -> None:
        """Note that the broker has acknowledged *report*; what is long settled is dropped."""
        with self._transaction():
            self._db.execute("UPDATE owed_reports SET is_settled = 1 WHERE id = ?", (report.id,))
            self._db.execute(
                "DELETE FROM owed_reports WHERE is_settled AND id <= ?",
                (report.id - HISTORY_LIMIT,),
            )

    def record(self, bootname: str) -> SlotRecord | None:
        """Return what *bootname* is known to hold."""
        with _translated(self._path):
            cursor = self._db.execute("SELECT * FROM slot_records WHERE bootname = ?", (bootname,))
            row = cursor.fetchone()
        with _understood(self._path, f"the record of slot {bootname}"):
            names = [column[0] for column in cursor.description]
            return None if row is None else _record(dict(zip(names, row, strict=True)))

    def void(self, bootname: str) -> None:
        """Forget what *bootname* holds; it is about to be written."""
        with self._transaction():
            self._db.execute("DELETE FROM slot_records WHERE bootname = ?", (bootname,))

    def history(self, limit: int) -> Sequence[HistoryEntry]:
        """Return the newest *limit* lines of history, newest first."""
        with _translated(self._path):
            rows = self._db.execute(
                "SELECT time_s, session_id, version, state, text FROM history "
                "ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [HistoryEntry(*row) for row in rows]

    def close(self) -> None:
        """Close the journal."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _store_record(self, record: SlotRecord) -> None:
        known = {row[1] for row in self._db.execute("PRAGMA table_info(slot_records)")}
        for column, kind in _IMAGE_COLUMNS.items():
            if column not in known:
                self._db.execute(f"ALTER TABLE slot_records ADD COLUMN {column} {kind}")
        firmware = record.firmware
        self._db.execute(
            "INSERT OR REPLACE INTO slot_records "
            "(bootname, version, md5, size_bytes, image_md5, image_size_bytes) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (record.bootname, firmware.version, firmware.md5, firmware.size_bytes,
             record.image_md5, record.image_size_bytes),
        )  # fmt: skip

    def _forget(self) -> None:
        """Empty the write-ahead log, where the URL still is; what was stored stands in any case."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _add_history(self, session: Session, text: str) -> None:
        row = (
            self._time_s(),
            session.id,
            session.offer.firmware.version,
            session.state.value,
            text,
        )
        cursor = self._db.execute(
            "INSERT INTO history (time_s, session_id, version, state, text) VALUES (?, ?, ?, ?, ?)",
            row,
        )
        last = (cursor.lastrowid or 0) - HISTORY_LIMIT
        self._db.execute("DELETE FROM history WHERE id <= ?", (last,))
        self._db.execute(
            "DELETE FROM sessions WHERE number <= (SELECT max(number) FROM sessions) - ?",
            (HISTORY_LIMIT,),
        )


class LostJournal:
    """Stands in for a journal that cannot be opened: nothing is begun, verdicts still fall."""

    def __init__(self, error: JournalError) -> None:
        """Give *error* as the reason for everything that is refused."""
        self._error = error

    def current(self) -> Session | None:
        """Know of no session: a trial that is under way is an orphan's."""
        return None

    def save(
        self,
        session: Session,
        text: str,
        *,
        report: bytes | None = None,
        record: SlotRecord | None = None,
        void: str | None = None,
    ) -> None:
        """Refuse."""
        del session, text, report, record, void
        raise self._error

    def owed(self) -> Sequence[OwedReport]:
        """Owe nothing that is known."""
        return ()

    def settle(self, report: OwedReport) -> None:
        """Refuse."""
        del report
        raise self._error

    def record(self, bootname: str) -> SlotRecord | None:
        """Know of no slot."""
        del bootname
        return None

    def void(self, bootname: str) -> None:
        """Refuse."""
        del bootname
        raise self._error

    def history(self, limit: int) -> Sequence[HistoryEntry]:
        """Refuse: an empty history would be a lie."""
        del limit
        raise self._error

    def close(self) -> None:
        """Nothing is open."""


def _make_private(path: Path) -> None:
    """Make the file for our eyes only; one that exists is not opened, as its closing ends locks."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _row(session: Session) -> tuple[object, ...]:
    offer = session.offer
    return (
        session.id,
        session.state.value,
        offer.firmware.version,
        offer.firmware.md5,
        offer.firmware.size_bytes,
        "" if session.state.is_final else offer.url,
        json.dumps(offer.task_id),
        offer.fw_type,
        int(offer.is_local),
        session.target,
        session.other,
        int(session.code),
        session.reason,
        json.dumps(session.baseline),
    )


def _firmware(version: object, md5: object, size_bytes: object) -> Firmware:
    return Firmware(str(version), str(md5), int(str(size_bytes)))


def _record(row: Mapping[str, object]) -> SlotRecord:
    """Return the record; what a version has stored that decoded nothing is the firmware itself."""
    firmware = _firmware(row["version"], row["md5"], row["size_bytes"])
    md5 = str(row.get("image_md5") or firmware.md5)
    size_bytes = int(str(row.get("image_size_bytes") or firmware.size_bytes))
    return SlotRecord(str(row["bootname"]), firmware, md5, size_bytes)


def _session(row: Sequence[object]) -> Session:
    (identity, state, version, md5, size_bytes, url, task_id, fw_type, is_local,
     target, other, code, reason, baseline) = row  # fmt: skip
    offer = Offer(
        _firmware(version, md5, size_bytes),
        str(url),
        json.loads(str(task_id)),
        None if fw_type is None else str(fw_type),
        is_local=bool(is_local),
    )
    return Session(
        str(identity),
        State(state),
        offer,
        str(target),
        str(other),
        ResultCode(int(str(code))),
        str(reason),
        tuple(json.loads(str(baseline))),
    )

# SPDX-License-Identifier: MIT
"""One SQLite file, for whoever knows its tables: opened, written durably, grown, kept private.

journal_mode=WAL and synchronous=FULL: a transaction that has returned is on the medium. The file's
mode is 0600, and what was deleted is overwritten. Of SQLite no error leaves this module.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from updater.core.errors import JournalError

_BUSY_TIMEOUT_S = 5.0


class Database:
    """May be opened by one writer and by readers at the same time."""

    def __init__(self, path: Path, schema: str) -> None:
        """Open the file at *path*, which is made if need be, and give it the tables of *schema*.

        Raises:
            JournalError: It cannot be opened, or is none.
        """
        self._path = path
        with self.translated():
            _make_private(path)
            self._db = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, cached_statements=16
            )
        try:
            self._prepare(schema)
        except JournalError:
            self.close()
            raise

    def _prepare(self, schema: str) -> None:
        with self.translated():
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.execute("PRAGMA cache_size=-256")
            self._db.executescript(schema)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- errors ----------------------------------------------------------------------------------

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise what goes wrong within as a JournalError."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeEncodeError, OverflowError) as error:
            raise JournalError(f"journal {self._path}: {error}") from error

    @contextmanager
    def understood(self, what: str) -> Iterator[None]:
        """Raise that *what* makes no sense as a JournalError."""
        try:
            yield
        except (ValueError, TypeError, KeyError) as error:
            raise JournalError(f"journal {self._path}: {what} makes no sense: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Store all that is executed within, or nothing of it."""
        with self.translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # --- statements, within one of the above -----------------------------------------------------

    def execute(self, statement: str, values: Sequence[object] = ()) -> int:
        """Execute *statement*, and return the number of the row that was inserted last."""
        return self._db.execute(statement, values).lastrowid or 0

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return what *query* finds."""
        return self._db.execute(query, values).fetchall()

    def named_rows(self, query: str, values: Sequence[object] = ()) -> list[Mapping[str, object]]:
        """Return the same by the names of the columns: which there are is a matter of version."""
        cursor = self._db.execute(query, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def has(self, table: str) -> bool:
        """Tell whether there is *table* yet."""
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        return bool(self.rows(query, (table,)))

    def grow(self, table: str, rows: str | None, columns: Mapping[str, str]) -> None:
        """Have *table*, of *rows* if it is not there yet, with the younger *columns* too."""
        if rows is not None:
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({rows})")
        known = {row[1] for row in self.rows(f"PRAGMA table_info({table})")}
        for column, kind in columns.items():
            if column not in known:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")

    def forget(self) -> None:
        """Empty the write-ahead log, where deleted values still are; what is stored stands."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _make_private(path: Path) -> None:
    """Make the file for our eyes only; one that exists is not opened, as its closing ends locks."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)

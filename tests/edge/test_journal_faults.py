# SPDX-License-Identifier: MIT
"""The journal on files that are corrupt, and on media that are full or read-only."""

import os
import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fds import descriptors
from journalcases import GOOD, OFFER, RECORD, SESSION, URL, raw

from updater.core.errors import JournalError
from updater.core.model import Firmware, SlotRecord
from updater.edge.journal import FILE_NAME, SqliteJournal


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "data" / "updater")


@pytest.fixture
def journal(folder: str) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(folder, lambda: 1234.5)) as it:
        yield it


def spoiled(folder: str, how: str) -> None:
    """Spoil the file of a journal that has a session."""
    path = Path(folder) / FILE_NAME
    with closing(SqliteJournal(folder)) as journal:
        journal.save(replace(SESSION, reason="x" * 9000), "one")
    match how:
        case "garbage":
            path.write_bytes(random.Random(1).randbytes(20_000))
        case "no SQLite":
            path.write_bytes(b"#!/bin/sh\n" * 2000)
        case "cut":
            os.truncate(path, 5000)
        case "a bad page":
            raw_bytes = bytearray(path.read_bytes())
            for page in range(4096, len(raw_bytes), 4096):
                raw_bytes[page : page + 512] = b"\xa5" * 512
            path.write_bytes(raw_bytes)
        case "a folder":
            path.unlink()
            path.mkdir()
        case _:
            with closing(raw(folder)) as db:
                db.execute(f"UPDATE sessions SET {how}")  # noqa: S608 - the table below


@pytest.mark.parametrize(
    "how",
    [
        "garbage", "no SQLite", "cut", "a bad page", "a folder",
        "state = 'unheard-of'", "state = CAST(x'ff' AS TEXT)", "size_bytes = 'many'",
        "code = 99", "baseline = '7'", "task_id = '{'",
    ],
)  # fmt: skip
def test_a_journal_that_makes_no_sense_cannot_be_opened(folder: str, how: str) -> None:
    """It is told when it is opened, before a trial depends on it, and no descriptor stays."""
    spoiled(folder, how)
    before = descriptors()
    errors = []
    for _ in range(3):
        with pytest.raises(JournalError, match=FILE_NAME) as caught:
            SqliteJournal(folder)
        errors.append(caught.value)  # as LostJournal keeps it
    assert descriptors() == before
    assert URL not in "".join(map(str, errors))


def test_a_record_that_makes_no_sense_is_an_error(journal: SqliteJournal, folder: str) -> None:
    """A size that is no number is the journal's error and nobody's crash later."""
    journal.save(GOOD, "good", record=RECORD)
    with closing(raw(folder)) as db:
        db.execute("UPDATE slot_records SET size_bytes = 'many'")
    with pytest.raises(JournalError, match="record of slot B makes no sense"):
        journal.record("B")


def test_what_sqlite_cannot_take_is_an_error(journal: SqliteJournal) -> None:
    """Text that is no Unicode and numbers that are too large leave the journal as it was."""
    journal.save(SESSION, "one")
    with pytest.raises(JournalError):
        journal.save(replace(GOOD, offer=replace(OFFER, fw_type="\ud800")), "two", report=b"x")
    with pytest.raises(JournalError):
        journal.save(replace(GOOD, offer=replace(OFFER, firmware=Firmware("2", "0", 1 << 63))), "3")
    assert (journal.current(), len(journal.history(9)), journal.owed()) == (SESSION, 1, [])


def test_a_place_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Where no folder can be made there is no journal."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="Not a directory"):
        SqliteJournal(str(tmp_path / "file" / "data"))


def fill(journal: SqliteJournal) -> int:
    """Save until nothing more fits, and return how often that went well."""
    for number in range(2000):
        try:
            journal.save(
                replace(SESSION, id=str(number), reason="x" * 2000), str(number),
                report=str(number).encode(),
                record=SlotRecord("B", Firmware(str(number), "0", 1), "0", 1),
            )  # fmt: skip
        except JournalError:
            return number
    raise AssertionError("it is never full")


def check_after(journal: SqliteJournal, saved: int) -> None:
    """Assert that *saved* saves took, whole, and none after them."""
    current, record = journal.current(), journal.record("B")
    assert current is not None
    assert record is not None
    assert (current.id, record.firmware.version) == (str(saved - 1), str(saved - 1))
    assert [e.text for e in journal.history(1)] == [str(saved - 1)]
    assert [report.payload for report in journal.owed()][-1] == str(saved - 1).encode()


@contextmanager
def tmpfs(place: Path, size: str) -> Iterator[str]:
    """A file system of *size* bytes at *place*."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield str(place)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: str, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


@pytest.mark.root
def test_a_full_medium_takes_nothing_by_halves(tmp_path: Path) -> None:
    """What does not fit is an error and leaves no trace; with room again, the journal goes on."""
    with tmpfs(tmp_path / "small", "400k") as folder:
        with closing(SqliteJournal(folder)) as journal:
            saved = fill(journal)
            assert saved > 3
            check_after(journal, saved)
            remount(folder, "size=4m")
            journal.save(GOOD, "room again")
            assert journal.current() == replace(GOOD, offer=replace(OFFER, url=""))
        with closing(SqliteJournal(folder)) as journal:
            assert len(journal.owed()) == saved


@pytest.mark.root
def test_a_medium_that_is_full_at_the_start_is_an_error(tmp_path: Path) -> None:
    """There is no journal where not even its first page fits."""
    with tmpfs(tmp_path / "small", "8k") as folder:
        before = descriptors()
        with pytest.raises(JournalError):
            SqliteJournal(folder)
        assert descriptors() == before


@pytest.mark.root
def test_a_read_only_medium_is_an_error(tmp_path: Path) -> None:
    """A file system that is read-only has no journal, neither an old one nor a new one."""
    with tmpfs(tmp_path / "data", "4m") as folder:
        with closing(SqliteJournal(folder)) as journal:
            journal.save(SESSION, "one")
        remount(folder, "ro")
        with pytest.raises(JournalError):
            SqliteJournal(folder)
        with pytest.raises(JournalError):
            SqliteJournal(f"{folder}/new")


def test_a_limited_file_size_takes_nothing_by_halves(folder: str) -> None:
    """A file that may not grow any more is an error of the journal and not the process's end."""
    with closing(SqliteJournal(folder)) as journal:
        journal.save(replace(SESSION, id="-1"), "-1")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            saved = fill(journal)
            check_after(journal, saved)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        journal.save(GOOD, "room again")
        assert len(journal.history(9999)) == saved + 2

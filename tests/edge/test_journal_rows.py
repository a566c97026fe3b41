# SPDX-License-Identifier: MIT
"""What the journal holds for the cloud, and what it knows of failures: in order, once, durable."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from journalcases import FIRMWARE, GOOD, SESSION, raw

from updater.core.errors import JournalError
from updater.core.model import Failures, Firmware, Offer, State
from updater.edge.journal import SqliteJournal


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "updater")


@pytest.fixture
def journal(folder: str) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(folder)) as it:
        yield it


def test_a_burning_is_owed_once_and_between_its_neighbours(journal: SqliteJournal) -> None:
    """After what ended before it, before its own session's end; never again once delivered."""
    for name in ("z", "a"):
        journal.save(replace(GOOD, id=name), "good", report=f"{name} is done".encode())
    for _ in range(2):
        journal.owe("b", b"b is burning")
    journal.owe("b", b"b is burning, says somebody else")
    journal.save(replace(GOOD, id="b"), "good", report=b"b is done")
    journal.owe("c", b"c is burning")
    owed = journal.owed()
    wanted = [b"z is done", b"a is done", b"b is burning", b"b is done", b"c is burning"]
    assert [row.payload for row in owed] == wanted
    assert [row.is_terminal for row in owed] == [True, True, False, True, False]
    for row in owed:
        wanted.remove(row.payload)
        journal.settle(row)
        assert [left.payload for left in journal.owed()] == wanted
    journal.owe("b", b"b is burning")
    assert not journal.owed()


def test_failures_are_kept_in_their_order(journal: SqliteJournal, folder: str) -> None:
    """One row for each firmware, the latest last, here and in the next process."""
    one, other = (Failures(replace(FIRMWARE, version=v), 1, 5.5) for v in ("1", "2"))
    again = Failures(one.firmware, 2, 7.5, is_undecided=True)
    assert list(journal.failures()) == []
    journal.save(replace(SESSION, state=State.FAILED), "failed", failures=one)
    journal.note(other)
    journal.note(again)
    assert list(journal.failures()) == [other, again]
    with closing(SqliteJournal(folder)) as reader:
        assert list(reader.failures()) == [other, again]
    journal.note(Failures(other.firmware, 0, 9.5))
    assert list(journal.failures()) == [again]
    journal.forgive()
    journal.forgive()
    assert list(journal.failures()) == []


def test_a_failure_is_stored_with_its_session_or_not_at_all(
    journal: SqliteJournal, folder: str
) -> None:
    """One transaction: a cut never counts it twice."""
    with closing(raw(folder)) as db:
        db.execute("CREATE TRIGGER no BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'x'); END")
    with pytest.raises(JournalError):
        journal.save(SESSION, "failed", failures=Failures(FIRMWARE, 1, 5.5))
    assert (journal.current(), list(journal.failures())) == (None, [])


def tables_of(folder: str) -> set[str]:
    """Return the names of the tables."""
    with closing(raw(folder)) as db:
        return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_start_adds_no_table_to_an_older_file(folder: str) -> None:
    """It may be that of a trial; the first row that needs a table brings it."""
    older = {"sessions", "slot_records", "owed_reports", "history"}
    with closing(SqliteJournal(folder)) as journal:
        journal.save(GOOD, "good", report=b"done")
        journal.forgive()
        assert (list(journal.failures()), len(journal.owed())) == ([], 1)
        assert journal.spent_bytes(5) == 0
        assert tables_of(folder) == older
        with closing(SqliteJournal(folder)) as other:
            journal.owe("b", b"burning")
            journal.note(Failures(FIRMWARE, 1, 0.0))
            journal.spend(5, 1)
            assert tables_of(folder) == {*older, "owed_burnings", "failures", "budgets"}
            assert (len(other.failures()), len(other.owed())) == (1, 2)


def test_a_burning_that_an_older_version_has_not_told_is_not_told_after_the_end(
    journal: SqliteJournal, folder: str
) -> None:
    """That version has delivered the end, and knew of no burning."""
    journal.owe(GOOD.id, b"burning")
    journal.save(GOOD, "good", report=b"done")
    assert len(journal.owed()) == 2
    with closing(raw(folder)) as db:
        db.execute("UPDATE owed_reports SET is_settled = 1")
    assert list(journal.owed()) == []


def test_a_day_has_one_budget(journal: SqliteJournal, folder: str) -> None:
    """What was spent of it stands until more is, here and in the next process; days are apart."""
    assert journal.spent_bytes(5) == 0
    for day, spent_bytes in ((5, 10), (6, 7), (5, 1 << 40)):
        journal.spend(day, spent_bytes)
    with closing(SqliteJournal(folder)) as reader:
        assert [reader.spent_bytes(day) for day in (4, 5, 6)] == [0, 1 << 40, 7]


def test_the_days_that_were_noted_last_are_remembered(journal: SqliteJournal) -> None:
    """Thirty of them, however far a clock has jumped: a present day never gives way to it."""
    journal.spend(30_000, 1)
    for day in range(100):
        journal.spend(day, 2)
        journal.spend(50, 3)
    known = [day for day in (30_000, *range(100)) if journal.spent_bytes(day)]
    assert known == [50, *range(71, 100)]


def test_a_budget_that_makes_no_sense_is_an_error(journal: SqliteJournal, folder: str) -> None:
    """In one sentence: that nothing was spent would be a guess."""
    journal.spend(5, 1)
    with closing(raw(folder)) as db:
        db.execute("UPDATE budgets SET spent_bytes = 'many'")
    with pytest.raises(JournalError, match="a budget makes no sense"):
        journal.spent_bytes(5)


def refused(number: int, **more: object) -> Offer:
    """Return an offer of version *number*."""
    return replace(Offer(replace(FIRMWARE, version=str(number)), "https://x.test/f"), **more)


def payloads(journal: SqliteJournal) -> list[bytes]:
    """Return what is owed, in its order."""
    return [row.payload for row in journal.owed()]


def test_a_refusal_is_owed_once_at_a_time_and_in_its_place(journal: SqliteJournal) -> None:
    """After what was owed before it; for each task its own; again once it was delivered."""
    journal.owe("b", b"b is burning")
    journal.owe_refusal(refused(1), b"1 is refused")
    journal.owe_refusal(refused(1), b"1 is refused, for another reason")
    journal.owe_refusal(refused(1, task_id=7), b"1 of task 7 is refused")
    journal.save(GOOD, "good", report=b"done")
    wanted = [b"b is burning", b"1 is refused", b"1 of task 7 is refused", b"done"]
    assert payloads(journal) == wanted
    journal.settle(journal.owed()[1])
    assert payloads(journal) == [wanted[0], *wanted[2:]]
    journal.owe_refusal(refused(1), b"1 is refused again")
    assert payloads(journal) == [wanted[0], *wanted[2:], b"1 is refused again"]


def test_only_a_few_refusals_are_owed(journal: SqliteJournal, folder: str) -> None:
    """The oldest give way, burnings do not, and the file does not grow."""
    journal.owe("b", b"b is burning")
    for number in range(100):
        journal.owe_refusal(refused(number), b"%d" % number)
    assert payloads(journal) == [b"b is burning", *(b"%d" % number for number in range(92, 100))]
    for row in journal.owed():
        journal.settle(row)
    journal.owe_refusal(refused(100), b"100")
    with closing(raw(folder)) as db:
        assert db.execute("SELECT count(*) FROM owed_burnings").fetchone() == (2,)


def test_a_late_word_of_a_void_refusal_settles_nothing_else(journal: SqliteJournal) -> None:
    """The id of the refusal has come to the burning of the session that made it void."""
    journal.owe_refusal(refused(1), b"1 is refused")
    [refusal] = journal.owed()
    session = replace(SESSION, offer=refused(1))
    journal.save(session, "offer", void="B")
    journal.owe(session.id, b"1 is burning")
    journal.settle(refusal)
    assert payloads(journal) == [b"1 is burning"]


def test_a_refusal_is_void_while_its_offer_is_installed(journal: SqliteJournal) -> None:
    """Whatever its task is called; not if a person does it, nor for another kind of firmware."""
    offers = [refused(1), refused(1, task_id=7), refused(1, fw_type="modem"), refused(11)]
    for number, offer in enumerate(offers):
        journal.owe_refusal(offer, b"%d" % number)
    journal.save(replace(SESSION, offer=replace(offers[0], is_local=True)), "begun by a person")
    assert len(journal.owed()) == 4
    journal.save(replace(SESSION, offer=replace(offers[0], task_id=8)), "begun")
    assert payloads(journal) == [b"2", b"3"]


def test_a_failure_of_an_older_version_knows_no_cancel(journal: SqliteJournal, folder: str) -> None:
    """Its table has no place for it; the first row that needs one brings it."""
    with closing(raw(folder)) as db:
        db.execute(
            "CREATE TABLE failures (number INTEGER PRIMARY KEY, version TEXT NOT NULL, "
            "md5 TEXT NOT NULL, size_bytes INTEGER NOT NULL, count INTEGER NOT NULL, "
            "time_s REAL NOT NULL, is_undecided INTEGER NOT NULL, "
            "UNIQUE (version, md5, size_bytes))"
        )
        db.execute("INSERT INTO failures VALUES (1, '1', ?, 4096, 2, 5.5, 1)", ("0" * 32,))
    old = Failures(Firmware("1", "0" * 32, 4096), 2, 5.5, is_undecided=True)
    cancelled = Failures(FIRMWARE, 0, 7.5, is_cancelled=True)
    assert list(journal.failures()) == [old]
    journal.note(cancelled)
    assert list(journal.failures()) == [old, cancelled]
    with closing(raw(folder)) as db:  # as that version stores one
        db.execute(
            "INSERT INTO failures (version, md5, size_bytes, count, time_s, is_undecided) "
            "VALUES ('3', ?, 4096, 1, 9.5, 0)", ("0" * 32,)
        )  # fmt: skip
    assert not journal.failures()[-1].is_cancelled


def test_a_failure_that_makes_no_sense_is_an_error(journal: SqliteJournal, folder: str) -> None:
    """In one sentence, and nothing of it is used."""
    journal.note(Failures(FIRMWARE, 1, 0.0))
    with closing(raw(folder)) as db:
        db.execute("UPDATE failures SET count = 'many'")
    with pytest.raises(JournalError, match="a failure makes no sense"):
        journal.failures()

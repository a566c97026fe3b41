# SPDX-License-Identifier: MIT
"""The journal on real SQLite files: what it remembers, and through what."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fds import descriptors
from journalcases import FIRMWARE, GOOD, OFFER, RECORD, SESSION, raw

from updater.core.errors import JournalError, ResultCode
from updater.core.model import Failures, Firmware, OwedReport, Session, SlotRecord, State
from updater.edge import database
from updater.edge import journal as journal_module
from updater.edge.journal import FILE_NAME, SqliteJournal
from updater.lostjournal import LostJournal

REPO = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "data" / "updater")


@pytest.fixture
def journal(folder: str) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(folder, lambda: 1234.5)) as it:
        yield it


# --- what it remembers ---------------------------------------------------------------------------


def test_a_new_journal_knows_nothing(journal: SqliteJournal) -> None:
    """Every question has an answer before anything has happened."""
    assert journal.current() is None
    assert list(journal.owed()) == list(journal.history(10)) == []
    assert journal.record("A") is None


@pytest.mark.parametrize(
    "session",
    [
        SESSION,
        replace(SESSION, offer=replace(OFFER, task_id="words", fw_type=None)),
        replace(SESSION, offer=replace(OFFER, task_id=None, is_local=True)),
        replace(SESSION, state=State.TRIAL, baseline=("disk", 'quo"te')),
        replace(SESSION, state=State.ROLLING_BACK, code=ResultCode.LOCAL, reason="trial: ü"),
    ],
)
def test_a_session_comes_back_as_it_was(
    journal: SqliteJournal, folder: str, session: Session
) -> None:
    """Every field and its type, here and in the next process."""
    journal.save(session, "text")
    assert journal.current() == session
    with closing(SqliteJournal(folder)) as again:
        assert again.current() == session


def test_the_last_session_is_the_current_one(journal: SqliteJournal) -> None:
    """A session keeps its place however often it is saved; the newest one is current."""
    journal.save(SESSION, "first")
    journal.save(replace(SESSION, id="f" * 16), "second")
    journal.save(replace(GOOD, reason="late"), "first, again")
    current = journal.current()
    assert current is not None
    assert current.id == "f" * 16


@pytest.mark.parametrize("state", [State.GOOD, State.FAILED])
def test_the_url_ends_with_its_session(folder: str, state: State) -> None:
    """No byte of a signed URL is left in any file, while the journal is still open."""
    with closing(SqliteJournal(folder)) as journal:
        for turn in range(5):
            journal.save(SESSION, f"turn {turn}")
        assert any(b"very-secret" in path.read_bytes() for path in Path(folder).iterdir())
        journal.save(replace(SESSION, state=state), "ended")
        current = journal.current()
        assert current is not None
        assert current.offer == replace(OFFER, url="")
        assert not [p for p in Path(folder).iterdir() if b"very-secret" in p.read_bytes()]


def test_the_first_terminal_report_is_the_only_one(journal: SqliteJournal) -> None:
    """A session owes one report, whatever is said later, and also after it was delivered."""
    journal.save(GOOD, "good", report=b"done")
    journal.save(replace(SESSION, state=State.FAILED), "no, failed", report=b"fail")
    (owed,) = journal.owed()
    assert (owed.session_id, owed.payload) == (SESSION.id, b"done")
    journal.settle(owed)
    journal.settle(owed)
    assert not journal.owed()
    journal.save(GOOD, "again", report=b"again")
    assert not journal.owed()


def test_owed_reports_are_delivered_in_order(journal: SqliteJournal) -> None:
    """Oldest first, whatever was settled between."""
    for name in "abcd":
        journal.save(replace(GOOD, id=name), "good", report=name.encode())
    journal.settle(journal.owed()[1])
    assert [report.payload for report in journal.owed()] == [b"a", b"c", b"d"]


def test_records_follow_the_slots(journal: SqliteJournal) -> None:
    """A slot holds what was last recorded, and nothing once it is void."""
    journal.save(GOOD, "good", record=RECORD)
    assert journal.record("B") == RECORD
    newer = replace(RECORD, firmware=replace(FIRMWARE, version="3.0"), image_md5="2" * 32)
    journal.save(GOOD, "good", record=newer)
    journal.save(GOOD, "good", record=replace(RECORD, bootname="A"))
    assert (journal.record("B"), journal.record("A")) == (newer, replace(RECORD, bootname="A"))
    journal.save(SESSION, "offer", void="B")
    assert journal.record("B") is None
    journal.void("A")
    journal.void("A")
    assert journal.record("A") is None


def test_history_is_newest_first(journal: SqliteJournal) -> None:
    """Each save is a line: when, which session, which version, which state, what happened."""
    journal.save(SESSION, "offer")
    journal.save(GOOD, "kept")
    (newest,) = journal.history(1)
    assert (newest.time_s, newest.session_id) == (1234.5, SESSION.id)
    assert (newest.version, newest.state, newest.text) == ("2.0", "good", "kept")
    assert [entry.text for entry in journal.history(10)] == ["kept", "offer"]


def test_nothing_grows_for_ever(
    journal: SqliteJournal, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines, sessions and settled reports are dropped beyond the limit; what is owed is not."""
    monkeypatch.setattr(journal_module, "HISTORY_LIMIT", 10)
    journal.save(replace(GOOD, id="owed"), "never settled", report=b"owed")
    for turn in range(30):
        journal.save(replace(GOOD, id=str(turn)), f"turn {turn}", report=b"x")
        journal.settle(journal.owed()[-1])
        journal.owe(str(turn), b"y")
        journal.note(Failures(replace(FIRMWARE, version=str(turn)), 1, 0.0))
    assert [e.text for e in journal.history(99)] == [f"turn {n}" for n in range(29, 19, -1)]
    assert [report.payload for report in journal.owed()] == [b"owed"]
    tables = ("sessions", "owed_reports", "owed_burnings", "history", "failures")
    with closing(raw(folder)) as db:
        counts = [db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables]  # noqa: S608 - constants
    assert counts == [10, 11, 10, 10, 10]


# --- how it keeps it -----------------------------------------------------------------------------


def test_each_method_is_durable(journal: SqliteJournal) -> None:
    """A write-ahead log that is synced at each commit, and what is deleted is overwritten."""
    pragmas = ("journal_mode", "synchronous", "secure_delete")
    values = [journal._db.rows(f"PRAGMA {name}")[0][0] for name in pragmas]
    assert values == ["wal", 2, 1]


def test_nobody_else_can_read_it(folder: str) -> None:
    """Every file is 0600 under any umask, also where an older one was not; the folder is 0700."""
    previous = os.umask(0)
    try:
        for _ in range(2):
            with closing(SqliteJournal(folder)) as journal:
                journal.save(SESSION, "text")
                modes = {p.name: p.stat().st_mode & 0o777 for p in Path(folder).iterdir()}
            assert set(modes) == {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
            assert set(modes.values()) == {0o600}
            (Path(folder) / FILE_NAME).chmod(0o644)
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(previous)


CHILD = """
import sys
from dataclasses import replace
from journalcases import FIRMWARE, GOOD, RECORD, SESSION
from updater.edge.journal import SqliteJournal
journal = SqliteJournal(sys.argv[1])
number = 0
while True:
    number += 1
    text = str(number)
    session = replace(GOOD if number % 3 == 0 else SESSION, id=text, reason=text)
    record = replace(RECORD, firmware=replace(FIRMWARE, version=text))
    journal.save(session, text, report=text.encode(), record=record)
    print(text, flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02, 0.05])
def test_a_kill_loses_nothing_and_halves_nothing(folder: str, delay_s: float) -> None:
    """What save returned from is there after kill -9, and each save is there whole or not."""
    child = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, 'tests/edge')\n{CHILD}", folder],
        stdout=subprocess.PIPE,
        cwd=REPO,
        text=True,
    )
    assert child.stdout is not None
    with child, child.stdout:
        said = [child.stdout.readline()]
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    last_said = int([line for line in said if line.endswith("\n")][-1])
    with closing(SqliteJournal(folder)) as journal:
        session, record = journal.current(), journal.record("B")
        assert session is not None
        assert record is not None
        assert int(session.id) in {last_said, last_said + 1}
        texts = {session.reason, record.firmware.version, journal.history(1)[0].text}
        assert texts | {journal.owed()[-1].payload.decode()} == {session.id}
        assert len(journal.owed()) == int(session.id)


def test_an_agent_and_readers_share_it(journal: SqliteJournal, folder: str) -> None:
    """Opening, reading and closing beside a running agent changes nothing for it."""
    journal.save(SESSION, "one")
    with closing(SqliteJournal(folder)) as reader:
        assert reader.current() == SESSION
        journal.save(GOOD, "two", report=b"done")
        assert [entry.text for entry in reader.history(9)] == ["two", "one"]
    journal.settle(journal.owed()[0])
    with closing(SqliteJournal(folder)) as reader:
        assert not reader.owed()


def test_a_held_lock_is_an_error_in_time(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who never ends a transaction costs the wait and no more; reading goes on."""
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.05)
    with closing(SqliteJournal(folder)) as journal, closing(raw(folder)) as other:
        journal.save(SESSION, "one")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            journal.save(GOOD, "two")
        assert journal.current() == SESSION
        other.execute("ROLLBACK")
        journal.save(GOOD, "two")


def test_a_newer_schema_is_no_obstacle(folder: str) -> None:
    """Columns and tables that a newer version has added are kept, and in nobody's way."""
    with closing(SqliteJournal(folder)) as journal:
        journal.save(SESSION, "by the old one")
    with closing(raw(folder)) as db:
        db.execute("ALTER TABLE sessions ADD COLUMN signature TEXT NOT NULL DEFAULT 'none'")
        db.execute("ALTER TABLE slot_records ADD COLUMN sha256 TEXT")
        db.execute("ALTER TABLE history ADD COLUMN uptime_s REAL")
        db.execute("ALTER TABLE owed_reports ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0")
        db.execute("CREATE TABLE checkpoints (offset INTEGER)")
        db.execute("UPDATE sessions SET signature = 'theirs'")
        db.execute("PRAGMA user_version=7")
    with closing(SqliteJournal(folder)) as journal:
        assert journal.current() == SESSION
        journal.save(replace(SESSION, state=State.TRIAL), "trial", record=RECORD)
        journal.save(replace(GOOD, id="another"), "good", report=b"done")
        assert (journal.record("B"), len(journal.owed()), len(journal.history(9))) == (RECORD, 1, 3)
    with closing(raw(folder)) as db:
        signatures = [row[0] for row in db.execute("SELECT signature FROM sessions")]
        assert signatures == ["theirs", "none"]
        assert db.execute("PRAGMA user_version").fetchone() == (7,)


def test_an_older_file_gets_the_tables_that_it_lacks(folder: str) -> None:
    """Opening adds what is missing, also after a cut in the middle of the first opening."""
    with closing(SqliteJournal(folder)) as journal:
        journal.save(SESSION, "one")
    with closing(raw(folder)) as db:
        db.execute("DROP TABLE history")
        db.execute("DROP TABLE owed_reports")
    with closing(SqliteJournal(folder)) as journal:
        journal.save(GOOD, "two", report=b"done")
        assert (len(journal.history(9)), len(journal.owed())) == (1, 1)


def older(folder: str, statement: str) -> None:
    """Do what a version does that does not know what a slot holds but the firmware itself."""
    with closing(raw(folder)) as db:
        columns = "bootname TEXT PRIMARY KEY, version TEXT, md5 TEXT, size_bytes INTEGER"
        db.execute(f"CREATE TABLE IF NOT EXISTS slot_records ({columns})")
        db.execute(f"{statement} INTO slot_records (bootname, version, md5, size_bytes) "
                   "VALUES ('B', '1.0', 'aa', 5)")  # fmt: skip


def columns_of(folder: str) -> list[str]:
    """Return the columns of the slots' records."""
    with closing(raw(folder)) as db:
        return [row[1] for row in db.execute("PRAGMA table_info(slot_records)")]


OLD_RECORD = SlotRecord("B", Firmware("1.0", "aa", 5), "aa", 5)


def test_a_record_of_an_older_version_is_of_the_firmware_itself(folder: str) -> None:
    """Nothing was decoded then; and a start, which may be that of a trial, changes no table."""
    Path(folder).mkdir(parents=True)
    older(folder, "INSERT")
    with closing(SqliteJournal(folder)) as journal:
        assert journal.record("B") == OLD_RECORD
        journal.save(SESSION, "offer")
        assert columns_of(folder) == ["bootname", "version", "md5", "size_bytes"]
        with closing(SqliteJournal(folder)) as other:
            assert other.record("B") == OLD_RECORD
            journal.save(GOOD, "good", record=RECORD)
            assert other.record("B") == journal.record("B") == RECORD


def test_a_record_that_an_older_version_replaces_is_its_own(folder: str) -> None:
    """What this version knew of the image goes with the image."""
    with closing(SqliteJournal(folder)) as journal:
        journal.save(GOOD, "good", record=RECORD)
        older(folder, "INSERT OR REPLACE")
        assert journal.record("B") == OLD_RECORD


# --- no journal ----------------------------------------------------------------------------------


def test_a_lost_journal_begins_nothing() -> None:
    """It knows and owes nothing; whatever would have to be remembered is refused with the cause."""
    error = JournalError("journal /x: the medium is full")
    lost = LostJournal(error)
    assert (lost.current(), list(lost.owed()), lost.record("A")) == (None, [], None)
    for refused in (
        lambda: lost.save(SESSION, "text", report=b"x", record=RECORD, void="A"),
        lambda: lost.owe(SESSION.id, b"x"),
        lambda: lost.owe_refusal(SESSION.offer, b"x"),
        lambda: lost.settle(OwedReport(1, SESSION.id, b"x")),
        lambda: lost.note(Failures(FIRMWARE, 1, 0.0)),
        lost.forgive,
        lost.failures,
        lambda: lost.spent_bytes(1),
        lambda: lost.spend(1, 2),
        lambda: lost.void("A"),
        lambda: lost.history(1),
    ):
        with pytest.raises(JournalError) as caught:
            refused()
        assert caught.value is error
    lost.close()


def test_journals_leave_no_descriptors(folder: str) -> None:
    """Opened and closed, nothing is left open."""
    before = descriptors()
    for _ in range(20):
        with closing(SqliteJournal(folder)) as journal:
            journal.save(SESSION, "text")
    assert descriptors() == before

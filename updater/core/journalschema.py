# SPDX-License-Identifier: MIT
"""The journal's tables, as SQL.

Both slots' versions of this program share them, so they only ever grow: a reader names the columns
that it knows and ignores the others.
"""

SCHEMA = """
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

# Younger than the others: added with the first row that needs them, never at a start, which may be
# that of a trial. after_id: the last terminal report that was owed before this one. Refusals are
# among the burnings, in their order, under a key of their own: an older version tells them too.
YOUNGER = {
    "owed_burnings": "id INTEGER PRIMARY KEY, session_id TEXT NOT NULL UNIQUE, "
    "payload BLOB NOT NULL, after_id INTEGER NOT NULL, is_settled INTEGER NOT NULL DEFAULT 0",
    "failures": "number INTEGER PRIMARY KEY, version TEXT NOT NULL, md5 TEXT NOT NULL, "
    "size_bytes INTEGER NOT NULL, count INTEGER NOT NULL, time_s REAL NOT NULL, "
    "is_undecided INTEGER NOT NULL, UNIQUE (version, md5, size_bytes)",
    "budgets": "number INTEGER PRIMARY KEY, day INTEGER NOT NULL UNIQUE, "
    "spent_bytes INTEGER NOT NULL",
}

# Columns that are younger than their table: added with the first row that needs them, never at a
# start either. A version that does not know them leaves the defaults.
YOUNGER_COLUMNS = {
    "slot_records": {
        "image_md5": "TEXT NOT NULL DEFAULT ''",
        "image_size_bytes": "INTEGER NOT NULL DEFAULT 0",
    },
    "failures": {"is_cancelled": "INTEGER NOT NULL DEFAULT 0"},
}

# SPDX-License-Identifier: MIT
"""What people read, line by line."""

import inspect
from typing import Any

import pytest

from updater import texts
from updater.core import errors
from updater.core.errors import UpdaterError

STATUS: dict[str, Any] = {
    "board": "emulated",
    "version": "1.0.0",
    "slots": [
        {"bootname": "A", "device": "/dev/x1", "size_bytes": 9, "booted": True,
         "version": "1.0.0", "md5": "0" * 32},
        {"bootname": "B", "device": "/dev/x2", "size_bytes": 9, "booted": False,
         "version": None, "md5": None},
    ],
    "boot": {"primary": "A", "trial": False, "bootcount": 0, "session": ""},
    "session": None,
    "problems": [],
    "agent": True,
    "link": True,
}  # fmt: skip
SESSION = {"id": "5e55", "version": "2.0.0", "state": "installing", "reason": ""}
QUIET = """\
board emulated, version 1.0.0
slot A  booted  /dev/x1  version 1.0.0
slot B  target  /dev/x2  no verified image
boots next: slot A
agent runs, link up"""

WAITING = {
    "what": "install",
    "version": "2.0.0",
    "reason": "it has failed, or was cancelled (updater offers)",
    "until_s": None,
    "left_s": None,
    "is_asking": False,
}
SAID = {
    "trial": (
        {"boot": {"primary": "B", "trial": True, "bootcount": 2, "session": "5e55"}},
        "boots next: slot B, on trial (2 boots counted)",
    ),
    "no primary": (
        {"boot": {"primary": "", "trial": False, "bootcount": 0, "session": ""}},
        "boots next: slot (none set)",
    ),
    "session": ({"session": SESSION}, "session 5e55: version 2.0.0 installing"),
    "failed session": (
        {"session": {**SESSION, "state": "failed", "reason": "install: MD5 is 0"}},
        "session 5e55: version 2.0.0 failed: install: MD5 is 0",
    ),
    "kept": (
        {"waiting": {**WAITING, "left_s": 90}},
        "the install of version 2.0.0 waits: "
        "it has failed, or was cancelled (updater offers); for 90 s",
    ),
    "waiting": (
        {
            "waiting": {
                **WAITING,
                "what": "download",
                "reason": "spent",
                "until_s": 1e9,
                "left_s": 9,
            }
        },
        "the download of version 2.0.0 waits: spent; until Sun 2001-09-09 ",
    ),
    "waiting for nobody knows how long": (
        {"waiting": {**WAITING, "reason": "hook x: not now"}},
        "the install of version 2.0.0 waits: hook x: not now",
    ),
    "registering": (
        {"link": False, "registering": True},
        "agent runs, registering: this device has no secret yet",
    ),
    "link down": ({"link": False}, "agent runs, link down"),
    "no agent": ({"agent": False}, "no agent runs here; it is started by: updater run"),
    "problem": ({"problems": ["the disk is gone"]}, "problem: the disk is gone"),
    "no slots": ({"slots": None}, "to do: compare the slot table in board.toml with: lsblk"),
    "no environment": ({"boot": None}, "to do: compare fw_env.config with where U-Boot"),
}


def test_a_quiet_board_is_five_lines() -> None:
    """Board, slots, what boots next, the agent: nothing else is said if nothing else is."""
    assert texts.status_text(STATUS) == QUIET


@pytest.mark.parametrize(("change", "line"), SAID.values(), ids=SAID.keys())
def test_status_says(change: dict[str, object], line: str) -> None:
    """Each fact that is not as usual has a line of its own."""
    lines = texts.status_text({**STATUS, **change}).splitlines()
    assert [said for said in lines if said.startswith(line)]
    assert line not in QUIET


def test_a_problem_says_what_it_means() -> None:
    """A person learns that nothing is installed now and that nothing has stopped."""
    text = texts.status_text({**STATUS, "problems": ["x"]})
    assert text.endswith("until this is mended; what runs now keeps running")
    assert "mended" not in texts.status_text(STATUS)


def test_history_is_a_table_in_utc() -> None:
    """Time, version, state and text of each entry, a line each, in the order given."""
    entry = {"time_s": 0.5, "version": "2.0", "state": "good", "text": "slot B is good"}
    assert texts.history_text([entry, {**entry, "time_s": 86400}]) == (
        "1970-01-01 00:00:00  2.0  good  slot B is good\n"
        "1970-01-02 00:00:00  2.0  good  slot B is good"
    )
    assert texts.history_text([]) == "nothing has happened yet"


# --- advice --------------------------------------------------------------------------------------


CLASSES = [
    kind
    for _name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, UpdaterError)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_advice_is_one_short_line(kind: type[UpdaterError]) -> None:
    """Advice begins with what is safe and goes on with what to do."""
    error = kind.__new__(kind)
    for line in texts.advice(error):
        assert len(line) <= 98
        assert line.isascii()
        assert "\n" not in line
        assert not line.endswith(".")


def test_who_is_stuck_gets_advice() -> None:
    """Only what explains itself, or cannot end a command, has none."""
    without = {kind.__name__ for kind in CLASSES if not texts.advice(kind.__new__(kind))}
    assert without == {
        "UpdaterError", "UsageError", "LinkError", "OfferError", "HealthError",
        "IllegalEventError",
    }  # fmt: skip

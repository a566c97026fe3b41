# SPDX-License-Identifier: MIT
"""``updater offers``: by the running agent, or without one; as sentences, or as one object."""

import time
from collections.abc import Sequence
from contextlib import closing

import pytest
from sim.broker import broker
from sim.cloud import Cloud
from workshop import Workshop

from updater.core.model import Failures, Firmware
from updater.edge.journal import SqliteJournal
from updater.edge.lock import Lock

MD5 = "0123456789abcdef" * 2
ONCE = Failures(Firmware("2.0.0", MD5, 4096), 1, 0.0)
THRICE = Failures(Firmware("3.0.0", MD5, 4096), 3, 0.0)
OLD = Failures(Firmware("1.0.0", MD5, 4096), 2, 0.0)
DOUBTED = Failures(Firmware("4.0.0", MD5, 4096), 0, 0.0, is_undecided=True)


def fail(workshop: Workshop, known: Sequence[Failures], ago_s: float = 0.0) -> None:
    """Have the journal know failures, of some seconds ago."""
    with closing(SqliteJournal(str(workshop.folder / "state"))) as journal:
        for each in known:
            time_s = time.time() - ago_s
            journal.note(Failures(each.firmware, each.count, time_s, each.is_undecided))


def test_nothing_has_failed(workshop: Workshop) -> None:
    """One sentence, and an empty list."""
    assert workshop.run("offers").stdout == "no offer has failed\n"
    assert workshop.json("offers") == {"offers": []}
    assert workshop.run("offers", "clear").stdout == "forgotten: 0\n"


def test_each_line_says_what_follows(workshop: Workshop) -> None:
    """Identity, failures, and when or whether it is tried again; the latest last."""
    fail(workshop, [OLD], ago_s=1e6)
    fail(workshop, [THRICE, ONCE, DOUBTED])
    said = workshop.run("offers").stdout.splitlines()
    beginning = f"{MD5}  4096 bytes"
    assert said[0] == f"version 1.0.0  {beginning}  2 failures; taken again when it is offered"
    assert said[1] == (
        f"version 3.0.0  {beginning}  3 failures; refused until: updater offers clear"
    )
    assert said[2].startswith(f"version 2.0.0  {beginning}  1 failure; taken again in 3")
    assert said[3] == (
        f"version 4.0.0  {beginning}  0 failures, and one trial that perhaps only had no link; "
        "taken again when it is offered"
    )
    first, second, third, _ = workshop.json("offers")["offers"]
    assert (first["next_try_s"], second["next_try_s"]) == (0, None)
    assert 3500 < third["next_try_s"] <= 3600
    assert (second["refused"], third["refused"]) == (True, False)


def test_clear_forgets_all_of_it(workshop: Workshop) -> None:
    """Without an agent: in the journal."""
    fail(workshop, [THRICE, ONCE])
    assert workshop.json("offers", "clear") == {"cleared": 2}
    assert workshop.json("offers") == {"offers": []}


def test_clear_waits_for_nobody_who_writes(workshop: Workshop) -> None:
    """Whoever holds the lock and is no agent has to end first."""
    fail(workshop, [ONCE])
    with closing(Lock(str(workshop.lock))):
        assert workshop.run("offers", "clear").returncode == 5
        assert len(workshop.json("offers")["offers"]) == 1


@pytest.mark.parametrize("command", [["offers"], ["offers", "clear"]])
def test_without_a_journal_it_is_an_error(workshop: Workshop, command: list[str]) -> None:
    """An empty list would be a lie."""
    (workshop.folder / "state").write_text("a file, not a folder")
    done = workshop.run(*command)
    assert (done.returncode, done.stdout) == (20, "")


def test_the_running_agent_keeps_an_offer_and_begins_it_when_that_is_cleared(
    workshop: Workshop,
) -> None:
    """Status says that it waits and for how long; clear makes it go on at once."""
    fail(workshop, [ONCE])
    with broker() as port, Cloud(port) as cloud:
        config = workshop.config.read_text().replace("port = 1\n", f"port = {port}\n")
        workshop.config.write_text(config)
        with workshop.agent() as agent:
            cloud.wait_for_version("1.0.0")
            cloud.offer("2.0.0", "https://127.0.0.1/x?sign=secret", MD5, 4096)
            agent.wait_for_log("the next try is in 3")
            (listed,) = workshop.json("offers")["offers"]
            assert listed["kept"]
            assert "tried again in 3" in workshop.run("offers").stdout
            kept = workshop.json("status")["waiting"]
            assert (kept["what"], kept["version"]) == ("install", "2.0.0")
            assert 3500 < kept["left_s"] <= 3600
            told = "waits: it has failed, or was cancelled (updater offers); for 3"
            assert told in workshop.run("status").stdout
            assert cloud.messages[-1].type == "report_version"
            assert workshop.json("offers", "clear") == {"cleared": 1}
            assert cloud.wait_for_state("fail").version == "2.0.0"  # there are no slots here
            assert workshop.json("status")["waiting"] is None
            assert "secret" not in agent.log


def test_the_running_agent_refuses_what_has_failed_thrice(workshop: Workshop) -> None:
    """The cloud hears -5 and what to do about it; a cleared one is no longer refused for that."""
    fail(workshop, [THRICE])
    with broker() as port, Cloud(port) as cloud:
        config = workshop.config.read_text().replace("port = 1\n", f"port = {port}\n")
        workshop.config.write_text(config)
        with workshop.agent():
            cloud.wait_for_version("1.0.0")
            cloud.offer("3.0.0", "https://127.0.0.1/x", MD5, 4096)
            said = cloud.wait_for_state("fail")
            assert (said.code, said.version) == (-5, "3.0.0")
            assert "has failed 3 times" in said.reason
            assert workshop.run("offers", "clear").stdout == "forgotten: 1\n"
            since = cloud.mark()
            cloud.offer("3.0.0", "https://127.0.0.1/x", MD5, 4096)
            assert "has failed" not in cloud.wait_for_state("fail", since=since).reason

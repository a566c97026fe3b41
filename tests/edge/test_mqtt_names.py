# SPDX-License-Identifier: MIT
"""The MQTT link where the network, or the name server, is not what it should be.

Everything happens once, in a network namespace of its own whose name server ``nameless`` plays.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
HERE = Path(__file__).parent
ENTER = """
ip link set lo up
mount --bind resolv.conf "$(readlink -f /etc/resolv.conf)"
mount --bind nsswitch.conf /etc/nsswitch.conf
exec "$@"
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened, and how long the program took to end after that."""
    folder = tmp_path_factory.mktemp("nameless")
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:5\n")
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    command = ["unshare", "--mount", "--net", "sh", "-ec", ENTER, "sh"]
    command += [sys.executable, str(HERE / "nameless.py")]
    path = os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parent.parent)])
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        try:
            line = program.stdout.readline()
            said_s = time.monotonic()
            program.wait(30)
        finally:
            program.kill()
    assert program.returncode == 0
    return {**json.loads(line), "ended_s": time.monotonic() - said_s}


def test_a_name_server_that_is_silent_blocks_nobody(found: dict[str, Any]) -> None:
    """The loop turns on while the lookup hangs, and the broker is reached once there is an answer.

    Of its two addresses nobody listens at the first.
    """
    stalled = found["stalled"]
    assert stalled["took_s"] > 1.5
    assert stalled["turns"] > 10
    assert stalled["longest_s"] < 1


def test_a_lookup_has_a_limit_and_one_thread(found: dict[str, Any]) -> None:
    """After 60 s the attempt is over, the next one waits for the same thread, a later asks anew."""
    given_up = found["given up"]
    assert len(given_up["reasons"]) == 2
    for reason in given_up["reasons"]:
        assert "the name is not looked up within 60 s: check the device's network and" in reason
    assert given_up["threads"] == 1
    assert given_up["asked"] >= 1
    assert given_up["losses"] == 2  # an answer that came too late is none


def test_a_lookup_that_hangs_keeps_no_process_from_ending(found: dict[str, Any]) -> None:
    """The service stops at once, also while its name server is silent."""
    assert found["hanging"] == 3  # the program's own, its name server, the lookup
    assert found["ended_s"] < 3  # the resolver has five seconds to go


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no server", "to broker.test:1883: no name server answers: check the device's network"),
        ("no name", "to broker.test:1883: the name is not known: check cloud.host"),
        ("no route", "no route to it: check the device's network (Network is unreachable)"),
        ("unreachable", "no route to it: check the device's network (No route to host)"),
    ],
)
def test_each_end_has_its_sentence(found: dict[str, Any], case: str, words: str) -> None:
    """No name server, no such name, no network, no host."""
    assert found[case].startswith("cannot connect to ")
    assert words in found[case]


def test_a_host_that_can_be_none_is_a_reason_like_any_other(found: dict[str, Any]) -> None:
    """Whatever stands in the configuration as the host's name, the agent goes on."""
    assert len(found["no host"]) == 5
    for reason in found["no host"]:
        assert reason.startswith("cannot connect to ")


def test_a_plain_name_costs_no_idna(found: dict[str, Any]) -> None:
    """What Python imports for names beyond ASCII, 300 KiB, stays out until such a name comes."""
    assert found["idna"] is False

# SPDX-License-Identifier: MIT
"""``updater run`` as a process, with a real broker, the cloud in small, and whoever calls it."""

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import varlink
from sim.broker import broker, free_port
from sim.cloud import Cloud
from workshop import Agent, Workshop, environment, run

from updater.core.errors import ResultCode
from updater.edge.journal import FILE_NAME, SqliteJournal

IDLE_KIB = 16 * 1024
URL = "https://127.0.0.1/firmware?sign=secret"
MD5 = "0" * 32


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A machine without slots, whose broker is not there."""
    return Workshop(tmp_path, port=free_port())


@pytest.fixture
def agent(workshop: Workshop) -> Iterator[Agent]:
    """An agent that listens."""
    with workshop.agent() as running:
        running.wait_for_control()
        yield running


# --- its life ------------------------------------------------------------------------------------


def test_it_reports_its_version_and_ends_orderly(tmp_path: Path) -> None:
    """It connects, reports, answers, and on SIGTERM says goodbye and leaves no socket behind."""
    with broker() as port, Cloud(port) as cloud:
        workshop = Workshop(tmp_path, port=port)
        with workshop.agent() as agent:
            cloud.wait_for_version("1.0.0")
            said = workshop.json("status")
            assert (said["agent"], said["link"], said["version"]) == (True, True, "1.0.0")
            assert "\nagent runs, link up\n" in workshop.run("status").stdout
            assert agent.end() == 0
            assert "SIGTERM: ending" in agent.log
            assert "Traceback" not in agent.log
        assert not workshop.control.exists()
        assert [message.version for message in cloud.messages] == ["1.0.0"]


def test_it_ends_orderly_on_ctrl_c(workshop: Workshop, agent: Agent) -> None:
    """SIGINT is an orderly end too."""
    assert agent.end(signal.SIGINT) == 0
    assert not workshop.control.exists()
    assert "Traceback" not in agent.log


# A log whose reader is slow: the signal comes while one of the agent's first lines is written.
INTERRUPTED_LOG = """
import os, signal, sys
from updater.cli import entry

class Log:
    is_busy = False
    def write(self, text):
        if Log.is_busy:
            raise RuntimeError("reentrant call")
        Log.is_busy = "nothing will be written" in text
        if Log.is_busy:
            os.kill(os.getpid(), signal.SIGTERM)
        Log.is_busy = False
        return sys.__stderr__.write(text)
    def flush(self):
        sys.__stderr__.flush()
    def isatty(self):
        return False

sys.stderr = Log()
entry()
"""


def test_a_signal_in_the_middle_of_a_line_of_the_log_ends_it(workshop: Workshop) -> None:
    """Nothing is written from where another line is being written, and no signal is lost by it."""
    command = workshop.command("run")
    command[1:3] = ["-c", INTERRUPTED_LOG]
    with Agent(workshop, command) as agent:
        assert agent.process.wait(20) == 0
    assert "SIGTERM: ending" in agent.log
    assert "Traceback" not in agent.log


def test_it_refuses_an_offer_and_goes_on(tmp_path: Path) -> None:
    """Without slots each offer ends in one fail of -5 that says why; the agent lives on."""
    with broker() as port, Cloud(port) as cloud:
        workshop = Workshop(tmp_path, port=port)
        with workshop.agent() as agent:
            cloud.wait_for_version("1.0.0")
            cloud.send(b"\xff{no message")
            for version in ("2.0.0", "3.0.0"):
                offer = {"version": version, "url": URL, "md5sum": MD5, "file_size": 1000}
                before = cloud.mark()
                cloud.send({"type": "update_firmware", **offer})
                said = cloud.wait_for_state("fail", since=before)
                assert (said.version, said.code) == (version, ResultCode.LOCAL)
                assert re.match(r"(this system|slot A)", said.reason)
            assert workshop.json("status")["link"] is True
            assert workshop.json("status")["session"] is None
            assert "secret" not in agent.log
            assert agent.end() == 0
        fails = [message for message in cloud.messages if message.state == "fail"]
        assert [message.version for message in fails] == ["2.0.0", "3.0.0"]


def test_it_runs_without_a_broker(workshop: Workshop, agent: Agent) -> None:
    """A link that is down is said, and keeps nobody from asking."""
    agent.wait_for_log("cannot connect to 127.0.0.1")
    assert workshop.json("status")["link"] is False
    assert "\nagent runs, link down\n" in workshop.run("status").stdout


def test_a_second_one_says_busy(workshop: Workshop, agent: Agent) -> None:
    """The second agent ends with exit code 5; the first still serves."""
    second = workshop.run("run")
    assert second.returncode == 5
    assert f"(process {agent.pid})" in second.stderr
    assert workshop.json("status")["agent"] is True


def test_a_killed_one_leaves_nothing_in_the_way(workshop: Workshop) -> None:
    """After kill -9 the lock is free and the next agent takes the socket over."""
    with workshop.agent() as agent:
        agent.wait_for_control()
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    assert workshop.control.is_socket()
    assert workshop.json("status")["agent"] is False
    with workshop.agent() as agent:
        agent.wait_for_log("cannot connect")
        assert workshop.json("status")["agent"] is True
        assert agent.end() == 0


def test_a_socket_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Exit code 7 and the path, if there can be no control socket."""
    workshop = Workshop(tmp_path)
    text = workshop.config.read_text().replace(str(workshop.control), "/dev/null/control")
    workshop.config.write_text(text)
    done = workshop.run("run")
    assert done.returncode == 7
    assert "updater: cannot listen at /dev/null/control: " in done.stderr


# --- what it costs -------------------------------------------------------------------------------


def certificate(folder: Path) -> None:
    """Make a certificate for 127.0.0.1, which is its own CA."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", folder / "key.pem", "-out", folder / "ca.pem", "-days", "2",
            "-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


@pytest.mark.parametrize("transport", ["plaintext", "TLS"])
def test_an_idle_agent_is_small_and_sleeps(tmp_path: Path, transport: str) -> None:
    """Private memory is 16 MiB at most, by TLS too (with one CA), and nothing wakes it up."""
    assert run([sys.executable, "-c", "import updater.cli, updater.service"]).returncode == 0
    extra, cloud = "allow_anonymous true", ""
    if transport == "TLS":
        certificate(tmp_path)
        extra += f"\ncertfile {tmp_path}/ca.pem\nkeyfile {tmp_path}/key.pem"
        cloud = f'ca_file = "{tmp_path}/ca.pem"'
    with broker(extra) as port:
        workshop = Workshop(tmp_path, port=port, cloud=cloud)
        if cloud:
            text = workshop.config.read_text()
            workshop.config.write_text(text.replace("allow_plaintext = true\n", "", 1))
        with workshop.agent() as agent:
            agent.wait_for_log("connected and subscribed")
            time.sleep(0.3)
            before = wakeups(agent)
            time.sleep(1.0)
            assert wakeups(agent) - before <= 1
            used = agent.memory_kib()
    print(f"idle, {transport}: {used} KiB")
    assert used["RssAnon"] <= IDLE_KIB


def wakeups(agent: Agent) -> int:
    """Return how often the agent has waited so far."""
    text = Path(f"/proc/{agent.pid}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


# paho-mqtt brings ssl, uuid, platform and itself, all of which stay; and urllib.request with http
# and email behind it, which ``service`` spares. pyudev brings ctypes, tempfile and shutil, and with
# them bz2, lzma and random.
NEEDLESS = {
    "asyncio", "concurrent", "difflib", "distutils", "doctest", "email", "ftplib", "html", "http",
    "multiprocessing", "optparse", "pdb", "pkg_resources", "pydoc", "queue", "setuptools",
    "smtplib", "socketserver", "sysconfig", "tkinter", "unittest", "urllib.error", "urllib.request",
    "urllib.response", "xml", "xmlrpc", "zipfile",
}  # fmt: skip


def imported(*arguments: str) -> set[str]:
    """Return what a Python that runs with *arguments* has imported until it ended."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), cwd="/", check=False, timeout=30
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


def test_the_agent_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """From start to end the agent has imported none of the modules that cost and do nothing."""
    with broker() as port, Cloud(port) as cloud:
        workshop = Workshop(tmp_path, port=port)
        command = workshop.command("run")
        command[1:1] = ["-X", "importtime"]
        with Agent(workshop, command) as agent:
            cloud.wait_for_version("1.0.0")
            workshop.json("status")
            assert agent.end() == 0
            lines = [line for line in agent.log.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines}
    assert {"paho.mqtt.client", "pyudev", "updater.service"} <= names
    assert not names & NEEDLESS


def test_looking_does_without_the_link(workshop: Workshop) -> None:
    """What a person calls is no agent: it imports neither paho nor TLS."""
    words = ["-m", "updater", "--config", str(workshop.config), "status"]
    names = imported(*words)
    assert "updater.device" in names
    assert not names & {"paho.mqtt.client", "ssl", *NEEDLESS}


def test_writing_in_a_workshop_does_without_the_device(tmp_path: Path) -> None:
    """Where no device is configured, nothing of its journal, slots or cloud is imported."""
    image = tmp_path / "image"
    image.write_bytes(b"firmware" * 4096)
    names = imported("-m", "updater", "write", str(image), "--to", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()
    needless = {"updater.agent", "sqlite3", "pyudev", "ctypes", "subprocess", "hmac", "socket"}
    assert "updater.edge.pipeline" in names
    assert not names & {"paho.mqtt.client", "ssl", *needless, *NEEDLESS}


# --- whoever calls -------------------------------------------------------------------------------


@pytest.mark.root
def test_varlink_speaks_with_it(workshop: Workshop, agent: Agent) -> None:
    """A foreign client of the protocol reads the interface, calls it, and hears its errors."""
    remember(workshop, 3, "told")
    with (
        varlink.Client.new_with_address(f"unix:{workshop.control}") as client,
        client.open("org.varlink.service") as service,
        client.open("org.updater.Control") as control,
    ):
        assert "org.updater.Control" in service.GetInfo()["interfaces"]
        assert control.GetStatus()["status"]["board"] == "workshop"
        assert [entry["text"] for entry in control.GetHistory(2)["entries"]] == ["told", "told"]
        assert len(control.GetHistory()["entries"]) == 3
        assert control.GetEnvironment()["variables"] == workshop.environment()
        with pytest.raises(varlink.VarlinkError) as caught:
            control.MarkGood()
        assert caught.value.error() == "org.updater.Control.Failed"
        said = caught.value.parameters()
        assert (said["kind"], said["exit_code"]) == ("SlotError", 19)
    assert agent.process.poll() is None


def ask(workshop: Workshop, method: str, parameters: object) -> dict[str, Any]:
    """Call a method with whatever parameters, and return the whole answer."""
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(10)
        sock.connect(str(workshop.control))
        message = {"method": f"org.updater.Control.{method}", "parameters": parameters}
        sock.sendall(json.dumps(message).encode() + b"\0")
        got = b""
        while not got.endswith(b"\0"):
            chunk = sock.recv(1 << 16)
            assert chunk, f"the connection ended after {len(got)} bytes"
            got += chunk
    answer: dict[str, Any] = json.loads(got[:-1])
    return answer


OFFER = {"source": URL, "version": "2", "md5": MD5, "size_bytes": 5}
HOSTILE = {
    "no such method": ("Explode", {}, "UsageError"),
    "a private name": ("__class__", {}, "UsageError"),
    "limit of none": ("GetHistory", {"limit": 0}, "UsageError"),
    "limit too high": ("GetHistory", {"limit": 501}, "UsageError"),
    "limit of truth": ("GetHistory", {"limit": True}, "UsageError"),
    "limit in words": ("GetHistory", {"limit": "5"}, "UsageError"),
    "nothing to install": ("Install", {}, "UsageError"),
    "source in pieces": ("Install", {**OFFER, "source": ["a"]}, "UsageError"),
    "source of half a letter": ("Install", {**OFFER, "source": "/x\ud800"}, "UsageError"),
    "source with a zero": ("Install", {**OFFER, "source": "/x\0y"}, "UsageError"),
    "source without end": ("Install", {**OFFER, "source": "/" * 5000}, "UsageError"),
    "relative source": ("Install", {**OFFER, "source": "x"}, "UsageError"),
    "odd version": ("Install", {**OFFER, "version": "../x"}, "OfferError"),
    "odd md5": ("Install", {**OFFER, "md5": 5}, "OfferError"),
    "odd size": ("Install", {**OFFER, "size_bytes": 1.5}, "OfferError"),
    "no slots": ("Install", OFFER, "SlotError"),
    "reason in numbers": ("Cancel", {"reason": 5}, "UsageError"),
    "reason without end": ("Cancel", {"reason": "x" * 101}, "UsageError"),
    "reason for a terminal": ("Cancel", {"reason": "\x1b[2J"}, "UsageError"),
    "nothing to cancel": ("Cancel", {"reason": None}, "WrongStateError"),
}


def test_no_parameter_breaks_it(workshop: Workshop, agent: Agent) -> None:
    """Whatever a caller says is answered with a sentence, and the agent lives on."""
    for name, (method, parameters, kind) in HOSTILE.items():
        answer = ask(workshop, method, parameters)
        assert answer["error"] == "org.updater.Control.Failed", name
        assert answer["parameters"]["kind"] == kind, name
        assert answer["parameters"]["message"], name
    assert workshop.json("status")["agent"] is True
    assert "Traceback" not in agent.log


def remember(workshop: Workshop, lines: int, text: str) -> None:
    """Write lines of history, in one transaction."""
    folder = workshop.folder / "state"
    SqliteJournal(str(folder)).close()
    with closing(sqlite3.connect(folder / FILE_NAME)) as db, db:
        db.executemany(
            "INSERT INTO history (time_s, session_id, version, state, text) VALUES (?, ?, ?, ?, ?)",
            [(1.0, "5e55", "9.9", "failed", text)] * lines,
        )


def test_the_whole_history_fits_an_answer(workshop: Workshop, agent: Agent) -> None:
    """The longest history that may be asked for arrives complete, through the running agent."""
    remember(workshop, 500, "install: " + "x" * 120)
    assert len(workshop.json("history", "--limit", "500")["entries"]) == 500
    assert agent.process.poll() is None


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "code"),
    [("status", 0), ("history", 0), ("offers", 0), ("offers clear", 4), ("cancel", 4),
     ("mark-good", 4), ("rollback", 4)],
)  # fmt: skip
def test_others_may_look_and_not_touch(
    workshop: Workshop, agent: Agent, command: str, code: int
) -> None:
    """A user whom the socket's mode lets in reads; changing takes root or the agent's user."""
    workshop.control.chmod(0o666)
    workshop.user = 65534
    done = workshop.run(*command.split())
    assert done.returncode == code, done
    if code:
        assert "is for root or the agent's own user" in done.stderr
    assert agent.process.poll() is None

# SPDX-License-Identifier: MIT
"""The control socket over a real Unix socket: by our own client, by varlink's, and by vandals."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import varlink
from controldriver import STATUS, await_calls, connect, serving, settle, turn
from fds import descriptors

from updater.core import errors
from updater.core.errors import (
    BusyError,
    ControlError,
    EnvironmentStoreError,
    NotFoundError,
    NotPermittedError,
    SpaceError,
    UpdaterError,
)
from updater.core.ports import Call
from updater.edge import control as control_module
from updater.edge.control import ControlSocket, call


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "control")


@pytest.fixture
def control(path: str) -> Iterator[ControlSocket]:
    with closing(ControlSocket(path)) as it:
        yield it


# --- our own client ------------------------------------------------------------------------------


def test_a_call_is_answered(path: str) -> None:
    """Method and parameters arrive as sent, and so does the answer, whatever is in them."""
    seen = []

    def answer(each: Call) -> None:
        seen.append((each.method, each.parameters, each.is_privileged))
        each.reply({"session": "ü \0 \ud800", "list": [1, None, 2.5]})

    parameters = {"source": "https://host/?a=b", "size_bytes": 1 << 60, "none": None}
    with serving(path, answer):
        answered = call(path, "Install", parameters)
    assert answered == {"session": "ü \0 \ud800", "list": [1, None, 2.5]}
    assert seen == [("Install", parameters, True)]


ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UpdaterError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_comes_back_as_what_it_is(path: str, kind: type[UpdaterError]) -> None:
    """Class, sentence and exit code survive the way, for every error that there is."""
    error = kind.__new__(kind)
    error.args = ("it has 5 legs, 4 were expected",)
    with serving(path, lambda each: each.fail(error)), pytest.raises(UpdaterError) as caught:
        call(path, "MarkGood", {})
    assert type(caught.value) is kind
    assert str(caught.value) == "it has 5 legs, 4 were expected"
    assert caught.value.exit_code == kind.exit_code


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SpaceError(2, 1, "slot B"), "image needs 2 bytes, slot B holds 1"),
        (EnvironmentStoreError("no copy is valid", undecided=True), "no copy is valid"),
        (NotFoundError("no such object", 410), "no such object"),
    ],
)
def test_an_errors_sentence_is_said_once(path: str, error: UpdaterError, sentence: str) -> None:
    """An error with facts of its own says what it said there, and is not made anew from it."""
    with serving(path, lambda each: each.fail(error)), pytest.raises(type(error)) as caught:
        call(path, "Install", {})
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error": "org.updater.Control.Failed", "parameters": {"kind": "UpdaterErrors"}}\0',
        b'{"error": "org.updater.Control.Failed", "parameters": {"kind": "enum"}}\0',
        b'{"error": "org.updater.Control.Failed", "parameters": {"kind": "ResultCode"}}\0',
        b'{"error": "org.updater.Control.Failed", "parameters": [1]}\0',
        b'{"error": 7}\0', b"[]\0", b"\0", b"\xff\0", b"{", b"",
    ],
)  # fmt: skip
def test_an_agent_that_talks_nonsense_is_an_error(tmp_path: Path, answer: bytes) -> None:
    """Whatever listens there, the caller gets an error of ours and never another one."""
    path = str(tmp_path / "socket")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            peer, _address = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControlError):
            call(path, "GetStatus", {})
        thread.join()


def test_nobody_there_is_an_error(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket, a socket that a killed agent has left, an agent that is stuck: each is told."""
    with pytest.raises(ControlError, match="No such file"):
        call(path, "GetStatus", {})
    Path(path).parent.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(path)
    with pytest.raises(ControlError, match="refused") as caught:
        call(path, "GetStatus", {})
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    monkeypatch.setattr(control_module, "_CALL_TIMEOUT_S", 0.05)
    with closing(ControlSocket(path)), pytest.raises(ControlError, match="timed out"):
        call(path, "GetStatus", {})


def test_a_crowd_at_the_door_is_waited_for(control: ControlSocket, path: str) -> None:
    """Where more come at once than the kernel queues, our client waits for its turn."""
    queued = 0
    with suppress(BlockingIOError):
        while queued < 1000:
            with closing(socket.socket(socket.AF_UNIX)) as sock:  # gone, and still in the queue
                sock.setblocking(False)
                sock.connect(path)
                queued += 1
    assert queued < 1000
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(call(path, "GetStatus", {})))
    thread.start()
    time.sleep(0.1)
    for each in await_calls(control):
        each.reply({"ok": True})
    thread.join()
    assert answers == [{"ok": True}]


# --- an independent client -----------------------------------------------------------------------


def test_varlink_can_talk_to_it(path: str) -> None:
    """The reference client reads who we are, parses the interface, calls, and gets our error."""

    def answer(each: Call) -> None:
        if each.method == "GetHistory":
            limit = each.parameters["limit"]
            line = {"time_s": 1.5, "session": "s", "version": "2", "state": "good", "text": "t"}
            each.reply({"entries": [line] * int(str(limit))})
        elif each.method == "GetEnvironment":
            each.reply({"variables": {"boot_slot": "A"}})
        else:
            each.fail(BusyError("a session is open"))

    with serving(path, answer), varlink.Client.new_with_address(f"unix:{path}") as client:
        assert client.get_interfaces() == ["org.varlink.service", "org.updater.Control"]
        assert client.info["vendor"] == client.info["product"] == "updater"
        with client.open("org.updater.Control") as updater:
            assert len(updater.GetHistory(3)["entries"]) == 3
            assert updater.GetEnvironment() == {"variables": {"boot_slot": "A"}}
            with pytest.raises(varlink.VarlinkError) as caught:
                updater.Rollback()
            assert caught.value.error() == "org.updater.Control.Failed"
            assert caught.value.parameters() == {
                "kind": "BusyError", "message": "a session is open", "exit_code": 5,
            }  # fmt: skip


def test_the_interface_is_what_is_served(path: str) -> None:
    """What varlink's parser makes of the description names every method, with its types."""
    address = f"unix:{path}"
    with serving(path, lambda _: None), varlink.Client.new_with_address(address) as client:
        interface = client.get_interface("org.updater.Control")
    methods = {name for name, member in interface.members.items() if hasattr(member, "in_type")}
    assert interface.name == "org.updater.Control"
    assert methods == {
        "GetStatus", "GetHistory", "GetOffers", "ClearOffers", "GetEnvironment", "Install",
        "Activate", "Cancel", "MarkGood", "Rollback",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "parameters", "error"),
    [
        ("org.varlink.service.GetInterfaceDescription", {"interface": "a.b"}, "InvalidParameter"),
        ("org.varlink.service.GetInterfaceDescription", {"interface": 7}, "InvalidParameter"),
        ("org.varlink.service.Nonsense", {}, "MethodNotFound"),
        ("com.example.Other.Method", {}, "InterfaceNotFound"),
        ("nonsense", {}, "InterfaceNotFound"),
    ],
)
def test_what_is_not_there_is_told_in_varlinks_words(
    control: ControlSocket, path: str, method: str, parameters: dict[str, object], error: str
) -> None:
    """Questions about the service itself never reach the agent."""
    with connect(path) as sock:
        sock.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
        assert settle(control) == []
        answer = json.loads(sock.recv(4096).rstrip(b"\0"))
    assert answer["error"] == f"org.varlink.service.{error}"


def test_a_oneway_call_gets_no_answer(control: ControlSocket, path: str) -> None:
    """Who wants no answer gets none, and the next call's answer is the next call's."""
    with connect(path) as sock:
        sock.sendall(b'{"method": "org.updater.Control.MarkGood", "oneway": true}\0' + STATUS)
        first, second = settle(control)
        first.reply({"nobody": "hears"})
        second.reply({"number": 2})
        assert sock.recv(4096) == b'{"parameters": {"number": 2}}\0'


# --- who may -------------------------------------------------------------------------------------


def test_the_socket_is_for_owner_and_group(control: ControlSocket, path: str) -> None:
    """Mode 0660, whatever the umask, which is not changed for anybody else."""
    del control
    assert Path(path).stat().st_mode & 0o777 == 0o660
    previous = os.umask(0)
    try:
        with closing(ControlSocket(path + "2")):
            assert Path(path + "2").stat().st_mode & 0o777 == 0o660
            assert os.umask(0) == 0
    finally:
        os.umask(previous)


STRANGERS = """
import contextlib, os, socket, sys, time
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
socks = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[1]))]
for sock in socks:
    sock.connect("control")
with contextlib.suppress(OSError):  # sent away
    sock.sendall(sys.argv[2].encode() + b"\\0")
    print(sock.recv(200), flush=True)
time.sleep(60)
"""


@contextmanager
def strangers(path: str, number: int, message: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A process of another user, who is let at the socket *number* times and says *message*."""
    folder = Path(path).parent
    folder.chmod(0o711)
    Path(path).chmod(0o666)
    command = [sys.executable, "-c", STRANGERS, str(number), message]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.root
def test_the_kernel_says_who_calls(control: ControlSocket, path: str) -> None:
    """Another user's call is not privileged, whatever it claims; root's is."""
    claim = '{"method": "org.updater.Control.MarkGood", "parameters": {"uid": 0}, "uid": 0}'
    with strangers(path, 1, claim) as process:
        calls = await_calls(control)
        assert [each.is_privileged for each in calls] == [False]
        calls[0].fail(NotPermittedError("MarkGood is for root"))
        assert process.stdout is not None
        assert b"NotPermittedError" in process.stdout.readline()
    with connect(path) as sock:
        sock.sendall(STATUS)
        assert [each.is_privileged for each in settle(control)] == [True]


@pytest.mark.root
def test_those_who_look_cannot_crowd_out_root(control: ControlSocket, path: str) -> None:
    """With every place taken by another user, root's call is still answered."""
    with strangers(path, 24, "{}"):  # so that the queue has room for root
        deadline_s = time.monotonic() + 10
        while len(control.filenos()) <= 16:
            turn(control, 1)
            assert time.monotonic() < deadline_s
        with connect(path) as sock:
            sock.sendall(STATUS)
            calls = await_calls(control)
            assert [each.is_privileged for each in calls] == [True]
            calls[0].reply({"ok": True})
            assert sock.recv(100) == b'{"parameters": {"ok": true}}\0'
        assert len(control.filenos()) <= 17


# --- its place -----------------------------------------------------------------------------------


def test_an_old_socket_is_replaced(path: str) -> None:
    """What a killed agent has left is nobody's, and an orderly end leaves nothing."""
    Path(path).parent.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(path)
    with serving(path, lambda each: each.reply({"ok": True})):
        assert call(path, "GetStatus", {}) == {"ok": True}
    assert not Path(path).exists()


@pytest.mark.parametrize("name", ["x" * 120, "folder", "file/control"])
def test_a_place_that_is_none_is_an_error(tmp_path: Path, name: str) -> None:
    """Too long a path, a folder in its place, a file for a folder: told, and nothing stays open."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = descriptors()
    with pytest.raises(ControlError, match="cannot listen at"):
        ControlSocket(str(tmp_path / name))
    assert descriptors() == before


def test_the_end_closes_everything(path: str) -> None:
    """Callers see the end of their connection, and no descriptor is left."""
    before = descriptors()
    control = ControlSocket(path)
    with connect(path) as sock:
        settle(control)
        control.close()
        assert sock.recv(1) == b""
    assert descriptors() == before

# SPDX-License-Identifier: MIT
"""The control socket and callers who send garbage, send half, never read, or are too many."""

import json
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from controldriver import INFO, STATUS, connect, settle, turn
from fds import descriptors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from updater.edge.control import ControlSocket


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "control")


@pytest.fixture
def control(path: str) -> Iterator[ControlSocket]:
    with closing(ControlSocket(path)) as it:
        yield it


@pytest.mark.parametrize(
    "said",
    [
        b"x" * 70_000,
        b'{"method": "' + b"x" * 70_000 + b'"}\0',
        b"\0", b"\0\0\0", b"null\0", b"[]\0", b"{}\0", b'{"method": 7}\0', b"\xff\xfe\0",
        b'{"method": "a.b", "parameters": []}\0',
        b"[" * 60_000 + b"\0",
        b'{"method": ' + b"9" * 5000 + b"}\0",
        b"GET / HTTP/1.1\r\n\r\n\0",
        INFO * 1000,
    ],
)  # fmt: skip
def test_vandals_lose_their_connection_and_nothing_else(
    control: ControlSocket, path: str, said: bytes
) -> None:
    """Too long, no call, too many at once: that caller is gone, others are served."""
    with connect(path) as vandal, connect(path) as guest:
        vandal.settimeout(0.05)
        with suppress(OSError):
            for start in range(0, len(said), 16_384):
                vandal.sendall(said[start : start + 16_384])
                settle(control)
        assert settle(control) == []
        vandal.settimeout(5)
        with suppress(ConnectionResetError):
            assert vandal.recv(1) == b""
        guest.sendall(STATUS)
        assert [each.method for each in settle(control)] == ["GetStatus"]


def test_half_messages_wait_for_their_rest(control: ControlSocket, path: str) -> None:
    """A message may come byte by byte, and two may come at once."""
    with connect(path) as sock:
        for byte in STATUS[:-1]:
            sock.sendall(bytes([byte]))
            assert settle(control) == []
        sock.sendall(b"\0" + STATUS + STATUS[:7])
        assert [each.method for each in settle(control)] == ["GetStatus"] * 2
        sock.sendall(STATUS[7:])
        assert len(settle(control)) == 1


def test_who_goes_before_the_answer_harms_nobody(control: ControlSocket, path: str) -> None:
    """A late answer to a caller that has gone is dropped, also when its number is another's."""
    with connect(path) as sock:
        sock.sendall(STATUS)
        (late,) = settle(control)
    assert settle(control) == []
    with connect(path) as other:
        settle(control)
        late.reply({"for": "somebody else"})
        other.settimeout(0.05)
        with pytest.raises(TimeoutError):
            other.recv(1)


def test_who_does_not_read_is_let_go(control: ControlSocket, path: str) -> None:
    """Answers are sent at once or not at all: the agent waits for no reader."""
    with connect(path) as sock:
        sock.sendall(STATUS)
        (each,) = settle(control)
        began_s = time.monotonic()
        for _ in range(100):
            each.reply({"text": "x" * 100_000})
        assert time.monotonic() - began_s < 1
        settle(control)
        assert len(control.filenos()) == 1


def test_the_longest_history_fits_into_one_answer(control: ControlSocket, path: str) -> None:
    """500 lines go out whole to a caller that reads only afterwards."""
    line = {"time_s": 1.7e9, "session": "f" * 16, "version": "v" * 32, "state": "installing",
            "text": "t" * 500}  # fmt: skip
    with connect(path) as sock:
        sock.sendall(STATUS)
        (each,) = settle(control)
        each.reply({"entries": [line] * 500})
        got = b""
        while not got.endswith(b"\0"):
            piece = sock.recv(1 << 16)
            assert piece
            got += piece
    assert len(json.loads(got[:-1])["parameters"]["entries"]) == 500


def test_there_are_so_many_places_and_no_more(control: ControlSocket, path: str) -> None:
    """The 17th caller is sent away at once; a place that becomes free is given again."""
    before = descriptors()
    socks = []
    for _ in range(30):
        socks.append(connect(path))
        turn(control, 1)
    assert len(control.filenos()) == 17
    socks[16].settimeout(1)
    assert socks[16].recv(1) == b""
    socks[0].close()
    settle(control)
    with connect(path) as late:
        late.sendall(STATUS)
        assert len(settle(control)) == 1
    for sock in socks:
        sock.close()
    settle(control)
    assert descriptors() == before


def test_no_bytes_make_it_raise(control: ControlSocket, path: str) -> None:
    """Whatever a caller sends is a call or the end of its connection, never an exception."""

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=30),
                st.recursive(
                    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5)),
                    lambda inner: st.dictionaries(
                        st.sampled_from(["method", "parameters", "oneway"]) | st.text(max_size=3),
                        inner,
                    ),
                ).map(lambda value: json.dumps(value).encode() + b"\0"),
                st.just(STATUS),
                st.just(INFO),
            ),
            max_size=4,
        )
    )
    def whatever(said: list[bytes]) -> None:
        with connect(path) as sock:
            with suppress(OSError):
                for each in said:
                    sock.sendall(each)
            for _ in range(3):
                for each_call in turn(control):
                    assert each_call.method == "GetStatus"
                    each_call.reply({})

    whatever()
    settle(control)
    assert len(control.filenos()) == 1

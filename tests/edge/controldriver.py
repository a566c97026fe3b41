# SPDX-License-Identifier: MIT
"""Drives a control socket as the agent's loop does, and connects to it."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from updater.core.ports import Call
from updater.edge.control import ControlSocket

STATUS = b'{"method": "org.updater.Control.GetStatus"}\0'
INFO = b'{"method": "org.varlink.service.GetInfo"}\0'


def turn(control: ControlSocket, wait_s: float = 0.0) -> list[Call]:
    """One turn of the agent's loop."""
    poll = select.poll()
    for fileno in control.filenos():
        poll.register(fileno, select.POLLIN)
    calls = []
    for fileno, _events in poll.poll(wait_s * 1000):
        if fileno in control.filenos():
            calls += control.pump(fileno)
    return calls


def settle(control: ControlSocket) -> list[Call]:
    """Turn until nothing more happens."""
    calls = []
    while True:
        before = list(control.filenos())
        got = turn(control, 0.02)
        calls += got
        if not got and list(control.filenos()) == before:
            return calls


def await_calls(control: ControlSocket) -> list[Call]:
    """Turn until there are calls."""
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        calls = turn(control, 0.1)
        if calls:
            return calls
    raise AssertionError("nobody calls")


def connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(path)
    return sock


@contextmanager
def serving(path: str, answer: Callable[[Call], None]) -> Iterator[None]:
    """An agent in a thread, for clients that wait."""
    stop = threading.Event()
    with closing(ControlSocket(path)) as control:

        def loop() -> None:
            while not stop.is_set():
                for each in turn(control, 0.02):
                    answer(each)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

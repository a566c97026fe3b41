# SPDX-License-Identifier: MIT
"""A program for a network namespace of its own: links whose name server does what a test says.

Prints what happened as one line of JSON, and then ends while a lookup still hangs.
"""

import json
import select
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from linkdriver import driver
from sim.broker import RawBroker

from updater.core.link import Disconnected

_A = 1
_OURS = 2  # threads: the program's own, and its name server


class NameServer:
    """Answers on port 53: nothing until ``addresses`` are set; no such name if they are none."""

    def __init__(self) -> None:
        self.addresses: list[str] | None = None
        self.queries = 0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, asker = self._sock.recvfrom(512)
            self.queries += 1
            if self.addresses is not None:
                self._sock.sendto(self._answer(query, self.addresses), asker)

    @staticmethod
    def _answer(query: bytes, addresses: list[str]) -> bytes:
        question = query[12 : query.index(b"\0", 12) + 5]
        is_a = question[-3] == _A
        code = b"\x81\x80" if addresses else b"\x81\x83"
        records = [
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton(each)
            for each in addresses
            if is_a
        ]
        counts = b"\0\x01" + len(records).to_bytes(2, "big") + b"\0\0\0\0"
        return query[:2] + code + counts + question + b"".join(records)


def stalled(server: NameServer, raw: RawBroker) -> dict[str, Any]:
    """Turn the loop in real time while nobody answers, until the broker is reached."""
    longest_s, turns = 0.0, 0
    with driver(raw.port, host="broker.test") as it:
        link, began_s = it.link, time.monotonic()
        while it.clock.now_s < 1000 + 20 and not raw_is_called(raw):
            if time.monotonic() - began_s > 1.5:
                server.addresses = ["127.0.0.2", "127.0.0.1"]  # nobody listens at the first
            it.clock.now_s = 1000 + time.monotonic() - began_s
            poll = select.poll()
            fileno = link.fileno()
            if fileno is not None:
                poll.register(fileno, select.POLLIN | (select.POLLOUT * link.wants_write()))
            ready = poll.poll(20)
            before_s = time.monotonic()
            link.pump(readable=bool(ready), writable=bool(ready))
            longest_s = max(longest_s, time.monotonic() - before_s)
            turns += 1
        return {"longest_s": longest_s, "turns": turns, "took_s": time.monotonic() - began_s}


def raw_is_called(raw: RawBroker) -> bool:
    """Tell whether somebody has connected to *raw*."""
    return bool(select.select([raw._listener], [], [], 0)[0])


def given_up(server: NameServer, raw: RawBroker) -> dict[str, Any]:
    """Let the limit pass twice; then have an answer that is too late, and a new one."""
    wait_for_lookups()
    server.addresses = None
    before = threading.active_count()
    with driver(raw.port, host="broker.test") as it:
        assert not it.step(0.1)
        reasons = [lost(it.due())]
        assert not it.due()  # the next attempt begins
        threads = threading.active_count() - before
        reasons.append(lost(it.due()))
        server.addresses = []
        while threading.active_count() > before:
            time.sleep(0.01)
        server.addresses, asked = ["127.0.0.1"], server.queries
        while not raw_is_called(raw):
            it.step()
        losses = sum(isinstance(event, Disconnected) for event in it.seen)
        asked = server.queries - asked
        return {"reasons": reasons, "threads": threads, "asked": asked, "losses": losses}


def wait_for_lookups() -> None:
    """Wait until none is left: one whose answer was taken may not have ended yet."""
    while threading.active_count() > _OURS:
        time.sleep(0.01)


def lost(events: list[Any]) -> str:
    """Return why the link was lost."""
    [event] = events
    assert isinstance(event, Disconnected)
    return event.reason


def reason(host: str) -> str:
    """Return why *host* cannot be reached."""
    with driver(1883, host=host) as it:
        return it.until(Disconnected).reason


def main() -> None:
    """Run everything."""
    found: dict[str, Any] = {"no server": reason("broker.test")}
    found["no route"] = reason("203.0.113.9")
    subprocess.run(["ip", "route", "add", "unreachable", "203.0.113.0/24"], check=True)
    found["unreachable"] = reason("203.0.113.9")
    server = NameServer()
    for name, case in (("stalled", stalled), ("given up", given_up)):
        with RawBroker() as raw:
            found[name] = case(server, raw)
    server.addresses = []
    found["no name"] = reason("broker.test")
    found["idna"] = "encodings.idna" in sys.modules
    found["no host"] = [reason(host) for host in ("x" * 64 + ".test", "", ".", "a\0b", "ü" * 70)]
    wait_for_lookups()
    server.addresses = None
    with driver(1883, host="other.test") as it:
        assert not it.step(0.05)
    found["hanging"] = threading.active_count()
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""Three network namespaces in a row, device, router and cloud, whose router loses what it is told.

What is lost is lost in silence, as behind a dead cell: nobody gets an error, and both kernels send
again by themselves. The namespaces live as long as the processes that hold them, which die with us.
"""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from sim.way import BOTH, DOWN, UP

BROKER, WEB = "10.77.2.2", "10.77.2.3"  # both are the cloud's
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_NAMES = ("device", "router", "cloud")
_SETUP = {
    "router": """
        ip link set lo up
        ip link add name eth0 type veth peer name eth0 netns {device}
        ip link add name eth1 type veth peer name eth0 netns {cloud}
        ip address add 10.77.1.1/24 dev eth0
        ip address add 10.77.2.1/24 dev eth1
        ip link set eth0 up
        ip link set eth1 up
        echo 1 > /proc/sys/net/ipv4/ip_forward
    """,
    "device": """
        ip link set lo up
        ip address add 10.77.1.2/24 dev eth0
        ip link set eth0 up
        ip route add default via 10.77.1.1
    """,
    "cloud": """
        ip link set lo up
        ip address add {broker}/24 dev eth0
        ip address add {web}/24 dev eth0
        ip link set eth0 up
        ip route add default via 10.77.2.1
    """,
}
_RULES = {UP: f"to {BROKER} blackhole", DOWN: f"from {BROKER} blackhole"}


class Wire:
    """A context manager; what goes between device and broker can be stalled, what is the web's not.

    Attributes:
        stalled: The directions in which nothing gets through.
    """

    def __init__(self) -> None:
        self.stalled: frozenset[str] = frozenset()
        self._holders: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for name in _NAMES:
                self._holders[name] = stack.enter_context(_held())
            pids = {name: holder.pid for name, holder in self._holders.items()}
            for name, script in _SETUP.items():
                self._run(name, script.format(broker=BROKER, web=WEB, **pids))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def enter(self, name: str) -> Sequence[str]:
        """Return what stands before a command so that it runs in namespace *name*."""
        return ["nsenter", f"--net={self._path(name)}"]

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Have the sockets that this thread makes belong to namespace *name*."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _move(self._path(name))
            yield
        finally:
            _set(home)
            os.close(home)

    @contextmanager
    def stalling(self, directions: frozenset[str]) -> Iterator[None]:
        """Lose everything in *directions* for as long as the context lasts."""
        self._stall(directions)
        try:
            yield
        finally:
            self._stall(frozenset())

    def shut(self) -> None:
        """Let nobody through."""
        self._stall(BOTH)

    def open(self) -> None:
        """Let everybody through again."""
        self._stall(frozenset())

    def _stall(self, directions: frozenset[str]) -> None:
        changes = [f"ip rule del pref 100 {_RULES[each]}" for each in self.stalled - directions]
        changes += [f"ip rule add pref 100 {_RULES[each]}" for each in directions - self.stalled]
        self.stalled = directions
        self._run("router", "\n".join(changes))

    def _path(self, name: str) -> Path:
        return Path(f"/proc/{self._holders[name].pid}/ns/net")

    def _run(self, name: str, script: str) -> None:
        command = [*self.enter(name), "sh", "-ec", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, f"{script}: {done.stderr}"


@contextmanager
def _held() -> Iterator["subprocess.Popen[bytes]"]:
    """Hold a namespace of one's own."""
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
    with subprocess.Popen(command) as process:
        try:
            ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{process.pid}/ns/net")
            deadline_s = time.monotonic() + 10
            while theirs.readlink() == ours.readlink():
                assert time.monotonic() < deadline_s, "no namespace"
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def _move(path: Path) -> None:
    fileno = os.open(path, os.O_RDONLY)
    try:
        _set(fileno)
    finally:
        os.close(fileno)


def _set(fileno: int) -> None:
    if _LIBC.setns(fileno, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

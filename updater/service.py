# SPDX-License-Identifier: MIT
"""The agent as a service: its lock, its link, its control socket, one loop, and an orderly end."""

import logging
import select
import signal
import socket
import sys
import urllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from types import ModuleType
from typing import Self

from updater import activity
from updater.activity import Clock
from updater.agent import Agent
from updater.assembly import open_device
from updater.core.cloudconfig import CloudConfig
from updater.core.link import Link
from updater.desk import Desk
from updater.edge.control import ControlSocket
from updater.edge.lock import Lock
from updater.edge.secret import CredentialSource, warn_of_open_files
from updater.settings import read_settings

_log = logging.getLogger(__name__)


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Keep ``urllib.request``, and HTTP and e-mail with it, out of what is imported: 1.3 MiB.

    paho imports it to look for a proxy, and looks only if PySocks is installed. What stands in for
    it says that no host needs one.
    """
    name = "urllib.request"
    if name in sys.modules:
        yield
        return
    request = ModuleType(name)
    vars(request)["proxy_bypass"] = lambda _host: True
    sys.modules[name] = vars(urllib)["request"] = request
    try:
        yield
    finally:
        del sys.modules[name]


with _without_proxies():
    from updater.edge.mqtt import MqttLink


def serve(config_path: str) -> None:
    """Run the agent until it is told to end."""
    settings, board = read_settings(config_path)
    warn_of_open_files(settings)
    with ExitStack() as stack:
        stack.enter_context(closing(Lock(settings.state.lock)))
        device = stack.enter_context(open_device(settings, board))
        agent = stack.enter_context(closing(Agent(device, _link(settings.cloud, device.system))))
        ending = stack.enter_context(_Ending())  # whoever sees the socket may send a signal
        control = ControlSocket(settings.state.control)
        desk = stack.enter_context(closing(Desk(control, agent)))
        agent.start()
        activities = [*agent.activities(), desk, ending]
        poller = activity.Poller(device.system)
        while not ending.number:
            activity.step(activities, device.system, poller)
        _log.info("%s: ending", signal.Signals(ending.number).name)


def _link(settings: CloudConfig, clock: Clock) -> Link:
    """Return the link; that of a device which can register does so before it connects."""
    link = MqttLink(settings, CredentialSource(settings))
    if not settings.product_secret_file:
        return link
    from updater.registering import RegisteringLink  # noqa: PLC0415 - few devices need it
    from updater.registrar import Registrar  # noqa: PLC0415

    return RegisteringLink(link, Registrar(settings), clock)


class _Ending:
    """SIGTERM and SIGINT as an activity: the signal wakes the loop through a socket pair.

    Its handler only takes note. It may run in the middle of a line that is being logged, where
    logging another one fails, and with it whatever had to be done after that.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal that came; 0: none
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked)
        return self

    def __exit__(self, *_exception: object) -> None:
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()

    def _asked(self, number: int, _frame: object) -> None:
        self.number = number

    def interests(self) -> Mapping[int, int]:
        """Wait for a signal."""
        return {self._reader.fileno(): select.POLLIN}

    def deadline_s(self) -> float:
        """Never by itself."""
        return activity.NEVER_S

    def wake(self, ready: Mapping[int, int]) -> None:
        """Empty the socket; the handler has run."""
        if ready:
            self._reader.recv(64)

# SPDX-License-Identifier: MIT
"""One device of many: the real agent, conversation and link, on a real socket, with a real login.

What would need a machine of its own is simulated by ``sim.world``: slots, boot environment,
journal, pipeline, health. Time is the machine's, except that a reset takes none.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from sim.clock import Clock
from sim.cloud import PRODUCT
from sim.settings import CONFIG, NEW
from sim.world import World

from updater.activity import NEVER_S
from updater.core import messages
from updater.core.cloudconfig import CloudConfig
from updater.core.credentials import Credentials
from updater.core.errors import OfferError
from updater.core.link import Connected, Disconnected, LinkEvent, Received
from updater.edge.mqtt import MqttLink
from updater.edge.secret import CredentialSource

ATTEMPT, CONNECTED, ANSWERED, LOST = "attempt", "connected", "answered", "lost"
URL = "https://firmware.test/new?sign=1"  # of what there is to be installed
Tell = Callable[[str], None]
_FIRST_SIMULATED = 1 << 20  # descriptors from here on are none of the kernel's


def device_name(number: int) -> str:
    """Return the name of a device, which is its user name too."""
    return f"device-{number:04}"


def settings(number: int, folder: Path, port: int, ca_file: str) -> CloudConfig:
    """Return how device *number* reaches the broker: by TLS if there is a *ca_file*."""
    name = device_name(number)
    return CloudConfig(
        host="127.0.0.1",
        port=port,
        product_id=PRODUCT,
        device_name=name,
        auth="password",
        username=name,
        password_file=str(folder / name),
        allow_plaintext=not ca_file,
        ca_file=ca_file,
    )


class RealClock(Clock):
    """The machine's time, and the descriptors that the poller has found ready."""

    def __init__(self, pace: float) -> None:
        """Let *pace* seconds pass in each second."""
        self.pace = pace
        self.ready: Mapping[int, int] = {}
        super().__init__()
        self._last = _FIRST_SIMULATED

    @property
    def now_s(self) -> float:
        """The time; to set it is to skip what lies between."""
        return time.monotonic() * self.pace + self._ahead_s

    @now_s.setter
    def now_s(self, value: float) -> None:
        self._ahead_s = value - time.monotonic() * self.pace

    def wait_s(self, until_s: float) -> float:
        """Return how many of the machine's seconds are left until *until_s*."""
        return max(until_s - self.now_s, 0.0) / self.pace

    def due_s(self, interests: Iterable[int]) -> float:
        """Return when the first of the simulated *interests* becomes readable."""
        times = self._readable_from_s
        return min((times[fileno] for fileno in interests if is_simulated(fileno)), default=NEVER_S)

    def __call__(self, interests: Mapping[int, int], until_s: float) -> Mapping[int, int]:
        """Return what is ready now: whoever turns the loop has waited already."""
        del until_s
        now_s = self.now_s
        simulated = filter(is_simulated, interests)
        found = {f: 1 for f in simulated if self._readable_from_s[f] <= now_s}
        return {f: events for f, events in self.ready.items() if f in interests} | found


def is_simulated(fileno: int) -> bool:
    """Tell whether the kernel does not know *fileno*."""
    return fileno >= _FIRST_SIMULATED


class ToldLink(MqttLink):
    """The real link; tells what happens on it."""

    def __init__(self, cloud: CloudConfig, clock: RealClock, tell: Tell) -> None:
        source = CredentialSource(cloud)

        def login() -> Credentials:
            tell(ATTEMPT)
            return source()

        super().__init__(cloud, login, clock.monotonic_s)
        self._tell = tell

    def pump(self, *, readable: bool, writable: bool) -> Iterable[LinkEvent]:
        """Do what the link does, and tell what it brings."""
        events = list(super().pump(readable=readable, writable=writable))
        for event in events:
            match event:
                case Connected():
                    self._tell(CONNECTED)
                case Disconnected():
                    self._tell(LOST)
                case Received(payload) if _is_answer(payload):
                    self._tell(ANSWERED)
        return events


def _is_answer(payload: bytes) -> bool:
    """Tell whether *payload* answers a report_version."""
    try:
        return isinstance(messages.parse_downlink(payload), messages.VersionResponse)
    except OfferError:
        return False


class FleetDevice(World):
    """A device; runs from its first turn on."""

    def __init__(self, cloud: CloudConfig, pace: float, tell: Tell) -> None:
        self.time = RealClock(pace)
        self._tell = tell
        super().__init__(replace(CONFIG, cloud=cloud), clock=self.time)
        self.web.serve(URL, NEW)

    def _link(self) -> MqttLink:
        return ToldLink(self.config.cloud, self.time, self._tell)

    def turn(self, ready: Mapping[int, int]) -> tuple[dict[int, int], float]:
        """Go one step on, *ready* being what its descriptors are ready for.

        Returns:
            Which descriptors of the kernel's it waits for, and in how many seconds it is to be
            turned though none is ready.
        """
        self.time.ready = ready
        self._go_on(NEVER_S)
        if not self.agent_runs:
            return {}, 0.0
        activities = self.agent.activities()
        interests = {f: events for each in activities for f, events in each.interests().items()}
        due_s = min(self.system.reboot_at_s, *(each.deadline_s() for each in activities))
        due_s = min(due_s, self.time.due_s(interests))
        kernel = {f: events for f, events in interests.items() if not is_simulated(f)}
        return kernel, NEVER_S if due_s == NEVER_S else self.time.wait_s(due_s)

    def switch_off(self) -> None:
        """End in good order."""
        self.end_agent()

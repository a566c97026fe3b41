# SPDX-License-Identifier: MIT
"""What can happen to the link: each kind does its worst and leaves everything in order again."""

import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from sim.cloud import DEVICE, PRODUCT, farewell
from sim.way import BOTH, DOWN, UP

from outages.site import IMPOSTOR_KEEP_ALIVE_S, KEEP_ALIVE_S, OTHER_PASSWORD, PASSWORD, Site

LONG_S = 2.2 * KEEP_ALIVE_S  # longer than it takes to notice
SLOW_BYTES_PER_S = 600.0


def nothing(site: Site) -> None:
    """Nothing at all: the cycle itself is in order."""
    del site


def restarted(site: Site) -> None:
    """The broker ends in good order and comes back."""
    site.stop_broker()
    site.wait(site.chance.uniform(0, 2))
    site.start_broker()


def crashed(site: Site) -> None:
    """The broker is killed and comes back."""
    site.stop_broker(signal.SIGKILL)
    site.wait(site.chance.uniform(0, 2))
    site.start_broker()


def paused(site: Site) -> None:
    """The broker stands still; its kernel does not."""
    site.broker.pause()
    site.wait(LONG_S + site.chance.uniform(0, 3))
    site.broker.resume()


def partitioned(site: Site) -> None:
    """Nothing passes, in either direction."""
    with site.way.stalling(BOTH):
        site.wait(LONG_S + site.chance.uniform(0, 3))


def deaf(site: Site) -> None:
    """The broker hears the device, and the device hears nothing."""
    with site.way.stalling(frozenset({DOWN})):
        site.wait(LONG_S + site.chance.uniform(0, 3))


def mute(site: Site) -> None:
    """The device hears the broker, and the broker hears nothing."""
    with site.way.stalling(frozenset({UP})):
        site.wait(LONG_S + site.chance.uniform(0, 3))


def hiccup(site: Site) -> None:
    """Nothing passes, but not for long enough that anybody notices."""
    with site.way.stalling(BOTH):
        site.wait(site.chance.uniform(0.2, 1.5))


def slow(site: Site) -> None:
    """Bytes trickle."""
    site.way.bytes_per_s = SLOW_BYTES_PER_S
    site.wait(site.chance.uniform(3, 6))
    site.way.bytes_per_s = None


def reset(site: Site) -> None:
    """The connection is reset, perhaps the next one too."""
    for _ in range(site.chance.randint(1, 2)):
        site.way.reset()
        site.wait(site.chance.uniform(0, 4))


@contextmanager
def stranger(site: Site, keep_alive_s: int) -> Iterator[paho.Client]:
    """Somebody else with the device's own client id and login, straight at the broker."""
    other = paho.Client(CallbackAPIVersion.VERSION2, client_id=PRODUCT + DEVICE)
    other.username_pw_set(DEVICE, PASSWORD)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    other.tls_set_context(context)
    other.connect("127.0.0.1", site.port, keep_alive_s)
    other.loop_start()
    try:
        yield other
    finally:
        farewell(other)


def cut(site: Site) -> None:
    """What the device says, or what it is answered, is lost with its connection, each time."""
    direction = site.chance.choice([UP, DOWN])
    for _ in range(site.chance.randint(1, 2)):
        with site.way.stalling(frozenset({direction})):
            site.wait_until(lambda: site.way.holds(direction), "a word")
            site.wait(site.chance.uniform(0, 0.2))
            site.way.reset()
            site.wait(0.1)


def kicked(site: Site) -> None:
    """A stranger connects, and leaves again."""
    with stranger(site, IMPOSTOR_KEEP_ALIVE_S):
        site.wait(site.chance.uniform(0.5, 2))


def refused(site: Site) -> None:
    """The broker knows another password for a while, and says so."""
    before = len(site.broker.lines)
    site.set_password(OTHER_PASSWORD)
    site.broker.reload()
    site.way.reset()
    try:
        site.wait_until(
            lambda: any("not authorised" in line.text for line in site.broker.lines[before:]),
            "a refusal",
        )
        site.wait(site.chance.uniform(0, 1))
    finally:
        site.set_password(PASSWORD)
        site.broker.reload()


def killed(site: Site) -> None:
    """The agent is killed, and started again."""
    for _ in range(site.chance.randint(1, 2)):
        site.kill()
        site.wait(site.chance.uniform(0, 0.5))
        site.start()
        site.wait(site.chance.uniform(0, 1.5))


def killed_while_partitioned(site: Site) -> None:
    """Nothing passes, and the agent is killed and started again meanwhile."""
    with site.way.stalling(BOTH):
        site.wait(site.chance.uniform(0.5, 3))
        site.kill()
        site.start()
        site.wait(LONG_S)


Kind = Callable[[Site], None]
KINDS: tuple[Kind, ...] = (
    nothing, restarted, crashed, paused, partitioned, deaf, mute, hiccup, slow, reset, cut, cut,
    kicked, refused, killed, killed_while_partitioned,
)  # fmt: skip
# what there is where no password is asked for
NAMELESS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind not in {kicked, refused})
# what there is between network namespaces, whose kernels notice nothing either
WIRED: tuple[Kind, ...] = (
    partitioned, deaf, mute, hiccup, paused, killed_while_partitioned, restarted, crashed,
)  # fmt: skip

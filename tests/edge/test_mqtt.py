# SPDX-License-Identifier: MIT
"""The MQTT link against mosquitto, and against a broker that is gone, silent, or reads nothing."""

import gc
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from linkdriver import REPORT, UPDATE, Clock, Driver, dialled, driver, handshake
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from sim.broker import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBLISH,
    SUBSCRIBE,
    RawBroker,
    broker,
    free_port,
    publish,
    suback,
)

from updater.core.cloudconfig import CloudConfig
from updater.core.link import Acknowledged, Connected, Disconnected, Received
from updater.edge import mqtt, mqttclient
from updater.edge.mqtt import MqttLink
from updater.edge.secret import CredentialSource
from updater.edge.stream import Stream


@contextmanager
def observer(port: int) -> Iterator[tuple[paho.Client, list[paho.MQTTMessage]]]:
    """Somebody else at the same broker, who hears what the device reports."""
    heard: list[paho.MQTTMessage] = []
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _c, _d, message: heard.append(message)
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.subscribe(REPORT, 1)
    client.loop_start()
    try:
        assert ready.wait(10)
        yield client, heard
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a mosquitto that lets everybody in."""
    with broker() as number:
        yield number


@pytest.fixture
def raw() -> Iterator[RawBroker]:
    with RawBroker() as it:
        yield it


def eventually(wanted: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline_s = time.monotonic() + 5
    while not wanted():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


# --- a good broker -------------------------------------------------------------------------------


def test_messages_flow_both_ways(port: int) -> None:
    """What is published arrives on the report topic, and an offer comes back as it was sent."""
    with observer(port) as (cloud, heard), driver(port) as link:
        assert not link.link.is_connected()
        link.until(Connected)
        assert link.link.is_connected()
        token = link.link.publish(b"important", 1)
        assert link.until(Acknowledged) == Acknowledged(token)
        link.link.publish(b"progress", 0)
        cloud.publish(UPDATE, b'{"type": "x"}', 0)
        assert link.until(Received) == Received(b'{"type": "x"}')
        eventually(lambda: len(heard) == 2)
    assert [(m.payload, m.qos, m.retain) for m in heard] == [
        (b"important", 1, False),
        (b"progress", 0, False),
    ]
    assert [type(event) for event in link.seen] == [Connected, Acknowledged, Received]


def test_hostile_payloads_pass_as_bytes(port: int) -> None:
    """The link judges no content: 20 KiB of anything arrive unchanged, and nothing is lost."""
    chance = random.Random(3)
    payloads = [chance.randbytes(size) for size in (20 * 1024, 0, 1, 16 * 1024)]
    with observer(port) as (cloud, _), driver(port) as link:
        link.until(Connected)
        for payload in payloads:
            cloud.publish(UPDATE, payload, 1)
        assert [link.until(Received).payload for _ in payloads] == payloads


def test_the_subscription_is_proven_before_connected(raw: RawBroker) -> None:
    """CONNACK alone is not enough: messages flow from SUBACK on."""
    with driver(raw.port) as link:
        dialled(raw, link)
        raw.hear()
        raw.say(CONNACK)
        assert not link.step()
        assert not link.step(0.1)
        assert not link.link.is_connected()
        kind, body = raw.hear()
        assert (kind, body[2:]) == (SUBSCRIBE, b"\0\x0f" + UPDATE.encode() + b"\1")
        raw.say(suback(body))
        assert link.step() == [Connected()]


@pytest.mark.parametrize(
    ("auth", "flags"),
    [("tencent", 0xC2), ("certificate", 0x82), ("psk", 0x82), ("password", 0xC2), ("none", 0x02)],
)
def test_connect_says_what_each_login_needs(
    raw: RawBroker, tmp_path: Path, auth: str, flags: int
) -> None:
    """Clean session, no will, and no password with certificate or PSK (PROTOCOL.md, 2.1-2.4)."""
    secret = tmp_path / "secret"
    secret.write_text("AAECAwQFBgcICQoLDA0ODw==")
    secret.chmod(0o600)
    settings = CloudConfig(
        host="127.0.0.1", port=raw.port, product_id="P", device_name="D", allow_plaintext=True,
        auth=auth, secret_file=str(secret), password_file=str(secret), username="u",
        keep_alive_s=300,
    )  # fmt: skip
    clock = Clock()
    with closing(MqttLink(settings, CredentialSource(settings), clock)) as link:
        dialled(raw, Driver(link, clock))
        kind, body = raw.hear()
    assert (kind, body[:14]) == (CONNECT, b"\0\4MQTT\4" + bytes([flags]) + b"\1\x2c\0\2PD")
    assert (b";12010126;" in body) == (auth in {"tencent", "certificate", "psk"})
    assert (b";hmacsha256" in body) == (auth == "tencent")


def test_goodbye_is_said(raw: RawBroker) -> None:
    """An orderly end sends DISCONNECT; a second one is harmless."""
    with driver(raw.port) as link:
        handshake(raw, link)
        link.link.close()
        assert raw.hear() == (DISCONNECT, b"")
        assert (link.link.fileno(), link.link.is_connected()) == (None, False)


# --- losses --------------------------------------------------------------------------------------


def test_the_link_comes_back_by_itself() -> None:
    """A broker that stops is noticed at once, and found again when it is back."""
    number = free_port()
    with driver(number) as link:
        with broker(port=number):
            link.until(Connected)
        assert link.until(Disconnected) == Disconnected("the broker has closed the connection")
        assert not link.link.is_connected()
        with broker(port=number):
            link.until(Connected)


def test_attempts_are_spread_and_grow_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is made at once, and each later pause is drawn anew, from 5 s to twice the last."""
    drawn: list[tuple[float, float]] = []
    monkeypatch.setattr(mqtt.random, "uniform", lambda low, high: drawn.append((low, high)) or high)
    with driver(free_port()) as link:
        times = []
        for _ in range(7):
            assert "nobody listens there: check cloud.port" in link.until(Disconnected).reason
            times.append(link.clock.now_s)
    assert times[0] == 1000
    pauses = [(low - now, high - now) for now, (low, high) in zip(times, drawn, strict=True)]
    assert pauses == [(5, each) for each in (10, 20, 40, 80, 120, 120, 120)]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [
        high for _low, high in pauses[:-1]
    ]


def test_nothing_of_an_old_connection_is_sent_again(raw: RawBroker) -> None:
    """What was not acknowledged is the journal's to repeat, and its token never comes true."""
    with driver(raw.port) as link:
        handshake(raw, link)
        old = [link.link.publish(b"unanswered", 1) for _ in range(30)]  # 20 are sent at once
        raw.hang_up()
        link.until(Disconnected)
        handshake(raw, link)
        link.step(0.1)
        assert raw.hears_nothing()
        raw.say(b"\x40\x02" + old[0].to_bytes(2, "big"))
        assert not link.step()


def test_a_lost_connection_leaves_nothing_behind(raw: RawBroker) -> None:
    """A device that has to reconnect for years needs no more memory for it."""

    def clients() -> int:
        gc.collect()
        return sum(type(each) in {mqttclient.Client, Stream} for each in gc.get_objects())

    before = clients()
    with driver(raw.port) as link:
        for _ in range(5):
            handshake(raw, link)
            raw.hang_up()
            link.until(Disconnected)
        assert clients() == before


def test_a_loss_while_publishing_is_told_in_the_next_turn(raw: RawBroker) -> None:
    """Whoever publishes twice into a link that breaks between is not punished for it."""
    with driver(raw.port) as link:
        handshake(raw, link)
        raw.hang_up(reset=True)
        tokens = [link.link.publish(b"x", 1) for _ in range(3)]
        assert link.link.next_deadline_s() <= link.clock.now_s
        assert link.until(Disconnected).reason == "the broker has closed the connection"
        handshake(raw, link)
        mid = link.link.publish(b"progress", 0)
        link.step(0.1)
        assert mid in tokens
    assert not [event for event in link.seen if isinstance(event, Acknowledged)]


@pytest.mark.parametrize("is_subscribing", [False, True])
def test_a_broker_that_never_answers_is_given_up(raw: RawBroker, is_subscribing: bool) -> None:
    """TCP alone, or CONNACK alone, is no link: after 20 s the next attempt follows."""
    with driver(raw.port) as link:
        dialled(raw, link)
        if is_subscribing:
            raw.say(CONNACK)
            link.step()
            link.step()
        assert link.link.next_deadline_s() == 1020.0
        assert link.due() == [Disconnected("no answer from the broker within 20 s")]
        assert link.link.fileno() is None


def test_a_broker_that_reads_nothing_blocks_nobody(raw: RawBroker) -> None:
    """What does not fit into the socket waits, and the link asks to be told when it does."""
    with driver(raw.port) as link:
        handshake(raw, link)
        began_s = time.monotonic()
        for _ in range(1000):
            link.link.publish(bytes(20_000), 0)
        assert link.link.wants_write()
        assert time.monotonic() - began_s < 1
        assert raw.hear()[0] == PUBLISH


# --- keep-alive ----------------------------------------------------------------------------------


def puback(token: int) -> bytes:
    """Return the PUBACK of what was published as *token*."""
    return b"\x40\x02" + token.to_bytes(2, "big")


@pytest.fixture
def alive(raw: RawBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """A link of 120 s keep-alive, whose paho lives by the test's clock too."""
    with driver(raw.port, keep_alive_s=120) as link:
        monkeypatch.setattr(paho, "time_func", link.clock)
        handshake(raw, link)
        yield link


def test_an_idle_link_pings(raw: RawBroker, alive: Driver) -> None:
    """One ping for each keep-alive, and no other wake-up, for as long as the broker answers."""
    for turn in range(1, 5):
        assert not alive.due()
        assert alive.clock.now_s == pytest.approx(1000 + turn * 120, abs=turn)
        assert raw.hear() == (PINGREQ, b"")
        raw.say(PINGRESP)
        assert not alive.step()
    assert raw.hears_nothing()


@pytest.mark.parametrize("qos", [0, 1])
def test_what_the_broker_says_postpones_no_ping(raw: RawBroker, alive: Driver, qos: int) -> None:
    """The broker counts our silence, not its own: after a keep-alive without a word of ours."""
    alive.clock.now_s += 100
    raw.say(publish(UPDATE.encode(), b"{}", qos))
    assert alive.step() == [Received(b"{}")]
    if qos:
        assert raw.hear() == (0x40, b"\0\1")
    alive.due()
    assert alive.clock.now_s == pytest.approx(1220 if qos else 1120, abs=1)
    assert raw.hear() == (PINGREQ, b"")


def test_what_we_say_postpones_no_ping(raw: RawBroker, alive: Driver) -> None:
    """A broker that has gone without a word takes what is sent for a long time: it is asked."""
    alive.clock.now_s += 100
    alive.link.publish(b"progress", 0)
    assert raw.hear()[0] == PUBLISH
    alive.due()
    assert alive.clock.now_s == pytest.approx(1120, abs=1)
    assert raw.hear() == (PINGREQ, b"")


def test_a_silent_broker_is_noticed(raw: RawBroker, alive: Driver) -> None:
    """No answer to a ping within half a keep-alive ends the connection, as the broker would."""
    assert not alive.due()
    assert raw.hear() == (PINGREQ, b"")
    assert alive.due() == [Disconnected("the broker is silent")]
    assert alive.clock.now_s == pytest.approx(1180, abs=1)


@pytest.mark.parametrize("is_heard", [False, True])
def test_only_an_answer_shows_that_a_ping_has_arrived(
    raw: RawBroker, alive: Driver, is_heard: bool
) -> None:
    """An offer may come down a link that is dead upwards, and progress go up the other kind."""
    assert not alive.due()
    assert raw.hear() == (PINGREQ, b"")
    for _ in range(5):
        alive.clock.now_s += 10
        if is_heard:
            raw.say(publish(UPDATE.encode(), b"{}"))
            assert alive.step() == [Received(b"{}")]
        else:
            alive.link.publish(b"progress", 0)
    assert alive.due() == [Disconnected("the broker is silent")]
    assert alive.clock.now_s == pytest.approx(1180, abs=1)


def test_a_report_that_is_never_acknowledged_ends_the_connection(
    raw: RawBroker, alive: Driver
) -> None:
    """A broker that has lost a report and keeps the connection is given the next one after 60 s."""
    for payload in (b"lost", b"taken"):
        alive.link.publish(payload, 1)
        assert raw.hear()[0] == PUBLISH | 1 << 1  # QoS 1, nothing retained
        alive.clock.now_s += 20
    raw.say(puback(3))
    assert alive.step() == [Acknowledged(3)]
    assert alive.due() == [Disconnected("no answer from the broker within 60 s")]
    assert alive.clock.now_s == 1060


def test_a_report_that_is_acknowledged_is_waited_for_no_more(raw: RawBroker, alive: Driver) -> None:
    """Nothing is due before the ping, and the same PUBACK once more is none."""
    token = alive.link.publish(b"taken", 1)
    raw.hear()
    raw.say(puback(token) * 2)
    assert alive.take(Acknowledged, 1) == [Acknowledged(token)]
    assert not alive.due()
    assert alive.clock.now_s == pytest.approx(1120, abs=1)
    assert alive.take(Acknowledged, 1) == [Acknowledged(token)]

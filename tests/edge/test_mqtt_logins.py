# SPDX-License-Identifier: MIT
"""The MQTT link at brokers that know their devices, and where two devices are one to the broker."""

import itertools
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from linkdriver import REPORT, UPDATE, Driver, driver, handshake
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from sim.broker import CONNACK, RawBroker, broker

from updater.core.link import Acknowledged, Connected, Disconnected, Received

SECRET = "correct-horse"
ACL = """
user device
topic write $ota/report/P/D
topic read $ota/update/P/D
user cloud
topic readwrite $ota/#
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a mosquitto that knows one device, and lets it do nothing but its two topics."""
    folder = tmp_path_factory.mktemp("guarded")
    passwords = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "device", SECRET], check=True)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "cloud", "cloud"], check=True)
    (folder / "acl").write_text(ACL)
    extra = f"allow_anonymous false\npassword_file {passwords}\nacl_file {folder}/acl"
    with broker(extra) as number:
        yield number


@pytest.fixture
def raw() -> Iterator[RawBroker]:
    with RawBroker() as it:
        yield it


def test_a_known_device_gets_in(guarded: int) -> None:
    """User name and password, and rights to two topics: nothing else is needed of any broker."""
    heard: list[bytes] = []
    cloud = Client(CallbackAPIVersion.VERSION2)
    cloud.username_pw_set("cloud", "cloud")
    cloud.on_message = lambda _c, _d, message: heard.append(message.payload)
    cloud.connect("127.0.0.1", guarded)
    cloud.subscribe(REPORT, 1)
    cloud.loop_start()
    try:
        with driver(guarded, password=SECRET) as link:
            link.until(Connected)
            while not heard:  # it may not have subscribed yet
                link.link.publish(b"a report", 1)
                link.step(0.05)
            assert set(heard) == {b"a report"}
            assert link.take(Acknowledged, 1)
            cloud.publish(UPDATE, b"an offer")
            assert link.until(Received) == Received(b"an offer")
    finally:
        cloud.disconnect()
        cloud.loop_stop()


@pytest.mark.parametrize("password", ["wrong-" + SECRET, None])
def test_a_refused_login_says_what_to_check(guarded: int, password: str | None) -> None:
    """The reason is a sentence for people, names the suspects, and never the password."""
    with driver(guarded, password=password) as link:
        reason = link.until(Disconnected).reason
    assert reason == (
        "refused: not authorised: the device is unknown or disabled, or its secret is wrong"
    )
    assert SECRET not in reason


def test_a_refused_subscription_is_no_link(tmp_path: Path) -> None:
    """A broker that lets us in and not hear gives no ``Connected``, but a reason with the topic."""
    plugin = next(Path("/usr").glob("lib*/**/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("mosquitto's dynamic security plugin is not installed")
    state = tmp_path / "rules.json"
    state.write_text('{"defaultACLAccess": {"subscribe": false, "publishClientSend": true}}')
    extra = f"allow_anonymous true\nplugin {plugin}\nplugin_opt_config_file {state}"
    with broker(extra) as port, driver(port) as link:
        reason = link.until(Disconnected).reason
    assert reason.startswith(f"the broker refuses the subscription to {UPDATE}: check what ")
    assert Connected() not in link.seen


# --- two devices with one client id --------------------------------------------------------------


def is_settled(links: list[Driver]) -> bool:
    """Tell whether no attempt is under way, and the broker has made up its mind."""
    ups = [each.link.is_connected() for each in links]
    return not all(ups) and all(
        up or each.link.fileno() is None for up, each in zip(ups, links, strict=True)
    )


def turn(links: list[Driver], spans_s: list[list[float]]) -> None:
    """Let the two links live in one time: the one whose turn it is next moves it on."""
    next_s = min(each.link.next_deadline_s() for each in links)
    before = [each.link.is_connected() for each in links]
    for each in links:
        each.clock.now_s = max(each.clock.now_s, next_s)
        if each.link.fileno() is not None or each.link.next_deadline_s() <= next_s:
            each.step(0)
    deadline_s = time.monotonic() + 10
    while not is_settled(links):
        assert time.monotonic() < deadline_s
        for each in links:
            if each.link.fileno() is not None:
                each.step(0.01)
    for each, was_up, spans in zip(links, before, spans_s, strict=True):
        if each.link.is_connected() and not was_up:
            spans.append(each.clock.now_s)


def test_two_devices_with_one_client_id_are_told_and_do_not_fight_for_ever() -> None:
    """The broker ends the older connection (PROTOCOL.md, 2.1): both find out, and wait a minute."""
    with broker() as port, driver(port) as one, driver(port) as other:
        links, spans_s = [one, other], [[], []]
        while one.clock.now_s < 1000 + 1800:
            turn(links, spans_s)
    for link, spans in zip(links, spans_s, strict=True):
        reasons = [each.reason for each in link.seen if isinstance(each, Disconnected)]
        suspected = [reason for reason in reasons if "perhaps another device connects" in reason]
        assert reasons[:2] == ["the broker has closed the connection"] * 2
        assert len(suspected) >= len(reasons) - 3
        later = [at_s for at_s in spans if at_s > 1300]
        assert all(after - before >= 60 for before, after in itertools.pairwise(later))
        assert len(spans) < 30


def closed_after(raw: RawBroker, link: Driver, lasting_s: float) -> str:
    """Let *link* in, and end it after *lasting_s* seconds."""
    handshake(raw, link)
    link.clock.now_s += lasting_s
    raw.hang_up()
    return link.until(Disconnected).reason


def test_the_suspicion_ends_with_its_reason(raw: RawBroker) -> None:
    """Three short lives raise it; one that outlasts every pause of another device clears it."""
    with driver(raw.port, keep_alive_s=900) as link:
        plain = "the broker has closed the connection"
        assert [closed_after(raw, link, 50) for _ in range(2)] == [plain] * 2
        for _ in range(2):
            assert closed_after(raw, link, 50).startswith(plain + ", again shortly after it let us")
            assert 60 <= link.link.next_deadline_s() - link.clock.now_s <= 120
        assert closed_after(raw, link, 180) == plain
        assert closed_after(raw, link, 1) == plain


@pytest.mark.parametrize("said", [b"", CONNACK])
def test_a_broker_that_closes_before_all_stands_is_no_rival(raw: RawBroker, said: bytes) -> None:
    """Without CONNACK and SUBACK nobody has been let in, so nobody was thrown out."""
    with driver(raw.port) as link:
        for _ in range(5):
            assert not link.step()
            assert not link.step()
            raw.accept()
            raw.say(said)
            link.step(0.1)
            raw.hang_up()
            assert "another device" not in link.until(Disconnected).reason


def test_a_reset_counts_as_an_end_by_the_broker(raw: RawBroker) -> None:
    """A broker that has not read all that was sent resets instead of closing."""
    with driver(raw.port) as link:
        reasons = []
        for _ in range(3):
            handshake(raw, link)
            raw.hang_up(reset=True)
            reasons.append(link.until(Disconnected).reason)
        assert "perhaps another device" in reasons[-1]


def test_garbage_is_no_rival(raw: RawBroker) -> None:
    """A connection that we end for what the broker sends says so, however often."""
    with driver(raw.port) as link:
        for _ in range(5):
            handshake(raw, link)
            raw.say(b"\x00\x00")
            assert "no MQTT 3.1.1" in link.until(Disconnected).reason


def test_what_arrived_before_the_end_is_not_lost(raw: RawBroker) -> None:
    """Messages that came with the end are told before it."""
    with driver(raw.port) as link:
        handshake(raw, link)
        token: Any = link.link.publish(b"done", 1)
        raw.say(b"\x40\x02" + token.to_bytes(2, "big"))
        raw.hang_up()
        link.until(Disconnected)
        assert [type(each) for each in link.seen] == [Connected, Acknowledged, Disconnected]

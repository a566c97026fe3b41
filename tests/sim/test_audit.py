# SPDX-License-Identifier: MIT
"""The audit finds each violation, and none in a conversation that is as it should be."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sim.audit import Limits, violations
from sim.tap import REBOOT, Connect, Packet, parse, split
from updater.core import messages
from updater.core.errors import ResultCode
from updater.core.model import Firmware, Offer

OFFER = Offer(Firmware("2.0.0", "0" * 32, 4096), "https://h/f")
OTHER = Offer(Firmware("3.0.0", "0" * 32, 4096), "https://h/f")
REPORT, UPDATE = "$ota/report/PRODUCT001/board-1", "$ota/update/PRODUCT001/board-1"
WHO = Connect("MQTT", 4, True, False, 120, "PRODUCT001board-1", None, None)

Packets = list[Packet]
FAIL = messages.fail(OFFER, ResultCode.LOCAL, "no")


def up(payload: bytes, qos: int = 0, **more: object) -> Packet:
    packet = Packet(0.0, 1, True, "PUBLISH", topic=REPORT, payload=payload, qos=qos)
    return replace(packet, **more)


def sure(payload: bytes) -> Packets:
    """Return a message at QoS 1 with its PUBACK."""
    mid = hash(payload) & 0xFFFF
    return [up(payload, 1, mid=mid), Packet(0.0, 1, False, "PUBACK", mid=mid)]


def down(**body: object) -> Packet:
    raw = json.dumps(body).encode()
    return Packet(0.0, 1, False, "PUBLISH", topic=UPDATE, payload=raw)


def begin(connect: Connect = WHO) -> Packets:
    """Return CONNECT to SUBACK."""
    return [
        Packet(0.0, 1, True, "CONNECT", connect=connect),
        Packet(0.0, 1, True, "SUBSCRIBE", filters=((UPDATE, 1),)),
        Packet(0.0, 1, False, "SUBACK"),
    ]


def version(text: str) -> Packets:
    """Return a report of a version and what comes back."""
    return [*sure(messages.report_version(text)), down(type="report_version_rsp", result_code=0)]


OFFERED = down(type="update_firmware", version="2.0.0")
BEGUN = [*begin(), *version("1.0.0"), OFFERED]
BROUGHT = [up(messages.downloading(OFFER, percent)) for percent in (0, 47, 100)]
BURNING = sure(messages.burning(OFFER))
REBOOTED = [Packet(0.0, 1, True, REBOOT), *begin()]
DONE = sure(messages.done(OFFER))
GOOD = [*BEGUN, *BROUGHT, *BURNING, *REBOOTED, *BURNING, *DONE, *version("2.0.0")]


def timed(packets: Packets, pause_s: float = 1.2) -> Packets:
    """Let time pass between packets."""
    return [replace(packet, time_s=100 + number * pause_s) for number, packet in enumerate(packets)]


def changed(before: bytes, after: bytes) -> Packets:
    """Return the good conversation with other bytes in each message of the device."""
    return [
        replace(p, payload=p.payload.replace(before, after)) if p.is_uplink else p for p in GOOD
    ]


def every(**more: object) -> Packets:
    """Return the good conversation with each message of the device otherwise."""
    return [replace(p, **more) if p.is_uplink and p.kind == "PUBLISH" else p for p in GOOD]


def unacknowledged(packets: Packets) -> Packets:
    return [packet for packet in packets if packet.kind != "PUBACK"]


TABLE: dict[str, tuple[str, Packets]] = {
    "an older protocol": ("connect", begin(replace(WHO, protocol="MQIsdp", level=3))),
    "a will": ("connect", begin(replace(WHO, has_will=True))),
    "a keep-alive too long": ("connect", begin(replace(WHO, keep_alive_s=901))),
    "another's client id": ("connect", begin(replace(WHO, client_id="x"))),
    "connecting again at once": ("connect", [*begin(), *begin()]),
    "another topic's subscription": (
        "subscribe", [replace(p, filters=(("#", 1),) if p.filters else ()) for p in GOOD],
    ),
    "a word before SUBACK": ("subscribe", [p for p in GOOD if p.kind != "SUBACK"]),
    "another topic": ("publish", every(topic="$ota/report/x")),
    "retained": ("publish", every(is_retained=True)),
    "no JSON": ("form", [*BEGUN, up(b"{")]),
    "an unknown state": ("form", changed(b"burning", b"updating")),
    "a number for a string": ("form", changed(b'"percent": "47"', b'"percent": 47')),
    "per cent of what": ("form", changed(b'"percent": "47"', b'"percent": "047"')),
    "per cent of burning": ("form", changed(b'"burning"', b'"burning", "percent": "5"')),
    "a code of success in fail": ("form", [*BEGUN, *sure(FAIL.replace(b"-5", b"0"))]),
    "a long reason": ("form", [*BEGUN, *sure(FAIL.replace(b"no", b"n" * 129))]),
    "a version of spaces": ("form", changed(b"1.0.0", b"1 0")),
    "done at QoS 0": ("form", [*BEGUN, *BROUGHT, *BURNING, up(messages.done(OFFER), 0)]),
    "downloading at QoS 1": ("form", [*BEGUN, *sure(messages.downloading(OFFER, 0))]),
    "another version": ("versions", [*BEGUN, *sure(messages.burning(OTHER))]),
    "a task that was not sent": ("versions", changed(b'"2.0.0"}}', b'"2.0.0", "task_id": 1}}')),
    "a version at once again": ("rate", [*begin(), *version("1.0.0"), *version("1.0.0")]),
    "done twice": ("terminal", [*GOOD, *DONE]),
    "done twice without a PUBACK": ("terminal", unacknowledged([*GOOD[:-3], *DONE])),
    "fail after done": ("terminal", [*GOOD, *sure(FAIL)]),
    "fail after fail without PUBACK": (
        "terminal", unacknowledged([*BEGUN, *sure(FAIL), *sure(FAIL.replace(b"no", b"yes"))]),
    ),
    "a new version without done": ("done", [*BEGUN, *BROUGHT, *BURNING, *version("2.0.0")]),
    "a new version before PUBACK": ("done", unacknowledged(GOOD)),
    "less than before": ("order", [*BEGUN, *BROUGHT[:2], BROUGHT[0]]),
    "the same again": ("order", [*BEGUN, BROUGHT[0], BROUGHT[0]]),
    "not from zero": ("order", [*BEGUN, BROUGHT[1]]),
    "burning before the end": ("order", [*BEGUN, *BROUGHT[:2], *BURNING]),
    "done without burning": ("order", [*BEGUN, *BROUGHT, *DONE]),
}  # fmt: skip

FINE: dict[str, Packets] = {
    "the whole way": GOOD,
    "done again that had no PUBACK": [
        *BEGUN, *BROUGHT, *BURNING, DONE[0], *REBOOTED, *DONE, *version("2.0.0"),
    ],
    "a retry of what has failed": [
        *BEGUN, BROUGHT[0], *sure(FAIL), *version("1.0.0"), OFFERED, *BROUGHT, *sure(FAIL),
    ],
    "from the middle after a reboot": [*BEGUN, *BROUGHT[:2], *REBOOTED, *BROUGHT[1:], *BURNING],
}  # fmt: skip


@pytest.mark.parametrize("packets", FINE.values(), ids=FINE.keys())
def test_nothing_is_said_of_what_is_right(packets: Packets) -> None:
    """A conversation that keeps to the rules has no violations."""
    assert violations(timed(packets)) == []


@pytest.mark.parametrize(("rule", "packets"), TABLE.values(), ids=TABLE.keys())
def test_each_violation_is_found(rule: str, packets: Packets) -> None:
    """One thing that is wrong is told by the rule that it breaks."""
    assert rule in {text.partition(":")[0] for text in violations(timed(packets))}


def renewed(packets: Packets) -> Packets:
    """Return *packets* on a new connection."""
    return [replace(packet, connection=2) for packet in [*begin(), *packets]]


LOST: dict[str, Packets] = {
    "terminal": [*GOOD, *renewed(DONE)],  # its PUBACK
    "order": [*BEGUN, *BROUGHT[:2], *renewed(BURNING)],  # 100 per cent
}


@pytest.mark.parametrize(("rule", "packets"), LOST.items(), ids=LOST.keys())
def test_what_may_have_been_lost_is_excused_where_it_may(rule: str, packets: Packets) -> None:
    """Only a new connection explains it, and only on a link that loses."""
    slow = timed(packets, 6.0)
    assert violations(slow, Limits(is_lossy=True)) == []
    assert rule in {text.partition(":")[0] for text in violations(slow)}
    same = [replace(packet, connection=1) for packet in slow]
    told = violations(same, Limits(is_lossy=True))
    assert rule in {text.partition(":")[0] for text in told}


def test_another_end_is_never_excused() -> None:
    """A link may lose an end; it does not make up another one."""
    packets = timed([*GOOD, *renewed(sure(FAIL))], 6.0)
    assert any("terminal" in text for text in violations(packets, Limits(is_lossy=True)))


FLOODS: dict[str, Callable[[], Packets]] = {
    "publish": lambda: timed([*BEGUN, *BURNING * 25], 0.02),
    "pace": lambda: timed([*BEGUN, *BROUGHT[:2]], 0.2),
}


@pytest.mark.parametrize(("rule", "flood"), FLOODS.items(), ids=FLOODS.keys())
def test_too_fast_is_found(rule: str, flood: Callable[[], Packets]) -> None:
    """More than 20 messages in a second, or progress twice in one, is told."""
    assert rule in {text.partition(":")[0] for text in violations(flood())}


def test_the_tap_reads_what_is_written() -> None:
    """Bytes of each kind of packet become what they say, whole ones only."""
    connect = b"\x10\x1c\x00\x04MQTT\x04\xc2\x00\x78\x00\x02id\x00\x04user\x00\x06secret"
    assert split(connect[:-1]) is None
    found = split(connect + b"\xc0\x00")
    assert found is not None
    assert found[2] == b"\xc0\x00"
    packet = parse(found[0], found[1], 3, is_uplink=True)
    wanted = Connect("MQTT", 4, True, False, 120, "id", "user", "secret")
    assert (packet.kind, packet.connection, packet.connect) == ("CONNECT", 3, wanted)
    assert "secret" not in repr(packet)
    subscribe = parse(0x82, b"\x00\x05\x00\x01t\x01", 1, is_uplink=True)
    assert (subscribe.mid, subscribe.filters) == (5, (("t", 1),))
    published = parse(0x3B, b"\x00\x01t\x00\x09{}", 1, is_uplink=True)
    said = (published.topic, published.payload, published.qos, published.mid)
    assert said == ("t", b"{}", 1, 9)
    assert published.is_retained
    assert published.is_duplicate

# SPDX-License-Identifier: MIT
"""Finds what a device must not have said: the protocol's rules, over what a ``Tap`` has heard.

Each rule is a function from the packets to sentences, one for each violation; none knows how the
device is made. What the cloud's documents leave open is as docs/conformance.md has it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim.cloud import DEVICE, PRODUCT
from sim.tap import REBOOT, Packet

MAX_PAYLOAD_BYTES = 16 * 1024
MESSAGES_PER_S = 20
KEEP_ALIVE_S = range(901)

_QOS = {"report_version": {1}, "downloading": {0}, "burning": {0, 1}, "done": {1}, "fail": {1}}
_VERSION = re.compile(r"[A-Za-z0-9._-]{1,32}")
_MESSAGE = re.compile(r"[ -~]{0,128}")
_STATES = {"downloading", "burning", "done", "fail"}

_ANYWHERE, _NOWHERE, _COMPLETE, _BURNING, _END = -2, -1, 100, 101, 102  # beside per cent
_AFTER = {_BURNING: _COMPLETE, _END: _BURNING, **dict.fromkeys(range(1, 101), 0)}


@dataclass(frozen=True)
class Limits:
    """What the rules depend on.

    Attributes:
        minute_s: How long a minute of the cloud's is in this test.
        connect_interval_s: How far connections are apart, at least.
        product: Product id.
        device: Device name.
        slack_s: How much later one message may be heard than another; a busy machine's, at least.
        is_lossy: What was sent may have been lost with its connection, acknowledgements too.
    """

    minute_s: float = 60.0
    connect_interval_s: float = 5.0
    product: str = PRODUCT
    device: str = DEVICE
    slack_s: float = 0.5
    is_lossy: bool = False


LIMITS = Limits()


@dataclass(frozen=True)
class Said:
    """A message of the device that is JSON of a known shape."""

    packet: Packet
    word: str  # report_version, or the state of a report_progress
    report: Mapping[str, Any]

    @property
    def version(self) -> str:
        """The version that it speaks of."""
        return str(self.report["version"])

    @property
    def task(self) -> tuple[object, ...]:
        """What tells the task that it speaks of."""
        return _task(self.report)

    @property
    def is_terminal(self) -> bool:
        """True for done and fail."""
        return self.word in {"done", "fail"}


def violations(packets: Sequence[Packet], limits: Limits = LIMITS) -> list[str]:
    """Return a sentence for each violation in *packets*; none if the device kept to the rules."""
    return [
        f"{rule.__name__.lstrip('_')}: {text}" for rule in RULES for text in rule(packets, limits)
    ]


def said(packet: Packet) -> Said | None:
    """Return the message that *packet* carries up, if it has the shape of one."""
    if packet.kind != "PUBLISH" or not packet.is_uplink:
        return None
    try:
        body = json.loads(packet.payload)
        report = body["report"]
        word = body["type"]
        word = report["progress"]["state"] if word == "report_progress" else word
        report["version"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return Said(packet, str(word), report)


def offered(packet: Packet) -> Mapping[str, Any] | None:
    """Return the offer that *packet* carries down, if it is one."""
    if packet.kind != "PUBLISH" or packet.is_uplink:
        return None
    try:
        body = json.loads(packet.payload)
        return body if body["type"] == "update_firmware" and body["version"] else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _task(body: Mapping[str, Any]) -> tuple[object, ...]:
    return body["version"], body.get("task_id"), body.get("fw_type")


def _published(packets: Sequence[Packet]) -> Iterator[Packet]:
    return (packet for packet in packets if packet.is_uplink and packet.kind == "PUBLISH")


# --- the connection ------------------------------------------------------------------------------


def _connect(packets: Sequence[Packet], limits: Limits) -> Iterator[str]:
    """3.1.1 without a will, as itself, and at most once in five seconds."""
    pause_s = limits.connect_interval_s
    last_s = -pause_s
    for packet in packets:
        if packet.kind == REBOOT:
            last_s = -pause_s
        connect = packet.connect
        if connect is None:
            continue
        if (connect.protocol, connect.level) != ("MQTT", 4):
            yield f"{connect.protocol} level {connect.level}, not 3.1.1"
        if connect.has_will:
            yield "a will"
        if connect.keep_alive_s not in KEEP_ALIVE_S:
            yield f"keep-alive of {connect.keep_alive_s} s"
        if connect.client_id != limits.product + limits.device:
            yield f"client id {connect.client_id}"
        if packet.time_s - last_s < pause_s - limits.slack_s:
            yield f"again after {packet.time_s - last_s:.1f} s"
        last_s = packet.time_s


def _subscribe(packets: Sequence[Packet], limits: Limits) -> Iterator[str]:
    """To the one topic at QoS 1, and SUBACK before the first word."""
    wanted = ((f"$ota/update/{limits.product}/{limits.device}", 1),)
    heard: set[int] = set()
    for packet in packets:
        if packet.kind == "SUBSCRIBE" and packet.filters != wanted:
            yield f"{packet.filters}"
        if packet.kind == "SUBACK":
            heard.add(packet.connection)
        if packet.is_uplink and packet.kind == "PUBLISH" and packet.connection not in heard:
            yield "something is published before SUBACK"


def _publish(packets: Sequence[Packet], limits: Limits) -> Iterator[str]:
    """On the one topic, never retained, within the size, and not too many in a second."""
    topic = f"$ota/report/{limits.product}/{limits.device}"
    times_s: list[float] = []
    for packet in _published(packets):
        if packet.topic != topic:
            yield f"on {packet.topic}"
        if packet.is_retained:
            yield "retained"
        if len(packet.payload) > MAX_PAYLOAD_BYTES:
            yield f"{len(packet.payload)} bytes"
        times_s = [*(each for each in times_s if packet.time_s - each < 1.0), packet.time_s]
        if len(times_s) > MESSAGES_PER_S:
            yield f"{len(times_s)} messages in a second"


# --- one message ---------------------------------------------------------------------------------


def _form(packets: Sequence[Packet], _limits: Limits) -> Iterator[str]:
    """Keys, types and QoS of each message."""
    for packet in _published(packets):
        message = said(packet)
        if message is None or message.word not in _QOS:
            yield f"no message: {packet.payload!r}"
            continue
        if packet.qos not in _QOS[message.word] or (packet.is_duplicate and not packet.qos):
            yield f"{message.word} at QoS {packet.qos}"
        if not isinstance(message.report["version"], str) or not _VERSION.fullmatch(
            message.version
        ):
            yield f"version {message.report['version']!r}"
        if message.word != "report_version":
            yield from _progress_form(message)


def _progress_form(message: Said) -> Iterator[str]:
    progress = message.report["progress"]
    wanted = {"state", "result_code", "result_msg"}
    wanted |= {"percent"} if message.word == "downloading" else set()
    if set(progress) != wanted:
        yield f"{message.word} has {sorted(progress)}"
        return
    if not all(isinstance(value, str) for value in progress.values()):
        yield f"{message.word} has values that are no strings: {progress}"
        return
    codes = r"-[1-5]" if message.word == "fail" else r"0"
    if not re.fullmatch(codes, progress["result_code"]):
        yield f"{message.word} with code {progress['result_code']}"
    if not _MESSAGE.fullmatch(progress["result_msg"]):
        yield f"result_msg {progress['result_msg']!r}"
    if not re.fullmatch(r"\d|[1-9]\d|100", progress.get("percent", "0")):
        yield f"percent {progress['percent']!r}"


def _versions(packets: Sequence[Packet], _limits: Limits) -> Iterator[str]:
    """Progress names a task that was offered, with the keys that it had."""
    known: set[tuple[object, ...]] = set()
    for packet in packets:
        offer, message = offered(packet), said(packet)
        if offer is not None:
            known.add(_task(offer))
        if message is not None and message.word in _STATES and message.task not in known:
            yield f"{message.word} of {message.task}, which nobody has offered"


# --- the conversation ----------------------------------------------------------------------------


def _rate(packets: Sequence[Packet], limits: Limits) -> Iterator[str]:
    """A version is reported once a minute, or once a session ended, or if nobody answers."""
    last_s, is_answered, is_free = 0.0, False, True
    for packet in packets:
        message = said(packet)
        if packet.kind == REBOOT or (message is not None and message.is_terminal):
            is_free = True
        elif not packet.is_uplink and b"report_version_rsp" in packet.payload:
            is_answered = not limits.is_lossy  # else nobody knows
        elif message is not None and message.word == "report_version":
            pause_s = limits.minute_s * (1.0 if is_answered else 1 / 6)
            if not is_free and packet.time_s - last_s < pause_s - limits.slack_s:
                yield f"again after {packet.time_s - last_s:.1f} s"
            last_s, is_answered, is_free = packet.time_s, False, False


def _terminal(packets: Sequence[Packet], limits: Limits) -> Iterator[str]:
    """One done or fail for a session; the same again only if the first had no PUBACK.

    A new connection says it again, none says it twice. Nobody knows what the device has heard of a
    PUBACK that may have been lost.
    """
    ended: dict[tuple[object, ...], bytes] = {}
    last = 0  # connection that has said an end
    acknowledged: set[bytes] = set()
    flying: dict[tuple[int, int], bytes] = {}
    for packet in packets:
        offer, message = offered(packet), said(packet)
        if packet.kind == REBOOT:
            last = 0
        elif offer is not None and ended.get(_task(offer)) in acknowledged:
            acknowledged.discard(ended.pop(_task(offer)))
        elif packet.kind == "PUBACK" and not packet.is_uplink:
            acknowledged.add(flying.pop((packet.connection, packet.mid), b""))
        elif message is not None and message.is_terminal and not packet.is_duplicate:
            flying[packet.connection, packet.mid] = packet.payload
            before = ended.get(message.task)
            is_open = limits.is_lossy or before not in acknowledged
            is_again = before == packet.payload and is_open and packet.connection > last
            if before is not None and not is_again:
                yield f"{message.word} of {message.task}, which has ended"
            ended[message.task], last = packet.payload, packet.connection


def _done(packets: Sequence[Packet], _limits: Limits) -> Iterator[str]:
    """A new version is reported when it was offered and its done has its PUBACK."""
    running, proven = "", set()
    flying: dict[tuple[int, int], str] = {}
    for packet in packets:
        message = said(packet)
        if packet.kind == "PUBACK" and not packet.is_uplink:
            proven.add(flying.pop((packet.connection, packet.mid), ""))
        elif message is not None and message.word == "done":
            flying[packet.connection, packet.mid] = message.version
        elif message is not None and message.word == "report_version":
            if running not in {"", message.version} and message.version not in proven:
                yield f"version {message.version} without done"
            running = message.version
            proven.discard(running)


def _order(packets: Sequence[Packet], limits: Limits) -> Iterator[str]:
    """0 per cent first and never fewer, 100 before burning, burning before done.

    What is said at QoS 0 may have been lost with its connection.
    """
    reached: dict[str, int] = {}
    connection = 0
    for packet in packets:
        offer, message = offered(packet), said(packet)
        if packet.kind == REBOOT:  # what was brought may have to be brought again
            reached = {name: at if at >= _BURNING else _ANYWHERE for name, at in reached.items()}
        if offer is not None and reached.get(offer["version"]) == _END:
            del reached[offer["version"]]  # it is tried again
        if message is None or message.word not in _STATES:
            continue
        now, before = _place(message), reached.get(message.version, _NOWHERE)
        is_excused = limits.is_lossy and packet.connection != connection
        connection = packet.connection
        if message.word == "fail":
            pass  # may come at any time
        elif now < before:
            yield f"{message.word} of {message.version} at {now} after {before}"
        elif now == before and message.word == "downloading":
            yield f"{now} per cent of {message.version}, again"
        elif before != _ANYWHERE and before < _AFTER.get(now, _NOWHERE) and not is_excused:
            yield f"{message.word} of {message.version} at {now} after {before}"
        reached[message.version] = now


def _place(message: Said) -> int:
    """Return where in a session *message* stands: its per cent, or what comes after them."""
    if message.word == "downloading":
        return int(message.report["progress"].get("percent", "0"))
    return _BURNING if message.word == "burning" else _END


def _pace(packets: Sequence[Packet], limits: Limits) -> Iterator[str]:
    """Between 0 and 100 progress is told at most once a second."""
    last_s: dict[tuple[object, ...], float] = {}
    for packet in packets:
        message = said(packet)
        if message is not None and message.word == "downloading":
            is_between = 0 < _place(message) < _COMPLETE
            pause_s = packet.time_s - last_s.get(message.task, 0.0)
            if is_between and pause_s < 1.0 - limits.slack_s:
                yield f"{message.version} again after {pause_s:.2f} s"
            last_s[message.task] = packet.time_s


Rule = Callable[[Sequence[Packet], Limits], Iterator[str]]
RULES: tuple[Rule, ...] = (
    _connect, _subscribe, _publish, _form, _versions, _rate, _terminal, _done, _order, _pace,
)  # fmt: skip

# SPDX-License-Identifier: MIT
"""What two devices put on the wire, aspect by aspect, as the page docs/conformance.md.

An aspect is one thing that can be compared: a field of CONNECT, the form of a message, the order of
messages in a case. What changes from run to run is masked. Each difference has its reason in
``REASONS``: one without is an error, and so is a reason whose difference has gone.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sim.audit import Said, said
from sim.tap import REBOOT, Connect, Packet

from conformance.exchange import CASES, DIGEST, EXPIRED, GOOD, OTHER, REMOVED, Exchange

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
ABSENT = "not said"

WORDS = ("report_version", "downloading", "burning", "done", "fail")
_FORMS = tuple(f"`{word}`" for word in WORDS)
PROTOCOL, USERNAME, PASSWORD, KEEP_ALIVE = (
    "CONNECT: protocol", "CONNECT: user name", "CONNECT: password", "CONNECT: keep-alive",
)  # fmt: skip

REASONS = {
    PROTOCOL: "The cloud documents 3.1.1. Both are MQTT to a broker; 3.1 allows a client id of 23 "
    "characters at most, and the cloud's have up to 58.",
    KEEP_ALIVE: "A device that sleeps wakes for each ping. The cloud takes up to 900 s; "
    "`cloud.keep_alive_s` sets it.",
    USERNAME: "The SDK puts the present time in milliseconds where seconds of the expiry belong: a "
    "signature that in effect never expires. This device's expires, and each connection has its "
    "own; only where there is no clock it says 2147483647. Both application ids are known to the "
    "cloud; `cloud.sdkappid` sets it.",
    PASSWORD: 'The stronger of the two digests that the cloud knows; `cloud.hmac = "sha1"` is the '
    "other.",
    "`burning`": "The SDK has the call, and its sample never makes it. Here it stands for the time "
    "between the last byte and the verdict, so that the task does not time out.",
    "`fail`": "The SDK says `time_out` whatever has happened: the cloud cannot depend on the text. "
    "Here it names step and fact, for people.",
    GOOD: "The SDK reports `done` when the digest matches, before anything is written to flash. "
    "Here `done` means that the new firmware runs and is healthy; it has its PUBACK before the new "
    "version is reported, which the SDK leaves to the application.",
    DIGEST: "The SDK's sample reports twice, -4 and then -5. Here a session ends with one report, "
    "and the version that runs is reported again.",
    EXPIRED: "The SDK gives up, and reports twice. Here the version is reported once more, which "
    "has the cloud send a fresh URL; -3 is said only if none comes within "
    "`download.fresh_url_timeout_s`.",
    "GET: Range": "The SDK asks for one byte more than there is, and for a range though nothing is "
    "resumed. Here it is `bytes=N-` with If-Range, when there is something to go on with.",
    "GET: Accept-Encoding": "The digest is over the file: a server that packs it on the way would "
    "break the SDK's.",
    OTHER: "The SDK takes the other's name, digest and size and goes on with the bytes of the "
    "first: both are lost. Here the first ends with -5, and the other one is fetched.",
    REMOVED: "As with a wrong digest: one report here, two there.",
}

HEAD = """\
# Side by side with the vendor's SDK

Made by `tests/conformance`, which runs both against the same cloud in small (`tests/sim`) and
compares what a tap between device and broker has heard; a test holds this page against a fresh run.

- The SDK is `{sdk}`, driven in the order of its own OTA sample. The
  broker's host and port are set to the test's. Its TLS context is made for a server, and Python
  refuses that to a client from 3.10 on: it gets what the context amounted to before, a client's
  that verifies nothing.
- This device is `updater run` on slots of a loop device, with the minute between two version
  reports cut to seconds.
- Both log in with the device secret, and fetch over https.

    PYTHONPATH=.:tests python -m conformance    # writes this page anew

In what follows `N` is a number and `…` a text that differs from run to run. Progress is told once,
and 0 per cent left out.
"""


def compare(
    theirs: Mapping[str, Exchange], mine: Mapping[str, Exchange]
) -> dict[str, tuple[str, str]]:
    """Return each aspect, as the SDK has it and as this device has it."""
    one, other = dict(_aspects(theirs)), dict(_aspects(mine))
    assert one.keys() == other.keys()
    return {aspect: (one[aspect], other[aspect]) for aspect in one}


def differences(aspects: Mapping[str, tuple[str, str]]) -> set[str]:
    """Return the aspects in which the two differ."""
    return {aspect for aspect, (theirs, mine) in aspects.items() if theirs != mine}


def page(aspects: Mapping[str, tuple[str, str]], sdk: str) -> str:
    """Return the page."""
    different = differences(aspects)
    parts = [HEAD.format(sdk=sdk), "## The same", "", "| what | both |", "|---|---|"]
    parts += [
        f"| {aspect} | {theirs} |"
        for aspect, (theirs, _mine) in aspects.items()
        if aspect not in different
    ]
    parts += ["", "## Different, and why", "", "| what | the SDK | this device | why |"]
    parts += ["|---|---|---|---|"]
    parts += [
        f"| {aspect} | {theirs} | {mine} | {REASONS[aspect]} |"
        for aspect, (theirs, mine) in aspects.items()
        if aspect in different
    ]
    return "\n".join([*parts, ""])


# --- aspects -------------------------------------------------------------------------------------


def _aspects(records: Mapping[str, Exchange]) -> Iterator[tuple[str, str]]:
    good = records[GOOD]
    yield from _connect(next(packet.connect for packet in good.packets if packet.connect))
    subscribe = next(packet for packet in good.packets if packet.kind == "SUBSCRIBE")
    yield "SUBSCRIBE", ", ".join(f"`{name}` at QoS {qos}" for name, qos in subscribe.filters)
    everything = [packet for case in CASES for packet in records[case].packets]
    messages = [message for packet in everything if (message := said(packet))]
    yield "topic of every message", _one_of(f"`{message.packet.topic}`" for message in messages)
    yield "retained", _one_of(_yes(message.packet.is_retained) for message in messages)
    for word, name in zip(WORDS, _FORMS, strict=True):
        forms = [_form(message) for message in _first(messages) if message.word == word]
        yield name, _one_of(forms) if forms else ABSENT
    for header in ("Range", "Accept-Encoding"):
        text = good.requests[0].get(header)
        yield f"GET: {header}", f"`{text}`" if text else ABSENT
    for case in CASES:
        yield case, ", ".join(_order(records[case].packets))


def _connect(connect: Connect) -> Iterator[tuple[str, str]]:
    yield PROTOCOL, f"{connect.protocol} level {connect.level}"
    yield "CONNECT: clean session", _yes(connect.is_clean)
    yield "CONNECT: will", _yes(connect.has_will)
    yield KEEP_ALIVE, f"{connect.keep_alive_s} s"
    yield "CONNECT: client id", f"`{connect.client_id}`"
    yield USERNAME, f"`{_username(connect.username or '')}`"
    yield PASSWORD, f"`{_password(connect.password or '')}`"


def _username(text: str) -> str:
    client_id, application, connid, expiry = text.split(";")
    assert re.fullmatch(r"[A-Za-z0-9]{5}", connid)
    kind = "now in ms" if len(expiry) == len("1700000000000") else "expiry in s"
    return f"{client_id};{application};5 characters;{kind}"


def _password(text: str) -> str:
    token, _, digest = text.partition(";")
    assert re.fullmatch(r"[0-9a-f]+", token)
    return f"{len(token)} hex digits;{digest}"


def _first(messages: Sequence[Said]) -> list[Said]:
    """Return the first message of its kind on each connection: burning is repeated otherwise."""
    found: dict[tuple[int, str, str], Said] = {}
    for message in messages:
        code = message.report.get("progress", {}).get("result_code", "")
        found.setdefault((message.packet.connection, message.word, code), message)
    return list(found.values())


def _form(message: Said) -> str:
    """Return QoS and JSON of *message*, byte for byte but for what is masked."""
    text = message.packet.payload.decode()
    assert json.loads(text)
    text = re.sub(r'"percent": "\d+"', '"percent": "N"', text)
    text = re.sub(r'"result_code": "-\d"', '"result_code": "-N"', text)
    text = re.sub(r'"version": "\d\.0\.0"', '"version": "…"', text)
    if '"time_out"' not in text:
        text = re.sub(r'"result_msg": "[^"]+"', '"result_msg": "…"', text)
    return f"QoS {message.packet.qos}, `{text}`"


def _order(packets: Sequence[Packet]) -> list[str]:
    """Return what was said, in order, without the progress that time repeats."""
    words = [_word(packet) for packet in packets if packet.is_uplink]
    kept: list[str] = []
    for word in filter(None, words):
        if not kept or kept[-1] != word or not word.startswith(("downloading", "burning")):
            kept.append(word)
    return kept


def _word(packet: Packet) -> str:
    message = said(packet)
    if message is None:
        return {"CONNECT": "CONNECT", "SUBSCRIBE": "SUBSCRIBE", REBOOT: "*reboot*"}.get(
            packet.kind, ""
        )
    if message.word == "report_version":
        return f"version {message.version}"
    progress = message.report["progress"]
    if progress.get("percent") == "0":
        return ""  # whether it is said before a server refuses is a matter of moments
    code = progress["result_code"]
    return f"{message.word if code == '0' else f'**{message.word} {code}**'} {message.version}"


def _one_of(values: Iterator[str] | Sequence[str]) -> str:
    """Return the values that there are, each once."""
    return "; ".join(dict.fromkeys(values))


def _yes(value: object) -> str:
    return "yes" if value else "no"

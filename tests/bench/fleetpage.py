# SPDX-License-Identifier: MIT
"""The fleet's tables: what was measured, what was to be expected, and whether it is so."""

import math
from collections.abc import Sequence
from pathlib import Path

from bench import curves, machine
from bench.page import put, table, verdict
from bench.prediction import PARTS, Prediction, part_s, predict
from bench.thousand import (
    KEEP_ALIVE_S,
    OFFERS_PER_S,
    PATIENCE_S,
    PROCESSES,
    Figures,
    Memory,
    Returned,
)
from fleet.talk import Talk, mean

NEEDED = ("CONNECT", "SUBSCRIBE", "PUBLISH")  # to be back: nothing else, and each once
PING = "PINGREQ"
_SLACK_S = 1.0  # for logging in, beside what the back-off asks for
_NOISE = 0.5  # processors that others used: from here on times prove nothing
_NAMES = ("half", "95 %", "all")


def text(figures: Figures) -> str:
    """Return what stands between the page's marks."""
    parts = [
        _conditions(figures),
        "### Back again",
        _returned(figures),
        "### Messages of one device",
        _talks(figures),
        "### Memory",
        _memory(figures),
    ]
    return "\n\n".join(parts) + "\n"


def insert(page: Path, figures: Figures) -> None:
    """Put *figures* into the page, and the curves beside it."""
    put(page, text(figures), _picture(figures))


def is_doubtful(figures: Figures) -> bool:
    """Tell whether others have used so much of the machine that times prove nothing."""
    return figures.others > _NOISE


def _picture(figures: Figures) -> str:
    drawn = [
        curves.Curve(each.name, each.times_s, predict(each.away_s, figures.count).times_s)
        for each in figures.returned
    ]
    return curves.picture(drawn, "on a disturbed machine" if is_doubtful(figures) else "")


def _conditions(figures: Figures) -> str:
    doubt = "; **so much that times prove nothing**" if is_doubtful(figures) else ""
    return "\n".join([
        f"- machine: {machine.description()}; mosquitto {machine.version('mosquitto')}",
        f"- {figures.count} devices, {figures.count // PROCESSES} in each of {PROCESSES} processes;"
        " a login of its own for each, topics of its own by ACL",
        f"- noise: others used {figures.others:.2f} processors on average{doubt}",
        "- command: `make bench PART=fleet`",
    ])  # fmt: skip


def _returned(figures: Figures) -> str:
    rows = [row for each in figures.returned for row in _rows(each, figures.count)]
    names = ("broker", "", "s after it is back", "predicted", "of 100 such, latest", "met")
    peaks = [
        (
            each.name, f"{each.attempts / figures.count:.2f}", str(each.most_attempts),
            str(each.talk.most_connects), f"{figures.count / each.times_s[-1]:.0f}",
        )
        for each in figures.returned
    ]  # fmt: skip
    heads = ("broker", "attempts of a device", "at most", "most CONNECTs in a second", "on average")
    return f"{table(names, rows)}\n\n{table(heads, peaks)}"


def _rows(returned: Returned, count: int) -> list[tuple[str, ...]]:
    predicted = predict(returned.away_s, count)
    return [
        (
            returned.name if not number else "", name, _seconds(measured_s),
            f"{predicted.typical_s[number]:.1f}", f"{predicted.latest_s[number]:.1f}",
            verdict(_is_met(measured_s, predicted, number)),
        )
        for number, name in enumerate(_NAMES)
        for measured_s in [part_s(returned.times_s, PARTS[number])]
    ]  # fmt: skip


def _seconds(time_s: float) -> str:
    return f"{time_s:.1f}" if time_s < math.inf else f"> {PATIENCE_S:g}"


def _is_met(measured_s: float, predicted: Prediction, number: int) -> bool:
    return measured_s <= predicted.latest_s[number] + _SLACK_S


def _talks(figures: Figures) -> str:
    count = figures.count
    rows = [
        (each.name, *_sides(each.talk, count), verdict(_is_needed(each.talk, count)))
        for each in figures.returned
    ]
    rows.append(("one update", *_sides(figures.update, count), ""))
    rows.append((f"idle, {figures.idle_s:.0f} s", *_sides(figures.idle, count), ""))
    heads = ("", "sends", "is sent", "packets", "no more than needed")
    pings = mean(figures.idle.said, count).get(PING, 0.0) * 3600 / figures.idle_s
    words = ", ".join(f"{n / count:.2f} {word}" for word, n in sorted(figures.words.items()))
    return "\n".join([
        table(heads, rows),
        "",
        f"An update's messages: {words}; offers went out at {OFFERS_PER_S} a second.",
        f"Idle for an hour: {pings:.0f} pings and as many answers, extrapolated from"
        f" {figures.idle_s:.0f} s of all devices at a keep-alive of {KEEP_ALIVE_S} s.",
    ])  # fmt: skip


def _sides(talk: Talk, count: int) -> tuple[str, str, str]:
    said, heard = mean(talk.said, count), mean(talk.heard, count)
    return _told(said), _told(heard), f"{sum(said.values()) + sum(heard.values()):.2f}"


def _told(side: dict[str, float]) -> str:
    return ", ".join(f"{number:.2f} {kind}" for kind, number in side.items())


def _is_needed(talk: Talk, count: int) -> bool:
    """Tell whether each device has sent what brings it back, and nothing but pings after that."""
    wanted = dict.fromkeys(NEEDED, 1)
    return len(talk.said) == count and all(
        {kind: number for kind, number in said.items() if kind != PING} == wanted
        for said in talk.said.values()
    )


def _memory(figures: Figures) -> str:
    plain, tls = figures.arrival, figures.tls_arrival
    after, connected = figures.after, plain.stages[-1]
    rows = [
        ("a process without devices", "", *_kib(plain.empty)),
        ("with all of them switched off", "", *_kib(plain.built)),
        *(("connected", str(each.devices), *_kib(each)) for each in plain.stages),
        ("after two restarts", str(after.devices), *_kib(after)),
        ("after an update too", str(figures.updated.devices), *_kib(figures.updated)),
        ("connected by TLS", str(tls.stages[-1].devices), *_kib(tls.stages[-1])),
        ("`updater run` by itself, idle", "1", *_kib(figures.alone)),
        *(("mosquitto", str(each.devices), *_kib(each)) for each in plain.brokers),
        ("mosquitto, TLS", str(figures.count), *_kib(tls.brokers[1])),
    ]
    each, by_tls = (_slope([a.built, *a.stages]) for a in (plain, tls))
    broker, tls_broker = (_slope(a.brokers) for a in (plain, tls))
    later = (after.anon - connected.anon) / after.devices
    return "\n".join([
        table(("", "devices in it", "RssAnon KiB", "PSS KiB"), rows),
        "",
        f"One more connected device in a process: {each:.1f} KiB of RssAnon, by TLS {by_tls:.1f}"
        f" KiB. Two restarts add {later:+.1f} KiB to each.",
        f"One more device in mosquitto: {broker:.1f} KiB, by TLS {tls_broker:.1f} KiB.",
    ])  # fmt: skip


def _kib(memory: Memory) -> tuple[str, str]:
    return f"{memory.anon:.0f}", f"{memory.pss:.0f}"


def _slope(points: Sequence[Memory]) -> float:
    """Return KiB of RssAnon for each device: the straight line of the least squares."""
    xs, ys = [float(p.devices) for p in points], [p.anon for p in points]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    over = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return over / sum((x - mean_x) ** 2 for x in xs)

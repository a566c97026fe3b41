# SPDX-License-Identifier: MIT
"""The fleet's arithmetic: what is predicted, and a verdict for each thing that went wrong."""

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import curves, fleetpage
from bench.prediction import PARTS, part_s, predict
from bench.thousand import Arrival, Figures, Memory, Returned
from fleet.broker import Packet
from fleet.talk import Talk, mean

COUNT = 20
BACK = {"CONNECT": 1, "SUBSCRIBE": 1, "PUBLISH": 1}


def talk(**more: int) -> Talk:
    """Return what twenty devices say that are back; *more* is said by one of them."""
    said = {f"device-{number}": Counter(BACK) for number in range(COUNT)}
    said["device-0"].update(more)
    return Talk(said, {name: Counter({"CONNACK": 1}) for name in said}, 3)


def returned(away_s: float, late_s: float = 0.0, **more: int) -> Returned:
    """Return a fleet that is back as predicted, or *late_s* later, each but the last tenth."""
    typical_s = predict(away_s, COUNT).typical_s
    times_s = [typical_s[0] / 2] * 9 + [typical_s[0]] * 9 + [typical_s[1], typical_s[2]]
    times_s = sorted(time_s + late_s for time_s in times_s)
    return Returned(f"after {away_s:g} s", away_s, times_s, 2 * COUNT, 4, talk(**more))


def figures(late_s: float = 0.0, others: float = 0.1, **more: int) -> Figures:
    """Return a run in which everything is as it should be, but for what is given."""
    held = [Memory(each, 10000.0 + 10 * each, 12000.0) for each in range(6)]
    brokers = Memory(0, 1000.0, 2000.0), Memory(COUNT, 1100.0, 2000.0)
    more_memory = Memory(COUNT, 2000.0, 2000.0)
    return Figures(
        count=COUNT,
        arrival=Arrival(held[0], held[0], held[1:], brokers),
        tls_arrival=Arrival(held[0], held[0], [held[5]], (brokers[0], more_memory)),
        alone=held[1],
        returned=[returned(5.0, late_s), returned(60.0, 0.0, **more), returned(0.0)],
        idle_s=240.0,
        idle=Talk({"device-0": Counter(PINGREQ=2 * COUNT)}, {}, 0),
        after=replace(held[5], anon=held[5].anon + 5),
        updated=held[5],
        update=talk(),
        words=Counter(done=COUNT),
        others=others,
    )


def with_last(whole: Figures, **changes: Any) -> Figures:
    """Return *whole* with its last restart changed."""
    *others, last = whole.returned
    return replace(whole, returned=[*others, replace(last, **changes)])


def test_a_broker_that_was_not_away_has_all_back_within_the_first_pause() -> None:
    """The first pause is drawn evenly from 0 to 10 s, for a connection that had lasted."""
    predicted = predict(0.0, 1000)
    assert predicted.typical_s == pytest.approx([5.0, 9.5, 10.0], abs=0.3)
    assert max(predicted.times_s) <= 10.0
    assert min(predicted.times_s) >= 0.0


def test_nobody_is_later_than_the_longest_pause() -> None:
    """However long a broker was away, all are back within two minutes.

    What is left of a pause when the broker comes is longest for whoever drew a long one: by renewal
    theory half of the devices have less than 120 s · (1 - 1/√2) to wait.
    """
    predicted = predict(1800.0, 100)
    assert 90.0 < predicted.typical_s[2] <= predicted.latest_s[2] <= 120.0
    assert predicted.typical_s[0] == pytest.approx(120.0 * (1 - 0.5**0.5), abs=3.0)


def test_a_part_is_reached_with_its_last_device() -> None:
    """Half of ten devices is the fifth; all of them are the last."""
    times_s = [float(number) for number in range(1, 11)]
    assert [part_s(times_s, part) for part in PARTS] == [5.0, 10.0, 10.0]
    assert part_s([7.0], 0.5) == 7.0


def test_packets_are_counted_by_device_side_and_second() -> None:
    """What is sent and what is heard are not mixed, nor two devices."""
    packets = [
        Packet(100, "a", "CONNECT", is_uplink=True),
        Packet(100, "b", "CONNECT", is_uplink=True),
        Packet(101, "b", "CONNECT", is_uplink=True),
        Packet(101, "a", "CONNACK", is_uplink=False),
    ]
    counted = Talk.of(packets)
    assert counted.said == {"a": {"CONNECT": 1}, "b": {"CONNECT": 2}}
    assert counted.heard == {"a": {"CONNACK": 1}}
    assert counted.most_connects == 2
    assert mean(counted.said, 2) == {"CONNECT": 1.5}


def test_all_as_it_should_be_is_said_so() -> None:
    """No verdict is no, and the slopes are those of the figures."""
    text = fleetpage.text(figures())
    assert "**no**" not in text
    assert "One more connected device in a process: 10.0 KiB" in text
    assert "One more device in mosquitto: 5.0 KiB, by TLS 50.0 KiB" in text
    assert "Two restarts add +1.0 KiB to each" in text
    assert "30 pings" in text


def test_a_ping_of_who_is_back_already_is_no_message_too_many() -> None:
    """The last device is waited for longer than a keep-alive lasts."""
    assert "**no**" not in fleetpage.text(figures(PINGREQ=1))


@pytest.mark.parametrize(
    "wrong",
    [figures(late_s=9.0), figures(PUBLISH=1), figures(CONNECT=1), figures(DISCONNECT=1)],
    ids=["late", "a message too many", "a connection too many", "hung up"],
)
def test_what_went_wrong_is_said_so(wrong: Figures) -> None:
    """A fleet that is late, or one device of it that says more than it needs."""
    assert "**no**" in fleetpage.text(wrong)


def test_a_device_that_did_not_come_is_said_so() -> None:
    """One that the broker has not heard is not needed less: it is missing."""
    whole = figures()
    heard = whole.returned[-1].talk
    said = {name: each for name, each in heard.said.items() if name != "device-7"}
    assert "**no**" in fleetpage.text(with_last(whole, talk=replace(heard, said=said)))


def test_devices_that_are_not_back_are_said_so(tmp_path: Path) -> None:
    """Patience has an end, and what was measured until then is told."""
    whole = figures()
    late = with_last(whole, times_s=[*whole.returned[-1].times_s[:-1], math.inf])
    page = tmp_path / "fleet.md"
    page.write_text("<!-- figures: written by the benchmark -->\n<!-- end of figures -->\n")
    fleetpage.insert(page, late)
    assert re.search(r"\| all \| > 240 \|.*\*\*no\*\*", page.read_text())
    ET.fromstring(page.with_suffix(".svg").read_text())  # noqa: S314 - our own text


def test_a_disturbed_machine_is_said_so(tmp_path: Path) -> None:
    """In the words, and in the picture."""
    page = tmp_path / "fleet.md"
    page.write_text("<!-- figures: written by the benchmark -->\n<!-- end of figures -->\n")
    fleetpage.insert(page, figures(others=1.5))
    assert "times prove nothing" in page.read_text()
    assert "on a disturbed machine" in page.with_suffix(".svg").read_text()
    fleetpage.insert(page, figures())
    assert "times prove nothing" not in page.read_text()
    assert "on a disturbed machine" not in page.with_suffix(".svg").read_text()


def test_the_picture_shows_every_restart() -> None:
    """It is one well-formed SVG with two curves for each, and nothing in it lies outside."""
    drawn = [
        curves.Curve(f"<{number}>", [1.0, 5.0 * number], [2.0, 300.0]) for number in range(1, 4)
    ]
    root = ET.fromstring(curves.picture(drawn))  # noqa: S314 - our own text
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {curve.name for curve in drawn} <= set(texts)
    lines = [e.attrib["points"] for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 6
    for point in " ".join(lines).split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= width
        assert 0 <= y <= height

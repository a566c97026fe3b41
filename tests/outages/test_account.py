# SPDX-License-Identifier: MIT
"""The broker's account is what it seems: what it must find, it finds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sim.cloud import DEVICE, PRODUCT

from outages.kinds import stranger
from outages.site import KEEP_ALIVE_S, Site
from outages.verdict import complaints
from updater.core import messages
from updater.core.errors import ResultCode
from updater.core.model import Firmware, Offer

REPORT, UPDATE = f"$ota/report/{PRODUCT}/{DEVICE}", f"$ota/update/{PRODUCT}/{DEVICE}"
OFFER = Offer(Firmware("2.0.0", "0" * 32, 4096), "https://h/f")


@contextmanager
def lived(folder: Path, authority: Path) -> Iterator[Site]:
    """A site whose device has reported its version, and is gone."""
    with Site(folder, authority, 1) as site:
        site.start()
        site.wait_until(lambda: bool(site.cloud.messages), "a first word")
        site.kill()
        assert complaints(site) == []
        yield site


def test_each_packet_is_in_the_account(tmp_path: Path, authority: Path) -> None:
    """From CONNECT to PUBACK, with what was said; TLS hides nothing of it."""
    with lived(tmp_path, authority) as site:  # all of it is there
        packets = site.ledger.packets()
    told = [(packet.kind, packet.is_uplink) for packet in packets]
    assert told[:5] == [
        ("CONNECT", True),
        ("SUBSCRIBE", True),
        ("SUBACK", False),
        ("PUBLISH", True),
        ("PUBACK", False),
    ]
    connect = packets[0].connect
    assert connect is not None
    assert (connect.keep_alive_s, connect.level, connect.is_clean) == (KEEP_ALIVE_S, 4, True)
    assert packets[1].filters == ((UPDATE, 1),)
    assert (packets[3].topic, packets[3].payload, packets[3].qos) == (
        REPORT,
        messages.report_version("1.0.0"),
        1,
    )
    assert packets[4].mid == packets[3].mid


@pytest.mark.parametrize(
    ("topic", "payload", "words"),
    [
        (f"{REPORT}x", b"{}", "denied: Denied PUBLISH"),
        (UPDATE, b"{}", "denied: Denied PUBLISH"),
        ("telemetry", b"{}", "publish: on telemetry"),
        (REPORT, b"no message", "form: no message"),
        (REPORT, messages.fail(OFFER, ResultCode.LOCAL, "no"), "the broker has heard [b'"),
    ],
)
def test_what_no_device_should_say_is_found(
    tmp_path: Path, authority: Path, topic: str, payload: bytes, words: str
) -> None:
    """Another topic, garbage, an end that the journal does not know: with the device's login."""
    with lived(tmp_path, authority) as site:
        with stranger(site, 2 * KEEP_ALIVE_S) as other:
            other.publish(topic, payload, 1)
            words_of_it = f"'{topic}', ... ({len(payload)} bytes)"
            site.wait_until(
                lambda: any(words_of_it in line.text for line in site.broker.lines), "its arrival"
            )
        found = complaints(site)
    assert any(words in each for each in found), found


def test_an_end_that_does_not_arrive_is_found(tmp_path: Path, authority: Path) -> None:
    """A broker whose access list denies the report acknowledges it, and nobody has heard it."""
    with Site(tmp_path, authority, 1) as site:
        (site.broker.folder / "access").write_text(f"topic read {UPDATE}\n")
        site.broker.reload()
        site.start()
        site.wait_until(
            lambda: any("Denied PUBLISH" in line.text for line in site.broker.lines), "a denial"
        )
        site.kill()
        assert site.cloud.heard == []
        assert any(each.startswith("denied: ") for each in complaints(site))

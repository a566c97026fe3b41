# SPDX-License-Identifier: MIT
"""The engine under ThreadSanitizer: no two threads touch the same thing unguarded."""

from pathlib import Path

import pytest
from hostile import HostileServer, answer
from sanitized import IMAGE, Slot, Status, build


@pytest.fixture(scope="session")
def engine() -> Path:
    """The engine under ThreadSanitizer, for every ``slot`` of this module."""
    return build("thread")


@pytest.fixture(params=["file", "http"])
def source(request: pytest.FixtureRequest, slot: Slot, server: HostileServer) -> str:
    if request.param == "file":
        return str(slot.source)
    return server.url("/threads", lambda _: answer(IMAGE))


@pytest.mark.parametrize(
    ("orders", "status"),
    [
        ({}, Status.DONE),
        ({"read_back": 0}, Status.DONE),
        ({"buffers": 3, "buffer_size": 4096}, Status.DONE),
        ({"device": None, "md5": None}, Status.DONE),
        ({"md5": "0" * 32}, Status.DIGEST),
        ({"fault": "write:1:5"}, Status.IO),
        ({"fault": "write:3:5"}, Status.IO),
        ({"fault": "flush:3:5"}, Status.IO),
        ({"fault": "read:2:flip"}, Status.READ_BACK),
        ({"fault": "thread:2:11"}, Status.RESOURCES),
        ({"fault": "thread:3:11"}, Status.RESOURCES),
        ({"fault": "crypto:5:1"}, Status.RESOURCES),
        ({"fault": "write:1:wait", "closes_on_fault": 1}, Status.MORE),
        ({"fault": "write:3:wait", "closes_on_fault": 1}, Status.MORE),
        ({"fault": "flush:3:wait", "closes_on_fault": 1}, Status.MORE),
    ],
    ids=str,
)
def test_no_data_race(slot: Slot, source: str, orders: dict[str, object], status: Status) -> None:
    """Good, bad, failing and cancelled runs, from both kinds of source."""
    assert slot.fill(source=source, **orders).status == status


def test_no_data_race_at_an_early_end(slot: Slot, server: HostileServer) -> None:
    """The receiver fails while the others work."""
    url = server.url("/early", lambda _: answer(IMAGE[:-70000], length=len(IMAGE)))
    assert slot.fill(source=url).status == Status.TRANSPORT

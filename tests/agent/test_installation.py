# SPDX-License-Identifier: MIT
"""Attempts: what is tried again, what waits for a fresh URL, and what is final at once."""

from collections.abc import Callable
from dataclasses import replace
from itertools import repeat

import pytest
from sim.settings import CONFIG, NEW
from sim.uplink import spoken
from sim.world import World

from updater.core.config import DownloadConfig
from updater.core.errors import (
    DigestError,
    ForbiddenError,
    NotFoundError,
    TransportError,
    UpdaterError,
)
from updater.core.model import State
from updater.installation import Installation, Listener

RESET = TransportError("the connection was reset")
FORBIDDEN = ForbiddenError("the server says 403")
FRESH = "https://firmware.test/fresh"


def limited(**limits: float) -> World:
    """Return a world whose download section has *limits*."""
    world = World(replace(CONFIG, download=DownloadConfig(**limits)))
    world.run_until_calm()
    return world


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("the server says 410", 410), -2),
        (DigestError("the server sends 5 bytes, announced were 8388608"), -4),
        (UpdaterError("anything else"), -5),
    ],
)
def test_what_will_not_get_better_is_final_at_once(error: UpdaterError, code: int) -> None:
    """One request, one fail, its code and its sentence."""
    world = limited()
    url = world.offer(NEW)
    world.web.fail(url, error)
    world.run_until_calm()
    assert (world.outcomes[0].code, world.outcomes[0].reason) == (code, f"install: {error}")
    assert world.web.requests == [url]


def test_a_missing_object_is_not_found() -> None:
    """404 is -2."""
    world = limited()
    world.cloud.offer(NEW.firmware, "https://firmware.test/nowhere")
    world.run_until_calm()
    assert spoken(world.outcomes[0]) == "fail -2"


def test_a_broken_transfer_is_tried_again() -> None:
    """Transport errors cost an attempt each and nothing more."""
    world = limited()
    url = world.offer(NEW)
    world.web.fail(url, RESET, (50, RESET), (75, RESET), (0, RESET))
    world.run_until_calm()
    assert world.booted.image == NEW
    assert world.web.requests == [url] * 5
    assert [spoken(message) for message in world.outcomes] == ["done"]


def test_after_the_last_attempt_the_transport_is_exhausted() -> None:
    """-1, once, after as many attempts as are configured, with pauses between them."""
    world = limited(attempts=3, backoff_s=100.0)
    url = world.offer(NEW)
    world.web.fail(url, *repeat(RESET, 9))
    begun_s = world.clock.now_s
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["fail -1"]
    assert world.web.requests == [url] * 3
    assert world.clock.now_s - begun_s > 1.0


def test_each_session_has_all_attempts() -> None:
    """What an earlier one used up is not counted."""
    world = limited(attempts=3, backoff_s=0.0)
    for _ in range(2):
        url = world.offer(NEW)
        world.web.fail(url, RESET, RESET, RESET, RESET)
        world.run_until_calm()
    assert len(world.web.requests) == 6


def test_pauses_are_limited() -> None:
    """However many attempts there were, no pause is longer than ``backoff_limit_s``."""
    world = limited(attempts=50, backoff_s=1.0, backoff_limit_s=2.0)
    url = world.offer(NEW)
    world.web.fail(url, *repeat(RESET, 60))
    begun_s = world.clock.now_s
    world.run_until_calm()
    assert len(world.web.requests) == 50
    assert world.clock.now_s - begun_s < 50 * 3.0


def test_progress_begins_again_with_each_attempt() -> None:
    """Nothing is resumed yet: the cloud sees 0 again."""
    world = limited()
    url = world.offer(NEW)
    world.web.fail(url, (75, RESET))
    world.run_until_calm()
    assert world.heard.count("downloading 0") == 2


# --- 401 and 403: a fresh URL ---------------------------------------------------------------------


def renewing(world: World, url: Callable[[], str]) -> None:
    """Have the cloud repeat its offer under another *url* at each version report."""

    def renew(message: object, _payload: bytes) -> None:
        if spoken(message) == "report_version 0.1" and world.cloud.task:
            world.cloud.task["url"] = url()

    world.cloud.checks.append(renew)


def test_a_fresh_url_is_asked_for_and_taken() -> None:
    """403, then a version report, then the repeated offer's URL: the session goes on."""
    world = limited()
    url = world.offer(NEW)
    world.web.fail(url, *repeat(FORBIDDEN, 9))
    world.web.serve(FRESH, NEW)
    renewing(world, lambda: FRESH)
    world.run_until_calm()
    assert world.web.requests == [url, FRESH]
    assert world.heard[:4] == ["report_version 0.1", "downloading 0", "report_version 0.1",
                               "downloading 25"]  # fmt: skip
    assert [spoken(message) for message in world.outcomes] == ["done"]


def test_without_a_fresh_url_it_is_forbidden() -> None:
    """-3, once the time for a fresh URL is over, if the cloud says nothing more."""
    world = limited(fresh_url_timeout_s=300.0)
    url = world.offer(NEW)
    world.web.fail(url, *repeat(FORBIDDEN, 99))
    world.cloud.checks.append(lambda _message, _payload: setattr(world.cloud, "task", None))
    begun_s = world.clock.now_s
    world.run(lambda: bool(world.outcomes), 400)
    assert spoken(world.outcomes[0]) == "fail -3"
    assert world.clock.now_s - begun_s == pytest.approx(300, abs=2)


def test_fresh_urls_that_are_forbidden_too_do_not_go_on_for_ever() -> None:
    """The time counts from the first refusal: an offer ends though each URL is a new one."""
    world = limited(fresh_url_timeout_s=300.0)
    world.offer(NEW)
    urls = [f"{FRESH}-{number}" for number in range(99)]
    for url in [*world.web.pages, *urls]:
        world.web.serve(url, NEW)
        world.web.fail(url, *repeat(FORBIDDEN, 9))
    renewing(world, iter(urls).__next__)
    begun_s = world.clock.now_s
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["fail -3"]
    assert world.clock.now_s - begun_s == pytest.approx(300, abs=5)


def test_bytes_that_flow_begin_the_time_for_a_fresh_url_anew() -> None:
    """A URL that worked and expired later gets the whole time again."""
    world = limited(fresh_url_timeout_s=100.0, backoff_s=0.0, attempts=9)
    url = world.offer(NEW)
    world.web.serve(FRESH, NEW)
    world.web.fail(url, FORBIDDEN, (50, RESET), *repeat(FORBIDDEN, 9))
    renewing(world, iter([url, FRESH]).__next__)
    world.run_until_calm()
    assert world.booted.image == NEW


def test_an_answer_does_not_cancel_the_question() -> None:
    """The reply to an earlier version report comes after the 403: the URL is still asked for."""
    world = limited()
    world.run_for(120)
    world.cloud.result_code = None
    world.lose_network()
    world.run(lambda: world.heard.count("report_version 0.1") == 2)
    url = world.offer(NEW)
    world.web.fail(url, FORBIDDEN)
    world.run(lambda: len(world.web.requests) == 1)
    world.run_for(0.5)
    world.cloud.send({"type": "report_version_rsp", "result_code": 0})
    world.cloud.result_code = 0
    world.run(lambda: world.heard.count("report_version 0.1") == 3, 61)
    world.run_until_calm()
    assert world.booted.image == NEW


def test_without_a_cloud_nobody_is_asked() -> None:
    """A person's install without an agent ends when nobody can bring a fresh URL."""
    world = limited()
    asked: list[str] = []
    ended: list[UpdaterError] = []
    listener = Listener(
        progressed=lambda _progress: None,
        completed=lambda: asked.append("completed"),
        failed=ended.append,
        needs_url=lambda: asked.append("needs url"),
    )
    limits = DownloadConfig(fresh_url_timeout_s=0.0)
    installation = Installation(world.pipeline, limits, world.system, listener)
    installation.fresh_url(FRESH)  # nothing runs: nothing happens
    assert installation.interests() == {}
    url = "https://firmware.test/f"
    world.web.serve(url, NEW)
    world.web.fail(url, FORBIDDEN)
    session = world.session_for(NEW, url)
    installation.start(world.agent.device.request_for(session, world.finder.slots.target))
    assert list(installation.interests()) != []
    while not ended:
        world.clock.advance(0.25)
        installation.wake({})
    assert asked == ["needs url"]
    assert ended == [FORBIDDEN]
    assert session.state is State.INSTALLING

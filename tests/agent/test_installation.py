# SPDX-License-Identifier: MIT
"""One install: what is final at once, what waits for a fresh URL, and what begins again."""

from collections.abc import Callable
from dataclasses import replace
from itertools import repeat

import pytest
from sim.flash import Image
from sim.instants import cut_power
from sim.settings import CONFIG, NEW
from sim.uplink import spoken
from sim.world import World

from updater.core.config import DownloadConfig
from updater.core.errors import (
    DigestError,
    ForbiddenError,
    FormatError,
    NotFoundError,
    StartOverError,
    StorageError,
    TransportError,
    UpdaterError,
)
from updater.core.model import State
from updater.installation import Installation, Listener

RESET = TransportError("the connection was reset")
FORBIDDEN = ForbiddenError("the server says 403")
CHANGED = StartOverError("the object has changed on the server")
FRESH = "https://firmware.test/fresh"


def limited(**limits: float) -> World:
    """Return a world whose download section has *limits*."""
    world = World(replace(CONFIG, download=DownloadConfig(**limits)))
    world.run_until_calm()
    return world


def written(world: World) -> list[int]:
    """Return which parts of a slot were written, in order."""
    words = [name.split() for name in world.instants.names if name.startswith("after slot: part")]
    return [int(each[3]) for each in words]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("the server says 410", 410), -2),
        (DigestError("the server sends 5 bytes, announced were 8388608"), -4),
        (FormatError("the compressed firmware ends too soon"), -5),
        (StorageError("write of /dev/b at 4096: Input/output error", 4096), -5),
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


def test_an_exhausted_transport_is_final() -> None:
    """The pipeline has made every attempt that is configured: it is opened once, and it is -1."""
    world = limited(attempts=3)
    url = world.offer(NEW)
    world.web.fail(url, *repeat(RESET, 9))
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["fail -1"]
    assert world.web.requests == [url] * 3
    assert len(world.pipeline.requests) == 1


def test_the_next_session_goes_on_where_an_exhausted_one_has_ended() -> None:
    """The same firmware again costs what has not come yet; the cloud sees a story of its own."""
    world = limited(attempts=1)
    url = world.offer(NEW)
    world.web.fail(url, (50, RESET))
    world.run_until_calm()
    world.offer(NEW)
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["fail -1", "done"]
    assert written(world) == [1, 2, 3, 4]
    told = world.heard[world.heard.index("fail -1") :]
    assert [word for word in told if "downloading" in word] == ["downloading 0", "downloading 100"]


# --- beginning again at the first byte ------------------------------------------------------------


def test_an_object_that_changes_meanwhile_is_fetched_again() -> None:
    """Half of one version and half of another are no image: it begins at the first byte."""
    world = limited()
    url = world.offer(NEW, served=Image("0.2", is_healthy=False))
    world.web.fail(url, (50, RESET))
    world.run(lambda: written(world) == [1, 2])
    world.web.serve(url, NEW)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert written(world) == [1, 2, 1, 2, 3, 4]
    assert [spoken(message) for message in world.outcomes] == ["done"]


def test_what_keeps_changing_is_given_up() -> None:
    """As many new beginnings as attempts, pauses between them, and then it is this side's."""
    world = limited(attempts=3, backoff_s=100.0)
    url = world.offer(NEW)
    world.web.fail(url, *repeat(CHANGED, 99))
    begun_s = world.clock.now_s
    world.run_until_calm()
    assert (world.outcomes[0].code, world.outcomes[0].reason) == (-5, f"install: {CHANGED}")
    assert world.web.requests == [url] * 4
    assert 3.0 < world.clock.now_s - begun_s < 700 + 10


def test_each_session_has_all_new_beginnings() -> None:
    """What an earlier one used up is not counted."""
    world = limited(attempts=3, backoff_s=0.0)
    for _ in range(2):
        url = world.offer(NEW)
        world.web.fail(url, *repeat(CHANGED, 4))
        world.run_until_calm()
    assert len(world.web.requests) == 8


def test_pauses_are_limited() -> None:
    """However often it has begun, no pause is longer than ``backoff_limit_s``."""
    world = limited(attempts=50, backoff_s=1.0, backoff_limit_s=2.0)
    url = world.offer(NEW)
    world.web.fail(url, *repeat(CHANGED, 60))
    begun_s = world.clock.now_s
    world.run_until_calm()
    assert len(world.web.requests) == 51
    assert world.clock.now_s - begun_s < 50 * 3.0


def test_progress_never_goes_back() -> None:
    """Whatever begins again, the cloud sees the most that there was until there is more."""
    world = limited(backoff_s=0.0)
    world.parts = 40
    url = world.offer(NEW)
    world.web.fail(url, (75, CHANGED), (25, CHANGED), (95, RESET))
    world.run_until_calm()
    percents = [m.percent for m in world.cloud.messages if m.state == "downloading"]
    assert percents == sorted(set(percents))
    assert (percents[0], percents[-1]) == (0, 100)
    assert world.booted.image == NEW


# --- after a cut ----------------------------------------------------------------------------------


def cut_after_half(world: World, cut: Callable[[World], None] = World.lose_power) -> str:
    """Offer ``NEW``, cut once half of it is proven to be there, and return the URL."""
    url = world.offer(NEW)
    world.run(lambda: any(kept.parts == 2 for kept in world.checkpoints.values()))
    cut(world)
    return url


@pytest.mark.parametrize("cut", [World.lose_power, World.lose_process, World.end_agent])
def test_a_download_goes_on_after_a_cut(cut: Callable[[World], None]) -> None:
    """Nothing is fetched twice; what is said begins at 0 again, and is soon where it was."""
    world = limited()
    cut_after_half(world, cut)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert written(world) == [1, 2, 3, 4]
    assert [word for word in world.heard if "downloading" in word] == [
        "downloading 0", "downloading 0", "downloading 100",
    ]  # fmt: skip
    assert world.checkpoints == {}


def test_an_image_that_is_complete_and_not_journalled_is_hardly_fetched_again() -> None:
    """The checkpoint is void only when the journal knows that the slot holds the image."""
    world = limited()
    world.instants.on("before journal: installed", cut_power)
    world.offer(NEW)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert written(world) == [1, 2, 3, 4, 4]


def test_who_wants_no_checkpoint_begins_at_the_first_byte() -> None:
    """``download.resume = false``."""
    world = limited(resume=False)
    world.offer(NEW)
    world.run(lambda: written(world) == [1, 2])
    world.lose_power()
    world.run_until_calm()
    assert written(world) == [1, 2, 1, 2, 3, 4]


def test_a_medium_that_has_changed_meanwhile_is_written_anew() -> None:
    """The checkpoint is believed only as far as the medium bears it out."""
    world = limited()
    cut_after_half(world)
    world.media["B"].prefix = (Image("0.0"), 2)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert written(world) == [1, 2, 1, 2, 3, 4]


def test_another_firmware_takes_nothing_from_an_earlier_one() -> None:
    """A checkpoint is of one firmware on one medium, and void once another is written."""
    world = limited()
    cut_after_half(world)
    world.run(lambda: world.agent_runs)
    other = Image("0.3")
    world.offer(other)
    world.run_until_calm()
    assert world.booted.image == other
    assert [spoken(message) for message in world.outcomes] == ["fail -5", "done"]


@pytest.mark.parametrize(("served", "told"), [(Image("9"), "fail -4"), (NEW, "burning")])
def test_what_comes_in_no_time_is_told_from_0_to_100(served: Image, told: str) -> None:
    """Also if it turns out to be wrong before anybody has looked: 0 and 100, then its end."""
    world = limited()
    world.is_fast = True
    world.lose_process()
    world.offer(NEW, served=served)
    world.run_until_calm()
    at = world.heard.index("downloading 0")
    assert world.heard[at : at + 3] == ["downloading 0", "downloading 100", told]


def test_what_does_not_come_is_not_told() -> None:
    """Neither 0 nor 100 of something that was never there."""
    world = limited()
    world.is_fast = True
    world.lose_process()
    world.web.fail(world.offer(NEW), NotFoundError("the server says 404"))
    world.run_until_calm()
    assert not [word for word in world.heard if word.startswith("downloading")]


@pytest.mark.parametrize("version", ["0.2", "0.2.1"])
def test_only_the_same_version_goes_on(version: str) -> None:
    """The same bytes as another version are another firmware: they come from the first byte on."""
    world = limited()
    world.parts = 40
    world.lose_process()
    world.web.fail(world.offer(NEW), (60, StorageError("write of /dev/b at 4096: x", 4096)))
    world.run_until_calm()
    world.agent.retries.clear()
    url = world.offer(NEW)
    world.agent.retries.clear()
    world.cloud.task["version"] = version
    world.cloud.send(world.cloud.task)
    world.run(lambda: len(written(world)) > 30 and world.web.requests[-1] == url)
    assert written(world).count(1) == (1 if version == "0.2" else 2)


def test_what_was_resumed_and_does_not_match_begins_again_once() -> None:
    """Of pieces nobody can say whose fault it is; a mismatch from the first byte on is -4."""
    world = limited()
    url = world.offer(NEW, served=Image("0.2", is_healthy=False))
    world.run(lambda: any(kept.parts == 2 for kept in world.checkpoints.values()))
    world.lose_power()
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["fail -4"]
    assert world.web.requests == [url] * 3
    assert written(world) == [1, 2, 3, 4, 1, 2, 3, 4]


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


def test_a_fresh_url_goes_on_where_the_refused_one_has_ended() -> None:
    """An URL that expires in the middle costs a look at what is there."""
    world = limited()
    url = world.offer(NEW)
    world.web.fail(url, (50, FORBIDDEN), *repeat(FORBIDDEN, 9))
    world.web.serve(FRESH, NEW)
    renewing(world, lambda: FRESH)
    world.run_until_calm()
    assert world.booted.image == NEW
    assert written(world) == [1, 2, 3, 4]
    assert world.heard.count("downloading 0") == 1


def refuse_after_a_fresh_one(world: World) -> list[str]:
    """Have a URL refused while a fresher one is at hand; return what the cloud hears then."""
    world.parts = 20
    url = world.offer(NEW)
    world.run(lambda: world.heard[-1:] == ["downloading 0"])
    world.offer(NEW, url=FRESH)
    world.run_for(0.3)
    world.web.fail(url, *repeat(FORBIDDEN, 9))
    world.lose_network()
    said = len(world.heard)
    world.run(lambda: world.web.requests[-1] != url or len(world.heard) > said + 9, 30)
    return world.heard[said:]


def test_a_fresh_url_that_is_at_hand_is_used_at_once() -> None:
    """Nobody is asked for what was brought before it was needed."""
    world = limited()
    begun_s = world.clock.now_s
    refuse_after_a_fresh_one(world)
    assert world.web.requests[1:] == [world.web.requests[0], FRESH]
    assert world.clock.now_s - begun_s < 5.0
    assert not world.agent._installation.is_waiting_for_url
    world.run_until_calm()
    assert world.booted.image == NEW
    assert sorted(set(written(world))) == written(world)


def test_without_time_for_a_fresh_url_none_is_tried() -> None:
    """Also if one is at hand: ``fresh_url_timeout_s = 0``."""
    world = limited(fresh_url_timeout_s=0.0)
    url = world.offer(NEW)
    world.run(lambda: world.heard[-1:] == ["downloading 0"])
    world.offer(NEW, url=FRESH)
    world.run_for(0.1)
    world.web.fail(url, *repeat(FORBIDDEN, 9))
    world.lose_network()
    world.run_until_calm()
    assert [spoken(message) for message in world.outcomes] == ["fail -3"]
    assert FRESH not in world.web.requests


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
    world = limited(fresh_url_timeout_s=100.0)
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
    ended: list[tuple[UpdaterError, int]] = []
    listener = Listener(
        progressed=lambda _progress: None,
        completed=lambda _md5, _size_bytes: asked.append("completed"),
        failed=lambda error, received_bytes: ended.append((error, received_bytes)),
        needs_url=lambda: asked.append("needs url"),
    )
    limits = DownloadConfig(fresh_url_timeout_s=0.0)
    installation = Installation(world.pipeline, limits, world.system, listener)
    installation.fresh_url(FRESH)  # nothing runs: nothing happens
    installation.wake({})
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
    assert ended == [(FORBIDDEN, 0)]
    assert session.state is State.INSTALLING

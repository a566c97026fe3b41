# SPDX-License-Identifier: MIT
"""libFuzzer on every parser of foreign bytes, under AddressSanitizer and UBSan.

Two run at once. ``UPDATER_FUZZ_S`` says how long each of the long runs takes.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from fuzzing import TARGETS, Campaign, build, campaign

SHORT_S = 30
LONG_S = int(os.environ.get("UPDATER_FUZZ_S", "300"))
EACH = pytest.mark.parametrize("target", TARGETS)


class Campaigns:
    """Runs of all targets that are asked for, in the order in which they are waited for.

    Args:
        names: The targets.
        folder: Where their inputs go.
        seconds: How long each one takes.
    """

    def __init__(self, names: list[str], folder: Path, seconds: int) -> None:
        self.seconds = seconds
        self._pool = ThreadPoolExecutor(2)
        self._futures: dict[str, Future[Campaign]] = {
            name: self._pool.submit(campaign, TARGETS[name], folder / name, seconds)
            for name in names
        }

    def close(self) -> None:
        """Wait for what runs, and begin no other."""
        self._pool.shutdown(cancel_futures=True)

    def check(self, name: str) -> None:
        """Assert that *name* has found nothing, and that it has looked."""
        target, done = TARGETS[name], self._futures[name].result()
        assert done.code == 0, done.output[-6000:]
        assert done.runs >= target.runs * self.seconds
        assert done.edges >= target.edges
        print(f"{name}: {done.runs} inputs in {self.seconds} s, {done.edges} edges")


def start(
    request: pytest.FixtureRequest,
    factory: pytest.TempPathFactory,
    test: Callable[..., None],
    seconds: int,
) -> Iterator[Campaigns]:
    names = [
        str(item.callspec.params["target"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test
    ]
    for name in names:
        build(TARGETS[name])
    campaigns = Campaigns(names, factory.mktemp("fuzz"), seconds)
    yield campaigns
    campaigns.close()


@pytest.fixture(scope="module")
def short(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Campaigns]:
    yield from start(request, tmp_path_factory, test_nothing_is_found, SHORT_S)


@pytest.fixture(scope="module")
def long(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Campaigns]:
    yield from start(request, tmp_path_factory, test_nothing_is_found_for_long, LONG_S)


@EACH
def test_nothing_is_found(short: Campaigns, target: str) -> None:
    """No crash, no leak, no promise broken, no input that takes for ever or all memory."""
    short.check(target)


@pytest.mark.long
@EACH
def test_nothing_is_found_for_long(long: Campaigns, target: str) -> None:
    """The same for minutes."""
    long.check(target)

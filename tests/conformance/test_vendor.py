# SPDX-License-Identifier: MIT
"""This device beside the vendor's own SDK: what differs is known, and has its reason."""

import subprocess

import pytest
from board_on_loop import ROOT_BYTES, make_image
from sim.audit import violations

from conformance import exchange
from conformance.desk import LIMITS, Image
from conformance.page import PAGE, REASONS, compare, differences, page

pytestmark = pytest.mark.root

Both = tuple[dict[str, exchange.Exchange], dict[str, exchange.Exchange]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """What the SDK and this device have said in each case."""
    try:
        exchange.sdk()
    except (RuntimeError, subprocess.SubprocessError) as error:
        pytest.skip(f"the vendor's SDK cannot be had: {error}")
    folder = tmp_path_factory.mktemp("both")
    image = Image.of(make_image(folder / "small.ext4", ROOT_BYTES))
    return exchange.both(folder, image)


def test_every_difference_has_its_reason(both: Both) -> None:
    """A new difference fails this, and so does a reason for one that is no more."""
    assert differences(compare(*both)) == set(REASONS)


def test_the_page_is_what_was_heard(both: Both) -> None:
    """docs/conformance.md says what both devices did just now: run python -m conformance."""
    assert PAGE.read_text() == page(compare(*both), exchange.SDK[0])


@pytest.mark.parametrize("case", exchange.CASES)
def test_this_device_keeps_to_the_rules(both: Both, case: str) -> None:
    """The audit that the SDK's conversation does not pass is passed by ours."""
    assert violations(both[1][case].packets, LIMITS) == []
    assert violations(both[0][case].packets, LIMITS) != []

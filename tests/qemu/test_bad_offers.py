# SPDX-License-Identifier: MIT
"""What the cloud may send and the network may answer, on one board: each is refused, none harms."""

import re
from collections.abc import Iterator

import pytest
from sim.rig import Rig

from board.emulator.image import SLOT_BYTES, Image

MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, old: Image) -> Iterator[Rig]:
    """Return a desk whose board runs and has reported its version."""
    at_once = {"[download]": "[offers]\nretry_wait_s = 0\n[download]"}  # some share an identity
    with Rig(tmp_path_factory.mktemp("rig"), old, replaced=at_once) as rig:
        rig.board.power_on()
        rig.cloud.wait_for_version("0.1", timeout_s=90)
        yield rig
        rig.show()


def state(rig: Rig, old: Image) -> tuple[str, list[bytes]]:
    """Return what must not change: the booted slot and both copies of the environment."""
    return rig.slot_md5("rootfs-a", old.size_bytes), [copy.data for copy in rig.copies()]


@pytest.mark.parametrize(
    ("wrong", "code", "reason"),
    [
        ({"md5": MD5}, -4, rf"MD5 is [0-9a-f]+, announced was {MD5}"),
        ({"status": 404}, -2, "status 404"),
        ({"status": 403}, -3, "status 403"),
        ({"size_bytes": SLOT_BYTES + 1}, -5, f"needs {SLOT_BYTES + 1} bytes, slot B holds"),
        ({"size_bytes": 90 << 20}, -4, "announced"),
    ],
    ids=["wrong md5sum", "404", "403", "larger than the slot", "longer than announced"],
)
def test_a_bad_offer_fails_with_its_code_and_changes_nothing(  # noqa: PLR0913, PLR0917 - its table
    rig: Rig, old: Image, new: Image, wrong: dict[str, object], code: int, reason: str
) -> None:
    """The code of the protocol, a reason, and the booted slot and the environment untouched."""
    before, since = state(rig, old), rig.cloud.mark()
    rig.offer(new, **wrong)
    message = rig.cloud.wait_for_state("fail", since=since, timeout_s=60)
    rig.cloud.end_task()
    assert (message.code, message.version, message.qos) == (code, "0.2", 1)
    assert re.search(reason, message.reason), message.reason
    rig.cloud.wait_for_version("0.1", since=since)
    assert state(rig, old) == before


def test_a_payload_that_is_no_json_is_one_line_in_the_log(rig: Rig, old: Image) -> None:
    """It is told once and changes nothing; the conversation goes on."""
    before, since = state(rig, old), rig.board.log.mark()
    rig.cloud.send(b"\xff{]")
    rig.board.log.wait_for("message ignored: no JSON", since=since)
    assert state(rig, old) == before
    assert "up" in rig.board.shell("updater status")


def test_the_next_good_offer_works(rig: Rig, new: Image) -> None:
    """Nothing of what failed before stands in its way."""
    since = rig.cloud.mark()
    rig.offer(new)
    rig.cloud.wait_for_state("done", since=since, timeout_s=120)
    rig.cloud.wait_for_version("0.2", since=since)
    assert rig.environment()["boot_slot"] == "B"

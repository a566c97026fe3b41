# SPDX-License-Identifier: MIT
"""The plug is pulled at random moments of a whole update, several times in a row."""

import random
import time
from pathlib import Path

import pytest
from sim.rig import Rig

from board.emulator.image import Image

CUTS = 4
LONGEST_S = 15.0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_a_complete_image_boots_and_one_outcome_is_told(
    tmp_path: Path, old: Image, new: Image, seed: int
) -> None:
    """Whenever it was: the board boots each time, and in the end what it says is what it runs."""
    moments = random.Random(seed)
    with Rig(tmp_path, old) as rig:
        rig.web.bytes_per_s = 32e6
        rig.board.power_on()
        rig.board.wait_for_shell()
        rig.offer(new)
        for _ in range(CUTS):
            time.sleep(moments.uniform(0.0, LONGEST_S))
            rig.cut_power()
            rig.board.wait_for_shell()
        ended = rig.cloud.wait_for(lambda m: m.state in {"done", "fail"}, timeout_s=120)
        rig.cloud.end_task()
        version = "0.2" if ended.state == "done" else "0.1"
        since = rig.cloud.messages.index(ended)
        rig.cloud.wait_for_version(version, since=since, timeout_s=60)
        outcomes = {m.state for m in rig.cloud.messages if m.state in {"done", "fail"}}
        assert outcomes == {ended.state}
        environment = rig.environment()
        assert environment["boot_slot"] == ("B" if ended.state == "done" else "A")
        assert environment["upgrade_available"] == "0"
        image = {"done": ("rootfs-b", new), "fail": ("rootfs-a", old)}[ended.state]
        assert rig.slot_md5(image[0], image[1].size_bytes) == image[1].md5

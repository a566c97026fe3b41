# SPDX-License-Identifier: MIT
"""The updater on the board while nothing is wrong with the firmware: its memory, and its end."""

from pathlib import Path

from sim.rig import Rig

from board.emulator.image import Image

MIB = 1 << 20
PID = "$(cat /run/updater/lock)"


def memory(rig: Rig) -> dict[str, int]:
    """Return the updater's memory in bytes: RssAnon, VmRSS and Pss."""
    said = rig.board.shell(f"cat /proc/{PID}/status /proc/{PID}/smaps_rollup")
    lines = (line.split() for line in said.splitlines())
    return {
        words[0].rstrip(":"): int(words[1]) * 1024
        for words in lines
        if words and words[0] in {"RssAnon:", "VmRSS:", "Pss:"}
    }


def told(what: str, found: dict[str, int]) -> None:
    """Print figures for the record."""
    figures = ", ".join(f"{name} {value / MIB:.1f} MiB" for name, value in found.items())
    print(f"{what}: {figures}")


def test_it_is_small_and_survives_a_kill(tmp_path: Path, old: Image, new: Image) -> None:
    """Private memory stays within its limits, and a kill -9 in the download costs no update."""
    with Rig(tmp_path, old) as rig:
        rig.board.power_on()
        rig.cloud.wait_for_version("0.1", timeout_s=90)
        idle = memory(rig)
        told("idle", idle)
        rig.web.bytes_per_s = 12e6
        rig.offer(new)
        rig.cloud.wait_for(lambda m: (m.percent or 0) >= 40, timeout_s=60)
        installing = memory(rig)
        told("installing", installing)
        rig.board.shell(f"kill -9 {PID}")
        rig.web.bytes_per_s = None
        rig.cloud.wait_for_state("done", timeout_s=120)
        rig.cloud.wait_for_version("0.2", timeout_s=30)
        assert rig.slot_md5("rootfs-b", new.size_bytes) == new.md5
    assert idle["RssAnon"] <= 16 * MIB
    assert installing["RssAnon"] <= 28 * MIB

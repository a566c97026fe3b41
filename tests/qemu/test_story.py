# SPDX-License-Identifier: MIT
"""The main job, end to end: what the demo shows, and what must hold beside it."""

from pathlib import Path

from demo.story import STORY, Witness, images
from sim.cloud import Message
from sim.rig import Rig


def terminal(message: Message) -> bool:
    return message.state in {"done", "fail"}


def test_a_good_firmware_is_kept_and_a_panicking_one_falls_back(tmp_path: Path) -> None:
    """The demo's story comes true, with one outcome a session and no version told in a trial."""
    firmwares = images()
    with Rig(tmp_path, firmwares["0.1"]) as rig:
        witness = Witness(rig, firmwares)
        for chapter in STORY:
            for step in chapter.steps:
                step.observe(witness)
        messages = list(rig.cloud.messages)
        log = rig.board.log.text
    assert [(m.state, m.version) for m in messages if terminal(m)] == [
        ("done", "0.2"),
        ("fail", "0.3"),
    ]
    versions = [m.version for m in messages if m.type == "report_version"]
    assert set(versions[: versions.index("0.2")]) == {"0.1"}
    assert set(versions[versions.index("0.2") :]) == {"0.2"}
    assert all(m.qos == (0 if m.state == "downloading" else 1) for m in messages if m.state)
    assert "secret" not in log  # the URL is signed

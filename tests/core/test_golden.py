# SPDX-License-Identifier: MIT
"""The exact bytes of every message, one file each: what goes over the wire, and what comes.

The files are the reference, written by hand after the vendor's documents and its SDKs' logs; the
code is held against them. A file has one message and nothing else, not even a line's end.
"""

import json
from pathlib import Path

import pytest

from updater.core import messages
from updater.core.errors import ResultCode
from updater.core.messages import VersionResponse
from updater.core.model import Firmware, Offer

GOLDEN = Path(__file__).parent / "golden"
FIRMWARE = Firmware("1.0.0", "ad4615b8" + "0123456789abcdef01234567", 175436)
URL = (
    "https://ota-1255858890.cos.ap-guangzhou.myqcloud.com/100012619289_AP9ZLEVFKT_1.0.0"
    "?sign=q-sign-algorithm%3Dsha1%26q-ak%3DAK%26q-sign-time%3D1615947245%3B1616033645"
    "%26q-key-time%3D1615947245%3B1616033645%26q-header-list%3D%26q-url-param-list%3D"
    "%26q-signature%3D0123456789abcdef0123456789abcdef01234567"
)
HUB = Offer(FIRMWARE, URL)
EXPLORER = Offer(FIRMWARE, URL, task_id=123456, fw_type="mcu")

UP = {
    "report_version": messages.report_version("0.1.0"),
    "report_version-fw_type": messages.report_version("0.1.0", "mcu"),
    "downloading-0": messages.downloading(HUB, 0),
    "downloading-100": messages.downloading(HUB, 100),
    "downloading-task": messages.downloading(EXPLORER, 10),
    "burning": messages.burning(HUB),
    "burning-task": messages.burning(EXPLORER),
    "done": messages.done(HUB),
    "done-task": messages.done(EXPLORER),
    "fail-1": messages.fail(HUB, ResultCode.TRANSPORT, "install: no answer within 10 s"),
    "fail-2": messages.fail(HUB, ResultCode.NOT_FOUND, "install: the server says status 404"),
    "fail-3": messages.fail(HUB, ResultCode.FORBIDDEN, "install: the server says status 403"),
    "fail-4": messages.fail(HUB, ResultCode.DIGEST, "install: MD5 is 00, announced was ad"),
    "fail-5": messages.fail(HUB, ResultCode.LOCAL, "superseded by version 1.0.1"),
    "fail-task": messages.fail(EXPLORER, ResultCode.LOCAL, 'trial: "gateway" \\ \u2026'),
}
DOWN: dict[str, object] = {
    "report_version_rsp": VersionResponse(0),
    "report_version_rsp-fw_type": VersionResponse(0),
    "report_version_rsp-refused": VersionResponse(-1),
    "update_firmware": HUB,
    "update_firmware-task": EXPLORER,
}


@pytest.mark.parametrize("name", UP)
def test_what_we_say_is_what_the_file_says(name: str) -> None:
    """To the byte."""
    assert UP[name] == (GOLDEN / "up" / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", DOWN)
def test_what_the_cloud_says_is_understood(name: str) -> None:
    """As its logs have it: compact, keys in any order."""
    raw = (GOLDEN / "down" / f"{name}.json").read_bytes()
    assert messages.parse_downlink(raw) == DOWN[name]


def test_every_file_is_held_against_something() -> None:
    """None is left over."""
    there = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()}
    assert there == {f"up/{name}.json" for name in UP} | {f"down/{name}.json" for name in DOWN}


@pytest.mark.parametrize("name", [name for name in UP if not name.startswith("report")])
def test_all_inner_values_of_progress_are_strings(name: str) -> None:
    """In the files too, also the numbers; percent with downloading alone, version the target's."""
    report = json.loads((GOLDEN / "up" / f"{name}.json").read_bytes())["report"]
    progress = report["progress"]
    assert {type(value) for value in progress.values()} == {str}
    assert ("percent" in progress) is name.startswith("downloading")
    assert report["version"] == FIRMWARE.version
    assert set(report) - {"progress", "version"} == (
        {"task_id", "fw_type"} if name.endswith("task") else set()
    )


def test_sizes_are_those_of_the_vendors_logs() -> None:
    """151 bytes of downloading 0 of a version of five characters, 86 of the answer to one."""
    assert len(UP["downloading-0"]) == 151
    assert len((GOLDEN / "down/report_version_rsp.json").read_bytes()) == 86

# SPDX-License-Identifier: MIT
"""The kernel command line: two words of it, whatever else stands there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.cmdline import CommandLine, parse


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", CommandLine()),
        ("ro quiet root", CommandLine()),
        ("console=ttyAMA0 root=/dev/mmcblk0p2 ro\n", CommandLine(root="/dev/mmcblk0p2")),
        ("root=PARTUUID=5e55-02 updater.slot=A", CommandLine("PARTUUID=5e55-02", "A")),
        ("updater.slot=A\tupdater.slot=B", CommandLine(slot="B")),
        ("xroot=/dev/sda updater.slots=B root=", CommandLine()),
    ],
)
def test_the_last_word_of_a_kind_holds(text: str, wanted: CommandLine) -> None:
    """As in the kernel; what is missing is empty."""
    assert parse(text) == wanted


@given(st.text(), st.from_regex(r"[A-Za-z0-9._-]+", fullmatch=True))
def test_what_the_bootloader_appends_is_found_behind_anything(text: str, slot: str) -> None:
    """No earlier word can hide the bootloader's last one."""
    assert parse(f"{text} updater.slot={slot}").slot == slot

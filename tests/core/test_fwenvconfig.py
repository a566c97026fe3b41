# SPDX-License-Identifier: MIT
"""``fw_env.config``: the classic form, and nothing half understood."""

import pytest

from updater.core.errors import ConfigError
from updater.core.fwenvconfig import Place, parse


def test_the_classic_form_is_read() -> None:
    """Comments, blank lines, hexadecimal and negative numbers, flash columns."""
    text = """
    # device      offset    size    sector  sectors
    /dev/mmcblk0  0x80000   0x4000          # first
    /dev/mmcblk0  -0x4000   16384

    """
    assert parse(text, "f") == (
        Place("/dev/mmcblk0", 0x80000, 0x4000),
        Place("/dev/mmcblk0", -0x4000, 0x4000),
    )
    assert parse("/dev/mtd0 0 0x4000 0x20000 2", "f") == (
        Place("/dev/mtd0", 0, 0x4000, 0x20000, 2),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 copies"),
        ("/dev/a 0 0x1000\n" * 3, "3 copies"),
        ("/dev/a 0", "is not: device"),
        ("dev/a 0 0x1000", "is not: device"),
        ("/dev/a 0 0x1000 1 2 3", "is not: device"),
        ("/dev/a zero 0x1000", "a number that is none"),
        ("/dev/a 0 32", "size out of"),
        ("/dev/a 0 0x200000", "size out of"),
        ("/dev/a 0 0x1000 -1", "size out of"),
        ("uboot:\n  size: 0x4000", "YAML"),
        ("- path: /dev/a", "YAML"),
        ("/dev/a 0 0x1000\n/dev/a 0x1000 0x2000", "4096 and 8192"),
        ("/dev/a 0 0x1000\n/dev/a 0x800 0x1000", "overlap"),
    ],
)
def test_what_makes_no_sense_is_an_error(text: str, words: str) -> None:
    """The message names file and line."""
    with pytest.raises(ConfigError, match=words) as caught:
        parse(text, "the-file")
    assert "the-file" in str(caught.value)

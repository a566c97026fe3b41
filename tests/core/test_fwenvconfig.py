# SPDX-License-Identifier: MIT
"""``fw_env.config``: the classic form, and nothing half understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert parse("/dev/a 0 64", "f") == parse("/dev/a 0 64 0 0", "f")
    assert parse("/dev/a -0x4000000000000000 0x100000", "f") == (
        Place("/dev/a", -1 << 62, 1 << 20, 0, 0),
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
        ("/dev/a 0 63", "size out of"),
        ("/dev/a 0 0x100001", "size out of"),
        ("/dev/a 0 0x1000 -1", "size out of"),
        ("uboot:\n  size: 0x4000", "YAML"),
        ("- path: /dev/a", "YAML"),
        ("/dev/a 0 0x1000\n/dev/a 0x1000 0x2000", "4096 and 8192"),
        ("/dev/a 0 0x1000\n/dev/a 0x800 0x1000", "overlap"),
        ("/dev/a 0x800 0x1000\n/dev/a 0 0x1000", "overlap"),
        ("/dev/a -0x2000 0x1000\n/dev/a -0x1800 0x1000", "overlap"),
        ("/dev/a 0x4000000000000001 0x1000", "beyond the end"),
        ("/dev/a -0x4000000000000001 0x1000", "beyond the end"),
        # one erase block for both: a store of one would erase the other
        ("/dev/mtd0 0 0x1000 0x20000\n/dev/mtd0 0x10000 0x1000 0x20000", "overlap"),
        ("/dev/mtd0 0x1f000 0x2000 0x20000\n/dev/mtd0 0x30000 0x2000 0x20000", "overlap"),
        ("/dev/mtd0 0 0x1000 0x20000 3\n/dev/mtd0 0x40000 0x1000 0x20000 3", "overlap"),
    ],
)
def test_what_makes_no_sense_is_an_error(text: str, words: str) -> None:
    """The message names file and line."""
    with pytest.raises(ConfigError, match=words) as caught:
        parse(text, "the-file")
    assert "the-file" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "/dev/a 0 0x1000\n/dev/a 0x1000 0x1000",
        "/dev/a 0 65\n/dev/a 65 65",
        "/dev/a 0x1000 0x1000\n/dev/a 0 0x1000",
        "/dev/a 0 0x1000\n/dev/b 0 0x1000",
        "/dev/a 0 0x1000\n/dev/a -0x1000 0x1000",
        "/dev/a -0x2000 0x1000\n/dev/a -0x1000 0x1000",
        "/dev/mtd0 0 0x1000 0x20000\n/dev/mtd0 0x20000 0x1000 0x20000",
        "/dev/mtd0 0 0x1000 0x20000 2\n/dev/mtd0 0x40000 0x1000 0x20000 2",
    ],
)
def test_copies_that_are_apart_are_taken(text: str) -> None:
    """Side by side, from either end, or on two devices."""
    assert len(parse(text, "f")) == 2


_word = st.sampled_from(
    ["/dev/a", "/dev/b", "0", "0x4000", "-0x4000", "0x8000", "-", "a:", "#", "1e3", "9" * 5000]
)


@given(st.text() | st.lists(st.lists(_word).map(" ".join), max_size=3).map("\n".join))
def test_any_text_is_answered(text: str) -> None:
    """Either one or two places of one size that can be, or one sentence."""
    try:
        places = parse(text, "f")
    except ConfigError:
        return
    assert len({place.size_bytes for place in places}) == 1
    assert all(64 <= place.size_bytes <= 1 << 20 for place in places)
    assert all(place.device.startswith("/") for place in places)

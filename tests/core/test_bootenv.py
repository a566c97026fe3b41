# SPDX-License-Identifier: MIT
"""The environment's bytes: which copy wins, what a change leaves alone, every cut of a store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core import bootenv
from updater.core.bootenv import Copy, Flags
from updater.core.errors import EnvironmentStoreError

SIZE = 128


def copy(flag: int, *, is_valid: bool = True) -> Copy:
    return Copy(is_valid, flag, bytes(SIZE))


@pytest.mark.parametrize(
    ("flags", "first", "second", "wanted"),
    [
        (Flags.SERIAL, 1, 2, 1),
        (Flags.SERIAL, 2, 1, 0),
        (Flags.SERIAL, 7, 7, 0),  # a tie
        (Flags.SERIAL, 255, 0, 1),  # wrapped
        (Flags.SERIAL, 0, 255, 0),
        (Flags.SERIAL, 254, 255, 1),
        (Flags.BOOLEAN, 1, 0, 0),
        (Flags.BOOLEAN, 0, 1, 1),
        (Flags.BOOLEAN, 1, 1, 0),  # cut before the old one was made obsolete
        (Flags.BOOLEAN, 255, 1, 0),
        (Flags.BOOLEAN, 1, 255, 1),
        (Flags.BOOLEAN, 0, 7, 0),
    ],
)
def test_the_copy_that_wins_is_u_boots(flags: Flags, first: int, second: int, wanted: int) -> None:
    """U-Boot's table, for two copies whose CRC is right."""
    assert bootenv.winner([copy(first), copy(second)], flags) == wanted


def test_a_copy_with_a_bad_crc_never_wins() -> None:
    """Whatever its flag says."""
    assert bootenv.winner([copy(9, is_valid=False), copy(1)], Flags.SERIAL) == 1
    assert bootenv.winner([copy(1), copy(9, is_valid=False)], Flags.SERIAL) == 0
    assert bootenv.winner([copy(1, is_valid=False)] * 2, Flags.SERIAL) is None
    assert bootenv.winner([copy(0)], Flags.NONE) == 0
    assert bootenv.winner([copy(0, is_valid=False)], Flags.NONE) is None


def test_a_copy_has_u_boots_layout() -> None:
    """A published vector: crc32 of the data in little endian, the flag, the data."""
    raw = bootenv.build(b"a=1\0\0", 3, Flags.SERIAL)
    assert raw == bytes.fromhex("3b069845") + b"\x03a=1\0\0"
    assert bootenv.parse(raw, Flags.SERIAL) == Copy(True, 3, b"a=1\0\0")
    assert bootenv.parse(b"\0" + raw[1:], Flags.SERIAL).is_valid is False
    single = bootenv.build(b"a=1\0\0", 3, Flags.NONE)
    assert len(single) == len(raw) - 1
    assert bootenv.parse(single, Flags.NONE) == Copy(True, 0, b"a=1\0\0")


def test_next_flag_wraps() -> None:
    """255 is followed by 0, which wins over it; NOR flash only knows active."""
    assert bootenv.next_flag(copy(255), Flags.SERIAL) == 0
    assert bootenv.next_flag(copy(0), Flags.BOOLEAN) == bootenv.ACTIVE


DATA = b"b=1\0foreign=\xff\xfe=x\0no-equals\0a=2\0b=twice\0\0".ljust(SIZE, b"\0")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, b"b=1\0foreign=\xff\xfe=x\0no-equals\0a=2\0b=twice\0\0"),
        ({"a": "3"}, b"b=1\0foreign=\xff\xfe=x\0no-equals\0a=3\0b=twice\0\0"),
        ({"a": None}, b"b=1\0foreign=\xff\xfe=x\0no-equals\0b=twice\0\0"),
        ({"a": ""}, b"b=1\0foreign=\xff\xfe=x\0no-equals\0b=twice\0\0"),
        ({"b": "9"}, b"b=9\0foreign=\xff\xfe=x\0no-equals\0a=2\0\0"),
        ({"c": "9"}, b"b=1\0foreign=\xff\xfe=x\0no-equals\0a=2\0b=twice\0c=9\0\0"),
        ({"d": None}, b"b=1\0foreign=\xff\xfe=x\0no-equals\0a=2\0b=twice\0\0"),
        ({"no-equals": "1"}, b"b=1\0foreign=\xff\xfe=x\0no-equals\0a=2\0b=twice\0no-equals=1\0\0"),
    ],
)
def test_what_nobody_asked_to_change_keeps_its_bytes(
    changes: dict[str, str | None], wanted: bytes
) -> None:
    """Foreign variables survive byte for byte and in their order."""
    assert bootenv.apply(DATA, changes) == wanted.ljust(SIZE, b"\0")


@pytest.mark.parametrize("changes", [{"": "x"}, {"a=b": "x"}, {"a": "x\0y"}, {"a\0": "x"}])
def test_what_would_break_the_format_is_refused(changes: dict[str, str]) -> None:
    """A zero byte or '=' would become another variable."""
    with pytest.raises(EnvironmentStoreError, match="cannot be stored"):
        bootenv.apply(DATA, changes)


def test_a_full_environment_is_refused() -> None:
    """Nothing is cut off silently."""
    with pytest.raises(EnvironmentStoreError, match="a copy holds 128"):
        bootenv.apply(DATA, {"long": "x" * SIZE})


@given(st.binary(max_size=SIZE), st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")))
def test_any_bytes_can_be_read_and_changed(junk: bytes, changes: dict[str, str]) -> None:
    """Data of any origin parses, and a change reads back as itself."""
    data = junk.ljust(2 * SIZE, b"\0")
    after = bootenv.variables(bootenv.apply(data, changes))
    assert after == {**bootenv.variables(data), **changes}


@given(
    st.integers(0, 255),
    st.integers(0, 1),
    st.integers(0, SIZE + 5),
    st.binary(min_size=SIZE + 5, max_size=SIZE + 5),
)
def test_a_store_that_is_cut_anywhere_is_the_old_or_the_new_one(
    serial: int, old: int, cut: int, junk: bytes
) -> None:
    """The law, for a store of which only the first *cut* bytes came to the medium, or came torn."""
    before = b"slot=A\0\0".ljust(SIZE, b"\0")
    after = b"slot=B\0\0".ljust(SIZE, b"\0")
    flags = Flags.SERIAL
    media = [bootenv.build(before, serial, flags)] * 2
    media[1 - old] = bootenv.build(b"slot=stale\0\0".ljust(SIZE, b"\0"), (serial - 1) % 256, flags)
    copies = [bootenv.parse(raw, flags) for raw in media]
    assert bootenv.winner(copies, flags) == old
    stored = bootenv.build(after, bootenv.next_flag(copies[old], flags), flags)
    for rest in (media[1 - old][cut:], junk[cut:]):
        media[1 - old] = stored[:cut] + rest
        now = [bootenv.parse(raw, flags) for raw in media]
        winner = bootenv.winner(now, flags)
        assert winner is not None
        seen = bootenv.variables(now[winner].data)["slot"]
        assert seen == ("B" if cut == SIZE + 5 or media[1 - old] == stored else "A")

# SPDX-License-Identifier: MIT
"""The environment's bytes: which copy wins, what a change leaves alone, every cut of a store."""

import itertools

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
        (Flags.BOOLEAN, 0, 0, 0),
        (Flags.BOOLEAN, 255, 255, 0),
        (Flags.BOOLEAN, 0, 255, 1),
        (Flags.BOOLEAN, 255, 0, 0),
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


@pytest.mark.parametrize("old", [0, 1])
def test_the_next_serial_wins_over_any(old: int) -> None:
    """Wherever the old copy lies, and at the wrap."""
    for serial in range(256):
        copies = [copy(bootenv.next_flag(copy(serial), Flags.SERIAL))] * 2
        copies[old] = copy(serial)
        assert bootenv.winner(copies, Flags.SERIAL) == 1 - old


NOR = [
    [copy(first, is_valid=one), copy(second, is_valid=other)]
    for first, second in itertools.product([bootenv.OBSOLETE, bootenv.ACTIVE, 255], repeat=2)
    for one, other in [(True, True), (True, False), (False, True)]
]


@pytest.mark.parametrize("copies", NOR, ids=str)
def test_every_cut_of_a_store_on_nor_flash_leaves_a_whole_copy(copies: list[Copy]) -> None:
    """Erased, half written, written, and only then the old one made obsolete: old or new wins."""
    now = list(copies)
    old = bootenv.winner(now, Flags.BOOLEAN)
    assert old is not None
    new = 1 - old
    for torn in (255, bootenv.ACTIVE):
        now[new] = copy(torn, is_valid=False)
        assert bootenv.winner(now, Flags.BOOLEAN) == old
    now[new] = copy(bootenv.next_flag(now[old], Flags.BOOLEAN))
    assert bootenv.winner(now, Flags.BOOLEAN) in {old, new}
    now[old] = copy(bootenv.OBSOLETE)
    assert bootenv.winner(now, Flags.BOOLEAN) == new


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


@pytest.mark.parametrize(
    "changes", [{"": "x"}, {"a=b": "x"}, {"a": "x\0y"}, {"a\0": "x"}, {"a": "\ud800"}]
)
def test_what_would_break_the_format_is_refused(changes: dict[str, str]) -> None:
    """A zero byte or '=' would become another variable, and half a character is no text."""
    with pytest.raises(EnvironmentStoreError, match="cannot be stored"):
        bootenv.apply(DATA, changes)


def test_a_full_environment_is_refused() -> None:
    """Nothing is cut off silently, and the last byte is used."""
    with pytest.raises(EnvironmentStoreError, match="a copy holds 128"):
        bootenv.apply(DATA, {"long": "x" * SIZE})
    assert bootenv.apply(bytes(8), {"long": "x"}) == b"long=x\0\0"
    with pytest.raises(EnvironmentStoreError, match="needs 9 bytes, a copy holds 8"):
        bootenv.apply(bytes(8), {"long": "xy"})


@pytest.mark.parametrize("data", [b"", b"a=1", b"a=1\0", b"a=1\0b=2"])
def test_an_environment_without_its_end_is_read_and_never_cut(data: bytes) -> None:
    """U-Boot reads up to the end of the copy; a store would need room for the end mark."""
    assert bootenv.variables(data) == dict(
        entry.split("=") for entry in data.decode().split("\0") if entry
    )
    with pytest.raises(EnvironmentStoreError, match=f"a copy holds {len(data)}"):
        bootenv.apply(data, {})


_entry = st.binary(min_size=1, max_size=12).filter(lambda entry: b"\0" not in entry)


@given(
    st.lists(_entry | st.sampled_from([b"a=1", b"b=\xff", b"a=2", b"c"]), max_size=8),
    st.dictionaries(st.sampled_from("abc"), st.none() | st.text("xyz\udcff=", max_size=4)),
)
def test_foreign_entries_keep_their_bytes_and_their_order(
    entries: list[bytes], changes: dict[str, str | None]
) -> None:
    """What is not named in a change is there after it, byte for byte, in the same copy size."""
    data = b"".join(entry + b"\0" for entry in entries).ljust(512, b"\0")
    after = bootenv.apply(data, changes)
    ours = tuple(name.encode() + b"=" for name in changes)
    kept = [entry for entry in after.rstrip(b"\0").split(b"\0") if not entry.startswith(ours)]
    assert [e for e in kept if e] == [e for e in entries if not e.startswith(ours)]
    assert len(after) == len(data)
    assert bootenv.apply(after, changes) == after
    seen = bootenv.variables(after)
    assert all(seen.get(name, "") == (value or "") for name, value in changes.items())


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

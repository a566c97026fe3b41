# SPDX-License-Identifier: MIT
"""The environment store against U-Boot's own tools, on files and loop devices, with faults."""

import fcntl
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from updater.core import bootenv
from updater.core.config import EnvironmentConfig
from updater.core.errors import EnvironmentStoreError
from updater.core.fwenvconfig import Place
from updater.edge import envmedia, envstore
from updater.edge.envstore import EnvironmentStore

SIZE = 0x4000
OFFSETS = (0x80000, 0xC0000)
TEXT = "boot_slot=A\nupgrade_available=0\nbootcount=0\nbootargs=root=/dev/x quiet\n"


def loop(path: Path, sector: int) -> Iterator[str]:
    """A loop device over *path* for as long as the fixture lives."""
    command = ["losetup", "--find", "--show", "--sector-size", str(sector), str(path)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture(
    params=[
        "file",
        pytest.param("loop-512", marks=pytest.mark.root),
        pytest.param("loop-4096", marks=pytest.mark.root),
    ]
)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Storage of 1 MiB with two fresh copies made by mkenvimage."""
    path = tmp_path / "disk"
    raw = subprocess.run(
        ["mkenvimage", "-r", "-s", hex(SIZE), "-o", "-", "-"],
        input=TEXT.encode(),
        capture_output=True,
        check=True,
    ).stdout
    disk = bytearray(b"\x5a" * (1 << 20))
    for offset in OFFSETS:
        disk[offset : offset + SIZE] = raw
    path.write_bytes(disk)
    if request.param == "file":
        yield str(path)
    else:
        yield from loop(path, int(request.param.split("-")[1]))


@pytest.fixture
def config(device: str, tmp_path: Path) -> Path:
    """An fw_env.config for *device*."""
    path = tmp_path / "fw_env.config"
    path.write_text("".join(f"{device} {offset:#x} {SIZE:#x}\n" for offset in OFFSETS))
    return path


@pytest.fixture
def locks(tmp_path: Path) -> list[str]:
    """Lock files of the test's own, one of them in a folder that does not exist."""
    return [str(tmp_path / "one.lock"), str(tmp_path / "two.lock"), str(tmp_path / "no" / "lock")]


@pytest.fixture
def store(config: Path, locks: list[str]) -> EnvironmentStore:
    """The store under test."""
    return EnvironmentStore(EnvironmentConfig(config=str(config)), locks)


def printed(config: Path) -> dict[str, str]:
    """What the field's own reader sees."""
    command = ["fw_printenv", "-c", str(config)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_both_see_the_same(store: EnvironmentStore, config: Path) -> None:
    """What mkenvimage wrote reads alike here and there."""
    assert store.read() == printed(config)
    assert store.read()["bootargs"] == "root=/dev/x quiet"


def test_stores_are_what_the_other_tools_see(store: EnvironmentStore, config: Path) -> None:
    """Ours and fw_setenv's stores alternate, through a whole wrap of the serial number."""
    chance = random.Random(7)
    for turn in range(300):
        if chance.random() < 0.2:
            subprocess.run(["fw_setenv", "-c", str(config), "theirs", str(turn)], check=True)
        else:
            store.store({"ours": str(turn), "gone": None if turn % 2 else "x"})
        if turn % 10 == 0:
            assert store.read() == printed(config)
    assert store.read() == printed(config)


def test_a_store_without_a_change_writes_nothing(store: EnvironmentStore, device: str) -> None:
    """Flash wears; a plan that is performed again after a cut costs no store."""
    store.store({"boot_slot": "B"})
    before = Path(device).read_bytes()
    store.store({"boot_slot": "B", "not-there": None})
    assert Path(device).read_bytes() == before


def test_nothing_else_on_the_device_changes(store: EnvironmentStore, device: str) -> None:
    """Of the medium only the copy that did not win was written."""
    before = Path(device).read_bytes()
    store.store({"boot_slot": "B"})
    after = Path(device).read_bytes()
    changed = [n for n in range(0, len(before), 512) if before[n : n + 512] != after[n : n + 512]]
    assert changed
    assert all(OFFSETS[1] <= n < OFFSETS[1] + SIZE for n in changed)


def test_a_corrupt_copy_is_replaced_by_the_next_store(
    store: EnvironmentStore, device: str, config: Path
) -> None:
    """One bad copy costs nothing; the next store makes two good ones again."""
    with Path(device).open("r+b") as disk:
        disk.seek(OFFSETS[0] + 100)
        disk.write(b"\xff" * 512)
    store.store({"boot_slot": "B"})
    assert store.read()["boot_slot"] == printed(config)["boot_slot"] == "B"
    with Path(device).open("rb") as disk:
        for offset in OFFSETS:
            disk.seek(offset)
            assert bootenv.parse(disk.read(SIZE), bootenv.Flags.SERIAL).is_valid


def test_two_corrupt_copies_are_an_error(store: EnvironmentStore, device: str) -> None:
    """Nothing is invented; nothing is written."""
    with Path(device).open("r+b") as disk:
        for offset in OFFSETS:
            disk.seek(offset)
            disk.write(bytes(SIZE))
    before = Path(device).read_bytes()
    with pytest.raises(EnvironmentStoreError, match="no copy"):
        store.read()
    with pytest.raises(EnvironmentStoreError, match="no copy"):
        store.store({"a": "b"})
    assert Path(device).read_bytes() == before


def test_a_single_copy_is_stored_only_if_that_was_accepted(
    device: str, tmp_path: Path, locks: list[str]
) -> None:
    """Without redundancy a power cut may brick: somebody has to have said yes."""
    raw = bootenv.build(b"a=1\0\0".ljust(SIZE - 4, b"\0"), 0, bootenv.Flags.NONE)
    with Path(device).open("r+b") as disk:
        disk.seek(OFFSETS[0])
        disk.write(raw)
    path = tmp_path / "single"
    path.write_text(f"{device} {OFFSETS[0]:#x} {SIZE:#x}\n")
    settings = EnvironmentConfig(config=str(path))
    with pytest.raises(EnvironmentStoreError, match="accept_single_copy"):
        EnvironmentStore(settings, locks).store({"a": "2"})
    assert EnvironmentStore(settings, locks).read() == {"a": "1"}
    accepted = EnvironmentStore(replace(settings, accept_single_copy=True), locks)
    accepted.store({"a": "2"})
    assert accepted.read() == printed(path) == {"a": "2"}


@pytest.mark.parametrize("which", [0, 1])
def test_a_lock_that_is_held_is_waited_for_and_named(
    store: EnvironmentStore, locks: list[str], which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two files the other program holds."""
    monkeypatch.setattr(envstore, "_LOCK_TIMEOUT_S", 0.2)
    with Path(locks[which]).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentStoreError, match="another program"):
            store.read()
    assert store.read()["boot_slot"] == "A"


def test_copies_that_begin_between_pages_and_at_the_end(tmp_path: Path, locks: list[str]) -> None:
    """Neighbours in the same page survive; a negative offset counts from the end."""
    disk = tmp_path / "disk"
    copy = bootenv.build(b"a=1\0\0".ljust(0x1000 - 5, b"\0"), 1, bootenv.Flags.SERIAL)
    content = bytearray(os.urandom(0x8000))
    content[0x1200:0x2200] = copy
    content[-0x1000:] = copy
    disk.write_bytes(content)
    config = tmp_path / "config"
    config.write_text(f"{disk} 0x1200 0x1000\n{disk} -0x1000 0x1000\n")
    store = EnvironmentStore(EnvironmentConfig(config=str(config)), locks)
    for value in ("2", "3"):
        store.store({"a": value})
        assert store.read() == {"a": value}
    after = disk.read_bytes()
    assert after[:0x1200] == content[:0x1200]
    assert after[0x2200:-0x1000] == content[0x2200:-0x1000]


class Failing(envmedia.BlockMedium):
    """A medium that misbehaves."""

    fault = "none"

    def write(self, raw: bytes) -> None:
        if self.fault == "error-after-write":
            super().write(raw)
            raise EnvironmentStoreError("EIO from the flush")
        if self.fault == "lost":
            return
        if self.fault == "torn":
            super().write(raw[:40] + bytes(len(raw) - 40))
            return
        if self.fault == "error":
            raise EnvironmentStoreError("EIO")
        super().write(raw)
        type(self).fault = "unreadable" if self.fault == "then-unreadable" else self.fault

    def read(self) -> bytes:
        if self.fault == "unreadable":
            raise EnvironmentStoreError("EIO on read")
        return super().read()


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make every medium fail in the way that is asked for."""
    monkeypatch.setattr(Failing, "fault", "none")
    monkeypatch.setattr(envstore, "open_medium", Failing)
    return lambda name: monkeypatch.setattr(Failing, "fault", name)


@pytest.mark.parametrize("name", ["lost", "torn", "error"])
def test_a_store_that_did_not_take_is_said_to_have_failed(
    store: EnvironmentStore, fault: Callable[[str], None], name: str
) -> None:
    """Silence, a torn write or an error: what was there before still holds."""
    fault(name)
    with pytest.raises(EnvironmentStoreError, match="reads back unchanged") as caught:
        store.store({"boot_slot": "B"})
    assert not caught.value.undecided
    fault("none")
    assert store.read()["boot_slot"] == "A"


def test_an_error_is_no_verdict_if_the_medium_has_it(
    store: EnvironmentStore, fault: Callable[[str], None]
) -> None:
    """The store is judged by what reads back and never by a return code."""
    fault("error-after-write")
    store.store({"boot_slot": "B"})
    assert store.read()["boot_slot"] == "B"


def test_a_medium_that_cannot_be_read_back_leaves_it_to_the_next_boot(
    store: EnvironmentStore, fault: Callable[[str], None]
) -> None:
    """Neither yes nor no: the caller must be prepared for both."""
    fault("then-unreadable")
    with pytest.raises(EnvironmentStoreError, match="only the next boot") as caught:
        store.store({"boot_slot": "B"})
    assert caught.value.undecided


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/no/such/device 0 0x4000", "No such file"),
        ("yaml:", "YAML"),
        ("{disk} 0x200000 0x4000", "beyond the end"),
    ],
)
def test_a_place_that_does_not_exist_is_named(
    tmp_path: Path, locks: list[str], text: str, words: str
) -> None:
    """Sentences, not tracebacks."""
    (tmp_path / "disk").write_bytes(bytes(SIZE))
    config = tmp_path / "config"
    config.write_text(text.format(disk=tmp_path / "disk"))
    with pytest.raises(EnvironmentStoreError, match=words):
        EnvironmentStore(EnvironmentConfig(config=str(config)), locks).read()
    config.unlink()
    with pytest.raises(EnvironmentStoreError, match="cannot read"):
        EnvironmentStore(EnvironmentConfig(config=str(config)), locks).read()


def test_block_media_have_no_flags_to_clear(device: str) -> None:
    """Boolean flags are for NOR flash alone."""
    with pytest.raises(EnvironmentStoreError, match="serial numbers"):
        envmedia.open_medium(Place(device, 0, SIZE)).make_obsolete()


def test_copies_in_one_page_are_read_and_never_stored(tmp_path: Path, locks: list[str]) -> None:
    """A cut in the write of one could lose both; what is there is still told."""
    size = 0x800
    raw = bootenv.build(b"boot_slot=A\0\0".ljust(size - 5, b"\0"), 1, bootenv.Flags.SERIAL)
    disk, config = tmp_path / "disk", tmp_path / "fw_env.config"
    disk.write_bytes(raw + raw + bytes(0x1000))
    config.write_text(f"{disk} 0 {size:#x}\n{disk} {size:#x} {size:#x}\n")
    store = EnvironmentStore(EnvironmentConfig(config=str(config)), locks)
    assert store.read() == {"boot_slot": "A"}
    with pytest.raises(EnvironmentStoreError, match="one block of 4096 bytes"):
        store.store({"boot_slot": "B"})
    assert disk.read_bytes()[: 2 * size] == raw + raw

# SPDX-License-Identifier: MIT
"""The boot script in a real U-Boot against its model: same slot, same stores, case by case."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from sim.rig import COPIES

from board.emulator import image
from board.emulator.image import Image
from board.emulator.machine import Machine
from updater.core import bootenv, bootflow
from updater.core.bootenv import Flags

TABLE = ("A", "B")
BOOTLIMIT = 3
PARTITIONS = {"A": "rootfs-a", "B": "rootfs-b"}


@dataclass(frozen=True)
class Case:
    """What is on the board before a reset: variables, corrupt copies, slots that cannot load."""

    name: str
    variables: Mapping[str, str]
    corrupt: tuple[int, ...] = ()
    blank: tuple[str, ...] = ()


def trial(primary: str, count: int) -> Mapping[str, str]:
    return {
        "boot_slot": primary,
        "upgrade_available": "1",
        "bootcount": str(count),
        "updater_session": "00ff",
    }


CASES = [
    Case("good A", {"boot_slot": "A"}),
    Case("good B", {"boot_slot": "B", "upgrade_available": "0", "bootcount": "0"}),
    Case("no primary", {}),
    Case("unknown primary", {"boot_slot": "C"}),
    Case("first trial boot", trial("B", 0)),
    Case("last trial boot", trial("B", 2)),
    Case("trial over", trial("B", 3)),
    Case("trial of A over", trial("A", 3)),
    Case("trial long over", trial("B", 9)),
    Case("count without a trial", {"boot_slot": "B", "upgrade_available": "0", "bootcount": "7"}),
    Case("primary does not load", {"boot_slot": "B"}, blank=("B",)),
    Case("trial does not load", trial("B", 0), blank=("B",)),
    Case("fallback does not load", trial("B", 3), blank=("A",)),
    Case("nothing loads", {"boot_slot": "A"}, blank=("A", "B")),
    Case("nothing loads in a trial", trial("B", 0), blank=("A", "B")),
    Case("copy 0 corrupt", trial("B", 1), corrupt=(0,)),
    Case("copy 1 corrupt", trial("B", 1), corrupt=(1,)),
    Case("both copies corrupt", trial("B", 1), corrupt=(0, 1)),
    Case("both corrupt, A does not load", {"boot_slot": "B"}, corrupt=(0, 1), blank=("A",)),
]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, old: Image) -> Iterator[Path]:
    """Return a disk that has a kernel in both slots; U-Boot writes nothing to it."""
    path = tmp_path_factory.mktemp("disk") / "disk.img"
    image.make_disk(path, old, {})
    image.put(path, "rootfs-b", old.path)
    yield path
    path.unlink()


def set_blank(disk: Path, old: Image, blank: tuple[str, ...]) -> None:
    """Blank the heads of the slots in *blank*, and put those of the others back."""
    with old.path.open("rb") as file:
        head = file.read(1 << 20)
    with disk.open("r+b") as file:
        for bootname, partition in PARTITIONS.items():
            file.seek(image.STARTS[partition] * image.SECTOR_BYTES)
            file.write(bytes(len(head)) if bootname in blank else head)


def variables(card: Path) -> Mapping[str, str] | None:
    """Return what the card says, or None if no copy is valid."""
    raw = card.read_bytes()
    copies = [bootenv.parse(raw[at : at + 0x4000], Flags.SERIAL) for at in COPIES]
    winner = bootenv.winner(copies, Flags.SERIAL)
    return None if winner is None else bootenv.variables(copies[winner].data)


def reset(disk: Path, card: Path) -> tuple[str | None, bool]:
    """Switch the board on, and return which slot U-Boot starts and whether it is on trial."""
    with Machine(disk, card) as board:
        board.power_on()
        match = board.serial.wait_for(
            r"updater: starting slot (\w+)( updater\.trial=1)?$[\s\S]*Starting kernel"
            r"|no slot can be started; stopped",
            timeout_s=30,
        )
    return match[1], match[2] is not None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_u_boot_does_what_the_model_says(
    disk: Path, tmp_path: Path, old: Image, case: Case
) -> None:
    """U-Boot starts the slot that the model starts, and the card says what the model says."""
    set_blank(disk, old, case.blank)
    card = tmp_path / "card.img"
    image.make_card(card, dict(case.variables))
    with card.open("r+b") as file:
        for index in case.corrupt:
            file.seek(COPIES[index] + 100)
            file.write(b"\xff")
    before = variables(card)
    loadable = [bootname for bootname in TABLE if bootname not in case.blank]
    expected = bootflow.boot(before, TABLE, loadable, BOOTLIMIT)
    assert reset(disk, card) == (expected.slot, expected.is_trial)
    after = expected.stores[-1] if expected.stores else before
    found = variables(card)
    assert (None if found is None else told(found)) == (None if after is None else told(after))


def told(found: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables that the boot flow is about."""
    ours = re.compile("boot_slot|upgrade_available|bootcount|updater_session|next_slot|trial_over")
    return {name: value for name, value in found.items() if ours.fullmatch(name)}

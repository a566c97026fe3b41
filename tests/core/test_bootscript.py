# SPDX-License-Identifier: MIT
"""The rendered U-Boot script: the committed one, and that it does what ``core.bootflow`` models.

hush's part of the script is also shell, so that a POSIX shell can run it with U-Boot's commands as
functions. That proves the order of slots and what is saved; what U-Boot itself does is proven in
U-Boot.
"""

import itertools
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from updater.core import bootflow
from updater.core.bootflow import Boot
from updater.core.bootscript import render
from updater.core.config import parse_board
from updater.core.errors import ConfigError

BOARDS = Path(__file__).parents[2] / "board"
TEMPLATES = sorted(BOARDS.glob("*/boot.cmd.in"))
ENVIRONMENTS = sorted(BOARDS.glob("*/u-boot-env.txt"))
TEMPLATE = (BOARDS / "qemu-arm64" / "boot.cmd.in").read_text()
SLOTS = [("A", "rootfs-a"), ("B", "rootfs-b"), ("C", "rootfs-c")]
LIMIT = 3

# U-Boot's commands. A partition's number is its label; `load` knows which of them have a kernel.
COMMANDS = r"""
setenv() { name=$1; shift; eval "$name=\$*"; saved="$saved $name"; }
saveenv() {
    $saveenv_works || return 1
    for name in $(printf '%s\n' $saved | sort -u); do
        eval "value=\$$name"
        if test -n "$value"; then command echo "$name=$value"; fi
    done
    command echo saved
}
echo() { :; }
part() {
    test -n "$4" || return 1
    case $1 in number) eval "$5=\$4" ;; uuid) eval "$4=\${3#0:}" ;; esac
}
load() { case " $loadable " in *" ${2#0:} "*) : ;; *) false ;; esac; }
booti() { command echo "booted $bootargs"; exit; }
"""


def run(
    script: str, variables: Mapping[str, str], loadable: Collection[str], *, saveenv: str = "true"
) -> tuple[str, list[dict[str, str]]]:
    """Return the command line that *script* boots with, or "", and what it saves."""
    labels = " ".join(f"rootfs-{name.lower()}" for name in sorted(loadable))
    before = "\n".join(f"setenv {name} '{value}'" for name, value in variables.items())
    text = f"{COMMANDS}\nloadable='{labels}'\nsaveenv_works={saveenv}\n{before}\n{script}"
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert not done.stderr
    *stores, booted = done.stdout.split("saved\n")
    saved = [dict(line.split("=", 1) for line in store.splitlines()) for store in stores]
    return booted.removeprefix("booted ").strip(), saved


def reset(script: str, variables: Mapping[str, str], loadable: Collection[str]) -> Boot:
    """Return what a reset does: U-Boot's count, then *script*."""
    stores: list[Mapping[str, str]] = []
    known = dict(variables)
    if known.get("upgrade_available") == "1":
        known["bootcount"] = str(int(known["bootcount"]) + 1)
        stores.append(dict(known))
        if int(known["bootcount"]) > LIMIT:
            known["trial_over"] = "1"
    line, saved = run(script, known, loadable)
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    slot = words.get("updater.slot")
    assert words.get("root") == (slot and f"PARTUUID={dict(SLOTS)[slot]}")
    last = [dict(variables), *stores, *saved][-1].get("boot_slot", "")
    primary = words.get("updater.primary", last)  # nobody is told where nothing boots
    return Boot(slot, "updater.trial" in words, (*stores, *saved), primary)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.parent.name)
def test_the_committed_script_is_the_rendered_one(template: Path) -> None:
    """What a board boots by is what its slot table says."""
    folder = template.parent
    board = parse_board((folder / "board.toml").read_text(), "board.toml")
    slots = [(slot.bootname, slot.partlabel) for slot in board.slot]
    wanted = render(template.read_text(), slots, board.boot.bootlimit)
    assert (folder / "boot.cmd").read_text() == wanted


@pytest.mark.parametrize("compiled", ENVIRONMENTS, ids=lambda path: path.parent.name)
def test_u_boot_counts_to_the_limit_that_the_board_names(compiled: Path) -> None:
    """The compiled environment and the board's description agree."""
    board = parse_board((compiled.parent / "board.toml").read_text(), "board.toml")
    assert f"bootlimit={board.boot.bootlimit}" in compiled.read_text().splitlines()


@pytest.mark.parametrize("names", [2, 3], ids=["two slots", "three slots"])
@pytest.mark.parametrize("primary", ["A", "B", "C", "Z", ""])
def test_the_script_does_what_the_model_says(names: int, primary: str) -> None:
    """Every trial, count and set of slots that load: the same slot, and the same stores."""
    table = tuple(name for name, _ in SLOTS[:names])
    script = render(TEMPLATE, SLOTS[:names], LIMIT)
    sets = itertools.chain.from_iterable(
        itertools.combinations(table, size) for size in range(names + 1)
    )
    for loadable, (trial, count) in itertools.product(
        sets, [("0", "4"), ("1", "0"), ("1", "2"), ("1", "3"), ("1", "4")]
    ):
        variables = {
            "boot_slot": primary, "upgrade_available": trial, "bootcount": count,
            "updater_session": "5e55", "ethaddr": "52:54:00",
        }  # fmt: skip
        known = {name: value for name, value in variables.items() if value}
        assert reset(script, known, loadable) == bootflow.boot(known, table, loadable, LIMIT)


@pytest.mark.parametrize("loadable", [(), ("A",), ("B",), ("A", "B")])
def test_without_an_environment_the_table_s_order_holds(loadable: tuple[str, ...]) -> None:
    """The compiled default neither counts nor saves."""
    script = render(TEMPLATE, SLOTS[:2], LIMIT)
    outcome = reset(script, {}, loadable)
    assert outcome == bootflow.boot(None, ("A", "B"), loadable, LIMIT)
    assert outcome.stores == ()


def test_a_fallback_that_cannot_be_saved_still_boots_the_old_slot() -> None:
    """A full or broken environment does not keep a machine on a slot that failed."""
    script = render(TEMPLATE, SLOTS[:2], LIMIT)
    over = {"boot_slot": "B", "upgrade_available": "1", "bootcount": "4", "trial_over": "1"}
    line, saved = run(script, over, ("A", "B"), saveenv="false")
    assert "updater.slot=A" in line.split()
    assert "updater.trial=1" not in line.split()
    assert saved == []


@pytest.mark.parametrize(
    "name", ["", "a b", "a;reset", "$x", 'a"', "a'", "a\n", "@BOOTLIMIT@", "-n", "é", "a=b", "../a"]
)
def test_a_name_that_hush_could_misread_is_refused(name: str) -> None:
    """As bootname or as label; the sentence names it."""
    for slots in ([("A", "rootfs-a"), (name, "rootfs-b")], [("A", name), ("B", "rootfs-b")]):
        with pytest.raises(ConfigError, match="cannot stand in a U-Boot script") as caught:
            render("", slots, LIMIT)
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize("word", ["NOPE", "order", "ORDER2", "Order", "_"])
def test_an_unknown_placeholder_is_refused(word: str) -> None:
    """Never an empty string, and never left standing."""
    with pytest.raises(ConfigError, match=f"nothing is known for @{word}@"):
        render(f"setenv x @{word}@\n", SLOTS[:2], LIMIT)


def test_what_is_no_placeholder_stays() -> None:
    """A lone @ is text."""
    assert render("# mail a@b or c\n@BOOTLIMIT@ @ 3\n", SLOTS[:2], 7) == "# mail a@b or c\n7 @ 3\n"

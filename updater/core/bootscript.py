# SPDX-License-Identifier: MIT
"""Renders a board's U-Boot script from its template and its slot table.

The template (``board/<name>/boot.cmd.in``) holds what only the board knows: how a kernel is loaded
and started. What this module fills in is the order of slots, which is the same on every board and
modelled by ``core.bootflow.boot``. Placeholders stand between ``@``; one that nobody fills, or a
value that hush could misread, is an error and never an empty string.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from updater.core.errors import ConfigError

_PLACEHOLDER = re.compile(r"@(\w+)@")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # "-n" would be an operator of test


def render(template: str, slots: Sequence[tuple[str, str]], bootlimit: int) -> str:
    """Return *template* with the slot table filled in.

    Args:
        template: Text of ``boot.cmd.in``.
        slots: Pairs of bootname and partition label, in the order of the slot table.
        bootlimit: Trial boots before the fallback.

    Raises:
        ConfigError: A placeholder is unknown, or a name is not safe in a hush script.
    """
    for word in (name for slot in slots for name in slot):
        if not _SAFE.fullmatch(word):
            raise ConfigError(f"slot name {word!r} cannot stand in a U-Boot script")
    values = _values(slots, bootlimit)

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ConfigError(f"boot script template: nothing is known for @{match[1]}@")
        return values[match[1]]

    return _PLACEHOLDER.sub(fill, template)


def _values(slots: Sequence[tuple[str, str]], bootlimit: int) -> Mapping[str, str]:
    """Return the text for each placeholder."""
    names = [bootname for bootname, _ in slots]
    following = [*names[1:], names[0]]
    orders = [[first, *(name for name in names if name != first)] for first in names]
    return {
        "BOOTLIMIT": str(bootlimit),
        "FIRST_SLOT": names[0],
        "TABLE_ORDER": " ".join(names),
        "NEXT_SLOT": _choose("boot_slot", zip(names, following, strict=True), "next_slot"),
        "ORDER": _choose(
            "boot_slot",
            ((first, f'"{" ".join(order)}"') for first, order in zip(names, orders, strict=True)),
            "order",
        ),
        "PARTLABEL": _choose("slot", slots, "partlabel"),
    }


def _choose(variable: str, cases: Iterable[tuple[str, str]], result: str) -> str:
    """Return hush lines that set *result* by the value of *variable*."""
    lines = [
        f'if test "${{{variable}}}" = "{value}"; then setenv {result} {choice}; fi'
        for value, choice in cases
    ]
    return "\n".join(lines)

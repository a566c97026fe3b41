# SPDX-License-Identifier: MIT
"""Writes docs/configuration.md from the rows of ``updater.core.config``: every key, once.

    python docs/tables.py

A test holds the committed page against this script.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from updater.core.config import Board, Config

PAGE = Path(__file__).parent / "configuration.md"
HEAD = """\
# Every key of both files

Made by `docs/tables.py` from `updater/core/config.py`. A key that nobody knows is an error that
names the nearest one; quantities carry their unit in their name.
[board/qemu-arm64](../board/qemu-arm64) has both files for the emulated board.
"""
FILES = {
    "`/etc/updater/updater.toml`: this device": Config,
    "`/etc/updater/board.toml`: the board": Board,
}


def tables(kind: Any, path: str = "") -> Iterator[str]:
    """Yield the table of *kind*'s own keys, then those of the tables within it."""
    hints = get_type_hints(kind)
    within = []
    lines = []
    for row in dataclasses.fields(kind):
        hint = hints[row.name]
        item = get_args(hint)[0] if get_origin(hint) is tuple else hint
        if dataclasses.is_dataclass(item):
            within.append((item, f"{path}.{row.name}".lstrip("."), item is not hint))
        else:
            lines.append(line(row, hint))
    if lines:
        yield "\n| key | default | what it is |\n|---|---|---|"
        yield from lines
    for item, name, is_list in within:
        yield f"\n### `{f'[[{name}]]' if is_list else f'[{name}]'}`"
        yield from tables(item, name)


def line(row: "dataclasses.Field[Any]", hint: Any) -> str:
    """Return one key's line."""
    told = row.metadata
    text = told["help"]
    if told["choices"]:
        text += ": " + ", ".join(f"`{choice}`" for choice in told["choices"])
    if told["low"] is not None:
        text += f" ({told['low']:.12g} to {told['high']:.12g})"
    return f"| `{row.name}` | {default(row, hint)} | {text} |"


def default(row: "dataclasses.Field[Any]", hint: Any) -> str:
    """Return the default as it would stand in the file."""
    if row.default_factory is not dataclasses.MISSING:
        value: Any = row.default_factory()
    elif row.default is not dataclasses.MISSING:
        value = row.default
    else:
        return "required"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    return f'`"{value}"`' if hint is str else f"`{value}`"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for title, kind in FILES.items():
        parts += [f"## {title}", *tables(kind), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

# SPDX-License-Identifier: MIT
"""docs/cloud.md as what it is for a reader: blocks to be typed or saved, tables to be looked up."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "cloud.md"

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (/\S+)(?: \(more of it\))?\n")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        language: What stands behind its fence.
        heading: That of the section that it stands in.
        text: What it says, its first line included.
    """

    language: str
    heading: str
    text: str

    @property
    def path(self) -> str:
        """The file that it is saved as, or "" if it is to be typed or read."""
        named = _FILE.match(self.text)
        return "" if named is None else named[1]


def blocks(language: str = "", heading: str = "") -> list[Block]:
    """Return the page's blocks in *language* and under *heading*; "" is any."""
    return [
        block
        for block in _blocks(PAGE.read_text())
        if language in {"", block.language} and heading in {"", block.heading}
    ]


def block(language: str, heading: str, beginning: str = "") -> Block:
    """Return the one block of its kind that begins so."""
    [found] = [each for each in blocks(language, heading) if each.text.startswith(beginning)]
    return found


def _blocks(page: str) -> Iterator[Block]:
    for match in _FENCE.finditer(page):
        indent, language, text = match.groups()
        lines = [line.removeprefix(indent) for line in text.splitlines(keepends=True)]
        heading = _headings(page[: match.start()])[-1]
        yield Block(language, heading, "".join(lines))


def prose() -> str:
    """Return the page without its blocks."""
    return _FENCE.sub("", PAGE.read_text())


def _headings(text: str) -> list[str]:
    return _HEADING.findall(_FENCE.sub("", text))


def headings() -> list[str]:
    """Return every heading."""
    return _headings(PAGE.read_text())


def rows(title: str) -> list[list[str]]:
    """Return the rows of every table whose first column's title begins with *title*."""
    found, is_within = [], False
    for line in prose().splitlines():
        if not line.startswith("|"):
            is_within = False
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if is_within and not set(cells[0]) <= {"-"}:
            found.append(cells)
        elif cells[0].startswith(title):
            is_within = True
    return found

# SPDX-License-Identifier: MIT
"""The kernel command line: what the bootloader says that it has booted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The words that matter here.

    Attributes:
        root: Value of ``root=``, or "".
        slot: Value of ``updater.slot=``, or "".
        primary: Value of ``updater.primary=``: the slot that the bootloader tried first; None if a
            boot script does not say so.
    """

    root: str = ""
    slot: str = ""
    primary: str | None = None


def parse(text: str) -> CommandLine:
    """Return the words of *text*; as in the kernel, the last of a kind holds."""
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    return CommandLine(
        root=words.get("root", ""),
        slot=words.get("updater.slot", ""),
        primary=words.get("updater.primary"),
    )

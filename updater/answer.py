# SPDX-License-Identifier: MIT
"""What every command of the command line returns."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say: *value* for machines, *text* for people."""

    value: object
    text: str

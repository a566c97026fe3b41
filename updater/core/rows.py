# SPDX-License-Identifier: MIT
"""Rows of settings: what one is, and how a TOML file becomes a frozen dataclass of them.

A key that nobody knows is an error that names the nearest known one, never ignored; a value out of
its bounds says what is allowed.
"""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, field
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from updater.core.errors import ConfigError

T = TypeVar("T")


def row(  # noqa: PLR0913 - what stands together in a setting
    text: str,
    default: Any = MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    form: tuple[str, str] = ("", ""),
) -> Any:
    """Return one setting: help, default (none: required), bounds, choices or form.

    Args:
        text: The help.
        default: What it is if it is not named.
        low: The least.
        high: The most.
        choices: All that it can be.
        form: A pattern of what it can be, and what it then must do, in words; "" for any.
    """
    metadata = {"help": text, "low": low, "high": high, "choices": choices, "form": form}
    if isinstance(default, (tuple, list)):
        return field(default_factory=lambda: tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def parse(kind: type[T], text: str, path: str) -> T:
    """Return the *kind* that the TOML *text* describes; *path* is for messages.

    Raises:
        ConfigError: The text is no TOML, or a key or value is wrong.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib's own is a ValueError
        raise ConfigError(f"{path}: {error}") from error
    return _build(kind, table, path, "")


def _build(kind: type[T], table: Mapping[str, Any], path: str, where: str) -> T:
    """Return a *kind* made from *table*, which stands at *where* in the file."""
    fields = {row.name: row for row in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ConfigError(f"{path}: unknown key {where}{key}{_nearest(key, list(fields))}")
    hints = get_type_hints(kind)
    values = {}
    for key, row in fields.items():
        if key in table:
            values[key] = _value(hints[key], table[key], row, path, f"{where}{key}")
        elif row.default is MISSING and row.default_factory is MISSING:
            raise ConfigError(f"{path}: {where}{key} is missing: {row.metadata['help']}")
    return kind(**values)


def _nearest(key: str, known: list[str]) -> str:
    """Return a hint at the key that was perhaps meant."""
    import difflib  # noqa: PLC0415 - costs memory that only a mistake should pay for

    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _value(kind: Any, value: Any, row: "dataclasses.Field[Any]", path: str, where: str) -> Any:
    """Return *value* as *kind*, within its bounds."""
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if not isinstance(value, list):
            raise ConfigError(f"{path}: {where} must be a list, is {value!r}")
        return tuple(_value(item, each, row, path, where) for each in value)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {where} must be a table, is {value!r}")
        return _build(kind, value, path, f"{where}.")  # type: ignore[arg-type]
    if kind is float and type(value) is int:
        return float(_bounded(value, row.metadata, path, where))
    if type(value) is not kind:
        raise ConfigError(f"{path}: {where} must be a {kind.__name__}, is {value!r}")
    return _bounded(value, row.metadata, path, where)


def _bounded(value: Any, bounds: Mapping[str, Any], path: str, where: str) -> Any:
    low, high, choices = bounds["low"], bounds["high"], bounds["choices"]
    pattern, words = bounds["form"]
    if choices and value not in choices:
        raise ConfigError(f"{path}: {where} must be one of {', '.join(choices)}, is {value!r}")
    if pattern and not re.fullmatch(pattern, value):
        raise ConfigError(f"{path}: {where} must {words}, is {value!r}")
    if low is not None and not low <= value <= high:
        raise ConfigError(f"{path}: {where} must be from {low} to {high}, is {value!r}")
    return value

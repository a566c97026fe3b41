# SPDX-License-Identifier: MIT
"""``fw_env.config``: where the copies of U-Boot's environment are.

The classic form, one line a copy: device, offset, size, and for flash the size and number of its
erase blocks. Numbers as C writes them; a negative offset counts from the end. A file that speaks of
something else, libubootenv's YAML form among it, is an error and never half understood.
"""

from dataclasses import dataclass

from updater.core.errors import ConfigError

_MAX_SIZE_BYTES = 1 << 20
_MIN_SIZE_BYTES = 64
_MAX_OFFSET_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class Place:
    """Where one copy is.

    Attributes:
        device: Path of a block device, an MTD character device or a plain file.
        offset_bytes: Where it begins; negative: from the device's end.
        size_bytes: Its size, header included.
        sector_bytes: Size of an erase block, or 0: ask the device.
        sectors: Erase blocks that may be used, bad ones included; 0: just as many as needed.
    """

    device: str
    offset_bytes: int
    size_bytes: int
    sector_bytes: int = 0
    sectors: int = 0


def parse(text: str, path: str) -> tuple[Place, ...]:
    """Return the one or two places that *text* names; *path* is for messages.

    Raises:
        ConfigError: It is not of the classic form, or its places make no sense.
    """
    lines = [line.split("#", 1)[0].split() for line in text.splitlines()]
    places = tuple(_place(words, path) for words in lines if words)
    if len(places) not in {1, 2}:
        raise ConfigError(f"{path}: {len(places)} copies of the environment, must be 1 or 2")
    if len(places) == 2:  # noqa: PLR2004 - a pair
        _check_pair(places, path)
    return places


def _place(words: list[str], path: str) -> Place:
    line = " ".join(words)
    if words[0].endswith(":") or words[0] == "-":
        raise ConfigError(
            f"{path}: {line!r} is of libubootenv's YAML form; the classic form is needed: "
            "device offset size [sector-size [sectors]]"
        )
    if not 3 <= len(words) <= 5 or not words[0].startswith("/"):  # noqa: PLR2004 - columns
        raise ConfigError(f"{path}: {line!r} is not: device offset size [sector-size [sectors]]")
    try:
        numbers = [int(word, 0) for word in words[1:]]
    except ValueError:
        raise ConfigError(f"{path}: {line!r} has a number that is none") from None
    if not _MIN_SIZE_BYTES <= numbers[1] <= _MAX_SIZE_BYTES or min(numbers[1:]) < 0:
        raise ConfigError(
            f"{path}: {line!r} has a size out of {_MIN_SIZE_BYTES} to {_MAX_SIZE_BYTES} bytes"
        )
    if abs(numbers[0]) > _MAX_OFFSET_BYTES:
        raise ConfigError(f"{path}: {line!r} begins beyond the end of any device")
    return Place(words[0], *numbers)


def _check_pair(places: tuple[Place, ...], path: str) -> None:
    first, second = places
    if first.size_bytes != second.size_bytes:
        raise ConfigError(
            f"{path}: the copies have {first.size_bytes} and {second.size_bytes} bytes"
        )
    one, other = _reach(first), _reach(second)
    is_same_end = (first.offset_bytes < 0) == (second.offset_bytes < 0)
    is_apart = one.stop <= other.start or other.stop <= one.start
    if first.device == second.device and is_same_end and not is_apart:
        raise ConfigError(f"{path}: the two copies overlap on {first.device}")


def _reach(place: Place) -> range:
    """Return the bytes that a store may erase: whole erase blocks, if their size is known."""
    sector = place.sector_bytes or 1
    start = place.offset_bytes - place.offset_bytes % sector
    needed = -(-(place.offset_bytes - start + place.size_bytes) // sector)
    return range(start, start + max(place.sectors, needed) * sector)

# SPDX-License-Identifier: MIT
"""The kernel's write protection of eMMC boot partitions, lifted for as long as one is written.

``/dev/mmcblk0boot0`` and its like hold bootloaders; the kernel keeps them read-only by ``force_ro``
in sysfs. They are never slots, and which of them the chip boots from (PARTITION_CONFIG) is not
touched. A process that is killed outright leaves the protection lifted until the next boot; any
other signal must not raise in here, for which the caller cares (``updater.interruption``).
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from updater.core.errors import DeviceError

_log = logging.getLogger(__name__)

_NAME = re.compile(r"mmcblk[0-9]+boot[0-9]+")


@contextmanager
def unprotected(number: int, sysfs: str = "/sys") -> Iterator[None]:
    """Let the block device *number* be written, if it is a boot partition; any other as it is.

    Raises:
        DeviceError: The protection cannot be lifted.
    """
    switch = _switch(number, sysfs)
    before = _read(switch) if switch else ""
    if switch is None or before == "0":
        yield
        return
    try:
        switch.write_text("0", "ascii")
    except OSError as error:
        raise DeviceError(
            f"{switch.parent.name} stays write-protected: {switch}: {error.strerror}"
        ) from error
    try:
        yield
    finally:
        _restore(switch, before)


def _switch(number: int, sysfs: str) -> Path | None:
    """Return the attribute that protects a boot partition; None if the device is none."""
    folder = Path(sysfs, "dev/block", f"{os.major(number)}:{os.minor(number)}").resolve()
    return folder / "force_ro" if _NAME.fullmatch(folder.name) else None


def _read(switch: Path) -> str:
    try:
        return switch.read_text("ascii").strip()
    except OSError as error:
        raise DeviceError(f"{switch}: {error.strerror}") from error


def _restore(switch: Path, before: str) -> None:
    """Protect again; what was written is not undone by a failure of this."""
    try:
        switch.write_text(before, "ascii")
    except OSError as error:
        _log.error("%s stays writable: %s: %s", switch.parent.name, switch, error.strerror)

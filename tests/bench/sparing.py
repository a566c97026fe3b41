# SPDX-License-Identifier: MIT
"""How much is really written of what need not be: zeros, and what the slot already holds."""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench import ours
from bench.stage import MIB, Device, Stage, loop_device

_SIZE = 256 * MIB
_EXTENT = re.compile(r"^ *\d+:(?: +\d+\.\. *\d+:){2} +(\d+):(.*)$", re.MULTILINE)
_EVERY = 4 * MIB  # of so much, half is zeros, or already there


@dataclass(frozen=True)
class Spared:
    """One image; parts of its size."""

    name: str
    written: float
    how: str


def sparing(stage: Stage) -> list[Spared]:
    """Return what was written of an image half zeros, and of one that is half there."""
    return [_zeros(stage), _identical(stage)]


def _zeros(stage: Stage) -> Spared:
    """Write to a device on a file system that keeps zeroed blocks apart from written ones."""
    image = stage.image("zeros", _SIZE, zeros_every=_EVERY)
    with loop_device(_SIZE, tempfile.gettempdir()) as device:
        ours.write(image, device)
        device.check(image)
        written = _written_bytes(device)
    return Spared("half zeros", written / _SIZE, "blocks of the backing file that are written")


def _written_bytes(device: Device) -> int:
    """Return how much of the backing file is data: the rest was allocated, or zeroed, at no cost.

    The device's own counter cannot tell: the kernel counts what it zeroes as written.
    """
    size = os.statvfs(device.backing).f_bsize
    command = ["filefrag", "-s", f"-b{size}", "-v", str(device.backing)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    extents = re.findall(
        r"^ *\d+: +\d+\.\. *\d+: +\d+\.\. *\d+: +(\d+):(.*)$", done.stdout, re.MULTILINE
    )
    return size * sum(int(length) for length, flags in extents if "unwritten" not in flags)


def _identical(stage: Stage) -> Spared:
    """Write to a device that holds every second piece of the image."""
    image, old = stage.image("new", _SIZE), Path(stage.folder / "old")
    content = bytearray(image.path.read_bytes())
    for offset in range(0, _SIZE, _EVERY):
        content[offset : offset + _EVERY // 2] = os.urandom(_EVERY // 2)
    old.write_bytes(content)
    with loop_device(_SIZE) as device:
        device.fill(str(old), _SIZE)
        before = device.written_sectors()
        ours.write(image, device, "--skip-identical")
        written = (device.written_sectors() - before) * 512
        device.check(image)
    return Spared("half identical, `--skip-identical`", written / _SIZE, "sectors of the device")

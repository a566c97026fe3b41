# SPDX-License-Identifier: MIT
"""Puts together what ``updater write`` needs: on a configured device that device, else little."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from updater.core.config import DownloadConfig
from updater.core.errors import ConfigError
from updater.core.ports import Pipeline
from updater.device import Device
from updater.edge.lock import Lock
from updater.edge.medium import Medium
from updater.edge.pipeline import NativePipeline
from updater.settings import DEFAULT_CONFIG
from updater.targets import booted_slot


@dataclass(frozen=True, slots=True)
class Writer:
    """What writes an image for a person.

    Attributes:
        pipeline: Does it.
        limits: Of the download.
        checkpoint: File of what is needed to go on after a cut, or "" for none.
        device: The device that this machine is configured as, or None.
    """

    pipeline: Pipeline
    limits: DownloadConfig
    checkpoint: str
    device: Device | None


def native_pipeline() -> Pipeline:
    """Return what reads and writes media."""
    return NativePipeline()


@contextmanager
def open_writer(config_path: str, medium: Medium) -> Iterator[Writer]:
    """Return what writes *medium*, with a lock: the device's, or on any other machine the medium's.

    Raises:
        ConfigError: This machine runs from a slot, and nothing says what else it needs.
    """
    if config_path != DEFAULT_CONFIG or Path(config_path).exists():
        from updater.assembly import open_locked_device  # noqa: PLC0415 - a workshop has no slots

        with open_locked_device(config_path) as device:
            yield Writer(device.pipeline, device.config.download, device.checkpoint, device)
        return
    if booted_slot():
        raise ConfigError(
            f"this system was booted as slot {booted_slot()}, and there is no {config_path} to say "
            "which media it needs; --config names another place"
        )
    with _medium_lock(medium):
        yield Writer(NativePipeline(), DownloadConfig(), "", None)


@contextmanager
def _medium_lock(medium: Medium) -> Iterator[None]:
    """Hold a lock of one medium, so that several can be written at a time.

    A file is locked by its writer, and so is a block device; where there is no place for locks,
    that must do.
    """
    folder = "/run/updater" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
    path = Path(folder, f"write-{medium.number:x}")
    with closing(Lock(str(path))) if folder and medium.number else nullcontext():
        yield

# SPDX-License-Identifier: MIT
"""Puts the real device together: configuration read, edges built, the writer's lock taken.

The only place that knows which edge implements which port.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from updater.agent import Agent
from updater.core import config
from updater.core.config import Board, Config, DownloadConfig
from updater.core.errors import ConfigError, JournalError
from updater.core.ports import Journal, Pipeline
from updater.device import Device
from updater.edge.envstore import EnvironmentStore
from updater.edge.health import CommandHealth
from updater.edge.journal import LostJournal, SqliteJournal
from updater.edge.lock import Lock
from updater.edge.medium import Medium
from updater.edge.pipeline import NativePipeline
from updater.edge.system import LinuxSystem
from updater.edge.udev import UdevSlotFinder
from updater.targets import booted_slot

DEFAULT_CONFIG = "/etc/updater/updater.toml"

_log = logging.getLogger(__name__)


def read_settings(path: str) -> tuple[Config, Board]:
    """Read both configuration files: the device's at *path*, and the board's that it names.

    Raises:
        ConfigError: One cannot be read, or something in it is wrong.
    """
    settings = config.parse_config(_read(path), path)
    board = settings.state.board
    return settings, config.parse_board(_read(board), board)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {path}: this machine is not set up to be updated; the project's "
            "board/qemu-arm64 has an example of every file, and --config names another place"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8"
        raise ConfigError(f"cannot read {path}: {reason}") from error


@contextmanager
def open_device(settings: Config, board: Board) -> Iterator[Device]:
    """Return the real device; a journal that cannot be opened refuses installs, never a verdict."""
    journal: Journal
    try:
        journal = SqliteJournal(settings.state.directory)
    except JournalError as error:
        _log.error("%s; no install is begun until this is mended", error)
        journal = LostJournal(error)
    with closing(journal):
        yield Device(
            config=settings,
            board=board,
            environment=EnvironmentStore(board.environment),
            finder=UdevSlotFinder(board.slot),
            journal=journal,
            pipeline=NativePipeline(),
            system=LinuxSystem(settings.state, board),
            health=CommandHealth(settings.health),
        )


@contextmanager
def open_locked_device(config_path: str) -> Iterator[Device]:
    """Return the real device, with the lock of whoever writes."""
    settings, board = read_settings(config_path)
    with closing(Lock(settings.state.lock)), open_device(settings, board) as device:
        yield device


@contextmanager
def open_agent(config_path: str) -> Iterator[Agent]:
    """Return an agent over the locked device, without a cloud and not started yet.

    It waits for no fresh URL: nobody would bring it.
    """
    with open_locked_device(config_path) as device:
        limits = replace(device.config.download, fresh_url_timeout_s=0.0)
        alone = replace(device, config=replace(device.config, download=limits))
        with closing(Agent(alone, None)) as agent:
            yield agent


# --- writing without an agent --------------------------------------------------------------------


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

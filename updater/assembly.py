# SPDX-License-Identifier: MIT
"""Puts the real device together: configuration read, edges built, the writer's lock taken.

The only place that knows which edge implements which port.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from updater.agent import Agent
from updater.core import config
from updater.core.config import Board, Config
from updater.core.errors import ConfigError, JournalError
from updater.core.ports import Journal
from updater.device import Device
from updater.edge.envstore import EnvironmentStore
from updater.edge.health import CommandHealth
from updater.edge.journal import LostJournal, SqliteJournal
from updater.edge.lock import Lock
from updater.edge.pipeline import NativePipeline
from updater.edge.system import LinuxSystem
from updater.edge.udev import UdevSlotFinder

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

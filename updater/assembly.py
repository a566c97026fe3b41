# SPDX-License-Identifier: MIT
"""Puts the real device together: edges built, the writer's lock taken.

The only place that knows which edge implements which port; ``writer`` is its short form.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

from updater.core.config import Board, Config
from updater.core.errors import JournalError
from updater.core.journal import Journal
from updater.device import Device
from updater.edge.commands import CommandRunner
from updater.edge.envstore import EnvironmentStore
from updater.edge.health import CommandHealth
from updater.edge.journal import SqliteJournal
from updater.edge.lock import Lock
from updater.edge.pipeline import NativePipeline
from updater.edge.system import LinuxSystem
from updater.edge.udev import UdevSlotFinder
from updater.lostjournal import LostJournal
from updater.settings import read_settings

_log = logging.getLogger(__name__)


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
            commands=CommandRunner(),
        )


@contextmanager
def open_locked_device(config_path: str) -> Iterator[Device]:
    """Return the real device, with the lock of whoever writes."""
    settings, board = read_settings(config_path)
    with closing(Lock(settings.state.lock)), open_device(settings, board) as device:
        yield device

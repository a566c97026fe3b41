# SPDX-License-Identifier: MIT
"""The machine behind ``core.ports.System``: clocks, the image's version, the trial's end, reboot.

Starts the configured reboot command and waits for nothing.
"""

import logging
import math
import secrets
import subprocess
import time
from pathlib import Path

from updater.core.config import Board, StateConfig
from updater.core.ports import LocalTime

_log = logging.getLogger(__name__)

_MAX_VERSION = 32


class LinuxSystem:
    """The system that this process runs on."""

    def __init__(self, settings: StateConfig, board: Board) -> None:
        self._settings = settings
        self._version_file = board.board.version_file
        self._rebooting: subprocess.Popen[bytes] | None = None

    def monotonic_s(self) -> float:
        """Return seconds since some fixed point; never jumps."""
        return time.monotonic()

    def time_s(self) -> float:
        """Return UNIX seconds, as far as this device knows them."""
        return time.time()

    def local_time(self, time_s: float) -> LocalTime:
        """Return what this process's time zone makes of *time_s*."""
        whole_s = math.floor(time_s)
        day, rest_s = divmod(whole_s + time.localtime(whole_s).tm_gmtoff, 86400)
        return LocalTime(day, rest_s // 60, rest_s % 60)

    def random_id(self) -> str:
        """Return a new session id: 16 hexadecimal digits."""
        return secrets.token_hex(8)

    def version(self) -> str:
        """Return the first line of the version file, or ``unknown``."""
        try:
            lines = Path(self._version_file).read_text("ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            _log.warning("%s: %s; the version is unknown", self._version_file, error)
            return "unknown"
        return (lines[0].strip() if lines else "")[:_MAX_VERSION] or "unknown"

    def trial_over(self) -> None:
        """Leave the file that tells the dead-man timer to stop."""
        path = Path(self._settings.trial_over)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            _log.error("%s: %s; the dead-man timer may reboot once more", path, error)

    def reboot(self) -> None:
        """Run the configured reboot command, and return at once."""
        _log.info("rebooting")
        try:
            self._rebooting = subprocess.Popen(self._settings.reboot_command)
        except (OSError, ValueError, IndexError) as error:  # also none, and a zero byte in it
            _log.error("%s: %s; reboot by hand", " ".join(self._settings.reboot_command), error)

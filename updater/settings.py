# SPDX-License-Identifier: MIT
"""Where the configuration is, and how it is read."""

from pathlib import Path

from updater.core import config
from updater.core.config import Board, Config
from updater.core.errors import ConfigError

DEFAULT_CONFIG = "/etc/updater/updater.toml"


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

# SPDX-License-Identifier: MIT
"""Configuration: TOML text in, frozen dataclasses out.

One row per setting: its name and unit, default, bounds and help stand together in the field;
``rows`` reads a file into them. What no single row can judge is judged here.
"""

import re
from dataclasses import dataclass

from updater.core.cloudconfig import CloudConfig, check_cloud
from updater.core.errors import ConfigError
from updater.core.policyconfig import PolicyConfig, check_policy
from updater.core.rows import parse
from updater.core.rows import row as _row

_ALIGNMENT_BYTES = 4096  # of what goes past the page cache
_RING_LIMIT_BYTES = 1 << 30
_LEAST_BANDWIDTH_BYTES_PER_S = 1024  # below it, a slow link could not be told from a dead one

IO_PRIORITIES = ("normal", *map(str, range(8)), "idle")

LINK_CHECK = "link"  # the health check that is no command
_BOOTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # safe in hush and on the command line


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadConfig:
    """``[download]``: limits of the transfer and of its retries."""

    allow_plaintext: bool = _row("take http URLs too", default=False)
    connect_timeout_s: float = _row(
        "seconds until a connection must stand", 10.0, low=0.1, high=300
    )
    stall_timeout_s: float = _row(
        "seconds with less than 256 bytes/s that end a connection", 30.0, low=0.1, high=3600
    )
    attempts: int = _row(
        "connections in a row with less than 64 KiB each, until that is final", 5, low=1, high=1000
    )
    backoff_s: float = _row("longest pause before the second try, seconds", 5.0, low=0, high=3600)
    backoff_limit_s: float = _row("longest pause at all, seconds", 300.0, low=0, high=86400)
    retry_time_s: float = _row(
        "seconds of tries in a row that bring nothing; 0: no limit", 3600.0, low=0, high=604800
    )
    fresh_url_timeout_s: float = _row("seconds to wait for a fresh URL", 300.0, low=0, high=86400)
    max_redirects: int = _row("redirects that are followed", 5, low=0, high=50)
    bandwidth_bytes_per_s: int = _row(
        "at most so many bytes per second, 1024 at least; 0: no limit", 0, low=0, high=1 << 40
    )
    ca_file: str = _row("PEM bundle instead of the system's CAs", "")
    client_cert_file: str = _row("PEM with this device's certificate, for a server that asks", "")
    client_key_file: str = _row("PEM with its key; empty: it is in the same file", "")
    resume: bool = _row("go on after a power cut where the medium is proven", default=True)
    read_back: bool = _row("compare what the medium holds with what was written", default=True)
    skip_identical: bool = _row(
        "read first and write only what differs: less wear, more time", default=False
    )
    decode: bool = _row("unpack gzip, xz and zstd, told by their first bytes", default=True)
    decoder_memory_bytes: int = _row(
        "most that the decoder may need", 12 << 20, low=1 << 16, high=1 << 30
    )
    nice: int = _row("how much its threads yield to others, nice(2)", 0, low=0, high=19)
    io_priority: str = _row(
        "its place at the medium: 0 comes first, idle last", "normal", choices=IO_PRIORITIES
    )
    buffer_bytes: int = _row(
        "size of one buffer, a multiple of 4096", 1 << 20, low=65536, high=64 << 20
    )
    buffers: int = _row("buffers in the ring", 8, low=3, high=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffersConfig:
    """``[offers]``: how often a firmware that fails is tried again."""

    failures: int = _row("failures of one firmware until it is refused", 3, low=1, high=1000)
    retry_wait_s: float = _row(
        "pause after its first failure, doubled by each further one, seconds", 3600.0,
        low=0, high=604800,
    )  # fmt: skip
    retry_wait_limit_s: float = _row("longest such pause, seconds", 86400.0, low=0, high=604800)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCommand:
    """``[[health.command]]``: a program whose exit status 0 means healthy."""

    name: str = _row("name in reports")
    argv: tuple[str, ...] = _row("program and arguments")
    timeout_s: float = _row("seconds until it is killed and has failed", 30.0, low=0.1, high=3600)
    retry_s: float = _row("seconds until it is tried again", 5.0, low=0.1, high=3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """``[health]``: what a new slot must show before it is kept."""

    deadline_s: float = _row(
        "seconds within which every command must pass", 300.0, low=1, high=86400
    )
    link: bool = _row("the link to the cloud must be proven", default=True)
    link_deadline_s: float = _row("seconds for that", 1800.0, low=1, high=86400)
    command: tuple[HealthCommand, ...] = _row("commands to run", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class StateConfig:
    """``[state]``: where this program keeps things."""

    directory: str = _row("directory of the journal, on the data partition", "/var/lib/updater")
    control: str = _row("control socket", "/run/updater/control")
    lock: str = _row("lock of whoever writes", "/run/updater/lock")
    board: str = _row("the board's description", "/etc/updater/board.toml")
    trial_over: str = _row("file that tells the dead-man timer to stop", "/run/updater/trial-over")
    reboot_command: tuple[str, ...] = _row("how to reboot", ("reboot",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """``updater.toml``: this device."""

    cloud: CloudConfig = _row("the cloud")
    download: DownloadConfig = _row("the download", DownloadConfig())
    offers: OffersConfig = _row("offers", OffersConfig())
    health: HealthConfig = _row("health", HealthConfig())
    policy: PolicyConfig = _row("policy", PolicyConfig())
    state: StateConfig = _row("state", StateConfig())


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardName:
    """``[board]``: what this board is."""

    name: str = _row("name of the board")
    compatible: str = _row("what a firmware must match", "")
    version_file: str = _row("file that names the image's version", "/etc/updater/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootConfig:
    """``[boot]``: how the bootloader chooses."""

    dialect: str = _row("variables in use", "bootcount", choices=("bootcount",))
    counter: str = _row("who counts trial boots", "u-boot", choices=("u-boot",))
    bootlimit: int = _row("trial boots before the fallback", 3, low=1, high=9)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """``[environment]``: where U-Boot keeps its variables."""

    config: str = _row("fw_env.config", "/etc/fw_env.config")
    accept_single_copy: bool = _row(
        "store without redundancy; a power cut may brick", default=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotConfig:
    """``[[slot]]``: one line of the slot table."""

    bootname: str = _row("what the bootloader calls it")
    partlabel: str = _row("label of its partition", "")
    partuuid: str = _row("UUID of its partition", "")
    mtd_name: str = _row("name of its MTD partition", "")
    ubi_volume: str = _row("name of its UBI volume", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """``board.toml``: the board."""

    board: BoardName = _row("the board")
    boot: BootConfig = _row("boot", BootConfig())
    environment: EnvironmentConfig = _row("environment", EnvironmentConfig())
    slot: tuple[SlotConfig, ...] = _row("slot table")


def parse_config(text: str, path: str) -> Config:
    """Return the device's configuration; *path* is for messages.

    Raises:
        ConfigError: The text is no TOML, a key or value is wrong, or a command cannot be told apart
            or run.
    """
    config = parse(Config, text, path)
    names = [command.name for command in config.health.command]
    if len({LINK_CHECK, *names}) <= len(names):
        raise ConfigError(
            f"{path}: each health.command needs a name of its own, and none is {LINK_CHECK!r}; "
            f"they are {names}"
        )
    if not all((config.state.reboot_command, *(each.argv for each in config.health.command))):
        raise ConfigError(f"{path}: health.command.argv or state.reboot_command is empty")
    check_cloud(config.cloud, path)
    _check_download(config.download, path)
    check_policy(config.policy, _LEAST_BANDWIDTH_BYTES_PER_S, path)
    return config


def _check_download(download: DownloadConfig, path: str) -> None:
    """Refuse what each row allows and the engine would not, or what cannot be meant."""
    ring_bytes = download.buffers * download.buffer_bytes
    if download.buffer_bytes % _ALIGNMENT_BYTES or ring_bytes > _RING_LIMIT_BYTES:
        raise ConfigError(
            f"{path}: download.buffer_bytes must be a multiple of {_ALIGNMENT_BYTES}, and all "
            f"buffers together at most {_RING_LIMIT_BYTES} bytes"
        )
    if 0 < download.bandwidth_bytes_per_s < _LEAST_BANDWIDTH_BYTES_PER_S:
        raise ConfigError(
            f"{path}: download.bandwidth_bytes_per_s must be 0 for no limit, or "
            f"{_LEAST_BANDWIDTH_BYTES_PER_S} at least, is {download.bandwidth_bytes_per_s}"
        )
    if download.client_key_file and not download.client_cert_file:
        raise ConfigError(f"{path}: download.client_key_file needs download.client_cert_file")


def parse_board(text: str, path: str) -> Board:
    """Return the board's description; *path* is for messages.

    Raises:
        ConfigError: The text is no TOML, a key or value is wrong, or the slot table makes no sense.
    """
    board = parse(Board, text, path)
    names = [slot.bootname for slot in board.slot]
    if len(set(names)) != 2 or len(names) != 2:  # noqa: PLR2004 - a pair
        raise ConfigError(f"{path}: the slot table needs two slots of different names, has {names}")
    for slot in board.slot:
        if not _BOOTNAME.fullmatch(slot.bootname):
            raise ConfigError(
                f"{path}: slot.bootname must be letters, digits, '.', '_' and '-', "
                f"is {slot.bootname!r}"
            )
        ways = (slot.partlabel, slot.partuuid, slot.mtd_name, slot.ubi_volume)
        if sum(map(bool, ways)) != 1:
            raise ConfigError(
                f"{path}: slot {slot.bootname} needs exactly one of partlabel, partuuid, mtd_name, "
                "ubi_volume"
            )
    return board

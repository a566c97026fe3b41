# SPDX-License-Identifier: MIT
"""The rows of ``[policy]``: when an install may begin, what it may cost, and who is asked before.

Read by ``core.config`` like any other table; ``core.policy`` decides by it.
"""

from dataclasses import dataclass

from updater.core.errors import ConfigError
from updater.core.rows import row as _row

# Of what a day has brought, 16 MiB may have to come again: with less, nothing might ever be whole.
_LEAST_BUDGET_BYTES = 32 << 20

BEFORE_INSTALL, AFTER_INSTALL, BEFORE_ACTIVATION = (
    "before-install",
    "after-install",
    "before-activation",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookConfig:
    """``[[policy.hook]]``: a program that is asked on the way, and may say no."""

    name: str = _row("name in reports")
    when: str = _row(
        "when it runs", choices=(BEFORE_INSTALL, AFTER_INSTALL, BEFORE_ACTIVATION)
    )  # fmt: skip
    argv: tuple[str, ...] = _row("program and arguments; exit status 0: go on, 75: ask again later")
    timeout_s: float = _row("seconds until it is killed, which is a no", 60.0, low=0.1, high=86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """``[policy]``: in control of when."""

    install_windows: tuple[str, ...] = _row(
        "when an install that the cloud offers may begin, local time, such as "
        "`Mon-Fri 22:00-05:00`, `Sat,Sun 00:00-24:00` or `02:00-04:00`; empty: at any time",
        (),
    )
    reboot: str = _row(
        "when an installed firmware is activated, which includes the reboot",
        "at-once",
        choices=("at-once", "in-window", "on-request"),
    )
    reboot_windows: tuple[str, ...] = _row(
        "the windows of reboot = in-window; empty: those of the install", ()
    )
    metered_command: tuple[str, ...] = _row(
        "exit status 0: this link is metered now; empty: the limits below hold on every link", ()
    )
    metered_timeout_s: float = _row(
        "seconds until it is killed, and the link taken for metered", 10.0, low=0.1, high=3600
    )
    daily_budget_bytes: int = _row(
        "what downloads may bring on a metered link in one local day, 33554432 at least; 0: no "
        "limit",
        0,
        low=0,
        high=1 << 50,
    )
    metered_bandwidth_bytes_per_s: int = _row(
        "at most so many bytes per second on a metered link, 1024 at least; 0: no limit",
        0,
        low=0,
        high=1 << 40,
    )
    power_command: tuple[str, ...] = _row(
        "exit status 0: power will do for an install and a reboot; empty: it always will", ()
    )
    power_timeout_s: float = _row(
        "seconds until it is killed, and power taken for not enough", 10.0, low=0.1, high=3600
    )
    retry_s: float = _row(
        "seconds until a command that has said not now is asked again; that of metered_command is "
        "asked as often while a download runs",
        300.0,
        low=1,
        high=86400,
    )
    hook: tuple[HookConfig, ...] = _row("hooks", ())


def check_policy(policy: PolicyConfig, least_bandwidth_bytes_per_s: int, path: str) -> None:
    """Refuse what each row allows and cannot be meant; *path* is for messages.

    Raises:
        ConfigError: It names the row.
    """
    names = [hook.name for hook in policy.hook]
    if len(set(names)) != len(names):
        raise ConfigError(
            f"{path}: each policy.hook needs a name of its own; they are {names}"
        )  # fmt: skip
    if not all(hook.argv for hook in policy.hook):
        raise ConfigError(f"{path}: policy.hook.argv is empty")
    if 0 < policy.daily_budget_bytes < _LEAST_BUDGET_BYTES:
        raise ConfigError(
            f"{path}: policy.daily_budget_bytes must be 0 for no limit, or {_LEAST_BUDGET_BYTES} "
            f"at least, is {policy.daily_budget_bytes}"
        )
    if 0 < policy.metered_bandwidth_bytes_per_s < least_bandwidth_bytes_per_s:
        raise ConfigError(
            f"{path}: policy.metered_bandwidth_bytes_per_s must be 0 for no limit, or "
            f"{least_bandwidth_bytes_per_s} at least, is {policy.metered_bandwidth_bytes_per_s}"
        )
    if policy.install_windows or policy.reboot_windows:
        from updater.core.windows import parse_windows  # noqa: PLC0415 - few devices need it

        for key in ("install_windows", "reboot_windows"):
            try:
                parse_windows(getattr(policy, key))
            except ConfigError as error:
                raise ConfigError(f"{path}: policy.{key}: {error}") from error
    elif policy.reboot == "in-window":
        raise ConfigError(
            f"{path}: policy.reboot = in-window needs policy.reboot_windows or install_windows"
        )
    if policy.reboot_windows and policy.reboot != "in-window":
        raise ConfigError(f"{path}: policy.reboot_windows needs policy.reboot = in-window")

# SPDX-License-Identifier: MIT
"""What every test may use: helpers importable by name, and honest skips."""

import os
import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # `import sim.broker`, `import board.emulator`


def pytest_configure() -> None:
    """Let Ctrl-C work in what the tests start, also where they were started in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is fast first; let what needs root say so."""
    items.sort(key=lambda item: "qemu" in item.keywords)
    if os.geteuid() != 0:
        skip = pytest.mark.skip(reason="needs root: loop devices, mounts, ownership")
        for item in items:
            if "root" in item.keywords:
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Turn skips into failures where CI=true: nothing goes untested unseen."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and os.environ.get("CI") == "true":
        terminalreporter.section("skips are failures here", sep="!")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for its skips where CI=true."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if skipped and os.environ.get("CI") == "true" and session.exitstatus == 0:
        session.exitstatus = 1

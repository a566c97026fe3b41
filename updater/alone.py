# SPDX-License-Identifier: MIT
"""An agent that lives as long as one command, where none is running."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from updater.agent import Agent
from updater.assembly import open_locked_device


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

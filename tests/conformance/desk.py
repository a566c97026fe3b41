# SPDX-License-Identifier: MIT
"""The real agent on slots of a loop device, between the cloud in small and its bucket.

A reboot is what it is on a board: the process ends, the bootloader chooses, another process starts
from what is on the medium. Everything that the agent says goes through a tap.
"""

import signal
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from board_on_loop import Board, disk
from sim.audit import Limits, Said, said, violations
from sim.broker import broker, free_port
from sim.bucket import Bucket
from sim.cloud import Cloud
from sim.tap import Tap
from sim.task import PATIENT, Task, Terms
from workshop import Agent, md5

from conformance.hasty import CONNECT_INTERVAL_S, MINUTE_S

HASTY = Path(__file__).with_name("hasty.py")
LIMITS = Limits(minute_s=MINUTE_S, connect_interval_s=CONNECT_INTERVAL_S)
SLOW_BYTES_PER_S = 6e6


@dataclass(frozen=True)
class Image:
    """A firmware in a file."""

    path: Path
    md5: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> "Image":
        """Return the firmware that the file at *path* is."""
        raw = path.read_bytes()
        return cls(path, md5(raw), len(raw))

    def other(self, path: Path) -> "Image":
        """Return a firmware in *path* that differs in its last byte."""
        raw = self.path.read_bytes()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        return self.of(path)


class HastyBoard(Board):
    """A board whose minute is short."""

    def command(self, *arguments: object) -> list[str]:
        """Return the command line that runs the program with *arguments*."""
        program = [sys.executable, str(HASTY), "--config", str(self.config)]
        return [*self.enter(), *program, *(str(argument) for argument in arguments)]


class Desk:
    """A context manager; slot A is booted, and nothing runs on it yet."""

    def __init__(
        self,
        folder: Path,
        image: Image,
        *,
        replaced: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        """Set it up.

        Args:
            folder: For everything.
            image: What slot A holds, and what is offered.
            replaced: What reads differently in the device's updater.toml.
            context: The bucket speaks TLS.
            options: Further lines of the tables of updater.toml.
        """
        self._folder = folder
        self._replaced = {"attempts = 2": "attempts = 1000", **(replaced or {})}
        self._context = context
        self._options = {"health": "link_deadline_s = 60.0", **options}
        self.image = image
        self._broker = ExitStack()
        self._agent: Agent | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._broker.close)
            self._broker_port = self._broker.enter_context(broker(port=free_port()))
            self.cloud = stack.enter_context(Cloud(self._broker_port))
            self.bucket = stack.enter_context(Bucket(context=self._context))
            self.tap = stack.enter_context(Tap(self._broker_port))
            device = stack.enter_context(disk(self._folder, self.image.path))
            self.board = HastyBoard(self._folder, device, port=self.tap.port, **self._options)
            self._configure()
            stack.callback(self._drop_agent)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _configure(self) -> None:
        text = self.board.config.read_text()
        for old, new in self._replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        self.board.config.write_text(text)

    # --- the board -------------------------------------------------------------------------------

    @property
    def agent(self) -> Agent:
        """The agent that runs."""
        assert self._agent is not None
        return self._agent

    @property
    def is_on_trial(self) -> bool:
        """True while the bootloader counts."""
        return self.board.environment()["upgrade_available"] == "1"

    def start(self) -> None:
        """Start the agent."""
        self._agent = Agent(self.board)
        self._agent.__enter__()

    def kill(self) -> None:
        """End the agent as a power cut would."""
        self.agent.end(signal.SIGKILL)
        self._drop_agent()
        self.tap.reboot()

    def shut_down(self) -> str:
        """Wait until the agent asks for a reboot, end it as init does, and let the board boot."""
        self.agent.wait_until(self.board.rebooted.exists, "a reboot", 60)
        assert self.agent.end() == 0
        self._drop_agent()
        self.tap.reboot()
        return self.board.boot()

    def reboot(self) -> str:
        """Do that, and start the agent again; return the slot that has booted."""
        slot = self.shut_down()
        self.start()
        return slot

    def _drop_agent(self) -> None:
        if self._agent is not None:
            self._agent.__exit__()
            self._agent = None

    # --- the cloud -------------------------------------------------------------------------------

    def offer(
        self,
        version: str = "2.0.0",
        *,
        image: Image | None = None,
        md5sum: str = "",
        terms: Terms = PATIENT,
        **more: Any,
    ) -> Task:
        """Start a task for *image*, or the usual one, as *version*; *more* are further keys."""
        image = image or self.image
        name = f"100000000000_PRODUCT001_{version}"
        self.bucket.put_object(name, image.path)
        url = partial(self.bucket.url, name)
        digest, size_bytes = md5sum or image.md5, image.size_bytes
        return self.cloud.offer(version, url, digest, size_bytes, terms=terms, **more)

    def offer_slowly(self, version: str = "2.0.0", **more: Any) -> Task:
        """Do that over a slow network, and wait until the download is in its middle."""
        self.bucket.bytes_per_s = SLOW_BYTES_PER_S
        task = self.offer(version, **more)
        self.cloud.wait_for(lambda m: m.version == version and (m.percent or 0) >= 20)
        return task

    def hurry(self) -> None:
        """Have the network be fast again."""
        self.bucket.bytes_per_s = None
        self.bucket.is_stalled = False

    def lose_broker(self) -> None:
        """Take the broker away."""
        self.tap.shut()
        self._broker.close()

    def restore_broker(self) -> None:
        """Start another in its place; the cloud is there before the device may be."""
        self._broker.enter_context(broker(port=self._broker_port))
        self.cloud.wait_until_subscribed()
        connects = [p.time_s for p in self.tap.packets if p.kind == "CONNECT"]
        time.sleep(max(0.0, max(connects, default=0.0) + CONNECT_INTERVAL_S - time.monotonic()))
        self.tap.open()

    # --- what came of it -------------------------------------------------------------------------

    @property
    def states(self) -> list[str]:
        """What the console has shown of the last task."""
        return [] if self.cloud.task is None else [state.value for state in self.cloud.task.states]

    def violations(self) -> list[str]:
        """Return what the device should not have said."""
        return [*violations(list(self.tap.packets), LIMITS), *map(repr, self.cloud.garbage)]

    def story(self) -> list[str]:
        """Return what the device has said, without repetitions and the versions already known."""
        return told([each for packet in list(self.tap.packets) if (each := said(packet))])


def told(messages: Sequence[Said]) -> list[str]:
    """Return *messages* in words."""
    words, version = [""], ""
    for message in messages:
        if message.word == "report_version":
            if message.version == version:
                continue
            version = message.version
            words.append(f"version {version}")
        else:
            code = message.report["progress"]["result_code"]
            code = "" if code == "0" else f" {code}"
            words.append(f"{message.word}{code} {message.version}")
    return [word for before, word in pairwise(words) if word != before]

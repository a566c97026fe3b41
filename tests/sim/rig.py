# SPDX-License-Identifier: MIT
"""One desk: broker, HTTP server, cloud, and the emulated board between them.

What a test or the demo needs to tell a story, and to look at the board's storage from outside.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from board.emulator import image
from board.emulator.image import Image
from board.emulator.machine import Machine
from sim.broker import broker
from sim.cloud import Cloud
from sim.http_server import HttpServer
from updater.core import bootenv
from updater.core.bootenv import Flags

HOST = "10.0.2.2"  # the loopback of this machine, as the emulated board sees it
ENVIRONMENT_BYTES = 0x4000
COPIES = (0x80000, 0xC0000)


class Rig:
    """A context manager; at its end nothing of it runs any more."""

    def __init__(
        self,
        folder: Path,
        first: Image,
        *,
        replaced: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        listener: Callable[[str], None] | None = None,
    ) -> None:
        """Set the desk up.

        Args:
            folder: For the board's storage.
            first: What slot A holds from the factory.
            replaced: What reads differently in the device's updater.toml.
            files: More files of the data partition, by name.
            listener: Hears what the board's serial console says.
        """
        self._folder = folder
        self._first = first
        self._replaced = replaced or {}
        self._files = files or {}
        self._listener = listener
        self._stack = ExitStack()
        self.disk = folder / "disk.img"
        self.card = folder / "card.img"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            port = stack.enter_context(broker())
            self.web = stack.enter_context(HttpServer())
            self.cloud = stack.enter_context(Cloud(port))
            files = {"updater/updater.toml": self._settings(port), **self._files}
            image.make_disk(self.disk, self._first, files)
            image.make_card(self.card, {"boot_slot": "A"})
            self.board = stack.enter_context(Machine(self.disk, self.card, listener=self._listener))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        if kind is not None:
            self.show()
        self._stack.close()

    def _settings(self, port: int) -> str:
        """Return the device's updater.toml."""
        text = (image.BOARD / "updater.toml").read_text()
        for old, new in {"@PORT@": str(port), **self._replaced}.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def show(self) -> None:
        """Pull the plug and print the end of what the board said: somebody will ask why."""
        self.board.power_off()
        for name, text in (("console", self.board.console_text), ("log", self.board.log_text)):
            print(f"--- the board's {name}\n{text[-4000:]}")

    # --- the cloud's side ------------------------------------------------------------------------

    def offer(
        self, firmware: Image, *, md5: str = "", size_bytes: int = 0, status: int = 0
    ) -> None:
        """Start a task for *firmware*.

        Args:
            firmware: What the HTTP server serves.
            md5: What the cloud says of it, if that is not the truth.
            size_bytes: The same.
            status: What the HTTP server answers instead of serving it.
        """
        name = f"firmware-{firmware.version}"
        self.web.put({name: status or firmware.path})
        url = f"http://{HOST}:{self.web.port}/{name}?sign=secret"
        size_bytes = size_bytes or firmware.size_bytes
        self.cloud.offer(firmware.version, url, md5 or firmware.md5, size_bytes)

    # --- the board's storage, seen from outside --------------------------------------------------

    def cut_power(self) -> None:
        """Pull the plug and put it in again."""
        self.board.power_off()
        self.board.power_on()

    def copies(self) -> list[bootenv.Copy]:
        """Return both copies of U-Boot's environment as the card holds them."""
        card = self.card.read_bytes()
        raw = (card[offset : offset + ENVIRONMENT_BYTES] for offset in COPIES)
        return [bootenv.parse(each, Flags.SERIAL) for each in raw]

    def environment(self) -> Mapping[str, str]:
        """Return the variables as U-Boot would see them."""
        copies = self.copies()
        winner = bootenv.winner(copies, Flags.SERIAL)
        assert winner is not None, "no copy of the environment is valid"
        return bootenv.variables(copies[winner].data)

    def store(self, changes: Mapping[str, str | None]) -> None:
        """Change the environment while the board is off, in both copies."""
        copies = self.copies()
        winner = bootenv.winner(copies, Flags.SERIAL)
        assert winner is not None, "no copy of the environment is valid"
        data = bootenv.apply(copies[winner].data, changes)
        raw = bootenv.build(data, copies[winner].flag, Flags.SERIAL)
        with self.card.open("r+b") as card:
            for offset in COPIES:
                card.seek(offset)
                card.write(raw)

    def slot_md5(self, partition: str, size_bytes: int) -> str:
        """Return the MD5 of the first *size_bytes* of *partition*."""
        digest = hashlib.md5(usedforsecurity=False)
        with self.disk.open("rb") as disk:
            disk.seek(image.STARTS[partition] * image.SECTOR_BYTES)
            left = size_bytes
            while left:
                chunk = disk.read(min(left, 1 << 20))
                digest.update(chunk)
                left -= len(chunk)
        return digest.hexdigest()

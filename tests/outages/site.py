# SPDX-License-Identifier: MIT
"""One device at a broker of its own, the way between them, and the broker's account of it all.

The broker speaks TLS to the device, wants to know who it is, and lets it use its two topics alone;
the cloud is at a Unix socket of the same broker, which nothing on the way can touch. Whoever waits
here lets the board go on meanwhile: it reboots when it asks for that, and the cloud repeats an
offer that it has heard nothing of, as a console's retry does. The way is a proxy on the loopback,
or a wire between network namespaces; where the firmware lies is another way.
"""

import hashlib
import random
import signal
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Self

from certificates import make
from newerpython import newer_python
from sim.audit import Said, said
from sim.broker import free_port
from sim.cloud import DEVICE, PRODUCT, Cloud
from sim.http_server import HttpServer
from sim.ledger import TYPES, Ledger, UnheardError
from sim.mosquitto import Mosquitto
from sim.tap import Packet
from sim.task import State
from sim.way import Way
from sim.wire import BROKER, WEB, Wire
from workshop import Agent

from outages import doors
from outages.boardonfiles import FileBoard
from outages.doors import Door
from outages.owed import rows

KEEP_ALIVE_S = 5
IMPOSTOR_KEEP_ALIVE_S = 77
PASSWORD, OTHER_PASSWORD = "tops3cret-of-the-device", "another-one"
SECRET, KEY = "AAECAwQFBgcICQoLDA0ODw==", bytes(range(16))
SIGNATURE = "q-signature-of-the-url"
IMAGE_BYTES = 400_000
BYTES_PER_S = 400_000.0
_REPEAT_S = 3.0
_PATIENCE_S = 240.0

_BROKER = """
per_listener_settings true
persistence {persistence}
autosave_interval 1
listener 0 {{folder}}/socket
allow_anonymous true
listener {port} {host}
allow_anonymous false
password_file {{folder}}/passwords
acl_file {{folder}}/access
{listener}
"""


class Site:
    """A context manager; nothing runs on the board yet."""

    def __init__(  # noqa: PLR0913 - what differs from site to site
        self,
        folder: Path,
        certificates: Path,
        seed: int,
        *,
        is_persistent: bool = False,
        door: Door = doors.PASSWORD,
        wire: Wire | None = None,
    ) -> None:
        """Set it up in *folder*.

        Args:
            folder: For everything.
            certificates: As ``certificates`` has made them.
            seed: What the images are, and what chance does.
            is_persistent: The broker writes down what it has.
            door: How the device gets in.
            wire: Between device and broker, instead of a proxy.
        """
        self.folder = folder
        self.chance = random.Random(seed)
        self.logs: list[str] = []  # of agents that have ended
        self.offers: dict[str, str] = {}  # how each version is to end
        self._certificates = certificates
        self._is_persistent = is_persistent
        self._door = door
        self._wire = wire
        self._agent: Agent | None = None
        self._repeat_s = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.port = free_port()
            host = BROKER if self._wire else "127.0.0.1"
            configuration = _BROKER.format(
                persistence=str(self._is_persistent).lower(), port=self.port, host=host,
                listener=self._door.listener.format(certificates=self._certificates),
            )  # fmt: skip
            enter = self._wire.enter("cloud") if self._wire else []
            self.broker = Mosquitto(configuration, types=TYPES, enter=enter)
            self.set_password(PASSWORD)
            (self.broker.folder / "access").write_text(self._door.access)
            stack.enter_context(self.broker)
            self.cloud = stack.enter_context(Cloud(0, path=str(self.broker.socket)))
            with self._wire.inside("cloud") if self._wire else nullcontext():
                web = HttpServer(WEB if self._wire else "127.0.0.1")
            self.web = stack.enter_context(web)
            self.web.bytes_per_s, self.web.chunk_bytes = BYTES_PER_S, 1 << 14
            forgets = self.chance.random() < 1 / 2
            self.way = self._wire or stack.enter_context(Way(self.port, forgets=forgets))
            self.ledger = Ledger(self.broker.lines, self.cloud, IMPOSTOR_KEEP_ALIVE_S)
            self.board = self._made_board()
            stack.callback(self._drop_agent)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _made_board(self) -> FileBoard:
        enter = self._wire.enter("device") if self._wire else []
        port = self.way.port if isinstance(self.way, Way) else self.port
        python = newer_python() if self._door.needs_newer_python else ""
        board = FileBoard(self.folder, enter, python=python, port=port)
        for name, words in (("password", PASSWORD), ("secret", SECRET)):
            secret = self.folder / name
            secret.write_text(words)
            secret.chmod(0o600)
        text = board.config.read_text()
        login = self._door.cloud.format(folder=self.folder, certificates=self._certificates)
        login += f"keep_alive_s = {KEEP_ALIVE_S}\n"
        before = 'auth = "none"\nallow_plaintext = true\n'
        assert before in text
        text = text.replace(before, login, 1)
        if self._wire:
            text = text.replace('"127.0.0.1"', f'"{BROKER}"', 1)
        board.config.write_text(text)
        return board

    # --- the broker ------------------------------------------------------------------------------

    def set_password(self, password: str) -> None:
        """Have the broker know the device by *password*, once it reads that."""
        salt = b"salt-of-12-b"
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
        words = f"$7$101${b64encode(salt).decode()}${b64encode(digest).decode()}"
        (self.broker.folder / "passwords").write_text(f"{DEVICE}:{words}\n")

    def stop_broker(self, number: int = signal.SIGTERM) -> None:
        """End it; nobody gets through meanwhile."""
        self.way.shut()
        self.broker.stop(number)

    def start_broker(self) -> None:
        """Start it again; the cloud is there before the device may be."""
        self.broker.start()
        self.cloud.wait_until_subscribed()
        self.way.open()

    # --- the board -------------------------------------------------------------------------------

    @property
    def agent(self) -> Agent:
        """The agent that runs."""
        assert self._agent is not None
        return self._agent

    def start(self) -> None:
        """Start the agent."""
        self._agent = Agent(self.board)
        self._agent.__enter__()

    def kill(self) -> None:
        """End the agent as ``kill -9`` does."""
        self.agent.end(signal.SIGKILL)
        self._drop_agent()
        self.ledger.reboot()

    def _drop_agent(self) -> None:
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.__exit__()
            self.logs.append(agent.log)

    def _tend(self) -> None:
        """Let the board reboot if it asks for that, and the cloud repeat what went unheard."""
        if self._agent is not None and self.board.rebooted.exists():
            assert self.agent.end() == 0, self.agent.log
            self._drop_agent()
            self.ledger.reboot()
            self.board.boot()
            self.start()
        task, now_s = self.cloud.task, time.monotonic()
        if task is not None and task.state is State.PUSHED and now_s > self._repeat_s:
            self._repeat_s = now_s + _REPEAT_S
            self.cloud.push()

    # --- waiting ---------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let *seconds* pass."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._tend()
            time.sleep(0.02)

    def wait_until(
        self, is_so: Callable[[], bool], what: str, timeout_s: float = _PATIENCE_S
    ) -> None:
        """Wait until *is_so*."""
        end_s = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < end_s, f"not within {timeout_s:g} s: {what}\n{self.account()}"
            self._tend()
            time.sleep(0.02)

    def account(self) -> str:
        """Return what is known, for whoever looks for a reason."""
        log = "" if self._agent is None else self._agent.log
        told = ["not all of it is known"]
        with suppress(UnheardError):
            told = [f"{m.packet.time_s:.1f} {m.word} {m.version}" for m in self.messages()]
        broker = [f"{line.time_s:.1f} {line.text}" for line in self.broker.lines[-30:]]
        before = "".join(self.logs)[-3000:]
        return "\n".join(["--- device", before + log, "--- said", *told, "--- broker", *broker])

    # --- the cloud -------------------------------------------------------------------------------

    def offer(self, version: str, ending: str) -> None:
        """Start a task that ends as *ending* says: done, or the code of a fail."""
        raw = self.chance.randbytes(IMAGE_BYTES)
        path = self.folder / "firmware"
        path.write_bytes(raw)
        self.web.put({version: 404 if ending == "-2" else path})
        digest = "0" * 32 if ending == "-4" else hashlib.md5(raw, usedforsecurity=False).hexdigest()
        self.offers[version] = ending
        self._repeat_s = time.monotonic() + _REPEAT_S
        url = f"http://{self.web.host}:{self.web.port}/{version}?sign={SIGNATURE}"
        self.cloud.offer(version, url, digest, len(raw))

    def has_said(self, word: str, version: str) -> bool:
        """Tell whether the cloud has heard *word* of *version*."""
        wanted = {"end": {"done", "fail"}}.get(word, {word})
        known = list(self.cloud.messages)
        return any(message.version == version and message.state in wanted for message in known)

    # --- what came of it -------------------------------------------------------------------------

    def messages(self) -> list[Said]:
        """Return what the broker says that the device has said."""
        return [each for packet in self.packets() if (each := said(packet))]

    def packets(self) -> list[Packet]:
        """Return the broker's account, once the cloud has heard all of it."""
        deadline_s = time.monotonic() + 5
        while True:
            try:
                return self.ledger.packets()
            except UnheardError:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(0.05)

    def is_over(self, version: str) -> bool:
        """Tell whether *version* has ended, and nothing is owed any more."""
        if not self.has_said("end", version):
            return False
        return all(row.is_settled for row in rows(self.folder, "owed_reports"))


def certificates(folder: Path) -> Path:
    """Return *folder*, with certificates for every site in it."""
    folder.mkdir(exist_ok=True)
    make(folder, ["127.0.0.1", BROKER])
    (folder / "keys").write_text(f"{PRODUCT}{DEVICE}:{KEY.hex()}\n")
    return folder

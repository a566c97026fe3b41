# SPDX-License-Identifier: MIT
"""The Debian machine of docs/cloud.md: what the page has people type is typed here, and runs.

It has a network namespace of its own with the page's address, so ports and addresses are used as
they stand. Its files are in a folder: of what the page says, only the paths are replaced. ``apt``
and ``systemctl`` do nothing. Broker and web server are Debian's; they run as root, since what has
changed its user outlives whoever kills us, and ``may_read`` tells what their users could not read.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from cloudpage import Block
from workshop import REPOSITORY, environment

from board.emulator import cache

ADDRESS = "192.0.2.1"
_PLACES = ("/etc/mosquitto", "/etc/nginx", "/data/updater", "/srv/firmware")
_BROKER = """\
user root
persistence false
log_dest file {folder}/mosquitto.log
log_type all
include_dir {folder}/etc/mosquitto/conf.d
"""
_WEB = """\
user root;
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{ access_log off; include {folder}/etc/nginx/conf.d/*.conf; }}
"""
_DONE = "the block has been typed"
_PATIENCE_S = 60.0


class PageMachine:
    """A context manager; at its end nothing of it runs any more."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="page-"))
        self.folder.chmod(0o755)  # for users who are not root
        self._stack = ExitStack()
        self._servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder)
            self._lay_out()
            network = f"ip link set lo up; ip address add {ADDRESS}/32 dev lo; exec sleep infinity"
            holder = self._start(["unshare", "--net", "sh", "-ec", network])
            stack.callback(_end, holder)
            self.enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
            wait(self._is_network_up, "a network")
            self._shell = self._open_shell()
            stack.callback(_end, self._shell)
            stack.callback(self._stop_servers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def here(self, text: str) -> str:
        """Return *text* with the page's paths replaced by those of this machine."""
        for place in _PLACES:
            text = text.replace(place, f"{self.folder}{place}")
        return text

    def place(self, path: str) -> Path:
        """Return where the page's *path* is here."""
        return Path(self.here(path))

    def save(self, block: Block) -> None:
        """Save a file of the page's; what is more of one goes to its end."""
        path = self.place(block.path)
        with path.open("a" if "(more of it)" in block.text else "w") as file:
            file.write(self.here(block.text))

    def type(self, block: Block) -> str:
        """Type a block into the one shell, which stops at the first error; return what it says."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{self.here(block.text)}\necho {_DONE}\n")
        self._shell.stdin.flush()
        said = ""
        limit = threading.Timer(_PATIENCE_S, self._shell.kill)
        limit.start()
        try:
            for line in self._shell.stdout:
                if line.strip() == _DONE:
                    return said
                said += line
        finally:
            limit.cancel()
        raise AssertionError(f"the shell has ended:\n{block.text}\n{said}")

    def serve(self) -> None:
        """Start both servers, as ``systemctl restart`` would."""
        self._stop_servers()
        folder = self.folder
        for name, text, command in (
            ("mosquitto.conf", _BROKER, ["mosquitto", "-c"]),
            ("nginx.conf", _WEB, ["nginx", "-c"]),
        ):
            (folder / name).write_text(text.format(folder=folder))
            self._servers.append(self._start([*self.enter, *command, str(folder / name)]))
        wait(lambda: self._listen_at("8883", "8443"), "both servers", self._servers)

    @contextmanager
    def ear(self, command: str) -> Iterator[Path]:
        """Run *command*, which subscribes, in a terminal of its own; yield what it says, a file."""
        with tempfile.NamedTemporaryFile(dir=self.folder) as heard:
            before = self._subscriptions()
            said = Path(heard.name)
            shell = [*self.enter, "bash", "-c", f"exec {self.here(command)}"]
            process = self._start(shell, said)
            try:
                wait(lambda: self._subscriptions() > before, "a subscription")
                yield said
            finally:
                _end(process)

    @contextmanager
    def program(self, *command: str, said: Path) -> Iterator[IO[str]]:
        """Run *command* from the source tree; yield its terminal, whose end is its own too."""
        more = {"UPDATER_CACHE": str(cache.ROOT)}
        with said.open("w") as output:
            process = subprocess.Popen(
                [*self.enter, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environment() | more,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        assert process.stdin is not None
        try:
            yield process.stdin
        finally:
            process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_S)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            print(said.read_text(errors="replace")[-4000:])  # somebody will ask why

    def may_read(self, user: str, path: str) -> bool:
        """Tell whether *user*, in his own group, can read the page's *path*."""
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        command += ["test", "-r", self.here(path)]
        return subprocess.run(command, check=False).returncode == 0

    def run(self, *command: str) -> str:
        """Run *command* here and return its output."""
        return subprocess.run(
            [*self.enter, *command],
            check=True, capture_output=True, text=True, env=self._environment(), timeout=30,
        ).stdout  # fmt: skip

    # --- its parts -------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        for place in ("etc/mosquitto/conf.d", "etc/nginx/conf.d", "data/updater", "root", "bin"):
            (self.folder / place).mkdir(parents=True)
        for name in ("apt", "systemctl"):
            (self.folder / "bin" / name).symlink_to("/bin/true")

    def _open_shell(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self.enter, "bash", "-e", "-o", "pipefail"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        path = f"{self.folder}/bin:{os.environ['PATH']}:/usr/sbin"
        kept = {key: value for key, value in environment().items() if key != "XDG_CONFIG_HOME"}
        return {**kept, "HOME": f"{self.folder}/root", "PATH": path}

    def _start(
        self, command: Sequence[str], output: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        with (output or self.folder / "output").open("ab") as file:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self._environment(),
            )

    def _stop_servers(self) -> None:
        while self._servers:
            _end(self._servers.pop())

    def _subscriptions(self) -> int:
        return (self.folder / "mosquitto.log").read_text().count("Sending SUBACK")

    def _is_network_up(self) -> bool:
        command = [*self.enter, "ip", "address"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return ADDRESS in done.stdout

    def _listen_at(self, *ports: str) -> bool:
        said = self.run("ss", "-ltn")
        return all(f":{port} " in said for port in ports)


def _end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """End *process* and wait until it has."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def wait(
    is_so: Callable[[], bool],
    what: str,
    needed: Sequence["subprocess.Popen[bytes]"] = (),
    timeout_s: float = _PATIENCE_S,
) -> None:
    """Wait until *is_so*, while all that is *needed* lives."""
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        assert all(each.poll() is None for each in needed), f"a server has ended: {what}"
        time.sleep(0.05)

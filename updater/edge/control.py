# SPDX-License-Identifier: MIT
"""The local control socket, both ends: the agent's behind ``core.ports.Control``, and the caller's.

A Unix socket of mode 0660 whose folder's group may be given to those who may look; who may change
something is told by the kernel (SO_PEERCRED), never by the message. Never blocks on a caller: one
that does not read what it asked for loses its connection. Those who may only look cannot crowd out
those who may change something.
"""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from updater import __version__
from updater.core import errors, varlink
from updater.core.errors import ControlError, UpdaterError
from updater.core.ports import Call

_MAX_CONNECTIONS = 16
_MAX_CALLS_AT_ONCE = 16
_RECEIVE_BYTES = 1 << 16
_SEND_BYTES = 1 << 19  # the longest answer, 500 lines of history, goes out at once
_CALL_TIMEOUT_S = 30.0
_QUEUE_POLL_S = 0.05
_UCRED = struct.Struct("=iII")  # pid, uid, gid


class _Connection:
    """One caller."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _pid, uid, _gid = _UCRED.unpack(credentials)
        self.is_privileged = uid in {0, os.geteuid()}

    def send(self, message: bytes) -> None:
        """Send the whole of *message* at once, or end the connection."""
        try:
            if self.sock.send(message, socket.MSG_NOSIGNAL) != len(message):
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class _Call:
    """One method call."""

    def __init__(self, connection: _Connection, request: varlink.Request) -> None:
        self._connection = connection
        self._is_oneway = request.is_oneway
        self.method = request.method.rpartition(".")[2]
        self.parameters: Mapping[str, object] = request.parameters
        self.is_privileged = connection.is_privileged

    def reply(self, parameters: Mapping[str, object]) -> None:
        """Answer with *parameters*."""
        self._answer(varlink.reply(parameters))

    def fail(self, error: UpdaterError) -> None:
        """Answer with *error*."""
        self._answer(varlink.failure(type(error).__name__, str(error), error.exit_code))

    def _answer(self, message: bytes) -> None:
        if not self._is_oneway:
            self._connection.send(message)


class ControlSocket:
    """The agent's end."""

    def __init__(self, path: str) -> None:
        """Listen at *path*; the caller holds the agent's lock, so that an old socket is nobody's.

        Raises:
            ControlError: The socket cannot be made.
        """
        self._path = Path(path)
        self._connections: dict[int, _Connection] = {}
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            previous = os.umask(0o117)
            try:
                self._listener.bind(path)
            finally:
                os.umask(previous)
            self._listener.listen(_MAX_CONNECTIONS)
        except OSError as error:
            self._listener.close()
            raise ControlError(f"cannot listen at {path}: {error.strerror or error}") from error

    def filenos(self) -> Sequence[int]:
        """Return every descriptor to watch for reading."""
        return [self._listener.fileno(), *self._connections]

    def pump(self, fileno: int) -> Iterable[Call]:
        """Read what *fileno* has and return the complete calls."""
        if fileno == self._listener.fileno():
            self._accept()
            return []
        return self._read(fileno)

    def close(self) -> None:
        """Close every connection and remove the socket."""
        for connection in self._connections.values():
            connection.sock.close()
        self._connections.clear()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:
            return  # gone again
        sock.setblocking(False)
        connection = _Connection(sock)
        if len(self._connections) >= _MAX_CONNECTIONS and not self._make_room(connection):
            sock.close()
            return
        self._connections[sock.fileno()] = connection

    def _make_room(self, newcomer: _Connection) -> bool:
        """End the oldest connection without privilege if *newcomer* has it."""
        if newcomer.is_privileged:
            for fileno, connection in self._connections.items():
                if not connection.is_privileged:
                    self._end(fileno)
                    return True
        return False

    def _end(self, fileno: int) -> None:
        self._connections.pop(fileno).sock.close()

    def _read(self, fileno: int) -> list[Call]:
        connection = self._connections[fileno]
        try:
            got = connection.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            got = b""
        try:
            messages, connection.buffer = varlink.split(connection.buffer + got)
            if got and len(messages) <= _MAX_CALLS_AT_ONCE:
                return list(self._calls(connection, messages))
        except ControlError:
            pass  # what is no message, or a flood of them, is not answered
        self._end(fileno)
        return []

    @staticmethod
    def _calls(connection: _Connection, messages: Iterable[bytes]) -> Iterable[Call]:
        for message in messages:
            request = varlink.parse_request(message)
            answer = varlink.service_reply(request, __version__)
            if answer is None:
                yield _Call(connection, request)
            else:
                connection.send(answer)


def call(
    path: str, method: str, parameters: Mapping[str, object], patience_s: float = 0.0
) -> Mapping[str, object]:
    """Call *method* of the agent that listens at *path*, and return its answer.

    Args:
        path: The control socket.
        method: Without the interface.
        parameters: Of the method.
        patience_s: How much longer than usual the answer may take.

    Raises:
        ControlError: No agent answers.
        UpdaterError: What the agent says, in the class that it names.
    """
    request = {"method": f"{varlink.INTERFACE}.{method}", "parameters": parameters}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_CALL_TIMEOUT_S)
            _connect(sock, path)
            sock.sendall(varlink.encode(request))
            sock.settimeout(_CALL_TIMEOUT_S + patience_s)
            answer = _receive(sock)
    except OSError as error:
        raise ControlError(f"no agent answers at {path}: {error.strerror or error}") from error
    result = answer.get("parameters", {})
    result = result if isinstance(result, dict) else {}
    if "error" in answer:
        raise _remote(str(answer["error"]), result)
    return result


def _connect(sock: socket.socket, path: str) -> None:
    """Connect, also where more callers wait than the kernel queues."""
    deadline_s = time.monotonic() + _CALL_TIMEOUT_S
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(_QUEUE_POLL_S)
        else:
            return


def _receive(sock: socket.socket) -> Mapping[str, object]:
    buffer = b""
    while b"\0" not in buffer:
        got = sock.recv(_RECEIVE_BYTES)
        if not got:
            raise ControlError("the agent ended the connection without an answer")
        buffer += got
    return varlink.parse_object(buffer.split(b"\0", 1)[0])


def _remote(name: str, parameters: Mapping[str, object]) -> UpdaterError:
    """Return the error that the agent named, with its sentence."""
    kind = getattr(errors, str(parameters.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, UpdaterError)):
        return ControlError(f"the agent answers {name}")
    error = kind.__new__(kind)
    error.args = (str(parameters.get("message")),)
    return error

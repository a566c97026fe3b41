# SPDX-License-Identifier: MIT
"""One attempt to reach the broker: name, TCP, TLS, WebSocket; none of it blocks.

Each step is a generator that yields what it waits for, so that the order of steps is the order of
lines. Whoever resumes it need not know why: it finds out by itself whether it can go on, or is too
late. Each step has a limit as a whole, which no broker that drips byte by byte can stretch.
"""

import base64
import os
import select
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from errno import EALREADY, EINPROGRESS, EISCONN, ETIMEDOUT

from updater.core import refusals
from updater.core.cloudconfig import CloudConfig
from updater.core.errors import LinkError
from updater.edge import tls
from updater.edge.lookup import Address, Lookup, plain, resolve
from updater.edge.stream import Stream

LOOKUP_TIMEOUT_S = 60.0  # a resolver of three servers gives up after 30 s
CONNECT_TIMEOUT_S = 10.0  # for each address
HANDSHAKE_TIMEOUT_S = 20.0  # of TLS, and again of WebSocket


@dataclass(frozen=True, slots=True)
class Wait:
    """What a step waits for.

    Attributes:
        fileno: A descriptor.
        events: The ``select.POLL…`` events that it waits for there.
        until_s: When it gives up, monotonic.
    """

    fileno: int
    events: int
    until_s: float


Dial = Generator[Wait, None, Stream]


class Dialler:
    """Dials one broker; keeps a lookup that was given up, for the next attempt to wait for."""

    def __init__(
        self, settings: CloudConfig, monotonic_s: Callable[[], float], clock: Callable[[], str]
    ) -> None:
        """Take *clock*, the device's time in words, to be named where it is a suspect."""
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._clock = clock
        self._lookup: Lookup | None = None

    def dial(self, context: ssl.SSLContext | None) -> Dial:
        """Return an attempt, by TLS if there is a *context*; closing it at any time is safe.

        Raises:
            LinkError: It has failed.
        """
        addresses = yield from self._addresses()
        with ExitStack() as stack:
            sock = yield from self._connected(addresses, stack)
            if context is not None:
                sock = yield from self._secured(sock, context, stack)
            if self._settings.transport == "websocket":
                stream: Stream = yield from self._upgraded(sock)
            else:
                stream = Stream(sock)
            stack.pop_all()
        return stream

    def close(self) -> None:
        """Forget a lookup that still runs."""
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None

    # --- the steps -------------------------------------------------------------------------------

    def _addresses(self) -> Generator[Wait, None, list[Address]]:
        host, port = self._settings.host, self._settings.broker_port
        try:
            return resolve(host, port, is_numeric=True)
        except LinkError:
            pass  # it is a name
        if self._lookup is not None and self._lookup.is_done:
            self.close()  # its answer came too late, and may be stale
        if self._lookup is None:
            self._lookup = Lookup(host, port)
        until_s = self._monotonic_s() + LOOKUP_TIMEOUT_S
        while not self._lookup.is_done:
            yield from self._pause(
                self._lookup.fileno(),
                select.POLLIN,
                until_s,
                f"the name is not looked up within {LOOKUP_TIMEOUT_S:g} s: "
                "check the device's network and its DNS",
            )
        lookup = self._lookup
        self.close()
        return lookup.result()

    def _connected(
        self, addresses: list[Address], stack: ExitStack
    ) -> Generator[Wait, None, socket.socket]:
        """Try one address after the other."""
        failure = LinkError("the name has no address")
        for address in addresses:
            try:
                sock = yield from self._connected_to(address, stack)
            except LinkError as error:
                failure = error
            else:
                return sock
        raise failure

    def _connected_to(
        self, address: Address, stack: ExitStack
    ) -> Generator[Wait, None, socket.socket]:
        family, kind, protocol, place = address
        try:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        except OSError as error:
            raise refusals.network(error.errno or 0, str(error.strerror)) from error
        stack.callback(sock.close)
        until_s = self._monotonic_s() + CONNECT_TIMEOUT_S
        while True:
            code = sock.connect_ex(place)
            if code in {0, EISCONN}:
                return sock
            if code not in {EINPROGRESS, EALREADY}:
                sock.close()
                raise refusals.network(code, os.strerror(code))
            if self._monotonic_s() >= until_s:
                sock.close()
                raise refusals.network(ETIMEDOUT, "")
            yield Wait(sock.fileno(), select.POLLOUT, until_s)

    def _secured(
        self, sock: socket.socket, context: ssl.SSLContext, stack: ExitStack
    ) -> Generator[Wait, None, ssl.SSLSocket]:
        host, until_s = self._settings.host, self._monotonic_s() + HANDSHAKE_TIMEOUT_S
        late = f"TLS: the broker does not answer within {HANDSHAKE_TIMEOUT_S:g} s"
        try:
            secure = context.wrap_socket(
                sock, server_hostname=plain(host), do_handshake_on_connect=False
            )
            stack.callback(secure.close)
            while True:
                try:
                    secure.do_handshake()
                except ssl.SSLWantReadError:
                    yield from self._pause(secure.fileno(), select.POLLIN, until_s, late)
                except ssl.SSLWantWriteError:
                    yield from self._pause(secure.fileno(), select.POLLOUT, until_s, late)
                else:
                    return secure
        except OSError as error:
            raise tls.refusal(error, host, self._clock()) from error
        except ValueError as error:
            raise LinkError(f"TLS: no broker can be called {host!r}: {error}") from error

    def _upgraded(self, sock: socket.socket) -> Generator[Wait, None, Stream]:
        # Both cost memory that only this transport should pay for.
        from updater.core import websocket  # noqa: PLC0415
        from updater.edge.websocketstream import WebSocketStream  # noqa: PLC0415

        settings, until_s = self._settings, self._monotonic_s() + HANDSHAKE_TIMEOUT_S
        key = base64.b64encode(os.urandom(16)).decode("ascii")
        is_tls = isinstance(sock, ssl.SSLSocket)
        unsent = websocket.upgrade(
            settings.host, settings.broker_port, settings.websocket_path, key, is_tls=is_tls
        )
        late = f"the server does not answer to WebSocket within {HANDSHAKE_TIMEOUT_S:g} s"
        answer = b""
        while websocket.HEAD_END not in answer:
            try:
                while unsent:
                    unsent = unsent[sock.send(unsent) :]
                raw = sock.recv(websocket.MAX_HEAD_BYTES - len(answer))
                answer += raw
            except tls.WAITING as error:
                is_full = bool(unsent) or isinstance(error, ssl.SSLWantWriteError)
                events = select.POLLOUT if is_full else select.POLLIN
                yield from self._pause(sock.fileno(), events, until_s, late)
            except OSError as error:
                raise tls.refusal(error, settings.host, self._clock()) from error
            else:
                if not raw:  # the end, or no room for more
                    raise LinkError(
                        "what answers there speaks no WebSocket: "
                        "check cloud.port and cloud.transport"
                    )
        head, _, rest = answer.partition(websocket.HEAD_END)
        websocket.check_upgrade(head, key)
        return WebSocketStream(sock, rest)

    def _pause(
        self, fileno: int, events: int, until_s: float, late: str
    ) -> Generator[Wait, None, None]:
        """Wait once, or find that it is too late."""
        if self._monotonic_s() >= until_s:
            raise LinkError(late)
        yield Wait(fileno, events, until_s)

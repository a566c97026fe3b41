# SPDX-License-Identifier: MIT
"""One POST to the cloud's gateway over HTTP(S), within limits of time and size.

The server's certificate and name are verified. Nothing is redirected, no proxy is asked, nothing is
kept for a second request.
"""

import socket
import ssl
import time

from updater.core.errors import TransportError, UpdaterError
from updater.core.gateway import Gateway
from updater.core.httpanswer import Answer, answer_in, last_answer_in
from updater.edge.authorities import verifying

CONNECT_TIMEOUT_S = 10.0  # for each address of the host, and once more for TLS
ANSWER_TIMEOUT_S = 30.0  # from the first byte sent to the last one received
_PIECE_BYTES = 16 * 1024
_CLOCK_ERRORS = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class GatewayConnection:
    """One connection, for one request."""

    def __init__(self, gateway: Gateway, ca_file: str = "") -> None:
        """Connect. Blocks for the name's lookup, and for ``CONNECT_TIMEOUT_S`` as said there.

        Raises:
            TransportError: There is no connection, or not with whom it should be.
            ConfigError: *ca_file* cannot be used.
        """
        self._name = gateway.authority
        context = verifying(ca_file) if gateway.is_tls else None
        sock: socket.socket | None = None
        try:
            sock = socket.create_connection((gateway.host, gateway.port), CONNECT_TIMEOUT_S)
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=gateway.host)
        except (OSError, UnicodeError) as error:
            if sock is not None:
                sock.close()
            raise self._refused(error) from error
        self._sock = sock

    def post(self, request: bytes, timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
        """Send *request* and return the answer to it.

        Raises:
            TransportError: There is none, or it is too long, too late or no HTTP.
        """
        deadline_s = time.monotonic() + timeout_s
        try:
            self._sock.settimeout(timeout_s)
            self._sock.sendall(request)
            return self._answer(deadline_s)
        except TransportError as error:
            raise TransportError(f"{self._name}: {error}") from error
        except TimeoutError as error:
            raise TransportError(f"{self._name}: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise TransportError(f"{self._name}: {error.strerror or error}") from error

    def _answer(self, deadline_s: float) -> Answer:
        """Return the answer as soon as it is whole; no drip of bytes puts the deadline off."""
        raw = b""
        while (answer := answer_in(raw)) is None:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError
            self._sock.settimeout(remaining_s)
            piece = self._sock.recv(_PIECE_BYTES)
            if not piece:
                return last_answer_in(raw)
            raw += piece
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _refused(self, error: Exception) -> UpdaterError:
        """Return what it means that there is no connection."""
        if isinstance(error, ssl.SSLCertVerificationError):
            clock = f"; this device's clock says {time.strftime('%Y-%m-%d', time.gmtime())}"
            hint = clock if error.verify_code in _CLOCK_ERRORS else ""
            return TransportError(
                f"{self._name}: the server's certificate is refused: {error.verify_message}{hint}"
            )
        if isinstance(error, ssl.SSLError):
            return TransportError(f"{self._name}: TLS fails: {error.reason}")
        reason = error.strerror if isinstance(error, OSError) else None
        return TransportError(f"cannot connect to {self._name}: {reason or error}")

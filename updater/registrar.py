# SPDX-License-Identifier: MIT
"""How a device gets its secret: room for it, the question to the cloud, the answer stored.

The cloud answers once. So everything that can fail without it comes first, and a secret that came
and could not be stored is kept in memory until it can. The question may take long (a name's lookup
has no limit), and the agent's loop must not wait for it: it is asked in a thread that touches
nothing else and wakes the loop through an eventfd. A thread, as it happens once in a device's life,
and a client of HTTPS that never blocks would be many times this file.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable

from updater.core.cloudconfig import CloudConfig
from updater.core.errors import (
    CancelledError,
    ConfigError,
    TransportError,
    UpdaterError,
    WrongStateError,
)
from updater.core.gateway import parse_gateway
from updater.edge.secret import read_secret
from updater.edge.secretfile import SecretFile

_LONGEST_END_S = 40.0  # more than the gateway's answer may take


def nothing() -> None:
    """Let the question be asked."""


class Registrar:
    """Registers one device."""

    def __init__(self, settings: CloudConfig) -> None:
        self._settings = settings
        self._file = SecretFile(settings.secret_file)
        self._unstored: str | None = None

    def is_registered(self) -> bool:
        """Tell whether this device has a secret.

        Raises:
            StorageError: Nobody can tell.
        """
        return self._unstored is None and self._file.exists()

    def register(self, before: Callable[[], None] = nothing, *, again: bool = False) -> None:
        """Get the device secret and store it; blocks.

        Args:
            before: Is called when all is ready, and the cloud is about to be asked.
            again: Also if there is one already, which is replaced only by a new one.

        Raises:
            WrongStateError: There is a secret already; nothing was asked.
            LinkError: The cloud refuses.
            TransportError: There is no answer, or none that can be used.
            UpdaterError: The configuration is wrong, or the secret cannot be stored.
        """
        cloud = self._settings
        if not cloud.product_secret_file:
            raise ConfigError("to register, a device needs cloud.product_secret_file")
        with self._file.reserved() as reservation:
            if self.is_registered() and not again:
                raise WrongStateError(
                    f"this device has a secret already, in {cloud.secret_file}; to get another one "
                    "reset the device in the console, then: updater register --again"
                )
            if self._unstored is None:
                self._unstored = self._ask(before)
            reservation.store(self._unstored)
            self._unstored = None

    def start(self, *, again: bool = False) -> "Attempt":
        """Begin to register, in a thread; *again* as in ``register``."""
        return Attempt(self, again=again)

    def _ask(self, before: Callable[[], None]) -> str:
        """Return what the cloud grants."""
        # what only this needs is no memory of an agent that has its secret
        from updater.core import registration  # noqa: PLC0415
        from updater.edge.aes import decrypt  # noqa: PLC0415
        from updater.edge.registration import GatewayConnection  # noqa: PLC0415

        cloud = self._settings
        gateway = parse_gateway(cloud.registration_url)
        product_secret = read_secret(cloud.product_secret_file)
        registrant = registration.Registrant(cloud.product_id, cloud.device_name, product_secret)
        connection = GatewayConnection(gateway, cloud.registration_ca_file)
        try:
            before()
            now_s = int(time.time())
            request = registration.request(
                registrant,
                gateway,
                timestamp_s=now_s,
                nonce=secrets.randbelow(1 << 31),
                digest=cloud.hmac,
            )
            answer = connection.post(request)
        finally:
            connection.close()
        return registration.parse(answer, registrant, now_s, decrypt)


class Attempt:
    """One registration in a thread of its own."""

    def __init__(self, registrar: Registrar, *, again: bool = False) -> None:
        """Begin; *again* as in ``register``.

        Raises:
            TransportError: There is no thread to be had, or no descriptor.
        """
        self._registrar = registrar
        self._again = again
        self._guard = threading.Lock()
        self._is_closed = False
        self._is_asking = False
        self._is_over = False
        self._error: UpdaterError | None = TransportError("the registration has ended early")
        try:
            self._fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            raise TransportError(f"cannot register now: {error.strerror}") from error
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(self._fileno)
            raise TransportError(f"cannot register now: {error}") from error

    def fileno(self) -> int:
        """Return a descriptor that becomes readable at the end."""
        return self._fileno

    def is_over(self) -> bool:
        """Tell whether it has come to its end."""
        return self._is_over

    def result(self) -> None:
        """Return if the device is registered, once it is over.

        Raises:
            UpdaterError: It is not; why.
        """
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End it: at once, unless the cloud is being asked, whose answer would be lost for good."""
        with self._guard:
            is_waiting = self._is_asking and not self._is_over
        if is_waiting:
            self._thread.join(_LONGEST_END_S)
        with self._guard:
            if self._is_over and not self._is_closed:
                os.close(self._fileno)
            self._is_closed = True  # else the thread closes it

    def _run(self) -> None:
        try:
            self._registrar.register(self._before, again=self._again)
            self._error = None
        except UpdaterError as error:
            self._error = error
        finally:
            with self._guard:
                self._is_over = True
                if self._is_closed:
                    os.close(self._fileno)
                else:
                    os.eventfd_write(self._fileno, 1)

    def _before(self) -> None:
        with self._guard:
            if self._is_closed:
                raise CancelledError("the program ends")
            self._is_asking = True

# SPDX-License-Identifier: MIT
"""The boot environment behind ``core.ports.Environment``: one store, judged by what is read back.

Takes both lock files that the field's tools use, writes the copy that does not win, flushes, reads
every copy back from the medium and asks U-Boot's own rule which one wins now. No return code of a
write decides anything. A store that changes nothing writes nothing.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from updater.core import bootenv, fwenvconfig
from updater.core.bootenv import Copy, Flags
from updater.core.config import EnvironmentConfig
from updater.core.errors import ConfigError, EnvironmentStoreError
from updater.edge.envmedia import Medium, open_medium

_log = logging.getLogger(__name__)

LOCK_FILES = ("/run/fw_printenv.lock", "/var/lock/fw_printenv.lock")
_LOCK_TIMEOUT_S = 5.0
_LOCK_POLL_S = 0.05


class EnvironmentStore:
    """U-Boot's variables, wherever ``fw_env.config`` says they are."""

    def __init__(self, settings: EnvironmentConfig, lock_files: Sequence[str] = LOCK_FILES) -> None:
        """Read nothing yet: a machine without an environment still has a status."""
        self._settings = settings
        self._lock_files = lock_files

    def read(self) -> Mapping[str, str]:
        """Return the variables as U-Boot would see them."""
        with self._locked():
            media = self._media()
            copies = [bootenv.parse(medium.read(), _flags(media)) for medium in media]
            return bootenv.variables(copies[self._winner(copies, media)].data)

    def store(self, changes: Mapping[str, str | None]) -> None:
        """Apply *changes* in one store, and return when it is proven."""
        with self._locked():
            media = self._media()
            flags = _flags(media)
            copies = [bootenv.parse(medium.read(), flags) for medium in media]
            old = self._winner(copies, media)
            data = bootenv.apply(copies[old].data, changes)
            if bootenv.variables(data) == bootenv.variables(copies[old].data):
                return
            if len(media) == 1 and not self._settings.accept_single_copy:
                raise EnvironmentStoreError(
                    "the environment has one copy only: a power cut while it is stored could leave "
                    "none; nothing was stored (environment.accept_single_copy allows it)"
                )
            _check_apart(media)
            new = (old + 1) % len(media)
            raw = bootenv.build(data, bootenv.next_flag(copies[old], flags), flags)
            self._write(media, old, new, raw)
            self._judge(media, new, data)

    def _write(self, media: Sequence[Medium], old: int, new: int, raw: bytes) -> None:
        """Write; an error is no verdict yet."""
        try:
            media[new].write(raw)
            if _flags(media) is Flags.BOOLEAN and media[new].read() == raw:
                media[old].make_obsolete()
        except EnvironmentStoreError as error:
            _log.error("%s; reading back what the medium holds", error)

    def _judge(self, media: Sequence[Medium], new: int, data: bytes) -> None:
        """Read every copy back and see which one wins."""
        try:
            copies = [bootenv.parse(medium.read(), _flags(media)) for medium in media]
        except EnvironmentStoreError as error:
            raise EnvironmentStoreError(
                f"{error}; only the next boot can tell whether the store took", undecided=True
            ) from error
        won = bootenv.winner(copies, _flags(media))
        if won != new or copies[won].data != data:
            raise EnvironmentStoreError(
                "the environment was stored and reads back unchanged; what it said before holds"
                if won is not None
                else "the environment was stored and no copy reads back valid"
            )

    def _media(self) -> Sequence[Medium]:
        path = self._settings.config
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EnvironmentStoreError(f"cannot read {path}: {error}") from error
        try:
            return [open_medium(place) for place in fwenvconfig.parse(text, path)]
        except ConfigError as error:
            raise EnvironmentStoreError(str(error)) from error

    @staticmethod
    def _winner(copies: Sequence[Copy], media: Sequence[Medium]) -> int:
        winner = bootenv.winner(copies, _flags(media))
        if winner is None:
            raise EnvironmentStoreError(
                "no copy of the environment has a valid CRC: U-Boot runs from its compiled default"
            )
        return winner

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock files; one whose folder does not exist can be held by nobody."""
        with ExitStack() as held:
            for path in dict.fromkeys(os.path.realpath(path) for path in self._lock_files):
                if Path(path).parent.is_dir():
                    held.enter_context(_flocked(path))
            yield


def _check_apart(media: Sequence[Medium]) -> None:
    """Refuse to store where a cut in the write of one copy could take the other one along."""
    if len({medium.place.device for medium in media}) == len(media):
        return
    first, second = (_units(medium) for medium in media)
    if first.start < second.stop and second.start < first.stop:
        raise EnvironmentStoreError(
            f"both copies of the environment lie in one block of {media[0].unit_bytes} bytes of "
            f"{media[0].place.device}: a power cut could lose both; nothing was stored"
        )


def _units(medium: Medium) -> range:
    """Return the erase blocks or pages that *medium* is in; negative: from the device's end."""
    start, unit = medium.place.offset_bytes, medium.unit_bytes
    return range(start // unit, -(-(start + medium.place.size_bytes) // unit))


def _flags(media: Sequence[Medium]) -> Flags:
    return media[0].flags if len(media) > 1 else Flags.NONE


@contextmanager
def _flocked(path: str) -> Iterator[None]:
    """Hold one lock file."""
    try:
        fileno = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentStoreError(f"cannot open the lock {path}: {error.strerror}") from error
    try:
        deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise EnvironmentStoreError(
                        f"another program has held {path} for {_LOCK_TIMEOUT_S:g} s"
                    ) from None
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(fileno)

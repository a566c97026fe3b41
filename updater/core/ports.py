# SPDX-License-Identifier: MIT
"""The seams: one protocol per outside thing; ``link``, ``journal`` and ``commands`` have more.

Edge modules implement these; tests implement them over memory. Every method raises errors of
``updater.core.errors`` and nothing else. No protocol blocks for longer than its docstring says:
the agent is one thread.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Protocol

from updater.core.config import DownloadConfig
from updater.core.errors import UpdaterError
from updater.core.model import Slots

# --- the native pipeline -------------------------------------------------------------------------


class Phase(Enum):
    """What a running install is doing, in this order; any but the last may be left out."""

    RESUMING = "resuming"  # what an earlier try left on the medium is read again
    CONNECTING = "connecting"  # until the source gives its first bytes
    BLANKING = "blanking"  # the target's head is being blanked: it cannot boot from here on
    RECEIVING = "receiving"  # bytes arrive, are hashed and written
    VERIFYING = "verifying"  # the last byte is there; digest, flush, read-back, head
    DONE = "done"  # every byte was read back from the medium and matched


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an install is.

    Attributes:
        received_bytes: Of the firmware, resumed ones included.
        written_bytes: Of the image that the medium needs no more of, skipped or not.
        verified_bytes: Of the image that were read back and matched.
        size_bytes: Of the firmware; 0 while nobody knows it.
        resumed_bytes: Of the firmware that an earlier try brought and that still hold; while
            ``RESUMING``: that were looked at so far.
        identical_bytes: Not written, because the medium held them.
        zeroed_bytes: Zeros that the device was told of and not sent.
        retries: Connections that broke off and were made anew.
        bad_blocks: Erase blocks that were found bad and marked.
        format: Of the firmware: ``raw``, ``gzip``, ``xz`` or ``zstd``.
    """

    phase: Phase
    received_bytes: int
    written_bytes: int
    verified_bytes: int
    size_bytes: int
    resumed_bytes: int = 0
    identical_bytes: int = 0
    zeroed_bytes: int = 0
    retries: int = 0
    bad_blocks: int = 0
    format: str = "raw"


_IO_PRIORITIES = {"normal": -1, "idle": 8}  # and the levels 0 to 7 as they are


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """What to bring where, and within which limits; ``from_limits`` fills in the latter.

    Attributes:
        source: An http(s) URL, the path of a file or medium, or ``-`` for standard input.
        device: What is written: a block device, a character device of MTD or UBI, or a file.
        device_number: The number that it must have, as ``Slot.number`` without a mark; 0 for any.
        size_bytes: Exact size of the firmware; 0 if nobody has announced it.
        md5: Its MD5 as 32 lower-case hexadecimal digits; "" if it is only asked for.
        version: What it is called; "" if nobody has said. With size and MD5 its identity: of
            another version nothing is gone on with, though its bytes are the same.
        sha256: Its SHA-256 as 64 of them; "" if it is only asked for, None if not even that.
        checkpoint: File of what is needed to go on after a cut; "" for none.
        image_size_bytes: Exact size of the image if that is known and differs; else 0.
        io_priority: 0 (most) to 7, 8 for only when idle, -1 for that of this process.
        retry_time_s: How long attempts in a row may bring nothing; 0 for no limit.
        bandwidth_bytes_per_s: At most so much; 0 for no limit.
    """

    source: str
    device: str
    size_bytes: int = 0
    md5: str = ""
    version: str = ""
    sha256: str | None = None
    checkpoint: str = ""
    image_size_bytes: int = 0
    device_number: int = 0
    read_back: bool = True
    skip_identical: bool = False
    decode: bool = True
    decoder_memory_bytes: int = 12 << 20
    nice: int = 0
    io_priority: int = -1
    allow_plaintext: bool = False
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 5.0
    backoff_limit_s: float = 300.0
    retry_time_s: float = 0.0
    max_redirects: int = 5
    bandwidth_bytes_per_s: int = 0
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    buffer_bytes: int = 1 << 20
    buffers: int = 8

    @classmethod
    def from_limits(
        cls, limits: DownloadConfig, *, source: str, device: str, size_bytes: int = 0, md5: str = ""
    ) -> "InstallRequest":
        """Return a request within *limits*: each key of the same name is taken over."""
        known = {row.name for row in fields(cls)}
        rows = {row.name for row in fields(limits)} & known - {"io_priority"}
        level = limits.io_priority
        return cls(
            source,
            device,
            size_bytes,
            md5,
            io_priority=_IO_PRIORITIES[level] if level in _IO_PRIORITIES else int(level),
            **{name: getattr(limits, name) for name in rows},
        )

    def __repr__(self) -> str:
        """Show all that matters but the source, which is a signed URL."""
        return f"InstallRequest(to {self.device}, {self.size_bytes} bytes, md5 {self.md5})"


class RunningInstall(Protocol):
    """An install under way in threads of its own; closing it at any time is safe."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the install is done or has failed."""

    def step(self, timeout_s: float) -> Progress:
        """Wait up to *timeout_s* for news and return the progress.

        Raises:
            UpdaterError: The install failed; the target's head is blank.
        """

    def phase(self) -> Phase:
        """Return what it was doing: at the last ``step``; after ``close``, when it stood still."""

    def received_bytes(self) -> int:
        """Return how much of the firmware had come at the last ``step``, though it failed."""

    def hexdigest(self) -> str:
        """Return the firmware's MD5; like the other digests only after ``Phase.DONE``."""

    def sha256_hexdigest(self) -> str:
        """Return the firmware's SHA-256, or "" if it was not asked for."""

    def image_hexdigest(self) -> str:
        """Return the MD5 of the image: of what the medium now holds."""

    def close(self) -> None:
        """Stop whatever is still going on and free everything; cannot fail."""


class Pipeline(Protocol):
    """Writes images into slots and reads them back."""

    def open_install(self, request: InstallRequest) -> RunningInstall:
        """Begin *request*; what can be refused at once is refused here, before the first write."""

    def open_digest(
        self, device: str, size_bytes: int, sha256: str | None = None
    ) -> RunningInstall:
        """Begin to read the first *size_bytes* of *device* (0: all), past the page cache.

        Args:
            device: What is read: anything that can be written, or a file.
            size_bytes: Fewer than that are an error.
            sha256: As in a request; the MD5 is always computed.
        """


# --- boot environment, slots, system -------------------------------------------------------------


class Environment(Protocol):
    """U-Boot's variable store."""

    def read(self) -> Mapping[str, str]:
        """Return the variables as U-Boot would see them.

        Raises:
            EnvironmentStoreError: No copy is valid, or the medium cannot be read.
        """

    def store(self, changes: Mapping[str, str | None]) -> None:
        """Apply *changes* (None deletes) in ONE store and return when it is proven.

        The store is judged by re-reading both copies from the medium under U-Boot's own rule, never
        by a return code. Changes that are already so cause no store.

        Raises:
            EnvironmentStoreError: The store did not take; ``undecided`` if nobody can tell.
        """


class SlotFinder(Protocol):
    """Finds the slots of this machine."""

    def find(self) -> Slots:
        """Return booted and target slot.

        Raises:
            SlotError: They cannot be told for sure; then nothing may be written.
        """


@dataclass(frozen=True, slots=True)
class LocalTime:
    """What a clock on the wall shows.

    Attributes:
        day: Of the calendar, counted from 1970-01-01.
        minute: Of the day.
        second: Of the minute.
    """

    day: int
    minute: int
    second: int = 0

    @property
    def weekday(self) -> int:
        """The day of the week; 0 is Monday."""
        return (self.day + 3) % 7


class System(Protocol):
    """The machine as a whole: clock and reboot."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed point; never jumps."""

    def time_s(self) -> float:
        """Return UNIX seconds, as far as this device knows them."""

    def local_time(self, time_s: float) -> LocalTime:
        """Return what the device's time zone makes of *time_s*, UNIX seconds."""

    def random_id(self) -> str:
        """Return a new session id: 16 hexadecimal digits."""

    def version(self) -> str:
        """Return the version that the running system's own file names."""

    def trial_over(self) -> None:
        """Tell the dead-man timer that the trial was judged."""

    def reboot(self) -> None:
        """Ask the system to reboot, orderly. Returns; the process will be told to end."""


# --- health --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """One health check's outcome; *detail* is a short fact in ASCII."""

    name: str
    is_passed: bool
    detail: str = ""


class HealthCheck(Protocol):
    """One running health check (a command); never blocks."""

    name: str

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the check has ended."""

    def poll(self) -> Verdict | None:
        """Return the verdict once there is one; a check past its time-out has failed."""

    def close(self) -> None:
        """Kill what still runs."""


class Health(Protocol):
    """Starts health checks."""

    def start(self, names: Collection[str]) -> Sequence[HealthCheck]:
        """Start the configured commands that *names* has, and return them."""


# --- local control -------------------------------------------------------------------------------


class Call(Protocol):
    """One method call of a local client; answered exactly once.

    Attributes:
        method: Name without the interface: ``GetStatus``.
        parameters: As the client sent them: an object, its members unchecked.
        is_privileged: True if the peer's user is root or the one this process runs as.
    """

    method: str
    parameters: Mapping[str, object]
    is_privileged: bool

    def reply(self, parameters: Mapping[str, object]) -> None:
        """Answer with *parameters*; a client that has gone is ignored."""

    def fail(self, error: UpdaterError) -> None:
        """Answer with *error*: its class, sentence and exit code."""


class Control(Protocol):
    """The local control socket, watched by the agent's selector."""

    def filenos(self) -> Sequence[int]:
        """Return every descriptor to watch for reading; changes after each ``pump``."""

    def pump(self, fileno: int) -> Iterable[Call]:
        """Read what *fileno* has and return the complete calls; never blocks."""

    def close(self) -> None:
        """Close every connection and remove the socket."""

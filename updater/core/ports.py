# SPDX-License-Identifier: MIT
"""The seams: one small protocol per outside thing that the agent uses.

Edge modules implement these; tests implement them over memory. Every method raises errors of
``updater.core.errors`` and nothing else. No protocol blocks for longer than its docstring says:
the agent is one thread.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from updater.core.errors import UpdaterError
from updater.core.model import (
    HistoryEntry,
    OwedReport,
    Session,
    SlotRecord,
    Slots,
)

# --- the native pipeline -------------------------------------------------------------------------


class Phase(Enum):
    """What a running install is doing."""

    BLANKING = "blanking"  # the target's head is being blanked: it cannot boot from here on
    RECEIVING = "receiving"  # bytes arrive, are hashed and written
    VERIFYING = "verifying"  # the last byte is there; digest, flush, read-back, head
    DONE = "done"  # every byte was read back from the medium and matched


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an install is; all counts in bytes of the image."""

    phase: Phase
    received_bytes: int
    written_bytes: int
    verified_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """What to bring where.

    Attributes:
        source: An http(s) URL, or the path of a local file.
        device: The block device to write.
        size_bytes: Exact size of the image.
        md5: Its MD5 as 32 lower-case hexadecimal digits.
        read_back: Whether what was written is read back from the medium and compared.
    """

    source: str
    device: str
    size_bytes: int
    md5: str
    allow_plaintext: bool = False
    read_back: bool = True
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 30.0
    ca_file: str = ""
    buffer_bytes: int = 1 << 20
    buffers: int = 8

    def __repr__(self) -> str:
        """Show all but the source, which is a signed URL."""
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

    def close(self) -> None:
        """Stop whatever is still going on and free everything; cannot fail."""


class Pipeline(Protocol):
    """Writes images into slots and reads them back."""

    def open_install(self, request: InstallRequest) -> RunningInstall:
        """Begin *request*; what can be refused at once is refused here, before the first write."""

    def open_digest(self, device: str, size_bytes: int) -> "RunningDigest":
        """Begin to read the first *size_bytes* of *device*, past the page cache, into an MD5."""


class RunningDigest(RunningInstall, Protocol):
    """Reading a slot back."""

    def hexdigest(self) -> str:
        """Return the MD5 of what was read; only after ``step`` has returned ``Phase.DONE``."""


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


class System(Protocol):
    """The machine as a whole: clock and reboot."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed point; never jumps."""

    def time_s(self) -> float:
        """Return UNIX seconds, as far as this device knows them."""

    def random_id(self) -> str:
        """Return a new session id: 16 hexadecimal digits."""

    def version(self) -> str:
        """Return the version that the running system's own file names."""

    def trial_over(self) -> None:
        """Tell the dead-man timer that the trial was judged."""

    def reboot(self) -> None:
        """Ask the system to reboot, orderly. Returns; the process will be told to end."""


# --- journal -------------------------------------------------------------------------------------


class Journal(Protocol):
    """What must survive a power cut. Each method is one durable transaction."""

    def current(self) -> Session | None:
        """Return the session that has not ended, or the last one that has, or None."""

    def save(
        self,
        session: Session,
        text: str,
        *,
        report: bytes | None = None,
        record: SlotRecord | None = None,
        void: str | None = None,
    ) -> None:
        """Store *session* as it stands now, with *text* as a line of history.

        Args:
            session: New, or known by its id.
            text: What happened, for people.
            report: A terminal report that is owed from now on.
            record: What a slot is now known to hold.
            void: Bootname of a slot whose record no longer holds.
        """

    def owed(self) -> Sequence[OwedReport]:
        """Return the reports that the broker has not acknowledged, oldest first."""

    def settle(self, report: OwedReport) -> None:
        """Note that the broker has acknowledged *report*."""

    def record(self, bootname: str) -> SlotRecord | None:
        """Return what *bootname* is known to hold."""

    def void(self, bootname: str) -> None:
        """Forget what *bootname* holds; it is about to be written."""

    def history(self, limit: int) -> Sequence[HistoryEntry]:
        """Return the newest *limit* lines of history, newest first."""

    def close(self) -> None:
        """Close the journal."""


# --- the link to the cloud -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """CONNACK and SUBACK are there: messages flow both ways from now on."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The link is down; it comes back by itself. *reason* is a sentence for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message on the device's update topic; hostile until parsed."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker has acknowledged the QoS 1 message that ``publish`` gave *token* for."""

    token: int


LinkEvent = Connected | Disconnected | Received | Acknowledged


class Link(Protocol):
    """The MQTT session, driven by the agent's own selector; reconnects with back-off by itself."""

    def fileno(self) -> int | None:
        """Return the socket to watch, or None while there is none; may change at any call."""

    def wants_write(self) -> bool:
        """Tell whether the socket should be watched for writing."""

    def next_deadline_s(self) -> float:
        """Return the monotonic time at which ``pump`` must be called though nothing is readable."""

    def pump(self, *, readable: bool, writable: bool) -> Iterable[LinkEvent]:
        """Do what is due now, and return what happened. Blocks only for a connect in its limit."""

    def publish(self, payload: bytes, qos: int) -> int:
        """Queue *payload* on the report topic and return its token; only while connected."""

    def is_connected(self) -> bool:
        """True from ``Connected`` to ``Disconnected``."""

    def close(self) -> None:
        """Say goodbye to the broker and free everything."""


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

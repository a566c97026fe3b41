# SPDX-License-Identifier: MIT
"""The native pipeline in memory: images from a web of URLs into slots, step by step.

Implements ``Pipeline`` of ``updater.core.ports``. An install is a generator whose order of writes
is the design's: blank head, body and checkpoint in turn, digest, head. Each step is one turn of the
agent's loop. Like the real one it connects anew by itself, without the pauses, and goes on from its
checkpoint if the medium bears it out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from sim.clock import Clock
from sim.flash import Image, Medium
from sim.instants import Instants
from updater.core.errors import (
    DigestError,
    NotFoundError,
    SchemeError,
    SpaceError,
    StartOverError,
    TransportError,
    UpdaterError,
)
from updater.core.model import Slot
from updater.core.ports import InstallRequest, Phase, Progress


@dataclass
class Served:
    """What a URL leads to: an image, and what goes wrong at the next requests for it."""

    image: Image
    faults: Iterator[tuple[int, UpdaterError] | None] = field(default_factory=lambda: iter(()))


class Web:
    """Every URL that leads anywhere; the network under it can be cut."""

    def __init__(self) -> None:
        self.pages: dict[str, Served] = {}
        self.requests: list[str] = []
        self.cut: UpdaterError | None = None  # breaks every transfer under way, once

    def serve(self, url: str, image: Image) -> None:
        """Let *url* lead to *image* from now on, without faults."""
        self.pages[url] = Served(image)

    def fail(self, url: str, *faults: tuple[int, UpdaterError] | UpdaterError | None) -> None:
        """Let the next requests of *url* fail, one *fault* each: at a per cent, or at once."""
        rows = [(0, fault) if isinstance(fault, UpdaterError) else fault for fault in faults]
        self.pages[url].faults = iter(rows)

    def open(self, url: str) -> tuple[Image, tuple[int, UpdaterError] | None]:
        """Return the image and the fault of one request."""
        self.requests.append(url)
        self.cut = None
        if url not in self.pages:
            raise NotFoundError("the server says 404")
        served = self.pages[url]
        return served.image, next(served.faults, None)


@dataclass(frozen=True)
class Checkpoint:
    """What an interrupted install has left for the next one.

    Attributes:
        firmware: Device, and version, MD5 and size as announced: what it is about.
        image: Where the bytes came from: what they are and which version the server gave.
        parts: How many of them the medium is proven to hold.
    """

    firmware: tuple[str, str, str, int]
    image: Image
    parts: int


class Transfer:
    """The bytes of one URL; what breaks off is made anew, and must still be the same object."""

    def __init__(self, web: Web, request: InstallRequest, image: Image | None) -> None:
        """Expect *image*, or whatever comes first."""
        self._web = web
        self._request = request
        self._fault: tuple[int, UpdaterError] | None = None
        self._is_connected = False
        self._has_brought = False
        self.image = image
        self.retries = self.pieces = 0

    def bring(self, percent: int) -> Image:
        """Return the image, now that *percent* of it have come and more are to come."""
        for _ in range(self._request.attempts - 1):
            try:
                return self._try(percent)
            except TransportError:
                self._is_connected = False
                self.retries += 1
        return self._try(percent)

    def _try(self, percent: int) -> Image:
        if not self._is_connected:
            image, self._fault = self._web.open(self._request.source)
            self._is_connected, self._has_brought = True, False
            if self.image not in {None, image}:
                raise StartOverError("the object has changed on the server")
            self.image = image
        if self._fault is not None and percent >= self._fault[0]:
            raise self._fault[1]
        if self._web.cut is not None:
            raise self._web.cut
        assert self.image is not None
        self.pieces += not self._has_brought
        self._has_brought = True
        return self.image


@dataclass
class Digests:
    """What is known at the end."""

    md5: str = ""
    image_md5: str = ""


class MemoryInstall:
    """One install, or one read-back; *steps* yields its progress."""

    def __init__(
        self,
        clock: Clock,
        steps: Iterator[Progress],
        digests: Digests,
        forget: Callable[[], None] = lambda: None,
        *,
        is_fast: bool = False,
    ) -> None:
        """Call *forget* at the end of what cannot be gone on with: it is done, or of no use."""
        self._is_fast = is_fast
        self._received_bytes = 0
        self._clock = clock
        self._steps = steps
        self._digests = digests
        self._forget = forget
        self._is_over = False
        self._phase = Phase.CONNECTING
        self._fileno = clock.open()
        self._is_open = True

    def fileno(self) -> int:
        """Return a descriptor that is readable at the end."""
        assert self._is_open, "closed"
        return self._fileno

    def step(self, timeout_s: float) -> Progress:
        """Go one step on."""
        assert self._is_open, "closed"
        assert timeout_s == 0.0, "the agent has one thread and must not block here"
        try:
            progress = self._next()
        except (StartOverError, DigestError):
            self._is_over = True
            raise
        self._phase = progress.phase
        self._is_over = self._phase is Phase.DONE
        return progress

    def _next(self) -> Progress:
        """Return the next step's progress; the last one's if nobody has time to look between."""
        while True:
            progress = next(self._steps)
            self._received_bytes = progress.received_bytes
            if not self._is_fast or progress.phase is Phase.DONE:
                return progress

    def received_bytes(self) -> int:
        """Return how much of the firmware had come at the last step, though it failed."""
        return self._received_bytes

    def phase(self) -> Phase:
        """Return what it was doing at the last step that went well."""
        return self._phase

    def hexdigest(self) -> str:
        """Return the digest of what came, or was read."""
        return self._digests.md5

    def sha256_hexdigest(self) -> str:
        """Return "": nobody here asks for it."""
        return ""

    def image_hexdigest(self) -> str:
        """Return the digest of what the slot now holds."""
        return self._digests.image_md5

    def close(self) -> None:
        """Stop; again is allowed."""
        if self._is_open:
            self._clock.close(self._fileno)
            if self._is_over:
                self._forget()
        self._is_open = False


class MemoryPipeline:
    """Writes into one slot, and reads it back."""

    parts = 4  # of an image: one turn of the loop each
    is_fast = False  # all of it in one turn

    def __init__(  # noqa: PLR0913, PLR0917 - its world
        self,
        clock: Clock,
        instants: Instants,
        web: Web,
        medium: Medium,
        slot: Slot,
        check: Callable[[str], None],
    ) -> None:
        """Write to no other device than *slot*'s, and not before *check* has seen its bootname."""
        self._clock = clock
        self._instants = instants
        self._web = web
        self._medium = medium
        self._slot = slot
        self._check = check
        self.requests: list[InstallRequest] = []
        self.checkpoints: dict[str, Checkpoint] = {}  # files by path
        self.breaks_with: UpdaterError | None = None  # when it reads back

    def open_install(self, request: InstallRequest) -> MemoryInstall:
        """Begin *request*, unless it can be refused at once."""
        assert request.device == self._slot.device, "the booted slot is never written"
        if request.size_bytes > self._slot.size_bytes:
            raise SpaceError(request.size_bytes, self._slot.size_bytes, request.device)
        if request.source.startswith("http:") and not request.allow_plaintext:
            raise SchemeError("http is refused")
        self.requests.append(request)
        digests = Digests()
        steps = self._install(request, digests)
        return MemoryInstall(
            self._clock, steps, digests, lambda: self._forget(request), is_fast=self.is_fast
        )

    def open_digest(self, device: str, size_bytes: int, sha256: str | None = None) -> MemoryInstall:
        """Begin to read *device* back."""
        assert device == self._slot.device
        assert sha256 is None
        md5 = self._medium.md5(size_bytes)
        return MemoryInstall(self._clock, self._read(size_bytes), Digests(md5, md5))

    def _install(self, request: InstallRequest, digests: Digests) -> Iterator[Progress]:
        size = request.size_bytes
        if request.checkpoint in self.checkpoints:
            yield Progress(Phase.RESUMING, 0, 0, 0, size)
        kept = self._kept(request)
        transfer = Transfer(self._web, request, None if kept is None else kept.image)
        yield from self._bring(request, transfer, 0 if kept is None else kept.parts)
        image = self._judged(request, transfer, is_resumed=kept is not None)
        with self._instants.durable("slot: head written"):
            self._medium.head = image
        digests.md5, digests.image_md5 = image.md5, image.unpacked_md5
        unpacked = image.unpacked_bytes
        resumed = 0 if kept is None else size * kept.parts // self.parts
        yield Progress(Phase.DONE, size, unpacked, unpacked, size, resumed)

    def _bring(self, request: InstallRequest, transfer: Transfer, begun: int) -> Iterator[Progress]:
        """Store all but the head, from part *begun* on."""
        size = request.size_bytes
        resumed = size * begun // self.parts
        at_first = Progress(Phase.CONNECTING, resumed, resumed, 0, size, resumed)
        yield at_first
        transfer.bring(begun * 100 // self.parts)
        self._blank()
        yield replace(at_first, phase=Phase.BLANKING)
        for part in range(begun + 1, self.parts + 1):
            image = transfer.bring((part - 1) * 100 // self.parts)
            self._store(request, image, part)
            done = size * part // self.parts
            yield replace(
                at_first,
                phase=Phase.RECEIVING,
                received_bytes=done,
                written_bytes=done,
                retries=transfer.retries,
                format="gzip" if image.is_packed else "raw",
            )
        yield Progress(Phase.VERIFYING, size, size, size // 2, size, resumed)

    def _kept(self, request: InstallRequest) -> Checkpoint | None:
        """Return the checkpoint if it is about *request* and the medium bears it out."""
        kept = self.checkpoints.get(request.checkpoint)
        if kept is None:
            return None
        if kept.firmware == _named(request) and self._medium.holds(kept.image, kept.parts):
            return kept
        self._forget(request)
        return None

    def _blank(self) -> None:
        self._check(self._slot.bootname)
        with self._instants.durable("slot: head blanked"):
            self._medium.head = None

    def _store(self, request: InstallRequest, image: Image, part: int) -> None:
        """Store one part of the body; once it is proven, the checkpoint says so."""
        with self._instants.durable(f"slot: part {part} of {self.parts}"):
            self._medium.write(image, part, self.parts)
        if request.checkpoint and not image.is_packed and part < self.parts:
            with self._instants.durable(f"checkpoint: part {part}"):
                kept = Checkpoint(_named(request), image, part)
                self.checkpoints[request.checkpoint] = kept

    def _forget(self, request: InstallRequest) -> None:
        if request.checkpoint in self.checkpoints:
            with self._instants.durable("checkpoint: voided"):
                del self.checkpoints[request.checkpoint]

    @staticmethod
    def _judged(request: InstallRequest, transfer: Transfer, *, is_resumed: bool) -> Image:
        """Return the image if it is the announced one; pieces are judged by none."""
        image = transfer.image
        assert image is not None
        if (image.md5, image.size_bytes) == (request.md5, request.size_bytes):
            return image
        if is_resumed or transfer.pieces > 1:
            raise StartOverError("MD5 of what came in pieces is not as announced")
        raise DigestError(f"MD5 is {image.md5}, announced is {request.md5}")

    def _read(self, size: int) -> Iterator[Progress]:
        for phase in (Phase.RECEIVING, Phase.RECEIVING, Phase.DONE):
            if self.breaks_with is not None:
                raise self.breaks_with
            yield Progress(phase, size, 0, 0, size)


def _named(request: InstallRequest) -> tuple[str, str, str, int]:
    """Return what a checkpoint must be about to be of use for *request*."""
    return request.device, request.version, request.md5, request.size_bytes

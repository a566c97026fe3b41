# SPDX-License-Identifier: MIT
"""The native pipeline in memory: images from a web of URLs into slots, step by step.

Implements ``Pipeline`` of ``updater.core.ports``. An install is a generator whose order of writes
is the design's: blank head, body, digest, head. Each step is one turn of the agent's loop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sim.clock import Clock
from sim.flash import Image, Medium
from sim.instants import Instants
from updater.core.errors import (
    DigestError,
    NotFoundError,
    SchemeError,
    SpaceError,
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


class MemoryInstall:
    """One install, or one read-back; *steps* yields its progress."""

    def __init__(self, clock: Clock, steps: Iterator[Progress], md5: str = "") -> None:
        self._clock = clock
        self._steps = steps
        self._md5 = md5
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
        return next(self._steps)

    def hexdigest(self) -> str:
        """Return the digest of what was read."""
        return self._md5

    def close(self) -> None:
        """Stop; again is allowed."""
        if self._is_open:
            self._clock.close(self._fileno)
        self._is_open = False


class MemoryPipeline:
    """Writes into one slot, and reads it back."""

    parts = 4  # of an image: one turn of the loop each

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
        self.breaks_with: UpdaterError | None = None  # when it reads back

    def open_install(self, request: InstallRequest) -> MemoryInstall:
        """Begin *request*, unless it can be refused at once."""
        assert request.device == self._slot.device, "the booted slot is never written"
        if request.size_bytes > self._slot.size_bytes:
            raise SpaceError(request.size_bytes, self._slot.size_bytes, request.device)
        if request.source.startswith("http:") and not request.allow_plaintext:
            raise SchemeError("http is refused")
        self.requests.append(request)
        return MemoryInstall(self._clock, self._install(request))

    def open_digest(self, device: str, size_bytes: int) -> MemoryInstall:
        """Begin to read *device* back."""
        assert device == self._slot.device
        return MemoryInstall(self._clock, self._read(size_bytes), self._medium.md5)

    def _install(self, request: InstallRequest) -> Iterator[Progress]:
        medium, size = self._medium, request.size_bytes
        self._check(self._slot.bootname)
        with self._instants.durable("slot: head blanked"):
            medium.head = None
        yield Progress(Phase.BLANKING, 0, 0, 0, size)
        yield Progress(Phase.RECEIVING, 0, 0, 0, size)
        image, fault = self._web.open(request.source)
        for part in range(1, self.parts + 1):
            self._fail_if(fault, (part - 1) * 100 // self.parts)
            with self._instants.durable(f"slot: part {part} of {self.parts}"):
                medium.body = image if part == self.parts else None
            received = size * part // self.parts
            yield Progress(Phase.RECEIVING, received, received, 0, size)
        yield Progress(Phase.VERIFYING, size, size, size // 2, size)
        if image.md5 != request.md5 or image.size_bytes != size:
            raise DigestError(f"MD5 is {image.md5}, announced is {request.md5}")
        with self._instants.durable("slot: head written"):
            medium.head = image
        yield Progress(Phase.DONE, size, size, size, size)

    def _fail_if(self, fault: tuple[int, UpdaterError] | None, percent: int) -> None:
        """Raise what goes wrong once *percent* have come."""
        if fault is not None and percent >= fault[0]:
            raise fault[1]
        if self._web.cut is not None:
            raise self._web.cut

    def _read(self, size: int) -> Iterator[Progress]:
        for phase in (Phase.RECEIVING, Phase.RECEIVING, Phase.DONE):
            if self.breaks_with is not None:
                raise self.breaks_with
            yield Progress(phase, size, 0, 0, size)

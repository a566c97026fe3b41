# SPDX-License-Identifier: MIT
"""What a slot holds: an image as the machine would experience it, and the medium it lies on."""

import hashlib
from dataclasses import dataclass, field

from updater.core.model import Firmware

MIB = 1 << 20


@dataclass(frozen=True)
class Image:
    """One firmware image.

    Attributes:
        version: What its own version file says.
        loads: The bootloader can load its kernel.
        panics: Its kernel panics, and the watchdog resets the machine.
        hangs: Its user space never starts the agent.
        is_healthy: Its health checks pass.
        is_packed: The firmware is compressed, and the slot holds twice as much.
    """

    version: str
    size_bytes: int = 8 * MIB
    loads: bool = True
    panics: bool = False
    hangs: bool = False
    is_healthy: bool = True
    is_packed: bool = False

    @property
    def md5(self) -> str:
        """The firmware's digest: equal images have equal ones."""
        return _md5(repr(self))

    @property
    def unpacked_md5(self) -> str:
        """Digest of what the slot holds."""
        return _md5(f"unpacked {self!r}") if self.is_packed else self.md5

    @property
    def unpacked_bytes(self) -> int:
        """Size of what the slot holds."""
        return self.size_bytes * (2 if self.is_packed else 1)

    @property
    def firmware(self) -> Firmware:
        """What the cloud announces of it."""
        return Firmware(self.version, self.md5, self.size_bytes)


@dataclass
class Medium:
    """One slot's medium: the head, without which nothing boots, and all the rest.

    Attributes:
        head: Whose first bytes it holds, or None: they are blank.
        body: Whose other bytes it holds, whole, or None: garbage.
        prefix: Whose first parts it holds, but for the head, and how many.
    """

    head: Image | None = None
    body: Image | None = None
    prefix: tuple[Image | None, int] = field(default=(None, 0), compare=False, repr=False)

    @property
    def is_loadable(self) -> bool:
        """The bootloader finds a kernel here, whatever comes of it."""
        return self.head is not None and self.head.loads

    @property
    def is_complete(self) -> bool:
        """Every byte is one image's."""
        return self.head is not None and self.head == self.body

    def md5(self, size_bytes: int) -> str:
        """Return the digest of what a read-back of *size_bytes* finds."""
        if self.head and self.is_complete and self.head.unpacked_bytes == size_bytes:
            return self.head.unpacked_md5
        return _md5(f"{self!r} {size_bytes}")

    def write(self, image: Image, part: int, parts: int) -> None:
        """Store one part; nothing comes of it if the parts before it are not the same image's."""
        is_whole = part == 1 or (self.prefix[0] == image and self.prefix[1] >= part - 1)
        self.body = image if is_whole and part == parts else None
        self.prefix = (image if is_whole else None, part)

    def holds(self, image: Image, parts: int) -> bool:
        """Tell whether the first *parts* of it are *image*'s, but for the head."""
        return self.prefix[0] == image and self.prefix[1] >= parts


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

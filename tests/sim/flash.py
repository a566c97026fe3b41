# SPDX-License-Identifier: MIT
"""What a slot holds: an image as the machine would experience it, and the medium it lies on."""

import hashlib
from dataclasses import dataclass

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
    """

    version: str
    size_bytes: int = 8 * MIB
    loads: bool = True
    panics: bool = False
    hangs: bool = False
    is_healthy: bool = True

    @property
    def md5(self) -> str:
        """Its digest: equal images have equal ones."""
        return hashlib.md5(repr(self).encode(), usedforsecurity=False).hexdigest()

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
    """

    head: Image | None = None
    body: Image | None = None

    @property
    def is_loadable(self) -> bool:
        """The bootloader finds a kernel here, whatever comes of it."""
        return self.head is not None and self.head.loads

    @property
    def is_complete(self) -> bool:
        """Every byte is one image's."""
        return self.head is not None and self.head == self.body

    @property
    def md5(self) -> str:
        """Digest of what a read-back finds."""
        if self.head is not None and self.is_complete:
            return self.head.md5
        return hashlib.md5(repr(self).encode(), usedforsecurity=False).hexdigest()

# SPDX-License-Identifier: MIT
"""The story that the demo tells and that a test holds: a good update, then one that panics.

A table of steps. Each waits for one observation on one channel (what the cloud received, what the
board's serial console printed, what its storage holds) and returns what was seen; one that does not
come in time raises. Every channel is read onwards from the last observation, so that the order is
part of what is observed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sim.rig import Rig

from board.emulator import firmware, image
from board.emulator.image import Image

PACE_BYTES_PER_S = 32e6  # of the HTTP server: the download is to be seen
_BOOT_S = 90.0


def images() -> Mapping[str, Image]:
    """Return the three firmwares; what is needed to boot them is built, if need be."""
    firmware.u_boot()
    image.boot_script()
    return {
        "0.1": image.image("0.1"),
        "0.2": image.image("0.2"),
        "0.3": image.image("0.3", fault="panic"),
    }


class Witness:
    """Follows the channels of one rig, each onwards from what was seen last."""

    def __init__(self, rig: Rig, firmwares: Mapping[str, Image]) -> None:
        """Begin with nothing seen."""
        self.rig = rig
        self.firmwares = firmwares
        self._message = self._serial = 0

    def reports(self, state: str, version: str, percent: int | None = None) -> str:
        """Wait for a ``report_progress`` and return what it says."""
        cloud = self.rig.cloud
        message = cloud.wait_for(
            lambda m: m.state == state and percent in {None, m.percent},
            since=self._message,
            timeout_s=_BOOT_S,
        )
        self._message = cloud.messages.index(message) + 1
        assert message.version == version
        if state == "fail":
            return f"{message.code}: {message.reason}"
        return state if percent is None else f"{state} {percent} %"

    def reports_version(self, version: str) -> str:
        """Wait for a ``report_version``; any other than *version* is a lie."""
        cloud = self.rig.cloud
        message = cloud.wait_for(
            lambda m: m.type == "report_version", since=self._message, timeout_s=_BOOT_S
        )
        self._message = cloud.messages.index(message) + 1
        assert message.version == version, f"the board says that it runs {message.version}"
        return f"report_version {version}"

    def prints(self, pattern: str) -> str:
        """Wait for *pattern* on the serial console and return what matched."""
        match = self.rig.board.serial.wait_for(pattern, since=self._serial, timeout_s=_BOOT_S)
        self._serial = match.end()
        return match[0].strip()

    def offers(self, version: str) -> str:
        """Let the cloud offer *version*."""
        self.rig.offer(self.firmwares[version])
        return f"update_firmware {version}, {self.firmwares[version].size_bytes} bytes"

    def powers_on(self) -> str:
        """Switch the board on, and wait until U-Boot starts a slot."""
        self.rig.board.power_on()
        return self.prints(r"starting slot \w+$")

    def panics(self, bootname: str) -> str:
        """Wait for a boot of *bootname* on trial, and for its kernel's panic."""
        self.prints(rf"starting slot {bootname} .*trial=1")
        return self.prints(r"Kernel panic - not syncing: .*?(?=\.|\n)")

    def environment_is(self, wanted: Mapping[str, str]) -> str:
        """Look at the environment on the card, and hold it against *wanted*."""
        found = self.rig.environment()
        seen = {name: found.get(name, "") for name in wanted}
        assert seen == wanted, f"the environment says {seen}"
        return " ".join(f"{name}={value}" for name, value in wanted.items())


@dataclass(frozen=True)
class Step:
    """One line of the story.

    Attributes:
        text: What is expected, for people.
        channel: Where it is observed.
        observe: Waits for it and returns what was seen.
    """

    text: str
    channel: str
    observe: Callable[[Witness], str]


@dataclass(frozen=True)
class Chapter:
    """A part of the story."""

    title: str
    steps: tuple[Step, ...]


GOOD = Chapter(
    "0.2 is a good firmware",
    (
        Step("slot A boots", "console", lambda w: w.powers_on()),
        Step("version 0.1 reported", "MQTT", lambda w: w.reports_version("0.1")),
        Step("0.2 offered", "MQTT", lambda w: w.offers("0.2")),
        Step("downloading begins", "MQTT", lambda w: w.reports("downloading", "0.2", 0)),
        Step("downloaded", "MQTT", lambda w: w.reports("downloading", "0.2", 100)),
        Step("burning", "MQTT", lambda w: w.reports("burning", "0.2")),
        Step("slot B boots on trial", "console", lambda w: w.prints("starting slot B .*trial=1")),
        Step("healthy, done", "MQTT", lambda w: w.reports("done", "0.2")),
        Step("version 0.2 reported", "MQTT", lambda w: w.reports_version("0.2")),
        Step(
            "slot B is kept",
            "SD card",
            lambda w: w.environment_is({"boot_slot": "B", "upgrade_available": "0"}),
        ),
    ),
)

BAD = Chapter(
    "0.3 panics at boot",
    (
        Step("0.3 offered", "MQTT", lambda w: w.offers("0.3")),
        Step("downloaded", "MQTT", lambda w: w.reports("downloading", "0.3", 100)),
        Step("burning", "MQTT", lambda w: w.reports("burning", "0.3")),
        Step("slot A, try 1: panic", "console", lambda w: w.panics("A")),
        Step("slot A, try 2: panic", "console", lambda w: w.panics("A")),
        Step("slot A, try 3: panic", "console", lambda w: w.panics("A")),
        Step("U-Boot falls back", "console", lambda w: w.prints("slot A failed.*slot B$")),
        Step("fail, with the reason", "MQTT", lambda w: w.reports("fail", "0.3")),
        Step("version 0.2 reported", "MQTT", lambda w: w.reports_version("0.2")),
        Step(
            "slot B is still kept",
            "SD card",
            lambda w: w.environment_is({"boot_slot": "B", "upgrade_available": "0"}),
        ),
    ),
)

STORY = (GOOD, BAD)


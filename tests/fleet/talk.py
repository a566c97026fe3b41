# SPDX-License-Identifier: MIT
"""What devices and broker have said to each other, counted by the broker."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fleet.broker import Packet


@dataclass(frozen=True)
class Talk:
    """Packets of some time.

    Attributes:
        said: What each device has sent, by kind.
        heard: What it was sent.
        most_connects: How many CONNECTs came within the busiest second of the broker's clock.
    """

    said: dict[str, Counter[str]]
    heard: dict[str, Counter[str]]
    most_connects: int

    @classmethod
    def of(cls, packets: Iterable[Packet]) -> "Talk":
        """Count *packets*."""
        said: dict[str, Counter[str]] = {}
        heard: dict[str, Counter[str]] = {}
        seconds: Counter[int] = Counter()
        for packet in packets:
            side = said if packet.is_uplink else heard
            side.setdefault(packet.client, Counter())[packet.kind] += 1
            seconds[packet.time_s] += packet.kind == "CONNECT"
        return cls(said, heard, max(seconds.values(), default=0))

    @property
    def most_said(self) -> int:
        """How many packets the most talkative device has sent."""
        return max((each.total() for each in self.said.values()), default=0)


def mean(side: dict[str, Counter[str]], count: int) -> dict[str, float]:
    """Return how many packets of each kind there were for each of *count* devices."""
    total: Counter[str] = Counter()
    for each in side.values():
        total += each
    return {kind: number / count for kind, number in sorted(total.items())}

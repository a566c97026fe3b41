# SPDX-License-Identifier: MIT
"""The order of the engine's writes, and what the medium holds after a power cut at any of them.

The device's writes and flushes are recorded. What was flushed stays; of the writes after the last
flush a cut keeps any sectors, in any order. Every such medium is rebuilt.
"""

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sanitized import HEAD, IMAGE, KNOWN_BY, MIB, OLD, Slot, Status

SECTOR = 512
KNOWN = 4096  # in it every superblock and every boot header begins
PARTS = [(0, SECTOR), (SECTOR, KNOWN - SECTOR), (KNOWN, HEAD - KNOWN)]  # of the head
OLD_SLOT = OLD * (19 * MIB)
LARGE = random.Random(3).randbytes(18 * MIB + 777)  # more than is flushed at once


@dataclass(frozen=True)
class Call:
    """One call of the engine's to its device: ``w`` write, ``f`` flush or ``r`` read."""

    kind: str
    offset: int
    length: int
    data: bytes = b""

    @property
    def is_head(self) -> bool:
        return self.offset < HEAD


def calls(record: Path) -> list[Call]:
    found, raw, at = [], record.read_bytes(), 0
    while at < len(raw):
        kind, offset, length = struct.unpack_from("=cQQ", raw, at)
        at += struct.calcsize("=cQQ")
        data = raw[at : at + length] if kind == b"w" else b""
        at += len(data)
        found.append(Call(kind.decode(), offset, length, data))
    return found


@dataclass(frozen=True)
class Recording:
    """All calls of one whole install, and whether it was to read back."""

    calls: list[Call]
    reads_back: bool

    def blanking(self) -> list[Call]:
        """Return what comes before the first write beyond the head."""
        rest = next(i for i, c in enumerate(self.calls) if c.kind == "w" and not c.is_head)
        return self.calls[:rest]

    def rest(self) -> list[Call]:
        """Return what comes between."""
        return self.calls[len(self.blanking()) : -len(self.head())]

    def head(self) -> list[Call]:
        """Return the writes to the head that come after the rest, and all that follows them."""
        last = max(i for i, c in enumerate(self.calls) if c.kind == "w" and not c.is_head)
        first = next(i for i, c in enumerate(self.calls) if i > last and c.kind == "w")
        return self.calls[first:]


@pytest.fixture(scope="module", params=["small", "large"])
def image(request: pytest.FixtureRequest) -> bytes:
    return IMAGE if request.param == "small" else LARGE


@pytest.fixture(scope="module", params=[0, 1], ids=["no read-back", "read-back"])
def recorded(
    request: pytest.FixtureRequest,
    engine: Path,
    tmp_path_factory: pytest.TempPathFactory,
    image: bytes,
) -> Recording:
    folder = tmp_path_factory.mktemp("recorded")
    slot = Slot(folder, engine, len(OLD_SLOT))
    slot.source.write_bytes(image)
    buffer_size = MIB if image is LARGE else 1 << 16
    outcome = slot.fill(
        image, buffer_size=buffer_size, read_back=request.param, record=folder / "record"
    )
    assert outcome.status == Status.DONE
    return Recording(calls(folder / "record"), bool(request.param))


def test_the_head_is_proven_blank_before_another_byte_is_written(recorded: Recording) -> None:
    """Zeros, each part proven, what a slot is known by first; nothing else before."""
    blanking = recorded.blanking()
    assert [(c.kind, c.offset, c.length) for c in blanking] == [
        *(call for part in PARTS for call in (("w", *part), ("f", 0, 0), ("r", *part)))
    ]  # fmt: skip
    assert not any(any(call.data) for call in blanking)


def test_the_head_comes_last_and_is_proven(recorded: Recording, image: bytes) -> None:
    """After it no write; each part is proven, what a slot is known by last."""
    head = recorded.head()
    assert not any(call.is_head for call in recorded.rest() if call.kind == "w")
    assert [(c.kind, c.offset, c.length) for c in head] == [
        *(call for part in PARTS[::-1] for call in (("w", *part), ("f", 0, 0), ("r", *part)))
    ]  # fmt: skip
    assert b"".join(call.data for call in reversed(head)) == image[:HEAD]


def test_the_rest_is_on_the_medium_before_the_head_is_written(recorded: Recording) -> None:
    """Every write is followed by a flush; with read-back also by a read that comes after that."""
    rest = recorded.rest()
    for i, call in enumerate(rest):
        if call.kind != "w":
            continue
        flushed = next(j for j in range(i, len(rest)) if rest[j].kind == "f")
        reads = [(c.offset, c.length) for c in rest[flushed:] if c.kind == "r"]
        assert ((call.offset, call.length) in reads) == recorded.reads_back


def test_no_head_is_written_for_another_digest(slot: Slot, tmp_path: Path) -> None:
    """The only writes to the head are those that blank it."""
    record = tmp_path / "record"
    assert slot.fill(md5="0" * 32, record=record).status == Status.DIGEST
    heads = [call for call in calls(record) if call.kind == "w" and call.is_head]
    assert [call.data for call in heads] == [bytes(length) for _offset, length in PARTS]


def store(medium: bytearray, call: Call, keeps: float, chance: random.Random) -> None:
    """Write of *call* what a cut leaves: each sector with the chance *keeps*."""
    for at in range(0, call.length, SECTOR):
        if chance.random() < keeps:
            start = call.offset + at
            medium[start : start + SECTOR] = call.data[at : at + SECTOR]


def media(found: Sequence[Call], chance: random.Random) -> Iterator[bytearray]:
    """Yield what the medium may hold after a cut at each of the calls."""
    durable = bytearray(OLD_SLOT)
    pending: list[Call] = []
    for call in [*found, Call("f", 0, 0)]:
        if call.kind == "w":
            pending.append(call)
        for keeps in (0.9, 0.5, 0.1, 0.0):
            medium = bytearray(durable)
            for other in pending if keeps else ():
                store(medium, other, keeps, chance)
            yield medium
        if call.kind == "f":
            for other in pending:
                durable[other.offset : other.offset + other.length] = other.data
            pending.clear()
    yield durable


def test_after_any_cut_the_slot_holds_no_half_image(recorded: Recording, image: bytes) -> None:
    """What a slot is known by stands before the complete new rest, or the complete old one."""
    seen = set()
    for medium in media(recorded.calls, random.Random(11)):
        for first, end in KNOWN_BY:
            if not any(medium[first:end]):
                seen.add("blank")
            elif medium[end : len(image)] == image[end:]:
                seen.add("new")
            else:
                assert medium[end:] == OLD_SLOT[end:]
                seen.add("old")
    assert medium[: len(image)] == image
    assert seen == {"old", "blank", "new"}

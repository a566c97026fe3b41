# SPDX-License-Identifier: MIT
"""What the engine does not write: zeros that the device makes itself, and what is there already."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sanitized import BUFFER, HEAD, MIB, OLD, Slot, Status

PIECE = 64 << 10  # what is looked at as one
PIECES = 40
ROOM = 4 * MIB
NOISE = random.Random(3).randbytes(HEAD + PIECES * PIECE)


@pytest.fixture
def slot(tmp_path: Path, engine: Path) -> Slot:
    return Slot(tmp_path, engine, ROOM)


def image_of(kinds: str, tail: int = 0) -> bytes:
    """Return a head of noise and then one piece for each letter: zeros, old bytes, noise."""
    pieces = {"z": bytes(PIECE), "o": OLD * PIECE}
    parts = [pieces.get(kind, NOISE[HEAD + i * PIECE :][:PIECE]) for i, kind in enumerate(kinds)]
    return NOISE[:HEAD] + b"".join(parts) + NOISE[:tail]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kinds=st.text("zon", max_size=PIECES),
    tail=st.integers(0, 3000),
    skips=st.booleans(),
    reads=st.booleans(),
)
def test_any_mixture_arrives_whole(
    slot: Slot, kinds: str, tail: int, *, skips: bool, reads: bool
) -> None:
    """Zeros, old bytes and new ones in any order; each is counted for what it was."""
    slot.refresh()
    image = image_of(kinds, tail)
    slot.source.write_bytes(image)
    outcome = slot.fill(image, skip_identical=int(skips), read_back=int(reads))
    assert outcome.status == Status.DONE, outcome.message
    assert slot.is_whole(image)
    assert outcome.facts["zeroed"] == kinds.count("z") * PIECE
    assert outcome.facts["identical"] == (kinds.count("o") * PIECE if skips else 0)
    assert outcome.facts["written"] == len(image)


def test_zeros_over_zeros_count_as_identical(slot: Slot) -> None:
    """The second time nothing but the head is written."""
    image = image_of("znzoz")
    slot.source.write_bytes(image)
    assert slot.fill(image).status == Status.DONE
    outcome = slot.fill(image, skip_identical=1)
    assert (outcome.facts["identical"], outcome.facts["zeroed"]) == (len(image) - HEAD, 0)


def test_half_the_bytes_are_enough(slot: Slot, tmp_path: Path) -> None:
    """Half zeros or half old bytes: that half is not written."""
    record = tmp_path / "record"
    for kinds, change in (("zn" * 20, {}), ("on" * 20, {"skip_identical": 1})):
        slot.refresh()
        image = image_of(kinds)
        slot.source.write_bytes(image)
        outcome = slot.fill(image, record=record, **change)
        spared = outcome.facts["zeroed"] + outcome.facts["identical"]
        assert spared == 20 * PIECE


def test_what_cannot_be_read_is_written(slot: Slot) -> None:
    """A sector that a cut has torn fails until it is written: it does not end the install."""
    image = image_of("oonn")
    slot.source.write_bytes(image)
    outcome = slot.fill(image, fault="read:4:5", skip_identical=1, buffer_size=PIECE)
    assert outcome.happened
    assert outcome.status == Status.DONE, outcome.message
    assert slot.is_whole(image)
    assert outcome.facts["identical"] == PIECE


@pytest.mark.parametrize("error", [95, 22, 25], ids=["EOPNOTSUPP", "EINVAL", "ENOTTY"])
def test_a_device_that_cannot_zero_gets_zeros(slot: Slot, error: int) -> None:
    """They are written like all else, for the rest of the image."""
    image = image_of("nzznzz")
    slot.source.write_bytes(image)
    outcome = slot.fill(image, fault=f"zero:1:{error}")
    assert (outcome.status, outcome.happened) == (Status.DONE, True)
    assert outcome.facts["zeroed"] == 0
    assert slot.is_whole(image)


@pytest.mark.parametrize(
    ("what", "status"), [("5", Status.IO), ("lose", Status.READ_BACK)], ids=["EIO", "lost"]
)
def test_zeros_that_were_not_made_are_found_out(slot: Slot, what: str, status: Status) -> None:
    """An error, or a device that says it did: the slot stays blank."""
    image = image_of("nzn")
    slot.source.write_bytes(image)
    outcome = slot.fill(image, fault=f"zero:1:{what}")
    assert (outcome.status, outcome.happened) == (status, True)
    assert slot.is_blank()
    if status == Status.READ_BACK:
        assert outcome.facts["offset"] == HEAD + PIECE


def test_an_interrupted_call_is_made_again(slot: Slot) -> None:
    """EINTR is no failure."""
    image = image_of("z")
    slot.source.write_bytes(image)
    assert slot.fill(image, fault="zero:1:4").status == Status.DONE
    assert slot.is_whole(image)


def test_a_short_run_is_written(slot: Slot) -> None:
    """Less than a piece of zeros is not worth a call of its own."""
    image = NOISE[:HEAD] + bytes(PIECE - 1) + NOISE[:BUFFER]
    slot.source.write_bytes(image)
    assert slot.fill(image).facts["zeroed"] == 0

# SPDX-License-Identifier: MIT
"""Packed firmware through the whole engine."""

from pathlib import Path

import pytest
from decoding import MIXED, NOISE, PACKERS
from sanitized import HEAD, MIB, Slot, Status, build, md5

EACH = pytest.mark.parametrize("packer", ["gzip -1", "xz -0", "zstd -1"])


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@EACH
def test_the_slot_gets_the_image(tmp_path: Path, packer: str, sanitizer: str) -> None:
    """The firmware's digests are of what came, the image's of what was stored."""
    slot = Slot(tmp_path, build(sanitizer))
    packed = PACKERS[packer](MIXED)
    slot.source.write_bytes(packed)
    outcome = slot.fill(packed, sha256="")
    assert outcome.status == Status.DONE, outcome.message
    assert slot.is_whole(MIXED)
    assert (outcome.hexdigest, outcome.said["image_md5"]) == (md5(packed), md5(MIXED))
    assert (outcome.facts["received"], outcome.facts["written"]) == (len(packed), len(MIXED))
    assert outcome.facts["verified"] == len(MIXED)


@pytest.mark.parametrize("packer", ["xz -9", "zstd --long=27"])
def test_greed_leaves_the_slot_as_it_was(slot: Slot, packer: str) -> None:
    """What needs more memory than is allowed is refused before anything is written."""
    packed = PACKERS[packer](NOISE)
    slot.source.write_bytes(packed)
    outcome = slot.fill(packed)
    assert outcome.status == Status.FORMAT
    assert outcome.message.endswith("bytes of memory, 12582912 are allowed")
    assert slot.is_untouched()


@EACH
def test_a_bomb_ends_at_the_slots_end(slot: Slot, packer: str) -> None:
    """More than the medium holds, or than is allowed, is an error as soon as it is seen."""
    packed = PACKERS[packer](bytes(40 * MIB))
    slot.source.write_bytes(packed)
    assert slot.fill(packed).status == Status.SPACE
    assert slot.is_blank() or slot.is_untouched()
    assert slot.fill(packed, image_limit=MIB).status == Status.SPACE


@EACH
def test_damage_leaves_the_slot_blank(slot: Slot, packer: str) -> None:
    """Also where the digest is right: what was offered cannot be unpacked."""
    packed = bytearray(PACKERS[packer](NOISE + NOISE))
    packed[len(packed) * 3 // 4] ^= 4
    slot.source.write_bytes(packed)
    assert slot.fill(bytes(packed)).status == Status.FORMAT
    assert slot.is_blank()


@EACH
def test_an_image_of_another_size_is_refused(slot: Slot, packer: str) -> None:
    """Where its size was announced too."""
    packed = PACKERS[packer](MIXED)
    slot.source.write_bytes(packed)
    assert slot.fill(packed, image_size=len(MIXED)).status == Status.DONE
    slot.refresh()
    assert slot.fill(packed, image_size=len(MIXED) - 1).status == Status.LENGTH
    assert slot.is_blank()


@EACH
def test_a_packed_image_may_be_what_is_wanted(slot: Slot, packer: str) -> None:
    """Where nothing is to be unpacked, the bytes are stored as they are."""
    packed = PACKERS[packer](MIXED)
    slot.source.write_bytes(packed)
    outcome = slot.fill(packed, decode=0)
    assert (outcome.status, slot.held()[: len(packed)]) == (Status.DONE, packed)


def test_packed_firmware_starts_over(slot: Slot, tmp_path: Path) -> None:
    """No checkpoint is kept for it: the decoder's state is in none."""
    packed = PACKERS["gzip, stored"](NOISE[:HEAD] + MIXED[:900000])
    slot.source.write_bytes(packed)
    orders = {"checkpoint": tmp_path / "checkpoint"}
    assert slot.die(packed, "write:5:die", **orders)
    outcome = slot.fill(packed, **orders)
    assert (outcome.status, outcome.facts["resumed"]) == (Status.DONE, 0)

# SPDX-License-Identifier: MIT
"""Going on after a cut, under AddressSanitizer: what was proven is kept, nothing is believed."""

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sanitized import BUFFER, HEAD, KNOWN_BY, MIB, OLD, Slot, Status, md5

IMAGE = random.Random(5).randbytes(9 * MIB + 4321)
OTHER = random.Random(6).randbytes(len(IMAGE))
RECORD = 512
BLOCK = 4096
HEAD_AT = 2 * BLOCK


@pytest.fixture
def slot(tmp_path: Path, engine: Path) -> Slot:
    slot = Slot(tmp_path, engine, 10 * MIB)
    slot.source.write_bytes(IMAGE)
    return slot


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint"


def resume(slot: Slot, checkpoint: Path, image: bytes = IMAGE) -> int:
    """Bring *image* in, and return how many of its bytes an earlier try had brought."""
    outcome = slot.fill(image, checkpoint=checkpoint)
    assert outcome.status == Status.DONE, outcome.message
    assert outcome.hexdigest == md5(image)
    assert slot.is_whole(image)
    assert checkpoint.read_bytes() == b""
    return outcome.facts["resumed"]


@pytest.mark.parametrize("call", ["write", "read", "flush"])
def test_a_kill_at_any_call_costs_little(slot: Slot, checkpoint: Path, call: str) -> None:
    """Whatever was going on: the next try begins at most a ring and two groups before the cut."""
    n, seen = 0, set()
    while True:
        n += 1 if call == "flush" else 3
        slot.refresh()
        checkpoint.unlink(missing_ok=True)
        if not slot.die(IMAGE, f"{call}:{n}:die", checkpoint=checkpoint):
            break
        held = slot.held()
        for first, end in KNOWN_BY:
            assert (
                held[end:] == OLD * (len(held) - end)
                or not any(held[first:end])
                or held[end : len(IMAGE)] == IMAGE[end:]
            )
        seen.add(resume(slot, checkpoint))
    assert n > 5
    assert 0 in seen
    assert len(seen) > 2  # of 0, 2, 4, 6 and 8 MiB; which ones is a matter of pace


def cut(slot: Slot, checkpoint: Path) -> None:
    """Leave a checkpoint of at least 4 MiB behind."""
    assert slot.die(IMAGE, "write:36:die", checkpoint=checkpoint)
    assert len(checkpoint.read_bytes()) == HEAD_AT + HEAD


def test_the_digest_goes_on_where_it_was(slot: Slot, checkpoint: Path) -> None:
    """MD5 and SHA-256 of the whole come out, though only the rest was received."""
    cut(slot, checkpoint)
    outcome = slot.fill(IMAGE, checkpoint=checkpoint, sha256="")
    assert outcome.facts["resumed"] >= 4 * MIB
    plain = slot.fill(IMAGE, sha256="")
    assert outcome.said["sha256"] == plain.said["sha256"] != ""


@pytest.mark.parametrize("at", [HEAD, 3 * MIB, 4 * MIB - 1])
def test_a_medium_that_has_changed_is_written_anew(slot: Slot, checkpoint: Path, at: int) -> None:
    """One other byte in what the checkpoint covers, and it counts for nothing."""
    cut(slot, checkpoint)
    with slot.path.open("r+b") as device:
        device.seek(at)
        device.write(bytes([IMAGE[at] ^ 1]))
    assert resume(slot, checkpoint) == 0


def test_what_was_stored_as_it_came_is_not_taken_for_the_image(
    slot: Slot, checkpoint: Path
) -> None:
    """A try that did not unpack leaves a prefix of the archive: one that unpacks begins anew."""
    archive = gzip.compress(IMAGE, 1)
    slot.source.write_bytes(archive)
    assert slot.die(archive, "write:36:die", checkpoint=checkpoint, decode=0)
    assert slot.fill(archive, checkpoint=checkpoint).facts["resumed"] == 0
    assert slot.is_whole(IMAGE)


def test_another_image_does_not_go_on(slot: Slot, checkpoint: Path) -> None:
    """The checkpoint names the image by its digest."""
    cut(slot, checkpoint)
    slot.source.write_bytes(OTHER)
    assert resume(slot, checkpoint, OTHER) == 0


@pytest.mark.parametrize(("before", "now"), [("1.9.0", "2.0.0"), (None, "2.0.0"), ("2.0.0", None)])
def test_another_version_does_not_go_on(
    slot: Slot, checkpoint: Path, before: str | None, now: str | None
) -> None:
    """Nor one without a version: the same bytes under another name are another firmware."""
    names = [{} if version is None else {"version": version} for version in (before, now)]
    assert slot.die(IMAGE, "write:36:die", checkpoint=checkpoint, **names[0])
    assert slot.fill(IMAGE, checkpoint=checkpoint, **names[1]).facts["resumed"] == 0
    assert slot.is_whole(IMAGE)


def test_the_same_version_goes_on(slot: Slot, checkpoint: Path) -> None:
    """One that fills its place to the last character too; a longer one is refused."""
    longest = "v" * 32
    assert slot.die(IMAGE, "write:36:die", checkpoint=checkpoint, version=longest)
    outcome = slot.fill(IMAGE, checkpoint=checkpoint, version=f"{longest}v")
    assert outcome.status == Status.OPTIONS
    assert slot.fill(IMAGE, checkpoint=checkpoint, version=longest).facts["resumed"] >= 4 * MIB


def test_another_medium_does_not_go_on(slot: Slot, checkpoint: Path) -> None:
    """Nor does a medium of another size, whatever its number."""
    cut(slot, checkpoint)
    with slot.path.open("ab") as device:
        device.write(OLD * MIB)
    assert resume(slot, checkpoint) == 0


def test_pieces_of_two_objects_are_told_and_start_over(slot: Slot, checkpoint: Path) -> None:
    """A wrong digest after a resume is no verdict; the same from the first byte is one."""
    cut(slot, checkpoint)
    slot.source.write_bytes(IMAGE[:-1] + bytes([IMAGE[-1] ^ 1]))
    assert slot.fill(IMAGE, checkpoint=checkpoint).status == Status.AGAIN
    assert slot.is_blank()
    assert checkpoint.read_bytes() == b""
    assert slot.fill(IMAGE, checkpoint=checkpoint).status == Status.DIGEST
    assert slot.is_blank()


def test_a_torn_record_leaves_the_one_before(slot: Slot, checkpoint: Path) -> None:
    """A cut in the middle of a checkpoint costs what that one would have saved."""
    cut(slot, checkpoint)
    raw = bytearray(checkpoint.read_bytes())
    sequences = [int.from_bytes(raw[at + 56 : at + 64], "little") for at in (0, BLOCK)]
    newest = sequences.index(max(sequences)) * BLOCK
    raw[newest + 100] ^= 1
    checkpoint.write_bytes(raw)
    assert resume(slot, checkpoint) in {n * MIB for n in range(2, 8)}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_checkpoint_is_believed(slot: Slot, checkpoint: Path, data: st.DataObject) -> None:
    """Cut short, with bits flipped or full of anything: the right image comes in all the same."""
    slot.refresh()
    cut(slot, checkpoint)
    raw = bytearray(checkpoint.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, HEAD_AT + 5000))] ^= 1 << data.draw(st.integers(0, 7))
    raw[data.draw(st.sampled_from([0, BLOCK, HEAD_AT])) :][:RECORD] = data.draw(
        st.binary(max_size=8)
    )
    checkpoint.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    resume(slot, checkpoint)


@pytest.mark.parametrize("where", ["missing/checkpoint", "folder", "link"])
def test_an_image_comes_in_without_a_checkpoint(slot: Slot, tmp_path: Path, where: str) -> None:
    """A file that cannot be opened, or must not be, costs the resume and nothing else."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(slot.source)
    outcome = slot.fill(IMAGE, checkpoint=tmp_path / where)
    assert outcome.status == Status.DONE
    assert slot.is_whole(IMAGE)
    assert slot.source.read_bytes() == IMAGE


def test_the_old_slot_stands_until_the_source_speaks(slot: Slot, checkpoint: Path) -> None:
    """Nothing is blanked for a source that is not there, also with a checkpoint at hand."""
    url = "http://127.0.0.1:9/nobody"
    assert slot.fill(IMAGE, source=url, checkpoint=checkpoint).status == Status.TRANSPORT
    assert slot.is_untouched()


def test_small_buffers_make_marks_too(slot: Slot, checkpoint: Path) -> None:
    """A buffer that divides no MiB has its marks where both meet."""
    orders = {"checkpoint": checkpoint, "buffer_size": 3 * BUFFER}
    assert slot.die(IMAGE, "write:13:die", **orders)
    outcome = slot.fill(IMAGE, **orders)
    assert (outcome.status, outcome.facts["resumed"] % (3 * MIB)) == (Status.DONE, 0)
    assert outcome.facts["resumed"] > 0

# SPDX-License-Identifier: MIT
"""MTD as a sink: what cannot be written, or does not fit, is refused, and nothing is touched."""

import errno

import pytest
from burning import BLOCK, NOR, PAGE, ROOM, Burner
from drivers import Orders
from sanitized import Status

MOUNT = "36 22 31:{} / /mnt rw,relatime - jffs2 mtd:slot rw"


@pytest.mark.parametrize(
    ("orders", "error", "words"),
    [
        ({"held": 1}, errno.EBUSY, "the flash is being written"),
        ({"ubi": 6}, errno.EBUSY, "attached to UBI"),
        ({"mounts": MOUNT.format(5)}, errno.EBUSY, "the flash is mounted"),
        ({"read_only": 1}, errno.EROFS, "read-only"),
        ({"fault": f"open:1:{errno.EACCES}"}, errno.EACCES, "read-only"),
        ({"fault": f"open:1:{errno.ENODEV}"}, errno.ENODEV, "cannot be opened"),
        ({"fault": f"open:2:{errno.ENOLCK}"}, errno.ENOLCK, "cannot be claimed"),
        ({"device": "/dev/mtd9"}, errno.ENOENT, "cannot be examined"),
        ({"no_device": 1}, 0, "no MTD partition"),
        ({"foreign": 1}, errno.ENOTTY, "no geometry"),
        ({"type": 2}, 0, "type 2 is not supported"),
        ({"type": 7}, 0, "type 7 is not supported"),
        ({"claims": (16 << 20) + 2048}, 0, "16779264 bytes in pages of 2048 are not supported"),
        ({"write_size": 3000}, 0, "16384 bytes in pages of 3000 are not supported"),
        ({"claims": ROOM + PAGE, **NOR}, 0, f"a flash of {ROOM} bytes is not supported"),
        ({"bad": ",".join(map(str, range(12)))}, 0, "all 12 blocks of the flash are bad"),
        ({"fault": f"bad:5:{errno.EIO}"}, errno.EIO, "does not tell its bad blocks"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_refused(
    burner: Burner, orders: Orders, error: int, words: str
) -> None:
    """In use, read-only, gone, no flash, of another kind: one sentence, and nothing touched."""
    burning = burner.burn(**orders)
    assert (burning.result, burning.os_errno) == (Status.OPEN, error)
    assert words in burning.message
    assert (burning.erased_most, burning.programmed) == (0, 0)


def test_whoever_comes_later_is_seen_too(burner: Burner) -> None:
    """The source may have kept us waiting: it is looked once more before the first erasure."""
    burning = burner.burn(mounts=MOUNT.format(5), late=1)
    assert (burning.result, burning.os_errno) == (Status.OPEN, errno.EBUSY)
    assert burning.is_untouched


@pytest.mark.parametrize(
    "orders", [{"ubi": 5}, {"ubi": 7}, {"mounts": MOUNT.format(4)}, {"mounts": "7 1 8:5 / / - a b"}]
)
def test_a_neighbour_s_use_is_none_of_its_business(burner: Burner, orders: Orders) -> None:
    """Other partitions, and block devices of the same number, may be in use."""
    assert burner.burn(**orders).result == Status.DONE


@pytest.mark.parametrize(
    ("orders", "holds"),
    [
        ({"options_size": ROOM + 1}, ROOM),
        ({"image_size": ROOM + 1, "decode": 1}, ROOM),
        ({"announced": ROOM + 1}, ROOM),
        ({"bad": "0,7", "options_size": ROOM - BLOCK}, ROOM - 2 * BLOCK),
        ({"bad": "0,7", "announced": ROOM - BLOCK}, ROOM - 2 * BLOCK),
    ],
    ids=str,
)
def test_an_image_that_does_not_fit_changes_nothing(
    burner: Burner, orders: Orders, holds: int
) -> None:
    """Room is counted in good blocks, before the first erasure."""
    burning = burner.burn(**orders)
    assert (burning.result, burning.offset) == (Status.SPACE, holds)
    assert (burning.erased_most, burning.programmed) == (0, 0)


def test_a_compressed_firmware_may_be_larger_than_it_looks(burner: Burner) -> None:
    """The size of what is unpacked is not known yet: nothing is refused for it."""
    assert burner.burn(options_size=ROOM + 1, decode=1).result == Status.DONE


def test_an_image_without_end_is_an_error(burner: Burner) -> None:
    """One whose size nobody knew, and that outgrows the flash."""
    burning = burner.burn(ROOM + 1, announced=0)
    assert (burning.result, burning.offset) == (Status.SPACE, ROOM)
    assert burning.head == "blank"

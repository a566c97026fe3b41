# SPDX-License-Identifier: MIT
"""MTD as a sink and as a source, under AddressSanitizer: every call that fails, every power cut.

flash.c and flash_kernel.c play NOR and NAND with their rules; tests/qemu/test_mtd.py asks the same
of a real kernel. Whatever happens, the good blocks hold the old head, a blank or a broken one, or
the whole new image, and no block is marked bad that does not deserve it.
"""

import errno
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sanitized import FLAGS, NATIVE, OPTIONS, SANITIZERS, Status

from board.emulator.cache import cached, run

HERE = Path(__file__).parent
OURS = tuple(HERE / f"{name}.c" for name in ("flash", "flash_kernel", "burn"))
PARTS = ("sink_mtd", "source_mtd", "mtd", "mtd_guard", "sysfs", "extent", "error")
THEIRS = tuple(NATIVE / f"{name}.c" for name in PARTS)
HEADERS = tuple(NATIVE / f"{n}.h" for n in ("sink", "source", "mtd", "sysfs", "extent", "error"))
WRAPPED = sorted(set(re.findall(r"__wrap_(\w+)\(", OURS[1].read_text())))
PAGE, BLOCK, BLOCKS = 2048, 16384, 12
ROOM = BLOCKS * BLOCK
SIZE = 100_000
NEEDED = -(-SIZE // BLOCK)
BLANK_PAGE = 3  # of five, in the image
NOR = {"type": 3, "write_size": 1}
KINDS = [{}, NOR, {"type": 8}, {"type": 1, "write_size": 64}]
NAMES = ["nand", "nor", "mlc", "ram"]
FAILURES_IN_A_ROW = 8


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


@dataclass(frozen=True)
class Burning:
    """What one run came to: the driver's lines."""

    said: Mapping[str, str]

    def __getattr__(self, name: str) -> int:
        return int(self.said[name])

    @property
    def result(self) -> Status:
        return Status(self.status)

    @property
    def message(self) -> str:
        return self.said["message"]

    @property
    def head(self) -> str:
        return self.said["head"]

    @property
    def bad(self) -> list[int]:
        return numbers(self.said["bad"])

    @property
    def locked(self) -> list[int]:
        return numbers(self.said["locked"])

    @property
    def is_whole(self) -> bool:
        return self.new == 1

    @property
    def is_untouched(self) -> bool:
        return (self.head, self.erased_most, self.programmed) == ("old", 0, 0)


class Burner:
    """The sink and its flash, compiled, and a file that the flash is kept in."""

    def __init__(self, program: Path, file: Path) -> None:
        self._program = program
        self._file = file

    def burn(self, size: int = SIZE, **orders: object) -> Burning:
        """Run once; whatever it comes to, nothing stays open and no part of an image looks whole.

        Args:
            size: Of the image.
            orders: The driver's and the flash's; None leaves one out.
        """
        given = {"size": size, **orders}
        words = [f"{key}={value}" for key, value in given.items() if value is not None]
        done = subprocess.run(
            [self._program, *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | OPTIONS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        burning = Burning(dict(line.partition(" ")[::2] for line in done.stdout.splitlines()))
        assert burning.head != "new" or burning.is_whole
        if "cut" not in burning.said:
            assert not burning.left_open
            assert len(burning.message) < 160
        return burning

    def keep(self, **orders: object) -> Burning:
        """The same on a flash that outlives the run."""
        return self.burn(file=self._file, **orders)

    def renew(self) -> None:
        """Put the old image back."""
        self._file.unlink(missing_ok=True)

    def each(self, fault: str, **orders: object) -> Iterator[Burning]:
        """Burn with the fault at the first, second, … call, as long as there is such a call."""
        for n in range(1, 400):
            burning = self.burn(fault=fault.format(n), **orders)
            if not burning.happened:
                assert n > 1
                return
            yield burning
        pytest.fail("it never ended")


@pytest.fixture(scope="module")
def program() -> Path:
    def compile_all(place: Path) -> None:
        wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
        words = [*FLAGS, *SANITIZERS["address"], f"-I{NATIVE}", f"-I{HERE}", *THEIRS, *OURS]
        run("gcc", *words, *wraps, "-o", place / "burn")

    inputs = (FLAGS, SANITIZERS["address"], *THEIRS, *OURS, *HEADERS, HERE / "flash.h")
    return cached("burn-address", inputs, compile_all) / "burn"


@pytest.fixture
def burner(program: Path, tmp_path: Path) -> Burner:
    return Burner(program, tmp_path / "flash")


# --- an image on healthy flash -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
@pytest.mark.parametrize(
    "size", [1, PAGE, PAGE + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, SIZE, ROOM], ids=str
)
def test_any_size_arrives_whole(burner: Burner, size: int, kind: Mapping[str, object]) -> None:
    """One byte, around a page and an erase block, up to the last byte of the flash."""
    burning = burner.burn(size, **kind)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.written == burning.verified == size
    assert burning.settled == size
    assert (burning.erased_most, burning.bad) == (1, [])


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, ROOM),
    piece=st.integers(1, 64).map(lambda blocks: 4096 * blocks),
    geometry=st.sampled_from([(16384, 2048), (8192, 512), (65536, 4096), (2048, 2048)]),
)
@example(size=ROOM, piece=5 * 4096, geometry=(65536, 4096))
def test_any_piece_and_geometry_will_do(
    program: Path, size: int, piece: int, geometry: tuple[int, int]
) -> None:
    """Buffers larger and smaller than an erase block, and not a multiple of it."""
    erase, page = geometry
    shape = {"erase_size": erase, "write_size": page, "blocks": min(64, ROOM // erase)}
    size = min(size, erase * int(shape["blocks"]))
    burning = Burner(program, Path()).burn(size, piece=piece, **shape)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.head_size == erase


@pytest.mark.parametrize(
    ("erase", "page"), [(4224, 1056), (12_288, 1), (12_000, 32), (4096, 1)], ids=str
)
def test_odd_geometry_of_nor(burner: Burner, erase: int, page: int) -> None:
    """Erase blocks and pages that are no powers of two, as on DataFlash."""
    burning = burner.burn(40_000, type=6, erase_size=erase, write_size=page)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)


@pytest.mark.parametrize("kind", KINDS[:2], ids=NAMES[:2])
def test_pages_of_nothing_but_ff_are_not_programmed(
    burner: Burner, kind: Mapping[str, object]
) -> None:
    """What the erasure leaves is not written once more, but it counts as verified."""
    burning = burner.burn(ROOM, **kind)
    page = PAGE if not kind else 4096
    assert burning.verified == ROOM
    blank = sum(
        all(p % 5 == BLANK_PAGE or p // 8 % 11 == 6 for p in range(at, at + page // PAGE))
        for at in range(0, ROOM // PAGE, page // PAGE)
    )
    assert burning.programmed == ROOM - blank * page


def test_the_last_page_is_filled_up(burner: Burner) -> None:
    """NAND takes whole pages only: the rest of the last one is 0xFF."""
    burning = burner.burn(BLOCK + 1)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.programmed == 6 * PAGE + PAGE  # the head has two blank ones


@pytest.mark.parametrize(
    "orders", [{"old": 1}, {"narrow": 1}, {"old": 1, "narrow": 1, **NOR}], ids=str
)
def test_an_old_kernel_will_do(burner: Burner, orders: Mapping[str, object]) -> None:
    """One without the 64-bit erasure, or without sysfs."""
    burning = burner.burn(**orders)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)


def test_it_is_told_from_others(burner: Burner) -> None:
    """A partition that begins elsewhere, or has another size, is another medium."""
    seen = {
        burner.burn(until="open", **orders).identity
        for orders in ({}, {"narrow": 1}, {"blocks": 11})
    }
    assert len(seen) == 3
    assert burner.burn(until="open").identity in seen


@pytest.mark.parametrize(("read_back", "verified"), [(0, 0), (1, SIZE)])
def test_nor_is_read_back_if_that_is_asked_for(
    burner: Burner, read_back: int, verified: int
) -> None:
    """Without it each byte is programmed once and not looked at."""
    burning = burner.burn(read_back=read_back, **NOR)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.verified == verified


def test_nand_is_always_read_back(burner: Burner) -> None:
    """Its ECC has to be asked."""
    assert burner.burn(read_back=0).verified == SIZE


# --- what is refused ---------------------------------------------------------------------------

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
    burner: Burner, orders: Mapping[str, object], error: int, words: str
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
def test_a_neighbour_s_use_is_none_of_its_business(
    burner: Burner, orders: Mapping[str, object]
) -> None:
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
    burner: Burner, orders: Mapping[str, object], holds: int
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


# --- blocks that fail --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["weak_erase", "weak_write", "grave", "liar"])
def test_a_worn_block_is_marked_and_its_data_move(burner: Burner, fault: str) -> None:
    """It fails to erase, to program, to be read, or to tell the truth: the next good one has it."""
    burning = burner.burn(bad="2", **{fault: "4,6"})
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert (burning.bad, burning.bad_blocks) == ([2, 4, 6], 2)
    assert burning.verified == SIZE


def test_several_in_a_row_are_passed_over(burner: Burner) -> None:
    """Block after block may fail for the same data."""
    burning = burner.burn(weak_erase="3", weak_write="4", grave="5", liar="6")
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.bad == [3, 4, 5, 6]


def test_what_fails_block_after_block_is_not_wear(burner: Burner) -> None:
    """A write-protected chip or a dying controller does not cost every block of the flash."""
    burning = burner.burn(30_000, weak_erase=",".join(map(str, range(1, 12))))
    assert burning.result == Status.IO
    assert "8 erase blocks failed one after the other" in burning.message
    assert len(burning.bad) == FAILURES_IN_A_ROW - 1
    assert burning.head == "blank"


def test_wear_all_over_the_flash_is_wear(burner: Burner) -> None:
    """Many blocks may fail, if others between them do not."""
    burning = burner.burn(20 * BLOCK, blocks=40, weak_erase=",".join(map(str, range(1, 40, 2))))
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.bad_blocks > 2 * FAILURES_IN_A_ROW


@pytest.mark.parametrize("fault", ["weak_erase", "weak_write", "grave", "liar"])
def test_too_few_good_blocks_are_no_room(burner: Burner, fault: str) -> None:
    """Told as soon as it is clear, with what is left."""
    burning = burner.burn(bad="0,1,2", **{fault: "5,8,9"})
    assert burning.result == Status.SPACE
    assert burning.offset == (NEEDED - 1) * BLOCK
    assert "3 blocks went bad just now" in burning.message
    assert (burning.bad, burning.head) == ([0, 1, 2, 5, 8, 9], "blank")


def test_the_last_block_of_all_may_fail(burner: Burner) -> None:
    """Also where nobody knows how much is to come."""
    burning = burner.burn(ROOM, announced=0, weak_write="11")
    assert (burning.result, burning.offset) == (Status.SPACE, ROOM - BLOCK)


def test_a_head_that_does_not_erase_moves_at_once(burner: Burner) -> None:
    """Nothing stands behind it yet: the next good block is the head."""
    burning = burner.burn(weak_erase="0,1,3")
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.bad == [0, 1, 3]


@pytest.mark.parametrize("fault", ["weak_write", "grave", "liar"])
def test_a_head_that_fails_at_the_end_asks_for_another_go(burner: Burner, fault: str) -> None:
    """It is marked bad, what is left does not boot, and from the first byte on it works."""
    burning = burner.keep(bad="0", **{fault: "1"})
    assert (burning.result, burning.bad) == (Status.AGAIN, [0, 1])
    assert burning.head == "blank"
    again = burner.keep(**{fault: "1"})
    assert (again.result, again.is_whole, again.bad) == (Status.DONE, True, [0, 1])


def test_a_head_that_was_resumed_cannot_move(burner: Burner) -> None:
    """All else stands behind it: the image is to be written again."""
    assert burner.keep(until="settle").result == Status.DONE
    dirty = burner.keep(size=BLOCK, until="commit")  # an image in the head
    assert dirty.result == Status.DONE
    burning = burner.keep(**{"from": 3 * BLOCK, "weak_erase": "0"})
    assert (burning.result, burning.bad) == (Status.AGAIN, [0])


@pytest.mark.parametrize("orders", [{"takes_no_marks": 1}, {"fault": f"mark:1:{errno.EIO}"}])
def test_a_block_that_cannot_be_marked_ends_it(
    burner: Burner, orders: Mapping[str, object]
) -> None:
    """Whoever reads the slot would not skip it: that is no success."""
    burning = burner.burn(weak_write="4", **orders)
    assert (burning.result, burning.os_errno, burning.offset) == (
        Status.IO,
        errno.EIO,
        4 * BLOCK,
    )
    assert (burning.head, burning.bad) == ("blank", [])


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (f"erase:4:{errno.EIO}", Status.IO),
        (f"write:4:{errno.EIO}", Status.IO),
        (f"read:4:{errno.EIO}", Status.IO),
        ("write:4:lose", Status.READ_BACK),
        ("erase:4:lose", Status.READ_BACK),
    ],
)
def test_nor_flash_knows_no_bad_blocks(burner: Burner, fault: str, status: Status) -> None:
    """There a failure is the end, with its place."""
    burning = burner.burn(fault=fault, **NOR)
    assert burning.result == status
    assert 0 < burning.offset < SIZE
    assert (burning.bad, burning.head) == ([], "blank")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    flash=st.tuples(
        st.sets(st.integers(0, BLOCKS - 1), max_size=3),
        st.dictionaries(
            st.integers(0, BLOCKS - 1),
            st.sampled_from(["weak_erase", "weak_write", "grave", "liar"]),
            max_size=FAILURES_IN_A_ROW - 1,
        ),
    ),
    size=st.integers(1, ROOM),
    is_known=st.booleans(),
)
def test_whatever_is_worn_the_image_finds_its_place(
    program: Path,
    tmp_path_factory: pytest.TempPathFactory,
    flash: tuple[set[int], Mapping[int, str]],
    size: int,
    is_known: bool,
) -> None:
    """If the healthy blocks are enough it arrives, and no healthy one is ever marked."""
    bad, worn = flash
    burner = Burner(program, tmp_path_factory.mktemp("flash") / "flash")
    orders: dict[str, object] = {"bad": ",".join(map(str, bad)) or None}
    for kind in set(worn.values()):
        orders[kind] = ",".join(str(block) for block, how in worn.items() if how == kind)
    healthy = set(range(BLOCKS)) - bad - set(worn)
    for _ in range(1 + len(worn)):
        burning = burner.keep(size=size, announced=None if is_known else 0, **orders)
        assert bad <= set(burning.bad) <= bad | set(worn)
        if burning.result is not Status.AGAIN:
            break
        assert burning.head in {"blank", "old"}
    if burning.result is Status.DONE:
        assert burning.is_whole
    else:
        assert burning.result is Status.SPACE
        assert len(healthy) * BLOCK < size
        assert burning.head != "new"
    burner.renew()


# --- each call may fail ------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "of_head"), [("erase", 0), ("write", 2), ("read", 1)])
def test_each_failure_of_nand_costs_one_block(burner: Burner, call: str, of_head: int) -> None:
    """The first, the second, … the last of its kind: it arrives, or the head has to be redone."""
    endings = list(burner.each(f"{call}:{{}}:{errno.EIO}", bad="3"))
    for burning in endings[: len(endings) - of_head]:
        assert (burning.result, burning.is_whole) == (Status.DONE, True)
        assert len(burning.bad) == 2 or call == "read"  # the look at an old head may fail
    for burning in endings[len(endings) - of_head :]:
        assert (burning.result, burning.bad) == (Status.AGAIN, [0, 3])
        assert burning.head == "blank"


@pytest.mark.parametrize("kind", KINDS[:2], ids=NAMES[:2])
@pytest.mark.parametrize("call", ["erase", "write", "read", "ecc", "lock", "info", "bad"])
@pytest.mark.parametrize("error", [errno.ENODEV, errno.ETIMEDOUT])
def test_what_is_no_block_s_fault_marks_none(
    burner: Burner, call: str, error: int, kind: Mapping[str, object]
) -> None:
    """A controller that is gone, a call that is refused: one clear error, nothing marked bad."""
    if (call, bool(kind)) in {("lock", False), ("bad", True)}:
        return
    for burning in burner.each(f"{call}:{{}}:{error}", **kind):
        assert burning.result in {Status.IO, Status.OPEN} or burning.is_whole
        assert burning.result is Status.DONE or os.strerror(error) in burning.message
        assert burning.bad == []


@pytest.mark.parametrize("kind", KINDS[:2], ids=NAMES[:2])
@pytest.mark.parametrize("call", ["erase", "write", "read", "ecc", "lock", "info", "bad", "mark"])
def test_an_interrupted_call_is_made_again(
    burner: Burner, call: str, kind: Mapping[str, object]
) -> None:
    """A signal costs nothing, and no block."""
    worn = {} if kind else {"weak_write": "4"}
    if (call, bool(kind)) in {("lock", False), ("bad", True), ("mark", True)}:
        return
    for burning in burner.each(f"{call}:{{}}:{errno.EINTR}", **kind, **worn):
        assert (burning.result, burning.is_whole) == (Status.DONE, True)
        assert len(burning.bad) == len(worn)


@pytest.mark.parametrize("kind", KINDS[:2], ids=NAMES[:2])
@pytest.mark.parametrize("call", ["write", "read"])
def test_a_call_may_stop_half_way(burner: Burner, call: str, kind: Mapping[str, object]) -> None:
    """The rest is asked for again."""
    for burning in burner.each(f"{call}:{{}}:short", **kind):
        assert (burning.result, burning.is_whole) == (Status.DONE, True)


@pytest.mark.parametrize("call", ["erase", "write"])
def test_each_lost_write_of_nand_is_found_out(burner: Burner, call: str) -> None:
    """One that says it was done and was not: the block is marked, and the data move."""
    for burning in burner.each(f"{call}:{{}}:lose"):
        assert burning.result in {Status.DONE, Status.AGAIN}
        assert burning.is_whole == (burning.result is Status.DONE)
        assert len(burning.bad) == 1


@pytest.mark.parametrize("call", ["erase", "write"])
def test_each_lost_write_of_nor_is_found_out(burner: Burner, call: str) -> None:
    """There it is the end, and the head is not there."""
    for burning in burner.each(f"{call}:{{}}:lose", **NOR):
        assert burning.result == Status.READ_BACK
        assert burning.head in {"blank", "old"}


@pytest.mark.parametrize("call", ["open", "stat", "sysfs", "memory"])
def test_a_look_that_fails_touches_nothing(burner: Burner, call: str) -> None:
    """What cannot be told is not guessed, unless it is not needed."""
    for burning in burner.each(f"{call}:{{}}:{errno.EIO}", **NOR):
        wanted = Status.RESOURCES if call == "memory" else Status.OPEN
        assert burning.result == wanted or (call == "sysfs" and burning.is_whole)
        assert burning.is_untouched or burning.is_whole


# --- power cuts --------------------------------------------------------------------------------

WEAR = {"weak_erase": "2", "weak_write": "4", "grave": "7"}
LIES = {"bad": "0", "liar": "3"}


@pytest.mark.parametrize("when", ["die", "tear", "dead"])
@pytest.mark.parametrize("call", ["erase", "write", "mark"])
@pytest.mark.parametrize("wear", [{}, WEAR, LIES, NOR], ids=["healthy", "worn", "lies", "nor"])
def test_after_any_cut_it_goes_on(
    burner: Burner, call: str, when: str, wear: Mapping[str, object]
) -> None:
    """Before, in or behind any call: no slot that looks whole and is not; then on to the end."""
    if call == "mark" and wear in ({}, NOR):
        return
    for n in range(1, 200):
        burner.renew()
        cut = burner.keep(fault=f"{call}:{n}:{when}", **wear)
        if not cut.happened:
            assert n > 1
            return
        assert cut.cut == 1
        assert cut.head in {"old", "blank", "part"} or cut.is_whole
        settled = cut.settled // BLOCK * BLOCK
        again = burner.keep(**{**wear, "from": settled if settled > BLOCK else 0})
        assert (again.result, again.is_whole) == (Status.DONE, True)
        assert again.erased_most <= 3
        deserved = {int(b) for list_ in wear.values() for b in str(list_).split(",")}
        assert wear == NOR or set(again.bad) <= deserved
    pytest.fail("it never ended")


def test_a_resume_writes_only_the_rest(burner: Burner) -> None:
    """What was proven is read, and neither erased nor programmed again."""
    burner.keep(until="settle")
    burning = burner.keep(**{"from": 3 * BLOCK})
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.verified == SIZE
    assert burning.programmed < (NEEDED - 2) * BLOCK


def test_blocks_marked_by_an_earlier_try_stay_where_they_are(burner: Burner) -> None:
    """The good blocks before the cut are the same ones afterwards, in the same order."""
    first = burner.keep(until="write", bad="1", weak_write="3,5")
    assert first.bad == [1, 3, 5]
    settled = first.settled // BLOCK * BLOCK
    assert settled > 3 * BLOCK
    burning = burner.keep(**{"from": settled})
    assert (burning.result, burning.is_whole) == (Status.DONE, True)


@pytest.mark.parametrize("offset", [1, BLOCK - PAGE, 3 * BLOCK + PAGE])
def test_a_position_that_cannot_be_starts_over(burner: Burner, offset: int) -> None:
    """A checkpoint of another flash is not believed, nor is a block that begins nowhere."""
    burner.keep(until="settle")
    burning = burner.keep(**{"from": offset})
    assert (burning.result, burning.head) == (Status.AGAIN, "blank")


def test_a_position_behind_the_end_is_an_error(burner: Burner) -> None:
    """There is nothing to be read there."""
    burner.keep(size=ROOM, until="settle")
    burning = burner.keep(size=ROOM + BLOCK, **{"from": ROOM + BLOCK})
    assert (burning.result, burning.os_errno) == (Status.IO, errno.ENXIO)


def test_a_head_that_is_blank_is_erased_once(burner: Burner) -> None:
    """Tries that bring nothing cost no wear; what an earlier one erased is erased anew for use."""
    for _ in range(3):
        assert burner.keep(until="blank").erased_most == 1
    burning = burner.keep()
    assert (burning.result, burning.is_whole, burning.erased_most) == (Status.DONE, True, 2)


@pytest.mark.parametrize("until", ["blank", "write", "settle"])
def test_a_close_before_the_commit_leaves_no_head(burner: Burner, until: str) -> None:
    """A wrong digest, a cancel, a failure elsewhere: the slot does not boot."""
    burning = burner.burn(until=until)
    assert (burning.result, burning.head) == (Status.DONE, "blank")


# --- what the flash holds already --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS[:2], ids=NAMES[:2])
def test_identical_blocks_are_left_alone(burner: Burner, kind: Mapping[str, object]) -> None:
    """Neither erased nor programmed, but read and counted; all else is written."""
    burner.keep(size=50_000, **kind)
    burning = burner.keep(skip_identical=1, **kind)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert burning.identical == 50_000 // BLOCK * BLOCK - BLOCK
    assert burning.verified == burning.written == SIZE
    again = burner.keep(skip_identical=1, **kind)
    assert again.identical == SIZE - BLOCK
    assert again.programmed <= BLOCK
    assert again.is_whole


def test_identical_bytes_that_ecc_doubts_are_written(burner: Burner) -> None:
    """What can just about be read is refreshed."""
    burner.keep()
    burning = burner.keep(skip_identical=1, grave="9")
    assert burning.identical == SIZE - BLOCK
    burner.renew()
    for failing in ("read:3", "ecc:7"):
        burner.renew()
        burner.keep()
        burning = burner.keep(skip_identical=1, fault=f"{failing}:{errno.EIO}")
        assert (burning.result, burning.is_whole, burning.bad) == (Status.DONE, True, [])
        assert burning.identical == SIZE - 2 * BLOCK


# --- write protection --------------------------------------------------------------------------

LOCKED = {"locked": "0,1,5,6,7,11", **NOR}


def test_locked_nor_is_unlocked_and_locked_again(burner: Burner) -> None:
    """In one go, and where it was."""
    burning = burner.burn(**LOCKED)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert (burning.unlocks, burning.locks) == (1, 3)
    assert burning.locked == [0, 1, 5, 6, 7, 11]


@pytest.mark.parametrize("until", ["open", "blank", "write", "settle"])
def test_it_is_locked_again_whatever_happened(burner: Burner, until: str) -> None:
    """Also where the image was given up half-way."""
    burning = burner.burn(until=until, **LOCKED)
    assert burning.locked == [0, 1, 5, 6, 7, 11]
    assert burning.unlocks == (until != "open")


def test_what_was_not_locked_is_left_alone(burner: Burner) -> None:
    """Neither unlocked nor locked."""
    burning = burner.burn(**NOR)
    assert (burning.unlocks, burning.locks, burning.locked) == (0, 0, [])


def test_a_flash_that_does_not_tell_is_unlocked(burner: Burner) -> None:
    """It may be locked; and nobody knows what to lock again."""
    burning = burner.burn(tells_no_locks=1, **LOCKED)
    assert (burning.result, burning.is_whole) == (Status.DONE, True)
    assert (burning.unlocks, burning.locks) == (1, 0)


@pytest.mark.parametrize("fault", [f"lock:13:{errno.EINVAL}", f"lock:5:{errno.EIO}"])
def test_a_lock_that_cannot_be_lifted_changes_nothing(burner: Burner, fault: str) -> None:
    """One that covers more than this partition, say."""
    burning = burner.burn(fault=fault, **LOCKED)
    assert burning.result == Status.OPEN
    assert burning.is_untouched
    assert burning.locked == [0, 1, 5, 6, 7, 11]


# --- as a source -------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [4096, 5 * 4096, 64 * 4096])
@pytest.mark.parametrize("kind", KINDS[:2], ids=NAMES[:2])
def test_what_was_written_is_read(burner: Burner, piece: int, kind: Mapping[str, object]) -> None:
    """Bad blocks left out, up to the announced size."""
    worn = {} if kind else {"bad": "0,3", "weak_write": "5"}
    burner.keep(**kind, **worn)
    burning = burner.keep(source=1, options_size=SIZE, piece=piece, **kind)
    assert (burning.result, burning.read, burning.same) == (Status.DONE, SIZE, 1)


def test_without_a_size_it_is_all_good_blocks(burner: Burner) -> None:
    """And it ends with the last one."""
    burning = burner.burn(source=1, bad="0,3")
    assert burning.source_size == burning.read == ROOM - 2 * BLOCK


def test_a_source_may_begin_in_the_middle(burner: Burner) -> None:
    """Where an earlier try had come to."""
    burner.keep()
    burning = burner.keep(source=1, options_size=SIZE, skips=33_000)
    assert (burning.result, burning.read, burning.same) == (Status.DONE, SIZE, 1)
    beyond = burner.keep(source=1, options_size=SIZE, skips=SIZE + 1)
    assert beyond.result == Status.AGAIN


def test_a_source_that_is_too_short_is_an_error(burner: Burner) -> None:
    """One that has fewer good blocks than the image needs."""
    burning = burner.burn(source=1, options_size=ROOM, bad="4")
    assert burning.result == Status.LENGTH


@pytest.mark.parametrize("orders", [{"ubi": 6}, {"held": 1}, {"read_only": 1}])
def test_a_source_may_be_in_use(burner: Burner, orders: Mapping[str, object]) -> None:
    """Reading harms nobody."""
    assert burner.burn(source=1, **orders).result == Status.DONE


def test_what_ecc_cannot_correct_is_no_firmware(burner: Burner) -> None:
    """The kernel gives the bytes all the same: it is an error, with its place."""
    burner.keep(until="write", weak_write="0")
    torn = burner.keep(fault="erase:4:tear")
    assert torn.cut == 1
    burning = burner.keep(source=1, options_size=SIZE)
    assert (burning.result, burning.os_errno) == (Status.SOURCE, errno.EBADMSG)
    assert burning.offset % BLOCK == 0 or burning.offset > 0


@pytest.mark.parametrize("call", ["read", "ecc"])
def test_each_failed_read_of_a_source_is_told(burner: Burner, call: str) -> None:
    """No byte is made up."""
    for burning in burner.each(f"{call}:{{}}:{errno.EIO}", source=1, piece=64 * 4096):
        assert (burning.result, burning.os_errno) == (Status.SOURCE, errno.EIO)

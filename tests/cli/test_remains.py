# SPDX-License-Identifier: MIT
"""What is said to be left behind, for each medium, phase and end."""

from typing import Any

import pytest

from updater.core.errors import (
    BusyError,
    DeviceError,
    DigestError,
    SpaceError,
    StartOverError,
    StorageError,
    TransportError,
    UpdaterError,
)
from updater.core.ports import InstallRequest, Phase
from updater.edge.medium import Kind, Medium
from updater.remains import remains

UNTOUCHED = "x is as it was"
BLANK = "x is incomplete and boots nowhere: its beginning is blank; the same command "
MARKED = "x is incomplete, and the kernel marks it so; the same command begins anew"
UNKNOWN = "whether x is complete says: updater read-back x"
COMPLETE = "x is complete"
WORTHLESS = "x is incomplete and must not be used; the same command goes on there"
EITHER = "x is as it was, or complete: updater read-back x says which"
ROOM = SpaceError(2, 1, "x")

LEFT: list[tuple[Kind, Phase, UpdaterError | None, str]] = [
    (Kind.BLOCK, Phase.RESUMING, None, UNTOUCHED),
    (Kind.BLOCK, Phase.CONNECTING, TransportError("no"), UNTOUCHED),
    (Kind.BLOCK, Phase.CONNECTING, ROOM, UNTOUCHED),
    (Kind.BLOCK, Phase.BLANKING, None, BLANK + "goes on there"),
    (Kind.BLOCK, Phase.RECEIVING, None, BLANK + "goes on there"),
    (Kind.MTD, Phase.RECEIVING, TransportError("no"), BLANK + "goes on there"),
    (Kind.BLOCK, Phase.RECEIVING, ROOM, BLANK + "begins anew"),
    (Kind.BLOCK, Phase.RECEIVING, DigestError("no"), BLANK + "begins anew"),
    (Kind.BLOCK, Phase.VERIFYING, DigestError("no"), BLANK + "begins anew"),
    (Kind.BLOCK, Phase.RECEIVING, StartOverError("no"), BLANK + "begins anew"),
    (Kind.BLOCK, Phase.RECEIVING, StorageError("no"), WORTHLESS),
    (Kind.MTD, Phase.VERIFYING, StorageError("no"), WORTHLESS),
    (Kind.BLOCK, Phase.VERIFYING, None, UNKNOWN),
    (Kind.FILE, Phase.VERIFYING, None, UNKNOWN),
    (Kind.FILE, Phase.DONE, None, COMPLETE),
    (Kind.BLOCK, Phase.DONE, None, COMPLETE),
    (Kind.UBI, Phase.BLANKING, BusyError("no"), UNTOUCHED),
    (Kind.UBI, Phase.BLANKING, DeviceError("no"), UNTOUCHED),
    (Kind.UBI, Phase.BLANKING, ROOM, UNTOUCHED),
    (Kind.UBI, Phase.RECEIVING, None, MARKED),
    (Kind.UBI, Phase.RECEIVING, TransportError("no"), MARKED),
    (Kind.FILE, Phase.RECEIVING, None, UNTOUCHED + "; the same command goes on there, with x.part"),
    (Kind.FILE, Phase.RECEIVING, DigestError("no"), UNTOUCHED),
    (Kind.FILE, Phase.RECEIVING, ROOM, UNTOUCHED),
    (Kind.FILE, Phase.VERIFYING, StorageError("no"), EITHER),
]


@pytest.mark.parametrize(("kind", "phase", "error", "said"), LEFT)
def test_what_is_left_is_said(
    kind: Kind, phase: Phase, error: UpdaterError | None, said: str
) -> None:
    """One sentence that is true of this medium, this far, after this end."""
    request = InstallRequest("s", "x", 1, "0" * 32, checkpoint="c")
    assert remains(request, Medium("x", kind, 7), phase, error, is_kept=True) == said


@pytest.mark.parametrize(
    ("known", "said"),
    [({}, UNKNOWN), ({"size_bytes": 1}, COMPLETE), ({"md5": "0" * 32}, COMPLETE),
     ({"sha256": "0" * 64}, COMPLETE), ({"sha256": ""}, UNKNOWN)],
)  # fmt: skip
def test_a_stream_may_have_been_interrupted_too(known: dict[str, Any], said: str) -> None:
    """Then it has ended too soon, and only what was announced of it could tell."""
    request = InstallRequest("-", "x", **known)
    medium = Medium("x", Kind.BLOCK, 7)
    assert remains(request, medium, Phase.DONE, None, is_kept=False) == said


@pytest.mark.parametrize("lacking", ["md5", "size_bytes", "checkpoint", "a file", "a mark"])
def test_what_cannot_go_on_begins_anew(lacking: str) -> None:
    """MD5, size, a checkpoint with a mark, and bytes that can be asked for in the middle."""
    known = {"size_bytes": 1, "md5": "0" * 32, "checkpoint": "c", "source": "s"}
    if lacking == "a file":
        known["source"] = "-"
    known.pop(lacking, None)
    request, is_kept = InstallRequest(device="x", **known), lacking != "a mark"
    for medium, said in (
        (Medium("x", Kind.BLOCK, 7), BLANK + "begins anew"),
        (Medium("x", Kind.FILE), UNTOUCHED),
    ):
        assert remains(request, medium, Phase.RECEIVING, None, is_kept=is_kept) == said

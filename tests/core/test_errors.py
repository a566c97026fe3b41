# SPDX-License-Identifier: MIT
"""The closed hierarchy: what each error means to a shell and to the cloud."""

import pytest

from updater.core import errors
from updater.core.errors import (
    EnvironmentStoreError,
    ForbiddenError,
    IllegalEventError,
    NotFoundError,
    ResultCode,
    SpaceError,
    StorageError,
    UpdaterError,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UpdaterError) and kind is not UpdaterError
]


def test_exit_codes_are_an_interface() -> None:
    """Scripts know them: none changes, none is used twice, 0 and 1 say nothing about why."""
    assert UpdaterError.exit_code == 1
    assert {kind.__name__.removesuffix("Error"): kind.exit_code for kind in KINDS} == {
        "Usage": 2, "Config": 3, "NotPermitted": 4, "Busy": 5, "WrongState": 6, "Control": 7,
        "Transport": 10, "NotFound": 11, "Forbidden": 12, "Digest": 13, "Scheme": 14, "Space": 15,
        "Device": 16, "Storage": 17, "EnvironmentStore": 18, "Slot": 19, "Journal": 20, "Link": 21,
        "Offer": 22, "Health": 23, "Cancelled": 24, "StartOver": 25, "Format": 26,
        "IllegalEvent": 70,
    }  # fmt: skip


def test_what_is_not_the_network_s_is_this_side_s() -> None:
    """The cloud hears -1 to -4 of a download alone; everything else is -5."""
    assert {kind.__name__: int(kind.result_code) for kind in KINDS if kind.result_code != -5} == {
        "TransportError": ResultCode.TRANSPORT,
        "NotFoundError": ResultCode.NOT_FOUND,
        "ForbiddenError": ResultCode.FORBIDDEN,
        "DigestError": ResultCode.DIGEST,
    }
    assert [int(code) for code in ResultCode] == [0, -1, -2, -3, -4, -5]


@pytest.mark.parametrize(
    ("error", "facts", "sentence"),
    [
        (NotFoundError("gone"), {"http_status": 404}, "gone"),
        (NotFoundError("gone", 410), {"http_status": 410}, "gone"),
        (ForbiddenError("expired"), {"http_status": 403}, "expired"),
        (ForbiddenError("expired", 401), {"http_status": 401}, "expired"),
        (
            SpaceError(41943040, 33554432, "slot B"),
            {"needed_bytes": 41943040, "held_bytes": 33554432},
            "image needs 41943040 bytes, slot B holds 33554432",
        ),
        (
            SpaceError(0, 33554432, "slot B"),
            {"needed_bytes": 0, "held_bytes": 33554432},
            "image does not fit, slot B holds 33554432",
        ),
        (StorageError("read back", 4096), {"offset_bytes": 4096}, "read back"),
        (StorageError("flush"), {"offset_bytes": None}, "flush"),
        (EnvironmentStoreError("not proven"), {"undecided": False}, "not proven"),
        (EnvironmentStoreError("gone", undecided=True), {"undecided": True}, "gone"),
        (IllegalEventError(1, 2), {"state": 1, "event": 2}, "2 is not possible in state 1"),
    ],
)
def test_errors_carry_their_facts(
    error: UpdaterError, facts: dict[str, object], sentence: str
) -> None:
    """Attributes for programs, one sentence for people."""
    assert {name: getattr(error, name) for name in facts} == facts
    assert str(error) == sentence

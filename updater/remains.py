# SPDX-License-Identifier: MIT
"""What a write that ended early leaves behind, in one sentence: decided over values.

Says no more than is known: whoever was interrupted while the last bytes were being stored cannot
tell whether they arrived, and a medium that fails may hold anything.
"""

from updater.core.errors import (
    BusyError,
    DeviceError,
    DigestError,
    SpaceError,
    StartOverError,
    StorageError,
    UpdaterError,
)
from updater.core.ports import InstallRequest, Phase
from updater.edge.medium import Kind, Medium

STDIN = "-"

_UNTOUCHED = {Phase.RESUMING, Phase.CONNECTING}
_REFUSALS = (BusyError, DeviceError)  # nothing was written, whenever they come
_FUTILE = (DigestError, StartOverError, SpaceError)  # nothing is left that could be gone on with
_SPARED = {Kind.BLOCK, Kind.MTD, Kind.FILE}  # of a UBI volume an update begins by erasing it


def remains(
    request: InstallRequest,
    medium: Medium,
    phase: Phase,
    error: UpdaterError | None,
    *,
    is_kept: bool,
) -> str:
    """Return what *request* leaves on *medium*.

    Args:
        request: What was asked for.
        medium: Where it was written to.
        phase: How far it had come when nothing moved any more.
        error: What has ended it, or None if it was interrupted.
        is_kept: There is a checkpoint of what was written.
    """
    path = medium.path
    if phase in _UNTOUCHED or isinstance(error, _REFUSALS):
        return f"{path} is as it was"
    if isinstance(error, SpaceError) and phase is Phase.BLANKING:
        return f"{path} is as it was"
    can_go_on = is_kept and _can_go_on(request, medium, error)
    again = "goes on there" if can_go_on else "begins anew"
    if error is None and phase is Phase.DONE and _has_known_end(request):
        return f"{path} is complete"
    if error is None and phase in {Phase.VERIFYING, Phase.DONE}:
        return f"whether {path} is complete says: updater read-back {path}"
    if medium.kind is Kind.FILE and isinstance(error, StorageError) and phase is Phase.VERIFYING:
        # the last call that can fail comes after it has taken its name
        return f"{path} is as it was, or complete: updater read-back {path} says which"
    if medium.kind is Kind.FILE:
        part = f"; the same command {again}, with {path}.part" if can_go_on else ""
        return f"{path} is as it was{part}"
    if isinstance(error, StorageError):
        return f"{path} is incomplete and must not be used; the same command {again}"
    if medium.kind is Kind.UBI:
        return f"{path} is incomplete, and the kernel marks it so; the same command {again}"
    return (
        f"{path} is incomplete and boots nowhere: its beginning is blank; the same command {again}"
    )


def _has_known_end(request: InstallRequest) -> bool:
    """Tell whether it would be seen that the source was interrupted too, and ended too soon."""
    return request.source != STDIN or bool(request.size_bytes or request.md5 or request.sha256)


def _can_go_on(request: InstallRequest, medium: Medium, error: UpdaterError | None) -> bool:
    is_known = bool(request.checkpoint and request.md5 and request.size_bytes)
    is_readable_again = request.source != STDIN
    return (
        is_known and is_readable_again and medium.kind in _SPARED and not isinstance(error, _FUTILE)
    )

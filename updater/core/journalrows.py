# SPDX-License-Identifier: MIT
"""The rows of the journal's tables as values of the model, and back.

What a row holds was written by this version, an older or a younger one: each function raises
ValueError, TypeError or KeyError for what makes no sense, and nothing else.
"""

import json
from collections.abc import Mapping, Sequence

from updater.core.errors import ResultCode
from updater.core.model import Failures, Firmware, Offer, Session, SlotRecord, State

REFUSAL = "refusal "  # how the key of a refused offer begins, among ids of sessions

SESSION_COLUMNS = (
    "id, state, version, md5, size_bytes, url, task_id, fw_type, is_local, "
    "target, other, code, reason, baseline"
)
FAILURES_COLUMNS = "version, md5, size_bytes, count, time_s, is_undecided, is_cancelled"


def session_row(session: Session) -> tuple[object, ...]:
    """Return *session* in the order of ``SESSION_COLUMNS``; the URL ends with it."""
    offer = session.offer
    return (
        session.id,
        session.state.value,
        offer.firmware.version,
        offer.firmware.md5,
        offer.firmware.size_bytes,
        "" if session.state.is_final else offer.url,
        json.dumps(offer.task_id),
        offer.fw_type,
        int(offer.is_local),
        session.target,
        session.other,
        int(session.code),
        session.reason,
        json.dumps(session.baseline),
    )


def refusals_of(offer: Offer) -> str:
    """Return how the keys of all refusals begin that the cloud could take for those of *offer*."""
    return f"{REFUSAL}{offer.firmware.version} {offer.fw_type or ''} "


def refusal_key(offer: Offer) -> str:
    """Return what tells the refusal of *offer* from others: all that its report names."""
    return f"{refusals_of(offer)}{json.dumps(offer.task_id)}"


def _firmware(version: object, md5: object, size_bytes: object) -> Firmware:
    return Firmware(str(version), str(md5), int(str(size_bytes)))


def failures_of(row: Mapping[str, object]) -> Failures:
    """Return what a row of failures says; an older version knows of no cancel."""
    return Failures(
        _firmware(row["version"], row["md5"], row["size_bytes"]),
        int(str(row["count"])),
        float(str(row["time_s"])),
        is_undecided=bool(row["is_undecided"]),
        is_cancelled=bool(row.get("is_cancelled")),
    )


def record_of(row: Mapping[str, object]) -> SlotRecord:
    """Return the record; what a version has stored that decoded nothing is the firmware itself."""
    firmware = _firmware(row["version"], row["md5"], row["size_bytes"])
    md5 = str(row.get("image_md5") or firmware.md5)
    size_bytes = int(str(row.get("image_size_bytes") or firmware.size_bytes))
    return SlotRecord(str(row["bootname"]), firmware, md5, size_bytes)


def session_of(row: Sequence[object]) -> Session:
    """Return the session that *row* is, in the order of ``SESSION_COLUMNS``."""
    (identity, state, version, md5, size_bytes, url, task_id, fw_type, is_local,
     target, other, code, reason, baseline) = row  # fmt: skip
    offer = Offer(
        _firmware(version, md5, size_bytes),
        str(url),
        json.loads(str(task_id)),
        None if fw_type is None else str(fw_type),
        is_local=bool(is_local),
    )
    return Session(
        str(identity),
        State(state),
        offer,
        str(target),
        str(other),
        ResultCode(int(str(code))),
        str(reason),
        tuple(json.loads(str(baseline))),
    )

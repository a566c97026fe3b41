# SPDX-License-Identifier: MIT
"""What a device owed, by its own journal, against what its broker has heard, and how."""

from collections.abc import Sequence
from itertools import pairwise

from sim.audit import Limits, said, violations
from sim.tap import Packet
from sim.way import Way

from outages.owed import rows
from outages.site import PASSWORD, SECRET, SIGNATURE, Site

# What the broker hears late may have been said in time, and what it has sent may not have arrived.
LIMITS = Limits(slack_s=5.0, is_lossy=True)
CONNECT_INTERVAL_S = 5.0
_LATE_S = 1.0  # on a busy machine


def complaints(site: Site) -> list[str]:
    """Return a sentence for each thing that is not as it must be; none if all is well."""
    site.broker.catch_up()
    packets = site.packets()
    log = "".join(site.logs)
    secrets = (SIGNATURE, PASSWORD, SECRET, "Traceback")
    return [
        *violations(packets, LIMITS),
        *map(repr, site.cloud.garbage),
        *(f"denied: {line.text}" for line in site.broker.lines if "Denied" in line.text),
        *_rows(site, packets),
        *_ends(site, packets),
        *_attempts(site),
        *(f"in the log: {text}" for text in secrets if text in log),
    ]


def _rows(site: Site, packets: Sequence[Packet]) -> list[str]:
    """Compare the journal's rows with what has arrived: each, the ends in order, and no other."""
    owed = [row.payload for row in rows(site.folder, "owed_reports")]
    ends = [each for packet in packets if (each := said(packet)) and each.is_terminal]
    heard = list(dict.fromkeys(each.packet.payload for each in ends))
    found = [] if owed == heard else [f"owed {owed}, but the broker has heard {heard}"]
    if len(owed) != len(site.offers):
        found.append(f"{len(site.offers)} offers, but {len(owed)} sessions have ended")
    said_at_all = {packet.payload for packet in packets}
    burnings = (row.payload for row in rows(site.folder, "owed_burnings"))
    unheard = [payload for payload in burnings if payload not in said_at_all]
    return [*found, *(f"owed {each!r}, and the broker has not heard it" for each in unheard)]


def _ends(site: Site, packets: Sequence[Packet]) -> list[str]:
    """Find what has ended otherwise than it was to."""
    told = {each.version: each for packet in packets if (each := said(packet)) and each.is_terminal}
    found = []
    for version, ending in site.offers.items():
        last = told.get(version)
        code = last and last.report["progress"]["result_code"]
        if code != {"done": "0"}.get(ending, ending):
            found.append(f"{version} was to end in {ending}, and ended in {code}")
    return found


def _attempts(site: Site) -> list[str]:
    """Find attempts of one process that are too close to each other, as the way has seen it."""
    times_s = site.way.accepted_s if isinstance(site.way, Way) else []
    return [
        f"attempts to connect are {after_s - before_s:.1f} s apart"
        for before_s, after_s in pairwise(times_s)
        if after_s - before_s < CONNECT_INTERVAL_S - _LATE_S
        and not any(before_s < start_s <= after_s for start_s in site.ledger.starts)
    ]

# SPDX-License-Identifier: MIT
"""Draws the pictures of the documentation from the sources, so that they cannot lie.

    python docs/draw.py            writes docs/*.svg, but for the demo's

Which modules there are is read from the folders, what a session may become from the state machine's
own table, and what is said in it from the messages; a test holds the committed pictures against
this script.
"""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from updater.core import machine, messages
from updater.core.model import Firmware, Offer, State

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "updater"
WIDTH = 1000

INK, PAPER, LINE = "#1f2933", "#ffffff", "#52606d"
FILL = {"outside": "#f1f5f9", "edge": "#d9f0e6", "agent": "#fde8c8", "core": "#dbe7fb"}

OUTSIDE = {
    "mqtt": "MQTT broker",
    "mqttclient": "one connection, by paho",
    "dial": "name, TCP, TLS, WebSocket",
    "lookup": "name servers",
    "tls": "certificates, keys",
    "stream": "one connected socket",
    "websocketstream": "the same in frames",
    "pipeline": "native/: libcurl, libcrypto, slot",
    "envstore": "U-Boot's environment",
    "envmedia": "block, file, MTD",
    "journal": "what survives a power cut",
    "database": "SQLite on the data partition",
    "udev": "partitions, sysfs",
    "health": "health commands",
    "commands": "commands of an administrator",
    "control": "local callers",
    "lock": "one writer at a time",
    "secret": "the device's secret",
    "secretfile": "where that is stored",
    "registration": "the cloud's gateway, by HTTPS",
    "aes": "libcrypto, for its reply",
    "system": "clock, reboot, version file",
    "medium": "what stands at a path, who uses it",
    "authorities": "the system's CAs",
    "bootpartition": "write protection of eMMC boot",
}

LEFT_BY_A_CUT = {
    State.INSTALLING: "old slot boots; target's head is blank",
    State.INSTALLED: "old slot boots; target verified",
    State.ACTIVATED: "old slot, or new one on trial",
    State.TRIAL: "one try is lost; past 3 the old slot",
    State.ROLLING_BACK: "one try is lost, or the old slot",
    State.GOOD: "new slot boots; `done` is owed",
    State.FAILED: "old slot boots; `fail` is owed",
}


Place = tuple[float, float, float, float]  # x, y, width, height


def box(place: Place, kind: str, lines: Sequence[str]) -> str:
    """Return a box with *lines* in it, the first one bold."""
    x, y, width, height = place
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" '
    parts = [f'{shape}fill="{FILL[kind]}" stroke="{LINE}"/>']
    step = 15
    top = y + height / 2 - step * (len(lines) - 1) / 2 + 4
    for number, line in enumerate(lines):
        weight = ' font-weight="bold"' if number == 0 else ""
        parts.append(text(x + width / 2, top + number * step, line, weight))
    return "".join(parts)


def text(x: float, y: float, line: str, more: str = "") -> str:
    """Return one line of text, centred at *x*."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle"{more}>{escape(line)}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a line with a head at its end."""
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{LINE}" '
        'stroke-width="1.5" marker-end="url(#head)"/>'
    )


def page(height: float, parts: Sequence[str]) -> str:
    """Return the whole picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">\n'
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{height:g}" fill="{PAPER}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def names(folder: Path) -> list[str]:
    """Return the names of the modules in *folder*."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))


def rows(items: Sequence[str], columns: int) -> Iterator[tuple[int, int, str]]:
    """Yield row, column and item."""
    for number, item in enumerate(items):
        yield number // columns, number % columns, item


def architecture() -> str:
    """Return the picture of the layers, from whoever asks down to what decides."""
    parts = []
    top = ["cli", "answer", "commands", "images", "writing", "writer", "targets", "remains",
        "summary", "progressline", "texts", "inputs", "settings", "assembly", "alone",
        "service"]  # fmt: skip
    middle = [name for name in names(PACKAGE) if name not in top]
    parts.append(box((20, 20, 960, 44), "agent", ["cli", " · ".join(top[1:])]))
    parts.append(arrow(500, 64, 500, 88))
    parts.append(
        box((20, 90, 960, 60), "agent", ["agent: one thread, one loop, one session",
            " · ".join(name for name in middle if name != "agent")])
    )  # fmt: skip
    parts.append(arrow(250, 150, 250, 176))
    parts.append(text(250, 194, "core/ports.py: one Protocol per outside thing"))
    parts.append(arrow(250, 200, 250, 222))
    edges = names(PACKAGE / "edge")
    for row, column, name in rows(edges, 3):
        lines = [f"edge/{name}", OUTSIDE[name]]
        parts.append(box((20 + column * 205, 226 + row * 62, 195, 50), "edge", lines))
    parts.append(arrow(820, 150, 820, 222))
    cores = names(PACKAGE / "core")
    height = (-(-len(edges) // 3)) * 62 - 12
    parts.append(
        box((660, 226, 320, height), "core", ["core/: decides, touches nothing outside", "",
            *(" · ".join(cores[i : i + 4]) for i in range(0, len(cores), 4))])
    )  # fmt: skip
    return page(226 + height + 20, parts)


def session() -> str:
    """Return the picture of one session: its states, its events, and what a power cut leaves."""
    places = {
        State.INSTALLING: (20, 60), State.INSTALLED: (345, 60), State.ACTIVATED: (670, 60),
        State.TRIAL: (670, 210), State.GOOD: (670, 360), State.ROLLING_BACK: (345, 210),
        State.FAILED: (20, 360),
    }  # fmt: skip
    width, height = 310, 56
    parts = [text(500, 30, "one session; in each box, what boots after a power cut there")]
    for state, (x, y) in places.items():
        kind = {State.GOOD: "edge", State.FAILED: "agent"}.get(state, "core")
        parts.append(box((x, y, width, height), kind, [state.value, LEFT_BY_A_CUT[state]]))
    for state, events in machine.TRANSITIONS.items():
        if events:
            x, y = places[state]
            listed = [f"{event.__name__} → {after.value}" for event, after in events.items()]
            parts += [
                text(x + width / 2, y + height + 16 + 14 * number, line, f' fill="{LINE}"')
                for number, line in enumerate(listed)
            ]
    parts += [
        arrow(330, 88, 343, 88),  # installing, installed
        arrow(655, 88, 668, 88),  # installed, activated
        arrow(965, 116, 965, 208),  # activated, trial
        arrow(965, 266, 965, 358),  # trial, good
        arrow(670, 238, 657, 238),  # trial, rolling-back
        arrow(370, 266, 290, 358),  # rolling-back, failed
        arrow(35, 116, 35, 358),  # installing, failed
    ]
    return page(450, parts)


_OFFER = Offer(Firmware("1.1.0", "0" * 32, 1), "https://host/image")
_CLOUD, _DEVICE, _WEB = 120, 500, 880  # where each of them has its line
STEPS: Sequence[tuple[int, int, bytes | str]] = (
    (_DEVICE, _CLOUD, "connect, subscribe"),
    (_DEVICE, _CLOUD, messages.report_version("1.0.0")),
    (_CLOUD, _DEVICE, "report_version_rsp"),
    (_CLOUD, _DEVICE, "update_firmware 1.1.0: url, md5sum, file_size"),
    (_DEVICE, _WEB, "GET url"),
    (_DEVICE, _CLOUD, messages.downloading(_OFFER, 0)),
    (_WEB, _DEVICE, "the image, straight into the other slot"),
    (_DEVICE, _CLOUD, messages.downloading(_OFFER, 100)),
    (_DEVICE, _CLOUD, messages.burning(_OFFER)),
    (_DEVICE, _DEVICE, "reads back, makes the slot primary, reboots: a trial"),
    (_DEVICE, _CLOUD, "connect, subscribe"),
    (_DEVICE, _CLOUD, messages.burning(_OFFER)),
    (_DEVICE, _DEVICE, "health checks pass: the slot is kept"),
    (_DEVICE, _CLOUD, messages.done(_OFFER)),
    (_DEVICE, _CLOUD, messages.report_version("1.1.0")),
)


def words(step: bytes | str) -> str:
    """Return what stands at an arrow: of a message its type, state, per cent and version."""
    if isinstance(step, str):
        return step
    message = json.loads(step)
    progress = message["report"].get("progress", {})
    percent = f"{progress['percent']} %" if "percent" in progress else ""
    told = (message["type"], progress.get("state"), percent, message["report"]["version"])
    return " ".join(filter(None, told))


def conversation() -> str:
    """Return the picture of one good update on the wire, from top to bottom."""
    step, top = 34, 92
    bottom = top + step * len(STEPS)
    parts = []
    for x, kind, name in (
        (_CLOUD, "outside", "cloud, or broker"), (_DEVICE, "agent", "device"),
        (_WEB, "outside", "web server"),
    ):  # fmt: skip
        parts.append(f'<line x1="{x}" y1="56" x2="{x}" y2="{bottom}" stroke="{LINE}"/>')
        parts.append(box((x - 90, 20, 180, 36), kind, [name]))
    for number, (start, end, what) in enumerate(STEPS):
        y = top + step * number
        if start == end:
            parts.append(box((start - 190, y - 20, 380, 26), "core", [words(what)]))
        else:
            parts.append(text((start + end) / 2, y - 6, words(what)))
            parts.append(arrow(start, y, end, y))
    return page(bottom + 10, parts)


PICTURES = {
    "architecture.svg": architecture,
    "session.svg": session,
    "conversation.svg": conversation,
}

if __name__ == "__main__":
    for file_name, draw in PICTURES.items():
        (DOCS / file_name).write_text(draw())

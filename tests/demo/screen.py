# SPDX-License-Identifier: MIT
"""What the demo shows: one screen while it goes on, a table at the end, and a picture of both.

Knows nothing of boards: it is told of steps and of console output. Drawn by rich; where standard
output is no terminal each step is one line.
"""

import io
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.story import Chapter, Step

_CONSOLE_LINES = 8
_WIDTH = 100
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\n\x20-\x7e]")


@dataclass
class _Seen:
    """What became of a step: when it was seen, and what was seen; "" as long as it was not."""

    at_s: float = 0.0
    took_s: float = 0.0
    detail: str = ""
    is_missed: bool = False


class Screen:
    """Shows one run; a context manager."""

    def __init__(self, story: Sequence[Chapter]) -> None:
        """Show nothing yet."""
        self._story = story
        self._seen: dict[Step, _Seen] = {}
        self._began_s = self._step_s = time.monotonic()
        self._percent = 0
        self._lines: deque[str] = deque(maxlen=_CONSOLE_LINES)
        self._line = ""
        self._lock = threading.Lock()
        self._console = Console()
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._began_s = self._step_s = time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    # --- what it is told -------------------------------------------------------------------------

    def seen(self, step: Step, detail: str, *, is_missed: bool = False) -> None:
        """Note that *step* was observed, or not."""
        now_s = time.monotonic()
        self._seen[step] = _Seen(now_s - self._began_s, now_s - self._step_s, detail, is_missed)
        self._step_s = now_s
        if not self._console.is_terminal:
            self._console.print(
                f"{self._seen[step].at_s:6.1f} s  {step.channel:8} {step.text}: {detail}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip

    def downloaded(self, percent: int) -> None:
        """Note how far the download is."""
        self._percent = percent

    def printed(self, text: str) -> None:
        """Note what the board's console said."""
        with self._lock:
            *lines, self._line = (self._line + _ESCAPES.sub("", text)).split("\n")
            self._lines.extend(line for line in lines if line.strip())

    @property
    def is_complete(self) -> bool:
        """True if every step was observed."""
        steps = [step for chapter in self._story for step in chapter.steps]
        return all(step in self._seen and not self._seen[step].is_missed for step in steps)

    # --- what is shown ---------------------------------------------------------------------------

    def _render(self) -> RenderableType:
        """Return the screen as it is now."""
        chapters = Table.grid(expand=True, padding=(0, 1))
        for _ in self._story:
            chapters.add_column(ratio=1)
        chapters.add_row(*(self._chapter(chapter) for chapter in self._story))
        download = Table.grid(padding=(0, 1))
        download.add_row("download", ProgressBar(width=60, completed=self._percent))
        download.columns[0].style = "bold"
        with self._lock:
            lines = list(self._lines)
        lines = [""] * (_CONSOLE_LINES - len(lines)) + lines
        said = Text("\n".join(lines), style="green", no_wrap=True, overflow="ellipsis")
        return Group(
            chapters, download, Panel(said, title="the board's serial console", style="dim")
        )

    def _chapter(self, chapter: Chapter) -> RenderableType:
        lines = Text(no_wrap=True, overflow="ellipsis")
        lines.append(f"{chapter.title}\n", style="bold")
        for step in chapter.steps:
            lines.append_text(self._step(step))
        return lines

    def _step(self, step: Step) -> Text:
        seen = self._seen.get(step)
        if seen is None:
            now = next((s for c in self._story for s in c.steps if s not in self._seen), None)
            mark, style = ("▸", "bold yellow") if step is now else ("·", "dim")
            return Text(f" {mark}          {step.text}\n", style=style)
        mark, style = ("✗", "bold red") if seen.is_missed else ("✓", "green")
        line = Text(f" {mark} ", style=style)
        return line.append(f"{seen.at_s:6.1f} s ", style="dim").append(f"{step.text}\n")

    def report(self, picture: Path | None) -> None:
        """Print the table of what was observed, and draw screen and table into *picture*."""
        self._console.print(self._table())
        if picture is not None:
            canvas = Console(record=True, width=_WIDTH, file=io.StringIO())
            canvas.print(Text("$ make demo", style="bold"), self._render(), self._table(), sep="\n")
            picture.parent.mkdir(parents=True, exist_ok=True)
            svg = canvas.export_svg(title="make demo")
            # no font from elsewhere: whoever looks at the picture talks to nobody
            picture.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))

    def _table(self) -> Table:
        table = Table(title="what was observed", title_justify="left", expand=True)
        table.add_column("at", justify="right", no_wrap=True)
        table.add_column("took", justify="right", no_wrap=True)
        table.add_column("where", no_wrap=True)
        table.add_column("what was expected", no_wrap=True)
        table.add_column("what was seen", overflow="fold")
        for chapter in self._story:
            table.add_section()
            for step in chapter.steps:
                seen = self._seen.get(step)
                if seen is None:
                    table.add_row("", "", step.channel, step.text, "not reached", style="dim")
                    continue
                times = f"{seen.at_s:.1f} s", f"{seen.took_s:.1f} s"
                style = "red" if seen.is_missed else None
                detail = Text(seen.detail)
                table.add_row(*times, step.channel, step.text, detail, style=style)
        return table

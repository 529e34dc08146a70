"""A live table of nodes on a terminal: state, rows, elapsed time, progress. The only importer of `rich`.

It is drawn four times a second by one thread, and only from what events said; nothing here asks the run anything. Cached
nodes are counted, not listed. When the run ends the table stays as it was, with the summary below it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from engine.clock import stopwatch
from engine.execute.progress import Tally
from engine.records import Event

_STYLES = {
    "pending": "dim",
    "running": "bold cyan",
    "ran": "green",
    "cached": "dim green",
    "failed": "bold red",
    "skipped": "yellow",
    "cancelled": "yellow",
}
_SHOWN_LEVELS = frozenset({"warning", "error"})
_WIDE = 90  # columns from which the message has a column of its own
_SPARE_LINES = 4


@dataclass
class _Row:
    """What is known of one node."""

    state: str = "pending"
    rows: int | None = None
    done: float | None = None
    message: str = ""
    since: float | None = None
    seconds: float | None = None


class LiveProgress:
    """Draws the table from the first event to `close()`."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._rows: dict[str, _Row] = {}
        self._tally = Tally()
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._ended = False
        self._spinner = Spinner("dots")

    def on_event(self, event: Event) -> None:
        """Take an event in; warnings and errors are printed above the table, to stay."""
        with self._lock:
            self._tally.count(event)
            if event.node is not None and event.state != "cached":
                self._note(self._rows.setdefault(event.node, _Row()), event)
            elif event.node is not None and event.event == "node":
                self._rows.pop(event.node, None)
        if self._live is None:
            self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=4, transient=False)
            self._live.start()
        if event.event == "log" and event.level in _SHOWN_LEVELS:
            where = f"{event.node}: " if event.node else ""
            self._console.print(Text(f"{event.level}: {where}{event.message}", style="yellow"))

    def close(self) -> None:
        """Draw a last time, print errors in full and the summary."""
        if self._live is None:
            return
        self._ended = True
        self._live.stop()
        self._live = None
        for name, row in self._rows.items():
            if row.state == "failed":
                self._console.print(Text(f"{name}: {row.message}", style="red"))
        self._console.print(Text(self._tally.take(), style="bold"))

    def render(self) -> RenderableType:
        """Lay the table out for the terminal's present size."""
        with self._lock:
            wide = self._console.width >= _WIDE
            table = Table(box=None, pad_edge=False, expand=False)
            table.add_column("node", no_wrap=True, overflow="ellipsis", max_width=self._console.width // 3)
            table.add_column("state", no_wrap=True)
            table.add_column("rows", justify="right", no_wrap=True)
            table.add_column("time", justify="right", no_wrap=True)
            table.add_column("", width=12)
            if wide:
                table.add_column("", no_wrap=True, overflow="ellipsis", style="dim")
            shown, hidden = self._visible()
            for name, row in shown:
                table.add_row(*self._cells(name, row)[: 6 if wide else 5])
            counts = ", ".join(f"{count} {state}" for state, count in sorted(self._tally.counts().items()))
            footer = Text(counts + (f"; {hidden} rows not shown" if hidden else ""), style="dim")
            return table if self._ended else Group(table, footer)  # the summary takes the footer's place

    def _note(self, row: _Row, event: Event) -> None:
        if event.event == "node" and event.state is not None:
            row.state = event.state
            row.since = stopwatch() if event.state == "running" else row.since
            row.seconds = event.seconds
        row.rows = event.rows if event.rows is not None else row.rows
        row.done = event.done if event.done is not None else row.done
        if event.level != "debug":
            row.message = event.message or row.message

    def _visible(self) -> tuple[list[tuple[str, _Row]], int]:
        """Choose what fits: failed and running nodes first, then the latest that ended, in the plan's order."""
        room = max(self._console.height - _SPARE_LINES, 3)
        order = {"failed": 0, "running": 1, "ran": 2}
        ranked = sorted(enumerate(self._rows.items()), key=lambda item: (order.get(item[1][1].state, 3), -item[0]))
        kept = sorted(ranked[:room])
        return [item for _, item in kept], len(self._rows) - len(kept)

    def _cells(self, name: str, row: _Row) -> tuple[RenderableType, ...]:
        seconds = row.seconds if row.seconds is not None else None if row.since is None else stopwatch() - row.since
        bar: RenderableType = ""
        if row.state == "running":
            known = row.done is not None and 0 <= row.done <= 1
            bar = ProgressBar(total=1.0, completed=row.done or 0.0, width=12) if known else self._spinner
        return (
            Text(name),
            Text(row.state, style=_STYLES.get(row.state, "")),
            Text("" if row.rows is None else f"{row.rows:,}"),
            Text("" if seconds is None or row.state in {"skipped", "pending"} else f"{seconds:.1f} s"),
            bar,
            Text(row.message.split("\n", 1)[0]),
        )

"""How a sweep is shown while it goes on: a live table of trials, best first, on a terminal; lines elsewhere; events as JSON.

Enters: events of nodes, and trials as they begin and end. Everything for people goes to standard error.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Protocol, TextIO

from engine.clock import SystemClock, isoformat
from engine.execute.progress import choose_progress, is_capable
from engine.records import Event
from engine.sweep_records import TrialRecord
from engine.sweeps.ranking import rank_trials

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_MIN_COLUMNS = 60
_SHOWN = 20  # trials in the live table: the best, the running, the last that failed


class SweepDisplay(Protocol):
    """Hears nodes and trials, and has an end."""

    def on_event(self, event: Event) -> None:
        """Hear of a node."""
        ...

    def on_trial(self, trial: TrialRecord) -> None:
        """Hear of a trial."""
        ...

    def close(self) -> None:
        """Give the terminal back; any number of times."""
        ...


class LineDisplay:
    """Writes a line when a trial ends, and what nodes say in warnings and errors; quiet writes nothing."""

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._best: TrialRecord | None = None
        self._lock = threading.Lock()

    def on_event(self, event: Event) -> None:
        """Write what went wrong, and the ends of nodes that all trials wait for."""
        if event.event == "log" and event.level in {"warning", "error"}:
            self._write(f"{event.level}: {event.node or 'sweep'}: {event.message}")

    def on_trial(self, trial: TrialRecord) -> None:
        """Write one line of a trial that has ended."""
        if trial.state == "planned":
            return
        with self._lock:
            self._best = rank_trials([item for item in (self._best, trial) if item is not None])[0]
        self._write(f"{word_trial(trial)}; best: trial {self._best.number}{_value(self._best)}")

    def close(self) -> None:
        """Nothing to give back."""

    def _write(self, line: str) -> None:
        if not self._quiet:
            print(line, file=self._stream, flush=True)


class NdjsonDisplay:
    """Writes every event as a line of JSON; trials are events of their own: `trial`, with its number as the step."""

    def __init__(self, stream: TextIO) -> None:
        self._inner = choose_progress(quiet=False, ndjson=stream, log_format="text")
        self._clock = SystemClock()

    def on_event(self, event: Event) -> None:
        """Write one line."""
        self._inner.on_event(event)

    def on_trial(self, trial: TrialRecord) -> None:
        """Write a trial as an event."""
        value = trial.tuned[0].value if trial.tuned else None
        words = trial.error or " ".join(f"{key}={item}" for key, item in trial.params.items())
        event = Event(
            at=isoformat(self._clock.now()),
            run_id=trial.run_id or "",
            event="trial",
            state=trial.state,
            message=words,
            level="error" if trial.state == "failed" else "info",
            step=trial.number,
            value=value,
            seconds=trial.seconds,
        )
        self._inner.on_event(event)

    def close(self) -> None:
        """Give the stream back."""
        self._inner.close()


class LiveDisplay:
    """Draws the table of trials four times a second, best first, with what each running one is at."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 - a terminal's only

        self._console = Console(file=stream)
        self._trials: dict[int, TrialRecord] = {}
        self._at: dict[str, str] = {}
        self._lock = threading.Lock()
        self._live: Live | None = None

    def on_event(self, event: Event) -> None:
        """Note what nodes are at."""
        if event.node is None:
            return
        with self._lock:
            if event.result is not None:
                self._at.pop(event.node, None)
            elif event.message or event.state == "running":
                self._at[event.node] = event.message.split("\n", 1)[0]
        self._start()

    def on_trial(self, trial: TrialRecord) -> None:
        """Note how a trial stands."""
        with self._lock:
            self._trials[trial.number] = trial
        self._start()

    def close(self) -> None:
        """Draw a last time."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _start(self) -> None:
        if self._live is None:
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=4)
            self._live.start()

    def render(self) -> Table:
        """Lay the table out."""
        from rich.table import Table  # noqa: PLC0415

        with self._lock:
            trials, at = list(rank_trials(list(self._trials.values()))), dict(self._at)
        done = sum(trial.state != "planned" for trial in trials)
        table = Table(box=None, pad_edge=False, caption=f"{done} of {len(trials)} trials ended; " + "; ".join(
            f"{node}: {words}" for node, words in list(at.items())[:4]), caption_justify="left")  # fmt: skip
        names = list(dict.fromkeys(key for trial in trials for key in trial.params))
        for header in ("rank", "trial", "run", "state", "value", "seconds"):
            table.add_column(header, justify="right" if header != "state" else "left", no_wrap=True)
        for name in names:
            table.add_column(name.split(".")[-1], no_wrap=True)
        for trial in trials[:_SHOWN]:
            value = trial.tuned[0].value if trial.tuned else None
            cells = [str(trial.rank or ""), str(trial.number), trial.run_id or "", trial.state,
                     "" if value is None else f"{value:.5f}", f"{trial.seconds:.1f}" if trial.seconds else ""]  # fmt: skip
            table.add_row(*cells, *(str(trial.params.get(name, "")) for name in names))
        return table


def word_trial(trial: TrialRecord) -> str:
    r"""Say in one line how a trial stands.

    >>> word_trial(TrialRecord(number=3, run_id="7", state="failed", params={"train.rounds": "5"}, error="no rows\\nmore"))
    'trial 3 (run 7): failed: train.rounds=5: no rows'
    """
    params = " ".join(f"{key}={value}" for key, value in trial.params.items())
    run = f" (run {trial.run_id})" if trial.run_id else ""
    error = f": {trial.error.splitlines()[0]}" if trial.error else ""
    seconds = f", {trial.seconds:.1f} s" if trial.seconds else ""
    return f"trial {trial.number}{run}: {trial.state}: {params}{_value(trial)}{seconds}{error}"


def choose_display(*, quiet: bool, ndjson: bool, log_format: str) -> SweepDisplay:
    """Pick what suits the terminal, as `engine.execute.progress` does for a run."""
    if ndjson:
        return NdjsonDisplay(sys.stdout)
    if log_format == "json" and not quiet:
        return NdjsonDisplay(sys.stderr)
    if not quiet and is_capable(sys.stderr, _MIN_COLUMNS):
        return LiveDisplay(sys.stderr)
    return LineDisplay(sys.stderr, quiet=quiet)


def _value(trial: TrialRecord) -> str:
    return "".join(f", {metric.name} {metric.value:.5f}" for metric in trial.tuned if metric.value is not None)


__all__ = ["LineDisplay", "LiveDisplay", "NdjsonDisplay", "SweepDisplay", "choose_display", "word_trial"]

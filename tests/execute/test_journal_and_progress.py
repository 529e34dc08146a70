"""The journal survives being torn; each display says what it should and never ends a run."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import msgspec
import pytest

from engine.errors import IntegrityError, NotFoundError, StoreError
from engine.execute.journal import Fanout, Journal, read_events
from engine.execute.progress import NdjsonProgress, PlainProgress, SilentProgress, choose_progress
from engine.records import Event


def _event(node="a", state="ran", **others):
    return Event(
        at="2013-01-01T00:00:00.000000Z", run_id="7", **{"event": "node", "node": node, "state": state, **others}
    )


STORY = (
    _event(node=None, event="run", state="running", message="3 to run"),
    _event("a", "cached", seconds=0.0, done=1.0),
    _event("b", "pending"),
    _event("b", "running", message="not in the cache"),
    _event("b", None, event="progress", message="reading", rows=1000, done=0.25),
    _event("b", None, event="log", message="LightGBM chatter"),
    _event("b", None, event="log", level="debug", message="Traceback"),
    _event("b", None, event="log", level="warning", message="attempt 1 of 2: killed"),
    _event("b", "ran", rows=1234567, seconds=2.26, done=1.0),
    _event("c", "running"),
    _event("c", "failed", message="bad row\n  next: correct it", level="error", seconds=0.1),
    _event("d", "skipped", message="`c` failed", seconds=0.0),
)


def test_journal_keeps_every_event(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    for half in (STORY[:4], STORY[4:]):
        with Journal(path) as journal:
            for event in half:
                journal.on_event(event)
    assert tuple(read_events(path)) == STORY
    assert len(path.read_text().splitlines()) == len(STORY), "a line an event, also for texts of several lines"


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_left_out_and_written_on_below(tmp_path: Path, cut):
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        for event in STORY[:3]:
            journal.on_event(event)
    path.write_bytes(path.read_bytes()[:-cut])
    kept = 3 if cut == 1 else 2
    assert tuple(read_events(path)) == STORY[:kept]
    with Journal(path) as journal:
        journal.on_event(STORY[4])
    assert tuple(read_events(path)) == (*STORY[:kept], STORY[4])


def test_damage_in_the_middle_is_an_integrity_error(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"at": 1}\n' + msgspec.json.encode(STORY[0]) + b"\n")
    with pytest.raises(IntegrityError, match=r"events.jsonl:1"):
        read_events(path)
    with pytest.raises(NotFoundError):
        read_events(tmp_path / "none")


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path):
    with pytest.raises(StoreError, match="cannot write the journal"), Journal(tmp_path / "no" / "events.jsonl"):
        pass
    with pytest.raises(StoreError, match="No space left"), Journal(Path("/dev/full")) as journal:
        journal.on_event(STORY[0])


def test_plain_progress_is_short_and_complete():
    stream = io.StringIO()
    display = PlainProgress(stream)
    for event in STORY:
        display.on_event(event)
    display.close()
    display.close()
    assert stream.getvalue().splitlines() == [
        "a: cached",
        "b: running (not in the cache)",
        "warning: b: attempt 1 of 2: killed",
        "b: ran, 1,234,567 rows, 2.3 s",
        "c: running",
        "c: failed, 0.1 s",
        "  bad row",
        "  next: correct it",
        "d: skipped, 0.0 s (`c` failed)",
        "4 nodes: 1 cached, 1 failed, 1 ran, 1 skipped",
    ]


def test_plain_progress_does_not_list_a_thousand_cached_nodes():
    stream = io.StringIO()
    display = PlainProgress(stream)
    for index in range(1000):
        display.on_event(_event(f"n{index}", "cached"))
    display.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 21
    assert lines[-1] == "1000 nodes: 1000 cached"


def test_ndjson_progress_round_trips_and_outlives_its_reader():
    stream = io.StringIO()
    display = Fanout(SilentProgress(), NdjsonProgress(stream))
    for event in STORY:
        display.on_event(event)
    assert tuple(msgspec.json.decode(line, type=Event) for line in stream.getvalue().splitlines()) == STORY
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w", buffering=1)
    for display in (NdjsonProgress(pipe), PlainProgress(pipe)):
        for event in STORY:
            display.on_event(event)
    with pytest.raises(BrokenPipeError):
        pipe.close()


@pytest.mark.parametrize(("columns", "lines"), [(60, 24), (120, 24), (200, 6)])
def test_live_progress_fits_and_ends_with_the_summary(columns, lines, monkeypatch):
    from rich.console import Console

    from engine.execute.live import LiveProgress

    stream = io.StringIO()
    display = LiveProgress(stream)
    display._console = Console(file=stream, force_terminal=True, width=columns, height=lines, color_system="truecolor")
    for event in STORY:
        display.on_event(event)
    many = [_event(f"node-with-a-very-long-name-{index}", "running") for index in range(30)]
    for event in many:
        display.on_event(event)
    plain = Console(file=io.StringIO(), width=columns, height=lines)
    plain.print(display.render())
    drawn = plain.file.getvalue().splitlines()
    assert max(map(len, drawn)) <= columns
    assert len(drawn) <= lines
    display.close()
    display.close()
    text = stream.getvalue()
    assert "attempt 1 of 2: killed" in text
    assert "bad row" in text
    assert "Traceback" not in text
    assert "34 nodes:" in text


def test_live_progress_without_colour(monkeypatch):
    from engine.execute.live import LiveProgress

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    display = LiveProgress(stream)
    for event in STORY:
        display.on_event(event)
    display.close()
    assert "failed" in stream.getvalue()
    assert not any(f"\x1b[{code}" in stream.getvalue() for code in ("31m", "1;31m", "32m", "36m", "33m"))


def test_choosing_a_display(monkeypatch):
    assert isinstance(choose_progress(quiet=False, ndjson=io.StringIO(), log_format="text"), NdjsonProgress)
    assert isinstance(choose_progress(quiet=True, ndjson=None, log_format="text"), SilentProgress)
    assert isinstance(choose_progress(quiet=False, ndjson=None, log_format="json"), NdjsonProgress)
    assert isinstance(choose_progress(quiet=False, ndjson=None, log_format="text"), PlainProgress)
    primary, secondary = os.openpty()
    with os.fdopen(secondary, "w") as terminal, os.fdopen(primary, "rb", buffering=0):
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((100, 30)))
        assert type(choose_progress(quiet=False, ndjson=None, log_format="text")).__name__ == "LiveProgress"
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((30, 30)))
        assert isinstance(choose_progress(quiet=False, ndjson=None, log_format="text"), PlainProgress)
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(choose_progress(quiet=False, ndjson=None, log_format="text"), PlainProgress)

"""The loop's summary in words. Called by `engine triggers report`."""

from __future__ import annotations

from engine.commands.tables import render_table
from engine.loop_records import LoopSummary


def report_words(summary: LoopSummary) -> str:
    """Say what happened, then incident by incident."""
    if summary.since is None:
        return f"{summary.pipeline}: nothing was decided yet"
    between = f"{summary.pipeline}, {_moment(summary.since)} to {_moment(summary.until)}"
    runs = f"{summary.trainings} trainings, {summary.refused} of them refused by gates"
    moves = f"{summary.promotions} promotions, {summary.rollbacks} rollbacks"
    lines = [f"{between}: {runs}; {moves}; {summary.quarantines} diagnoses of quarantined data"]
    detect, recover = span_words(summary.median_seconds_to_detect), span_words(summary.median_seconds_to_recover)
    lines.append(f"median time to detect {detect}, to recover {recover}")
    if not summary.incidents:
        return "\n".join([*lines, "no incidents"])
    headers = ["what", "began", "detected", "after", "recovered", "after", "by"]
    rows: list[list[str | int | float | None]] = [
        [
            item.what, _moment(item.began), _moment(item.detected), span_words(item.seconds_to_detect),
            _moment(item.recovered), span_words(item.seconds_to_recover), item.by or "goes on",
        ]
        for item in summary.incidents
    ]  # fmt: skip
    return "\n".join([*lines, "", render_table(headers, rows)])


def span_words(seconds: float | None) -> str:
    """Say how long, in the largest unit that is at least one.

    >>> span_words(90_000.0), span_words(300.0), span_words(None)
    ('1.0 days', '5.0 minutes', '?')
    """
    if seconds is None:
        return "?"
    for size, name in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"


def _moment(text: str | None) -> str:
    return text[:16].replace("T", " ") if text else ""

"""The page of a sweep: its trials best first, how the search went, what the parameters did. No network, no script.

Enters: a `SweepRecord`. Leaves: HTML, written to `runs/sweep-<n>/sweep.html`.
"""

from __future__ import annotations

from engine.report.blocks import Column, Row, absent, code, paragraph, section, table
from engine.report.document import Heading, render_document
from engine.report.markup import Markup, text
from engine.report.numbers import format_instant, format_number, format_seconds, plural
from engine.sweep_records import SweepRecord, TrialRecord


def render_sweep(record: SweepRecord) -> str:
    """Render the page."""
    sections = (
        ("summary", "Summary", _summary(record)),
        ("trials", "Trials", trials_section(record)),
    )
    heading = Heading(
        title=f"{record.pipeline}: sweep {record.sweep}",
        kicker=f"Sweep {record.sweep}, {format_instant(record.started_at)}, {format_seconds(record.seconds)}",
        name=record.pipeline,
    )
    return render_document(heading, sections)


def _summary(record: SweepRecord) -> Markup:
    states = {
        state: sum(trial.state == state for trial in record.trials) for state in ("succeeded", "pruned", "failed")
    }
    words = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    best = (
        f"Trial {record.best} is best (run {record.best_run}); verdict: {record.verdict or 'none'}"
        + (f", {record.model} is champion." if record.promoted else ".")
        if record.best is not None
        else "No trial has a value, so none was judged."
    )
    proof = next((trial.tuned[0] for trial in record.trials if trial.tuned), None)
    chosen = (
        f"Ranked by {record.objectives[0]} on {plural(proof.rows, 'validation row')}; "
        f"gates judge {plural(proof.judged_rows, 'other row')}, {proof.shared_rows} in common."
        if proof is not None
        else ""
    )
    return section(
        "summary", f"{plural(len(record.trials), 'trial')}: {words}", paragraph(text(best)), paragraph(text(chosen))
    )


def trials_section(record: SweepRecord) -> Markup:
    """Give the table of trials, best first."""
    if not record.trials:
        return section("trials", "Trials", absent("No trial ran."))
    names = list(dict.fromkeys(key for trial in record.trials for key in trial.params))
    columns = [
        Column("rank", number=True),
        Column("trial", number=True),
        Column("run", number=True),
        Column("state"),
        *(Column(name, number=True) for name in record.objectives),
        Column("seconds", number=True),
        *(Column(name) for name in names),
    ]
    rows = [_row(trial, record.objectives, names) for trial in record.trials]
    return section("trials", "Trials, best first", table("Trials", columns, rows, stack=False))


def _row(trial: TrialRecord, objectives: tuple[str, ...], names: list[str]) -> Row:
    values = {metric.name: metric.value for metric in trial.tuned}
    return Row.of(
        text("" if trial.rank is None else str(trial.rank)),
        text(str(trial.number)),
        text(trial.run_id or ""),
        text(trial.state),
        *(text(format_number(values.get(name), 5)) for name in objectives),
        text(format_seconds(trial.seconds)),
        *(code(trial.params.get(name, "")) for name in names),
    )

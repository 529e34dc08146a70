"""The page of a sweep: its trials best first, how the search went, what the parameters did. No network, no script.

Enters: a `SweepRecord` and the importance of each parameter. Leaves: HTML, written to `runs/sweep-<n>/sweep.html`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.report.axes import pad_domain
from engine.report.blocks import Column, Row, absent, code, figure, paragraph, section, table
from engine.report.charts import ChartText, Series, line_chart
from engine.report.comparison import scale
from engine.report.document import Heading, render_document
from engine.report.markup import NOTHING, Markup, text
from engine.report.numbers import format_instant, format_number, format_seconds, plural
from engine.report.parallel import Axis, parallel, read_axes, scatter, short_names
from engine.report.results import group_charts
from engine.report.rowcharts import Bar, bar_chart
from engine.sweep_records import SweepRecord, TrialRecord

_MOST_SLICES = 8
_MOST_CURVES = 24


def render_sweep(record: SweepRecord, importance: Mapping[str, float]) -> str:
    """Render the page; what cannot be drawn is said."""
    sections = (
        ("summary", "Summary", _summary(record)),
        ("history", "History", _history(record)),
        ("importance", "Importance", _importance(importance)),
        ("slices", "Slices", _slices(record)),
        ("parallel", "Parallel coordinates", _parallel(record)),
        ("trade-offs", "Trade-offs", _trade_offs(record)),
        ("curves", "Training curves", _curves(record)),
        ("trials", "Trials", _trials(record)),
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
    shared = f"{record.executed} nodes ran; what trials share ran once."
    title = f"{plural(len(record.trials), 'trial')}: {words}"
    return section("summary", title, paragraph(text(best)), paragraph(text(f"{chosen} {shared}")))


def _values(trials: Sequence[TrialRecord], objective: str) -> list[float | None]:
    """Give the values of those that succeeded; a trial that was stopped has none."""
    return [
        next((metric.value for metric in trial.tuned if metric.name == objective), None)
        if trial.state == "succeeded"
        else None
        for trial in trials
    ]


def _higher(record: SweepRecord, objective: str) -> bool:
    metrics = (metric for trial in record.trials for metric in trial.tuned if metric.name == objective)
    return next((metric.higher_is_better for metric in metrics), True)


def _history(record: SweepRecord) -> Markup:
    objective = record.objectives[0] if record.objectives else ""
    trials = sorted(record.trials, key=lambda trial: trial.number)
    points = [
        (float(trial.number), value)
        for trial, value in zip(trials, _values(trials, objective), strict=True)
        if value is not None
    ]
    if len(points) < 2:
        return section("history", "How the search went", absent("Fewer than two trials have a value."))
    better = max if _higher(record, objective) else min
    best: list[tuple[float, float]] = []
    for number, value in points:
        if best:
            best.append((number, best[-1][1]))  # a step: the best stays until it is beaten
        best.append((number, better(value, best[-1][1]) if best else value))
    domains = (pad_domain([number for number, _ in points]), pad_domain([value for _, value in points]))
    words = ChartText(f"{objective} by trial", "trial", objective, "each trial's value, and the best so far")
    series = [Series("best so far", "challenger", best), Series("each trial", "other", points)]
    return section(
        "history",
        "How the search went",
        figure(line_chart(words, series, domains), "The best so far, and each trial in the order tried."),
    )


def _importance(importance: Mapping[str, float]) -> Markup:
    if not importance:
        return section("importance", "Which parameters mattered", absent("Fewer than four trials have a value."))
    called = short_names(list(importance))
    bars = [Bar(called[name], value, f"{value:.2f}") for name, value in importance.items()]
    words = ChartText("Share of the variance explained", "share of variance", "", "one bar a parameter")
    note = paragraph(
        text(
            "Main effects: the share of the objective's variance that a parameter explains alone, less what chance would."
        )
    )
    return section("importance", "Which parameters mattered", note, figure(bar_chart(words, bars)))


def _columns(trials: Sequence[TrialRecord]) -> list[Axis]:
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    axes = read_axes({name: [trial.params.get(name) for trial in trials] for name in names})
    return [axis for axis in axes if len({str(value) for value in axis.values}) > 1]


def _drawn(record: SweepRecord) -> tuple[list[TrialRecord], Axis, list[float | None], list[str]] | None:
    """Give the trials that have a value, that value as an axis, how good each is, and what to call it."""
    if not record.objectives:
        return None
    objective = record.objectives[0]
    trials = [
        trial
        for trial, value in zip(record.trials, _values(record.trials, objective), strict=True)
        if value is not None
    ]
    if len(trials) < 2:
        return None
    values = _values(trials, objective)
    names = [f"trial {trial.number}: {format_number(value, 5)}" for trial, value in zip(trials, values, strict=True)]
    return trials, Axis(objective, values), scale(values, _higher(record, objective)), names


def _slices(record: SweepRecord) -> Markup:
    drawn = _drawn(record)
    axes = _columns(drawn[0]) if drawn else []
    if drawn is None or not axes:
        return section("slices", "Slices", absent("Too few trials, or nothing differs between them."))
    _, up, goodness, names = drawn
    pictures = [figure(scatter(axis.name, axis, up, goodness, names)) for axis in axes[:_MOST_SLICES]]
    rest = (
        paragraph(text(f"{len(axes) - _MOST_SLICES} more parameters are not drawn."))
        if len(axes) > _MOST_SLICES
        else NOTHING
    )
    grid = group_charts(pictures, "charts two")
    return section("slices", f"{up.name} by each parameter", grid, rest)


def _parallel(record: SweepRecord) -> Markup:
    drawn = _drawn(record)
    axes = _columns(drawn[0]) if drawn else []
    if drawn is None or not axes:
        return NOTHING
    _, up, goodness, names = drawn
    picture = parallel("Parameters and value of each trial", [*axes[:_MOST_SLICES], up], goodness, names)
    return section(
        "parallel", "Parallel coordinates", figure(picture, "Greener is better; the thick line is the best trial.")
    )


def _trade_offs(record: SweepRecord) -> Markup:
    if len(record.objectives) < 2:
        return NOTHING
    first, second = record.objectives[:2]
    trials = [trial for trial in record.trials if trial.state == "succeeded"]
    axes = [Axis(name, _values(trials, name)) for name in (first, second)]
    unbeaten: list[float | None] = [1.0 if trial.number in record.pareto else 0.0 for trial in trials]
    names = [f"trial {trial.number}" for trial in trials]
    if len(trials) < 2:
        return section("trade-offs", "Trade-offs", absent("Fewer than two trials have values."))
    drawn = figure(
        scatter(f"{second} against {first}", axes[0], axes[1], unbeaten, names),
        "Rings: no other trial beats these in one without losing in the other.",
    )
    return section("trade-offs", "Trade-offs", drawn)


def _curves(record: SweepRecord) -> Markup:
    """Draw the intermediate losses that trials were stopped by; only a pruning sweep has them."""
    known = [trial for trial in record.trials if len(trial.intermediate) > 1][:_MOST_CURVES]
    if not known:
        return NOTHING
    series = [
        Series(
            f"trial {trial.number}{' (pruned)' if trial.state == 'pruned' else ''}",
            "challenger" if trial.rank == 1 else "baseline" if trial.state == "pruned" else "other",
            sorted((float(step), value) for step, value in trial.intermediate.items()),
        )
        for trial in known
    ]
    points = [point for one in series for point in one.points]
    domains = (pad_domain([x for x, _ in points]), pad_domain([y for _, y in points]))
    words = ChartText("Validation loss by round", "round", "loss", "one curve a trial")
    return section("curves", "Training curves", figure(line_chart(words, series, domains), "What pruning looks at."))


def _trials(record: SweepRecord) -> Markup:
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

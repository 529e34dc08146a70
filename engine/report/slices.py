"""The primary metric by slice: where the model is weak, and where there is too little to say."""

from __future__ import annotations

from collections.abc import Sequence

from engine.evaluation.document import SliceMetric
from engine.report.blocks import Row, absent, figure, folded, name_columns, paragraph, section, table
from engine.report.charts import ChartText, Tone
from engine.report.content import ReportContent
from engine.report.evidence import Evidence, Measure, metric_words
from engine.report.markup import NOTHING, Markup, text
from engine.report.numbers import MISSING, format_count, format_number, plural
from engine.report.results import group_charts, measure_cell
from engine.report.rowcharts import Interval, interval_chart, interval_domain

_NAMED = 6
_LISTED = 20


def slices_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give a forest plot for each slicing column, with the overall value, and a table; unmeasured ones are named."""
    if not evidence.metrics:
        return NOTHING
    if not evidence.slices:
        return section("slices", "Slices", absent("The evaluation has no slices."))
    measured = _worst_first([one for one in evidence.slices if one.metric.value is not None])
    small = [one for one in evidence.slices if one.metric.value is None]
    shown = measured[: content.max_slices]
    metric = metric_words(evidence.primary or "metric")
    overall = evidence.headline.value if evidence.headline else None
    hidden = len(measured) - len(shown) + sum(evidence.left_out_slices.values())
    notes = paragraph(text(" ".join(_notes(metric, overall, hidden, small))))
    charts = _forests(shown, metric, overall)
    plots = group_charts(charts, "charts two") if charts else absent("No slice had enough rows to be measured.")
    listed = folded("All slices as a table", _slice_table(shown, small, metric))
    return section("slices", "Slices", notes, plots, listed)


def _notes(metric: str, overall: float | None, hidden: int, small: Sequence[SliceMetric]) -> list[str]:
    notes: list[str] = []
    if overall is not None:
        value = format_number(overall)
        notes.append(f"The dashed line is {metric} over all test rows, {value}; the weakest slice comes first.")
    if hidden:
        notes.append(f"{plural(hidden, 'more slice')} not shown.")
    if small:
        named = ", ".join(f"{one.column} = {one.value} ({plural(one.n, 'row')})" for one in small[:_NAMED])
        more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
        notes.append(f"{plural(len(small), 'slice')} could not be measured: {named}{more}.")
    return notes


def _forests(slices: Sequence[SliceMetric], metric: str, overall: float | None) -> list[Markup]:
    """Draw one forest plot a column, all on one scale."""
    domain = interval_domain([_interval(one) for one in slices], overall)
    charts: list[Markup] = []
    for column in dict.fromkeys(one.column for one in slices):
        rows = [_interval(one) for one in slices if one.column == column]
        told = f"{metric} with its interval for each value of {column}; the dashed line is overall."
        chart = interval_chart(ChartText(f"{metric} by {column}", "", "", told), rows, overall, domain)
        charts.append(figure(chart))
    return charts


def _interval(one: SliceMetric) -> Interval:
    return Interval(one.value, one.metric.value, one.metric.low, one.metric.high)


def _slice_table(shown: Sequence[SliceMetric], small: Sequence[SliceMetric], metric: str) -> Markup:
    rivals: list[Tone] = [role for role in _RIVALS if any(_rival(one, role) is not None for one in shown)]
    numbers = ["Rows", metric, *(role.capitalize() for role in rivals)]
    rows: list[Row] = []
    for index, one in enumerate(shown):
        fresh = index > 0 and shown[index - 1].column != one.column
        others = [measure_cell(_rival(one, role)) for role in rivals]
        rows.append(_row(one, measure_cell(one.metric), others, "group" if fresh else None))
    blank = [text(MISSING) for _ in rivals]
    rows += [_row(one, text(one.note or "too few rows"), blank, "dim") for one in small[:_LISTED]]
    left_out = f"; {len(small) - _LISTED} more could not be measured" if len(small) > _LISTED else ""
    return table(f"{metric} by slice{left_out}", name_columns(["Slice", *numbers], numbers), rows, stack=False)


_RIVALS: tuple[Tone, ...] = ("champion", "baseline")


def _rival(one: SliceMetric, role: Tone) -> Measure | None:
    return one.champion if role == "champion" else one.baseline


def _row(one: SliceMetric, value: Markup, others: Sequence[Markup], css: str | None) -> Row:
    return Row.of(text(f"{one.column} = {one.value}"), text(format_count(one.n)), value, *others, css=css)


def _worst_first(slices: Sequence[SliceMetric]) -> list[SliceMetric]:
    """Order slices by column as they came, and within a column from weak to strong."""
    position = {column: index for index, column in enumerate(dict.fromkeys(one.column for one in slices))}

    def rank(one: SliceMetric) -> tuple[int, float]:
        value = one.metric.value or 0.0
        return position[one.column], value if one.metric.higher_is_better else -value

    return sorted(slices, key=rank)

"""What the analyses found: one sentence each, their charts and tables, and how far they can be trusted.

Enters: documents by name. Leaves: a section; nothing when no analysis ran. A chart is drawn from data alone, so any component's
is drawn here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from engine.analysis_records import AnalysisChart, AnalysisDocument, AnalysisPoint, AnalysisSeries, AnalysisTable
from engine.plan.model import ExecutionPlan, PlanNode
from engine.records import NodeResult, NodeState
from engine.report.axes import pad_domain
from engine.report.blocks import Row, figure, folded, name_columns, paragraph, section, table
from engine.report.charts import ChartText, Reference, Series, Tone, line_chart
from engine.report.evidence import metric_words
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.matrices import matrix_chart
from engine.report.numbers import MISSING, format_interval, format_number, plural
from engine.report.rowcharts import Bar, Interval, bar_chart, interval_chart

_MOST_ROWS = 30
_TONES: tuple[Tone, ...] = ("challenger", "baseline", "champion", "other")
_FITS = frozenset({"fit", "split"})


def analyses_section(documents: Mapping[str, AnalysisDocument]) -> Markup:
    """Give every analysis in the order of its name's declaration."""
    if not documents:
        return NOTHING
    return section("analyses", "Analyses", *(_analysis(name, document) for name, document in documents.items()))


def _analysis(name: str, document: AnalysisDocument) -> Markup:
    heading = element("h3", {"id": f"analysis-{name}"}, text(name.replace("_", " ")))
    scored = f"{plural(document.n, 'row')} of {document.part}" if document.part else plural(document.n, "row")
    level = f", {100 * document.level:g}\u00a0% intervals" if document.level else ""
    metric = f"; {metric_words(document.metric)}" if document.metric else ""
    charts = [figure(drawn) for chart in document.charts for drawn in draw_chart(chart)]
    css = "charts two" if len(charts) != 3 else "charts"
    return join(
        (
            heading,
            paragraph(text(document.summary)),
            paragraph(text(f"{document.kind.replace('_', ' ')}: {scored}{metric}{level}."), css="soft"),
            element("div", {"class": css}, *charts) if charts else NOTHING,
            *(folded(one.caption, _table(one)) for one in document.tables),
            *(paragraph(text(note), css="soft") for note in document.notes),
        )
    )


def draw_chart(chart: AnalysisChart) -> list[Markup]:
    """Draw one chart; a long list is cut into several of the same scale."""
    title = metric_title(chart.title)
    match chart.kind:
        case "curve":
            return [_curve(title, chart)]
        case "matrix":
            return [matrix_chart(title, chart)]
        case "bars":
            bars = [Bar(point.name, point.value, format_number(point.value)) for point in _points(chart)]
            return [bar_chart(ChartText(title, "", "", _spoken(chart)), bars)]
        case "intervals":
            return _intervals(title, chart)


def _intervals(title: str, chart: AnalysisChart) -> list[Markup]:
    rows = [Interval(point.name, point.value, point.low, point.high, note=point.note) for point in _points(chart)]
    left_out = len(rows) - _MOST_ROWS
    more = f"; {left_out} more in the JSON" if left_out > 0 else ""
    shown = rows[:_MOST_ROWS]
    ends = [end for row in shown for end in (row.value, row.low, row.high)]
    domain = pad_domain([*ends, chart.reference])
    half = _MOST_ROWS // 2
    parts = [shown] if len(shown) <= half else [shown[:half], shown[half:]]
    drawn = []
    for place, part in enumerate(parts):
        which = f" ({place + 1} of {len(parts)}{more if place else ''})" if len(parts) > 1 else more
        words = ChartText(title + which, chart.x, "", _spoken(chart))
        drawn.append(interval_chart(words, part, chart.reference, domain))
    return drawn


def _curve(title: str, chart: AnalysisChart) -> Markup:
    series = [_series(one, _TONES[min(place, len(_TONES) - 1)]) for place, one in enumerate(chart.series)]
    x = pad_domain([point.x for point in _points(chart)], 0.02)
    ends = [end for point in _points(chart) for end in (point.value, point.low, point.high)]
    y = pad_domain([*ends, chart.reference])
    line = None
    if chart.reference is not None:
        line = Reference(format_number(chart.reference), (x[0], chart.reference), (x[1], chart.reference))
    words = ChartText(title, chart.x, metric_title(chart.y), _spoken(chart))
    return line_chart(words, series, (x, y), line)


def _series(one: AnalysisSeries, tone: Tone) -> Series:
    known = [point for point in one.points if point.x is not None and point.value is not None]
    points = [(float(point.x or 0.0), float(point.value or 0.0)) for point in known]
    band = [None if point.low is None or point.high is None else (point.low, point.high) for point in known]
    return Series(one.name, tone, points, [1.0] * len(points), band)


def _points(chart: AnalysisChart) -> list[AnalysisPoint]:
    return [point for series in chart.series for point in series.points]


def _spoken(chart: AnalysisChart) -> str:
    told = [
        f"{point.name or format_number(point.x)}: {format_number(point.value)} {format_interval(point.low, point.high)}"
        for point in _points(chart)[:_MOST_ROWS]
    ]
    return "; ".join(told)


def _table(one: AnalysisTable) -> Markup:
    numbers = [
        column
        for place, column in enumerate(one.columns)
        if place and not any(isinstance(row[place], str) for row in one.rows)
    ]
    rows = [Row.of(*(text(_cell(value)) for value in row)) for row in one.rows]
    return table(one.caption, name_columns(one.columns, numbers), rows, stack=False)


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else format_number(value)


def metric_title(words: str) -> str:
    """Write metrics in a title by their usual names.

    >>> metric_title("Loss of roc_auc by age")
    'Loss of ROC AUC by age'
    """
    return " ".join(metric_words(word) if "_" in word else word for word in words.split(" "))


def gather_fits(
    plan: ExecutionPlan, results: Mapping[str, NodeResult]
) -> tuple[ExecutionPlan, Mapping[str, NodeResult]]:
    """Give the plan as it is drawn: without nodes that nobody asked for, and the fits behind an analysis as one node."""
    asked = [node for node in plan.nodes if not _unasked(results.get(node.name))]
    fits = {node.name: node for node in asked if node.kind in _FITS and node.name != "split"}
    if not fits:
        return ExecutionPlan(pipeline=plan.pipeline, nodes=tuple(asked)), results
    kept: list[PlanNode] = []
    told = dict(results)
    for node in asked:
        if node.name in fits:
            continue
        behind = _behind(node, fits)
        if behind:
            name = f"{sum(fits[one].kind == 'fit' for one in behind)} fits of {node.name.removeprefix('analysis.')}"
            outside = {role: one for fit in behind for role, one in fits[fit].inputs.items() if one not in fits}
            kept.append(PlanNode(name=name, kind="fit", inputs=outside, title="models trained beside"))
            told[name] = _together(name, [results[one] for one in behind if one in results])
            node = msgspec.structs.replace(  # noqa: PLW2901 - the same node, as it is drawn
                node, inputs={**{r: one for r, one in node.inputs.items() if one not in fits}, "fits": name}
            )
        kept.append(node)
    return ExecutionPlan(pipeline=plan.pipeline, nodes=tuple(kept)), told


def _unasked(result: NodeResult | None) -> bool:
    return result is not None and result.state == "skipped" and result.reason == "not selected"


def _behind(node: PlanNode, fits: Mapping[str, PlanNode]) -> list[str]:
    found: dict[str, None] = {}
    pending = list(node.inputs.values())
    while pending:
        name = pending.pop()
        if name in fits and name not in found:
            found[name] = None
            pending += fits[name].inputs.values()
    return list(found)


def _together(name: str, results: Sequence[NodeResult]) -> NodeResult:
    """Give one result for many: the worst state, the sum of the times."""
    order: tuple[NodeState, ...] = ("failed", "cancelled", "skipped", "pending", "running", "ran", "cached")
    states = {result.state for result in results}
    state: NodeState = next((one for one in order if one in states), "cached")
    seconds = sum(result.seconds for result in results if result.state != "cached")
    return NodeResult(name=name, kind="fit", state=state, seconds=seconds)

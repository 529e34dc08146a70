"""What the model is worth: metrics beside baseline and champion, curves, importance, slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.report.blocks import Column, Row, absent, figure, paragraph, section, table
from engine.report.charts import DIAGONAL, ChartText, Reference, Tone, histogram, line_chart, nice_limit
from engine.report.content import ReportContent
from engine.report.evidence import ROLES, Evidence, Measure, Slice, curve_series, metric_words
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import MISSING, format_count, format_interval, format_number, format_share, plural
from engine.report.rowcharts import Bar, Interval, bar_chart, interval_chart, interval_domain

def metrics_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give every metric with its interval beside champion and baseline: small forest plots, then the numbers."""
    if not evidence.metrics:
        return section("metrics", "Metrics", absent("The run has no evaluation."))
    names = model_names(content)
    charts = [figure(_metric_chart(evidence, name, names)) for name in evidence.names]
    level = next((m.level for measures in evidence.metrics.values() for m in measures.values() if m.level), None)
    of = f" on {plural(evidence.rows, 'test row')}" if evidence.rows else ""
    positives = f", {format_share(evidence.positives, evidence.rows)} positive" if evidence.positives and evidence.rows else ""
    intervals = f" Whiskers and brackets are {100 * level:g} % bootstrap intervals." if level else ""
    intro = paragraph(text(f"Measured{of}{positives}; all models score the same rows.{intervals}"))
    refused = [paragraph(text(f"Not scored: {refusal}"), css="soft") for refusal in evidence.refusals]
    return section("metrics", "Metrics", intro, *refused, _charts(charts), _metric_table(evidence, names))


def curves_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give ROC, precision-recall and calibration curves and the scores' histogram, as far as they are there."""
    names = model_names(content)
    charts: list[Markup] = []
    if roc := curve_series(evidence, "roc", names):
        words = ChartText("ROC", "false positive rate", "true positive rate", "True against false positive rate by threshold.")
        charts.append(line_chart(words, roc, reference=Reference("no skill", *DIAGONAL)))
    if recall := curve_series(evidence, "precision_recall", names):
        words = ChartText("Precision and recall", "recall", "precision", "Precision against recall by threshold.")
        charts.append(line_chart(words, recall, reference=_prevalence(evidence)))
    if calibration := curve_series(evidence, "calibration", names):
        words = ChartText("Calibration", "mean predicted", "observed share", "Observed share of positives against predicted, by bin.")
        limit = nice_limit([end for series in calibration for point in series.points for end in point])
        diagonal = Reference("perfect", (0.0, 0.0), (limit, limit))
        charts.append(line_chart(words, calibration, ((0.0, limit), (0.0, limit)), diagonal))
    if evidence.histograms:
        words = ChartText("Scores", "predicted", "share of rows", "Distribution of the challenger's predictions on the test rows.")
        charts.append(histogram(words, evidence.histograms))
    if not charts:
        return section("curves", "Curves", absent("The evaluation has no curves."))
    note = "On the calibration curve, the area of a marker grows with the number of rows in its bin." if calibration else ""
    return section("curves", "Curves", _charts([figure(chart) for chart in charts], "charts two" if len(charts) in {2, 4} else "charts"), paragraph(text(note), css="soft") if note else NOTHING)


def importance_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give the columns that the model relies on most, as shares of the whole."""
    held = content.importance or dict(evidence.importance)
    ranked = sorted(held.items(), key=lambda pair: (-pair[1], pair[0]))
    total = sum(value for _, value in ranked if value > 0)
    if not ranked or not total:
        return section("importance", "Importance", absent("The model says nothing about importance."))
    top = ranked[: content.top_features]
    unused = sum(value <= 0 for _, value in ranked)
    rest = sum(value for _, value in ranked[len(top) :] if value > 0)
    words = ChartText("Importance, share of the whole", "", "", f"The {len(top)} most important of {len(ranked)} columns.")
    half = (len(top) + 1) // 2 if len(top) > 12 else len(top)
    bars = [Bar(name, value / total, format_share(value, total)) for name, value in top]
    parts = [bars[:half], bars[half:]] if bars[half:] else [bars]
    longest = bars[0].value or 1.0
    charts = [figure(bar_chart(_part(words, index, half, len(bars)), part, longest)) for index, part in enumerate(parts)]
    told = f"{plural(len(ranked), 'column')}; " + (f"the {len(ranked) - len(top)} not shown make up {format_share(rest, total)}; " if rest else "")
    told += f"{unused} not used at all." if unused else "all are used."
    return section("importance", "Importance", paragraph(text(told)), _charts(charts, "charts two"))


def slices_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give the primary metric by slice, as a forest plot with the overall value and as a table; too small ones are said."""
    if not evidence.slices:
        return section("slices", "Slices", absent("The evaluation has no slices."))
    measured = _worst_first([one for one in evidence.slices if one.measure.value is not None])
    insufficient = [one for one in evidence.slices if one.measure.value is None]
    shown = measured[: content.max_slices]
    metric = metric_words(evidence.primary or "metric")
    overall = evidence.metrics.get("challenger", {}).get(evidence.primary or "", Measure(None))
    domain = interval_domain([_slice_row(one) for one in shown], overall.value)
    charts = []
    for column in dict.fromkeys(one.column for one in shown):
        rows = [_slice_row(one) for one in shown if one.column == column]
        words = ChartText(f"{metric} by {column}", "", "", f"{metric} with its interval for each value of {column}; the line is overall.")
        charts.append(figure(interval_chart(words, rows, overall.value, domain)))
    notes = [f"The dashed line is {metric} over all test rows, {format_number(overall.value)}; the weakest slice comes first."] if overall.value is not None else []
    if len(measured) > len(shown):
        notes.append(f"{len(measured) - len(shown)} more slices are not shown.")
    if insufficient:
        notes.append(f"{plural(len(insufficient), 'slice')} too small to be measured: {_listed(insufficient)}.")
    plots = _charts(charts, "charts two") if charts else absent("No slice had enough rows to be measured.")
    return section("slices", "Slices", paragraph(text(" ".join(notes))), plots, _slice_table(shown, insufficient, metric, evidence))


def model_names(content: ReportContent) -> Mapping[Tone, str]:
    """Say which model each role is, for legends and headers."""
    champion = f"champion {content.champion_name}" if content.champion_name else "champion"
    baseline = f"baseline {content.baseline_name}" if content.baseline_name else "baseline"
    return {"challenger": "challenger", "champion": champion, "baseline": baseline}


def _metric_chart(evidence: Evidence, name: str, names: Mapping[Tone, str]) -> Markup:
    rows: list[Interval] = []
    better = True
    for role in ROLES:
        measure = evidence.metrics.get(role, {}).get(name)
        if measure is not None:
            better = measure.higher_is_better
            rows.append(Interval(names[role], measure.value, measure.low, measure.high, role, MISSING))
    title = f"{metric_words(name)} ({'higher' if better else 'lower'} is better)"
    spoken = "; ".join(f"{row.name} {format_number(row.value)} {format_interval(row.low, row.high)}" for row in rows)
    return interval_chart(ChartText(title, "", "", spoken), rows)


def _metric_table(evidence: Evidence, names: Mapping[Tone, str]) -> Markup:
    roles = [role for role in ROLES if role in evidence.metrics]
    against = [role for role in ROLES if role in evidence.differences]
    columns = [Column("Metric"), *(Column(names[role], number=True) for role in roles)]
    columns += [Column(f"Difference to {role}", number=True) for role in against]
    rows = []
    for name in evidence.names:
        cells = [_cell(evidence.metrics[role].get(name)) for role in roles]
        cells += [_cell(evidence.differences[role].get(name), signed=True) for role in against]
        rows.append(Row((text(metric_words(name)), *cells)))
    caption = "Values with intervals" + ("; differences are challenger minus the other, paired by row" if against else "")
    return table(caption, columns, rows)


def _cell(measure: Measure | None, *, signed: bool = False) -> Markup:
    if measure is None or measure.value is None:
        return text(MISSING)
    shown = text(format_number(measure.value, signed=signed))
    if measure.low is None:
        return shown
    return join((shown, element("span", {"class": "range"}, text(format_interval(measure.low, measure.high, signed=signed)))))


def _prevalence(evidence: Evidence) -> Reference | None:
    if not evidence.positives or not evidence.rows:
        return None
    share = evidence.positives / evidence.rows
    return Reference(f"prevalence {share:.3f}", (0.0, share), (1.0, share))


def _slice_row(one: Slice) -> Interval:
    return Interval(one.value, one.measure.value, one.measure.low, one.measure.high)


def _slice_table(shown: Sequence[Slice], insufficient: Sequence[Slice], metric: str, evidence: Evidence) -> Markup:
    rivals = [role for role in ("champion", "baseline") if any(getattr(one, role) is not None for one in shown)]
    columns = [Column("Slice"), Column("Rows", number=True), Column(metric, number=True)]
    columns += [Column(role.capitalize(), number=True) for role in rivals]
    rows = []
    before = None
    for one in shown:
        others = [_cell(getattr(one, role)) for role in rivals]
        css = "group" if before not in {None, one.column} else None
        rows.append(Row((text(f"{one.column} = {one.value}"), text(format_count(one.n)), _cell(one.measure), *others), css))
        before = one.column
    for one in insufficient[:20]:
        others = [text(MISSING) for _ in rivals]
        rows.append(Row((text(f"{one.column} = {one.value}"), text(format_count(one.n)), text(one.note or "too few rows"), *others), "dim"))
    return element("details", {}, element("summary", {}, text("All slices as a table")), table(f"{metric} by slice", columns, rows))


def _worst_first(slices: Sequence[Slice]) -> list[Slice]:
    """Order slices by column as they came, and within a column from weak to strong."""
    columns = list(dict.fromkeys(one.column for one in slices))

    def rank(one: Slice) -> tuple[int, float]:
        value = one.measure.value or 0.0
        return columns.index(one.column), value if one.measure.higher_is_better else -value

    return sorted(slices, key=rank)


def _listed(slices: Sequence[Slice]) -> str:
    named = [f"{one.column} = {one.value} ({plural(one.n, 'row')})" for one in slices[:6]]
    return ", ".join(named) + (f" and {len(slices) - 6} more" if len(slices) > 6 else "")


def _part(words: ChartText, index: int, half: int, count: int) -> ChartText:
    if half == count:
        return words
    first, last = (1, half) if index == 0 else (half + 1, count)
    return ChartText(f"{words.title}: {first} to {last}", "", "", words.description)


def _charts(charts: Sequence[Markup], css: str = "charts") -> Markup:
    return element("div", {"class": css}, *charts)

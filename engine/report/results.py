"""What the model is worth: metrics beside baseline and champion, curves, importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.report.analyses import draw_chart
from engine.report.axes import pad_domain
from engine.report.blocks import Row, absent, figure, name_columns, paragraph, section, table
from engine.report.charts import DIAGONAL, ChartText, Reference, Series, Tone, histogram, line_chart, nice_limit
from engine.report.content import ReportContent
from engine.report.evidence import ROLES, Evidence, Measure, curve_series, metric_words, score_bins
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import MISSING, format_interval, format_number, format_share, plural
from engine.report.rowcharts import Bar, Interval, bar_chart, interval_chart


def metrics_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give every metric with its interval beside champion and baseline: small forest plots, then the numbers."""
    if not evidence.metrics:
        nothing = absent("The run has no evaluation: there are no metrics, curves, importance or slices to show.")
        return section("metrics", "Metrics", nothing)
    names = model_names(content)
    charts = [figure(_metric_chart(evidence, name, names)) for name in evidence.names]
    of = f" on {plural(evidence.rows, 'test row')}" if evidence.rows else ""
    share = format_share(evidence.positives, evidence.rows)
    positives = f", {share} positive" if evidence.positives and evidence.rows else ""
    intervals = (
        f" Whiskers and brackets are {100 * evidence.level:g}\u00a0% bootstrap intervals." if evidence.level else ""
    )
    intro = paragraph(text(f"Measured{of}{positives}; all models score the same rows.{intervals}"))
    remark = paragraph(text(evidence.remark)) if evidence.remark else NOTHING
    refused = [paragraph(text(f"Not scored: {refusal}"), css="soft") for refusal in evidence.refusals]
    return section("metrics", "Metrics", intro, remark, *refused, group_charts(charts), _metric_table(evidence, names))


def curves_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give ROC, precision-recall and calibration curves and the scores' histogram, as far as they are there."""
    if not evidence.metrics:
        return NOTHING
    names = model_names(content)
    drawn = (
        _roc(curve_series(evidence, "roc", names)),
        _precision_recall(curve_series(evidence, "precision_recall", names), evidence),
        _calibration(curve_series(evidence, "calibration", names), evidence),
        _scores(evidence),
    )
    charts = [figure(chart) for chart in drawn if chart]
    charts += [figure(chart) for one in evidence.charts for chart in draw_chart(one)]
    if not charts:
        return section("curves", "Curves", absent("The evaluation has no curves."))
    # Three fit side by side; two or four are neater in pairs.
    css = "charts two" if len(charts) in {2, 4} else "charts"
    note = "On the calibration curve, a bigger marker stands for more rows."
    counted = any(curves.calibration.n for curves in evidence.curves.values())
    remark = paragraph(text(note), css="soft") if counted else NOTHING
    return section("curves", "Curves", group_charts(charts, css), remark)


def importance_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give the columns that the model relies on most, as shares of the whole."""
    if not evidence.metrics:
        return NOTHING
    ranked = sorted(content.importance.items(), key=lambda pair: (-pair[1], pair[0]))
    total = sum(value for _, value in ranked if value > 0)
    if not ranked or not total:
        return section("importance", "Importance", absent("The model says nothing about importance."))
    top = ranked[: content.top_features]
    bars = [Bar(name, value / total, format_share(value, total)) for name, value in top]
    # A long list goes in two columns that share one scale.
    half = (len(bars) + 1) // 2 if len(bars) > 12 else len(bars)
    charts = [_importance_chart(bars, first, half) for first in range(0, len(bars), half)]
    unused = sum(value <= 0 for _, value in ranked)
    rest = sum(value for _, value in ranked[len(top) :] if value > 0)
    told = [plural(len(ranked), "column")]
    told += [f"the {len(ranked) - len(top)} not shown make up {format_share(rest, total)}"] if rest else []
    told += [f"{unused} not used at all" if unused else "all are used"]
    return section(
        "importance", "Importance", paragraph(text("; ".join(told) + ".")), group_charts(charts, "charts two")
    )


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
    numbers = [*(names[role] for role in roles), *(f"Difference to {role}" for role in against)]
    rows: list[Row] = []
    for name in evidence.names:
        cells = [measure_cell(evidence.metrics[role].get(name)) for role in roles]
        cells += [measure_cell(evidence.differences[role].get(name), signed=True) for role in against]
        rows.append(Row.of(text(metric_words(name)), *cells))
    paired = "; differences are challenger minus the other, on the same rows" if against else ""
    return table(f"Values with intervals{paired}", name_columns(["Metric", *numbers], numbers), rows, stack=False)


def measure_cell(measure: Measure | None, *, signed: bool = False) -> Markup:
    """Give a value with its interval for a table."""
    if measure is None:
        return text(MISSING)
    shown = text(format_number(measure.value, signed=signed))
    known = measure.value is not None and measure.low is not None
    beside = format_interval(measure.low, measure.high, signed=signed) if known else measure.reason
    return join((shown, element("span", {"class": "range"}, text(beside)))) if beside else shown


def group_charts(charts: Sequence[Markup], css: str = "charts") -> Markup:
    """Set charts beside each other as far as there is room."""
    return element("div", {"class": css}, *charts)


def _roc(series: Sequence[Series]) -> Markup:
    if not series:
        return NOTHING
    told = "True against false positive rate by threshold."
    words = ChartText("ROC", "false positive rate", "true positive rate", told)
    return line_chart(words, series, reference=Reference("no skill", *DIAGONAL))


def _precision_recall(series: Sequence[Series], evidence: Evidence) -> Markup:
    if not series:
        return NOTHING
    words = ChartText("Precision and recall", "recall", "precision", "Precision against recall by threshold.")
    return line_chart(words, series, reference=_prevalence(evidence))


def _prevalence(evidence: Evidence) -> Reference | None:
    if not evidence.positives or not evidence.rows:
        return None
    share = evidence.positives / evidence.rows
    return Reference(f"prevalence {share:.3f}", (0.0, share), (1.0, share))


def _calibration(series: Sequence[Series], evidence: Evidence) -> Markup:
    if not series:
        return NOTHING
    ends = [end for one in series for point in one.points for end in point]
    observed = "observed share" if evidence.binary else "mean label"
    domain = (0.0, nice_limit(ends)) if evidence.binary else pad_domain(ends)
    words = ChartText("Calibration", "mean predicted", observed, f"Mean prediction against {observed}, by bin.")
    reference = Reference("perfect", (domain[0], domain[0]), (domain[1], domain[1]))
    return line_chart(words, series, (domain, domain), reference)


def _scores(evidence: Evidence) -> Markup:
    bins = score_bins(evidence.histogram)
    if not bins:
        return NOTHING
    told = "Distribution of the challenger's predictions on the test rows."
    return histogram(ChartText("Scores", "predicted", "share of rows", told), bins)


def _importance_chart(bars: Sequence[Bar], first: int, count: int) -> Markup:
    part = bars[first : first + count]
    which = f": {first + 1} to {first + len(part)}" if len(part) < len(bars) else ""
    told = "; ".join(f"{bar.name} {bar.shown}" for bar in part)
    return figure(bar_chart(ChartText(f"Importance, share of the whole{which}", "", "", told), part, bars))

"""The monitoring report: one HTML file that needs no network: what is wrong, timelines, then and now, labels.

Enters: what `running` has read. Leaves: the page as text. Deployments (moves of the alias) are marked on every timeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from engine.report.axes import Domain, Plot, Scale, draw_axes, finite, pad_domain
from engine.report.blocks import Row, absent, badge, code, figure, folded, name_columns, paragraph, section, table
from engine.report.charts import Bins, ChartText, Reference, Series, histogram, line_chart, picture
from engine.report.document import COMPLETE, Heading, render_document
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.watch.frozen import FrozenColumn
from engine.watch.observations import Observations
from engine.watch.observe import Watched
from engine.watch.observed import KNOWN_AT, LABEL, PREDICTION, TIME
from engine.watch.profile import Profile
from engine.watch.reference import Reference as ChunkReference
from engine.watch_records import Alert, MonitorReport, Reading

Deployments = Sequence[tuple[str, str]]
_TONES = {"ok": "good", "alarm": "bad", "broken": "bad", "insufficient_data": "unsure"}
_WORDS = {"ok": "quiet", "alarm": "alarm", "broken": "broken", "insufficient_data": "too little data"}
_COLUMNS_SHOWN = 9
_DAY = 86_400.0


def render_monitor(report: MonitorReport, watched: Watched, seen: Observations, deployments: Deployments) -> str:
    """Render the page."""
    sections = (
        ("alerts", "Alerts", _alerts(report)),
        ("grid", "Every chunk", _grid(report)),
        ("timelines", "Over time", _timelines(report, deployments)),
        ("columns", "Then and now", _distributions(report, watched)),
        ("scores", "Scores then and now", _scores(seen, watched)),
        ("calibration", "Calibration then and now", _calibration(report)),
        ("labels", "Labels", _labels(seen, watched)),
        ("readings", "All readings", _readings(report)),
    )
    heading = Heading(
        title=f"{report.pipeline}: monitors, {_WORDS[report.status]}",
        kicker=f"{report.model}, {report.chunks} chunks, read as of {report.at[:16].replace('T', ' ')} UTC",
        name=f"{report.pipeline}: {len(report.alerts)} alerts",
    )
    return render_document(heading, sections, COMPLETE)


def _alerts(report: MonitorReport) -> Markup:
    if not report.alerts:
        return section("alerts", "Alerts", absent("No alert is open."))
    return section("alerts", "Alerts", *(_alert(alert) for alert in report.alerts))


def _alert(alert: Alert) -> Markup:
    words = paragraph(
        badge(f"{alert.state}, {alert.severity}", "bad" if alert.severity == "critical" else "unsure"),
        text(f" {alert.title}"),
    )
    rows = [
        Row.of(
            text(item.name),
            text(item.words or item.component or item.status),
            text("–" if item.explains is None else f"{item.explains:.0%}"),
            text("–" if item.adjusted is None else f"{item.adjusted:.2g}"),
        )
        for item in alert.causes
    ]
    causes = table(
        f"Since {alert.since}, {alert.chunks} chunks, owner {alert.owner or 'nobody'}",
        name_columns(["Cause", "What", "Explains", "Evidence"], {"Explains", "Evidence"}),
        rows,
    )
    runbook = folded("Runbook", element("pre", {}, text(alert.runbook)))
    return join([words, causes if rows else NOTHING, paragraph(text("Again: "), code(alert.command)), runbook])


def _grid(report: MonitorReport) -> Markup:
    """One row a monitor, one cell a chunk."""
    chunks = list(dict.fromkeys(reading.chunk for reading in report.readings))[-31:]
    whole = [reading for reading in report.readings if not reading.slice]
    names = list(dict.fromkeys(reading.monitor for reading in whole))
    found = {(reading.monitor, reading.chunk): reading for reading in whole}
    rows = [Row.of(text(name), *(_cell(found.get((name, chunk))) for chunk in chunks)) for name in names]
    if not rows:
        return section("grid", "Every chunk", absent("No chunk has been read."))
    caption = "What each monitor said of each chunk"
    return section("grid", "Every chunk", table(caption, name_columns(["Monitor", *chunks]), rows, stack=False))


def _cell(reading: Reading | None) -> Markup:
    if reading is None:
        return text("–")
    mark = {"ok": "quiet", "alarm": "alarm", "broken": "broken", "insufficient_data": "no data"}[reading.status]
    return badge(mark, _TONES[reading.status])


def _timelines(report: MonitorReport, deployments: Deployments) -> Markup:
    charts = []
    whole = [reading for reading in report.readings if not reading.slice]
    for monitor in dict.fromkeys(reading.monitor for reading in whole):
        own = [reading for reading in whole if reading.monitor == monitor and reading.value is not None]
        if len(own) > 1:
            charts.append(figure(_timeline(monitor, own, deployments)))
    body = element("div", {"class": "charts"}, *charts) if charts else absent("One chunk makes no line.")
    return section("timelines", "Over time", body)


def _timeline(monitor: str, readings: Sequence[Reading], deployments: Deployments) -> Markup:
    """Draw one monitor's headline value by chunk, its interval, what is usual, alarms, and deployments."""
    start = _seconds(readings[0].start)
    x = [(_seconds(reading.start) - start) / _DAY for reading in readings]
    ends = [value for reading in readings for value in (reading.value, reading.low, reading.high, reading.expected)]
    domain: Domain = pad_domain(ends)
    plot = Plot(Scale(min(x), max(*x, min(x) + 1e-9), 54.0, 348.0), Scale(domain[0], domain[1], 216.0, 30.0))
    placed = list(zip(x, readings, strict=True))
    parts = [draw_axes(plot, (f"days since {readings[0].start[:10]}", ""))]
    parts += [
        _whisker(plot, place, reading) for place, reading in placed if len(finite((reading.low, reading.high))) == 2
    ]
    usual = [(place, reading.expected) for place, reading in placed if reading.expected is not None]
    parts.append(_line(plot, usual, {"class": "reference"}))
    shown = [(place, reading.value) for place, reading in placed if reading.value is not None]
    parts.append(_line(plot, shown, {"stroke": "currentColor", "stroke-width": 1.6}))
    parts += [_point(plot, place, reading) for place, reading in placed]
    for at, words in deployments:
        days = (_seconds(at) - start) / _DAY
        if min(x) <= days <= max(x):
            parts += _deployment(plot, days, f"{words}, {at[:16]}", words)
    description = f"{monitor} by chunk; large red points are alarms, the dashed line is what is usual"
    return picture(monitor, description, 254.0, parts)


def _line(plot: Plot, points: Sequence[tuple[float, float]], look: Mapping[str, str | float]) -> Markup:
    if not points:
        return NOTHING
    path = " ".join(f"{plot.x(a):.1f},{plot.y(b):.1f}" for a, b in points)
    return element("polyline", {"fill": "none", **look, "points": path})


def _whisker(plot: Plot, place: float, reading: Reading) -> Markup:
    ends = {"y1": plot.y(reading.low or 0.0), "y2": plot.y(reading.high or 0.0)}
    return element(
        "line", {"stroke": "currentColor", "opacity": 0.45, "x1": plot.x(place), "x2": plot.x(place), **ends}
    )


def _point(plot: Plot, place: float, reading: Reading) -> Markup:
    loud = reading.status in {"alarm", "broken"}
    told = element("title", {}, text(f"{reading.chunk}: {reading.value or 0.0:.4g}, {_WORDS[reading.status]}"))
    look = {"r": 4.2 if loud else 2.4, "fill": "#c0392b" if loud else "currentColor"}
    return element("circle", {"cx": plot.x(place), "cy": plot.y(reading.value or 0.0), **look}, told)


def _deployment(plot: Plot, days: float, whole: str, short: str) -> list[Markup]:
    where = {"x1": plot.x(days), "x2": plot.x(days), "y1": 30, "y2": 216}
    rule = element("line", {"stroke": "#2471a3", "stroke-dasharray": "2 3", **where}, element("title", {}, text(whole)))
    return [rule, element("text", {"class": "tick", "x": plot.x(days) + 3, "y": 40}, text(short))]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _distributions(report: MonitorReport, watched: Watched) -> Markup:
    """Draw the columns that alarms named, or the first ones, in the reference and in the last chunk that named them."""
    if watched.reference is None:
        return NOTHING
    frozen = watched.reference.frozen.by_name
    named: dict[str, str] = {}
    for reading in report.readings:
        for item in reading.findings:
            if item.status == "alarm" and item.name in frozen and not reading.slice:
                named[item.name] = reading.chunk
    last = next(reversed(list(watched.profiles)), None)
    if not named and last is not None:
        named = dict.fromkeys(list(frozen)[:3], last)
    charts = [
        figure(_distribution(frozen[name], watched.reference, watched.profiles[chunk], chunk))
        for name, chunk in list(named.items())[-_COLUMNS_SHOWN:]
        if chunk in watched.profiles and frozen[name].kind != "identifier"
    ]
    return section(
        "columns", "Then and now", element("div", {"class": "charts"}, *charts) if charts else absent("No column.")
    )


def _distribution(column: FrozenColumn, reference: ChunkReference, profile: Profile, chunk: str) -> Markup:
    before = np.sum(
        [item.columns[column.name].cells for item in reference.chunks if column.name in item.columns], axis=0
    )
    counts = profile.columns.get(column.name)
    now = np.array(counts.cells if counts and counts.cells else np.zeros(len(before)))
    p, q = (item / max(float(item.sum()), 1.0) for item in (np.asarray(before, dtype=np.float64), now))
    words = f"{column.name}: reference and {chunk}"
    if column.kind == "category":
        order = np.argsort(-(p + q))[:10]
        names = [column.values[i] if i < len(column.values) else f"others {i}" for i in order]
        rows = [
            Row.of(text(name), text(f"{p[i]:.1%}"), text(f"{q[i]:.1%}")) for name, i in zip(names, order, strict=True)
        ]
        return table(words, name_columns(["Value", "Reference", "Chunk"], {"Reference", "Chunk"}), rows, stack=False)
    low, high = column.edges[min(3, len(column.edges) - 1)], column.edges[max(len(column.edges) - 4, 0)]
    grid = np.linspace(low, high, 21) if high > low else np.array([low - 0.5, low + 0.5])
    series = [
        Bins("reference", "baseline", grid.tolist(), _resampled(p, column.edges, grid)),
        Bins(chunk, "challenger", grid.tolist(), _resampled(q, column.edges, grid)),
    ]
    return histogram(ChartText(words, column.name, "share of rows", "outlines of both distributions"), series)


def _resampled(shares: np.ndarray, edges: Sequence[float], grid: np.ndarray) -> list[float]:
    """Spread shares of uneven bins over even ones."""
    below = shares[0] + np.concatenate([[0.0], np.cumsum(shares[1:-1])])
    return [float(value) for value in np.diff(np.interp(grid, np.asarray(edges), below))]


def _scores(seen: Observations, watched: Watched) -> Markup:
    if PREDICTION not in seen.held_out.columns or not watched.chunks:
        return NOTHING
    rows = watched.chunks[-1].rows
    if PREDICTION not in rows.columns:
        return NOTHING
    values = [_finite(item[PREDICTION]) for item in (seen.held_out, rows)]
    if not all(len(item) for item in values):
        return NOTHING
    both = np.concatenate(values)
    edges = np.linspace(both.min(), both.max() if both.max() > both.min() else both.min() + 1, 26)
    shares = [(np.histogram(item, edges)[0] / len(item)).tolist() for item in values]
    series = [
        Bins("held out", "baseline", edges.tolist(), shares[0]),
        Bins(watched.chunks[-1].name, "challenger", edges.tolist(), shares[1]),
    ]
    chart = histogram(ChartText("Scores", "score", "share of rows", "held-out rows and the last chunk"), series)
    return section("scores", "Scores then and now", element("div", {"class": "charts"}, figure(chart)))


def _finite(values: pl.Series) -> np.ndarray:
    found = values.cast(pl.Float64).to_numpy()
    return np.asarray(found[np.isfinite(found)])


def _calibration(report: MonitorReport) -> Markup:
    curves = [
        reading
        for reading in report.readings
        if reading.kind == "calibration" and not reading.slice and reading.details.get("curve")
    ]
    if not curves:
        return section("calibration", "Calibration then and now", absent("Too few labels for a curve yet."))
    last = curves[-1]
    details: Mapping[str, Any] = last.details
    series = [
        Series(last.chunk, "challenger", [(a, b) for a, b, _ in details["curve"]], [n for _, _, n in details["curve"]])
    ]
    if details.get("curve_before"):
        before = details["curve_before"]
        series.append(Series("held out", "baseline", [(a, b) for a, b, _ in before], [n for _, _, n in before]))
    diagonal = Reference("perfect", (0.0, 0.0), (1.0, 1.0))
    chart = line_chart(
        ChartText("Calibration", "predicted", "observed", "mean label by mean score"), series, reference=diagonal
    )
    return section("calibration", "Calibration then and now", element("div", {"class": "charts"}, figure(chart)))


def _labels(seen: Observations, watched: Watched) -> Markup:
    """Draw how many rows of each chunk have labels, and how long labels take."""
    known = [chunk for chunk in watched.chunks if LABEL in chunk.rows.columns]
    if not known:
        return section("labels", "Labels", absent("No label has come."))
    points = [
        (float(index), 1.0 - chunk.rows[LABEL].null_count() / max(chunk.rows.height, 1))
        for index, chunk in enumerate(known)
    ]
    coverage = line_chart(
        ChartText("Label coverage", "chunk", "share of rows with a label"),
        [Series("coverage", "challenger", points, [1.0] * len(points))],
        ((0.0, max(len(points) - 1.0, 1.0)), (0.0, 1.02)),
    )
    charts = [figure(coverage)]
    if KNOWN_AT in seen.watched.columns and seen.watched[KNOWN_AT].null_count() < seen.watched.height:
        hours = (seen.watched[KNOWN_AT] - seen.watched[TIME]).dt.total_minutes().drop_nulls().cast(
            pl.Float64
        ).to_numpy() / 60
        top = float(np.quantile(hours, 0.99)) or 1.0
        edges = np.linspace(min(0.0, float(hours.min())), max(top, 1e-6), 25)
        share = (np.histogram(hours, edges)[0] / len(hours)).tolist()
        delay = histogram(
            ChartText("Label delay", "hours after the event", "share of labels"),
            [Bins("labels", "challenger", edges.tolist(), share)],
        )
        charts.append(figure(delay))
    return section("labels", "Labels", element("div", {"class": "charts"}, *charts))


def _readings(report: MonitorReport) -> Markup:
    rows = [
        Row.of(
            text(reading.chunk), text(reading.monitor), text(reading.slice or "–"), badge(_WORDS[reading.status], _TONES[reading.status]),
            text(f"{reading.rows:,}"), text("–" if reading.value is None else f"{reading.value:.4g}"), text(reading.words),
        )
        for reading in report.readings
    ]  # fmt: skip
    columns = name_columns(["Chunk", "Monitor", "Slice", "Status", "Rows", "Value", "Words"], {"Rows", "Value"})
    return section("readings", "All readings", folded(f"{len(rows)} readings", table("Every reading", columns, rows)))

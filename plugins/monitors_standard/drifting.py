"""Drift of features and of the score: what moved since the reference, at once or slowly. Called through the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.watch.causes import explain_score
from engine.watch.compare import ColumnComparison, Part, describe
from engine.watch.compat import read_drift
from engine.watch.findings import dependence_of, finding_of, rank_finding
from engine.watch.observed import PREDICTION, Observed, Said
from engine.watch.sequential import Trend, find_trends, level_of
from engine.watch_records import Finding

from . import DriftParams, PredictionParams

_TOLD = 60


class Drift:
    """Every watched feature, and how they hang together."""

    def __init__(self, params: DriftParams) -> None:
        self._params, self._limits = params, {str(name): limit for name, limit in params.thresholds.items()}

    def read(self, observed: Observed) -> Said:
        """Compare; then look for slow change over the last chunks."""
        if observed.mode == "compat":
            names = [item.name for item in observed.reference.frozen.columns if item.name in observed.columns]
            return read_drift(observed, names, observed.past.chunks)
        comparison = observed.comparison
        if comparison.status == "insufficient_data":
            return Said("insufficient_data", comparison.words, findings=_findings(observed, {}, self._limits))
        shares = explain_score(observed) if comparison.alarms else {}
        found = list(_findings(observed, shares, self._limits))
        pairs = dependence_of(comparison)
        found += [pairs] if pairs is not None else []
        if self._params.trends:
            known = {item.name for item in found if item.status == "alarm"}
            found += [item for item in self._trends(observed) if item.name not in known]
        found.sort(key=rank_finding)
        alarms = [item for item in found if item.status == "alarm"]
        watched = sum(1 for item in comparison.columns if item.column in observed.columns)
        words = "; ".join(item.words for item in alarms[:3]) or f"{watched} columns, nothing changed"
        return Said("alarm" if alarms else "ok", words, float(len(alarms)), findings=tuple(found[:_TOLD]))

    def _trends(self, observed: Observed) -> list[Finding]:
        trends = find_trends(observed.reference, [*observed.recent, observed.profile])
        level = level_of(observed.run_length)
        return [
            _slow(item)
            for item in trends
            if item.adjusted <= level and abs(item.effect) >= observed.rules.effect and item.column in observed.columns
        ]


class Prediction:
    """The score."""

    def __init__(self, params: PredictionParams) -> None:
        self._params, self._limits = params, {str(name): limit for name, limit in params.thresholds.items()}

    def read(self, observed: Observed) -> Said:
        """Compare the score alone, as one column of its own family."""
        held = [chunk for chunk in observed.past.held_out if PREDICTION in chunk.columns]
        if observed.mode == "compat" and held and PREDICTION in observed.rows.columns:
            return read_drift(observed, [PREDICTION], held)
        comparison = observed.prediction
        if comparison is None:
            return Said("insufficient_data", "no predictions in the chunk, or none in the reference")
        entry: ColumnComparison = comparison.columns[0]
        finding = _limited(finding_of(entry), self._limits)
        mean = observed.shared.get("prediction_means", (None, None))
        words = finding.words or f"mean score {mean[1]:.4f}, {mean[0]:.4f} in the reference" if None not in mean else ""
        status = comparison.status if finding.status != "alarm" else "alarm"
        return Said(status, words or comparison.words, mean[1], expected=mean[0], findings=(finding,))


def _findings(observed: Observed, shares: Mapping[str, float], limits: Mapping[str, float]) -> tuple[Finding, ...]:
    watched = set(observed.columns)
    return tuple(
        _limited(finding_of(item, shares.get(item.column)), limits)
        for item in observed.comparison.columns
        if item.column in watched and item.column != PREDICTION
    )


def _limited(finding: Finding, limits: Mapping[str, float]) -> Finding:
    """Alarm where a declared distance is exceeded."""
    over = [f"{name} {finding.distances[name]:.3g} > {limit:g}" for name, limit in limits.items()
            if finding.distances.get(name, 0.0) > limit]  # fmt: skip
    if not over:
        return finding
    words = finding.words or f"{finding.name}: {', '.join(over)}"
    return msgspec.structs.replace(finding, status="alarm", words=words)


def _slow(trend: Trend) -> Finding:
    words = describe(trend.column, Part(trend.component, trend.tail, trend.effect)) + f" over {trend.window} chunks"
    return Finding(
        name=trend.column, status="alarm", adjusted=trend.adjusted, effect=abs(trend.effect), component=trend.component,
        words=words, window=trend.window,
    )  # fmt: skip

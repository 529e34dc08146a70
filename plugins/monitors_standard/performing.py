"""How good the model is on a chunk: realised, estimated before labels, calibrated, and what changed beside the features.

Called through the catalogue. Held-out rows of the reference say what is usual and how much chunks differ anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from scipy import special

from engine.evaluation.calibration import calibration_slope
from engine.evaluation.curves import curves_of
from engine.evaluation.metrics import Floats
from engine.evaluation.names import BINARY
from engine.watch.compat import Labelled, read_estimated
from engine.watch.frozen import FrozenTable
from engine.watch.observed import LABEL, PREDICTION, Observed, Said, insufficient
from engine.watch.performance import (
    Measured,
    Verdict,
    against,
    apply_calibration,
    calibrate,
    estimate_binary,
    estimate_regression,
    is_worse,
    measure_with_error,
    metrics_of,
)  # fmt: skip
from engine.watch.scores import adjust
from engine.watch_records import Finding, ReadingStatus

from . import CalibrationParams, ConceptParams, EstimatedParams, PerformanceParams
from .losing import LossModel, fit_losses

_RESIDUAL = 0.02
_FOLDED = 4  # held-out chunks from which a model of the loss is fitted


def _pair(rows: pl.DataFrame) -> tuple[Floats, Floats]:
    """Give labels and predictions of the rows that have both."""
    if not {LABEL, PREDICTION} <= set(rows.columns):
        return np.empty(0), np.empty(0)
    table = rows.select(pl.col(LABEL).cast(pl.Float64), pl.col(PREDICTION).cast(pl.Float64))
    y, prediction = table[LABEL].to_numpy(), table[PREDICTION].to_numpy()
    kept = np.isfinite(y) & np.isfinite(prediction)
    return y[kept], prediction[kept]


def _held(observed: Observed) -> tuple[Floats, Floats]:
    pairs = [_pair(chunk) for chunk in observed.past.held_out]
    return (
        (np.concatenate([y for y, _ in pairs]), np.concatenate([p for _, p in pairs]))
        if pairs
        else _pair(pl.DataFrame())
    )


def _coverage(observed: Observed, labelled: int) -> float:
    return labelled / max(observed.rows.height, 1)


class Performance:
    """Realised performance."""

    def __init__(self, params: PerformanceParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Measure what is known by now; it is restated when more is."""
        y, prediction = _pair(observed.rows)
        coverage = _coverage(observed, len(y))
        if len(y) < self._params.min_labels or coverage < self._params.min_coverage:
            return insufficient(f"{len(y)} labels ({coverage:.0%} of rows), {self._params.min_labels} needed", coverage)
        names = self._params.metrics or metrics_of(observed.task)
        past = [_pair(chunk) for chunk in observed.past.held_out]
        found = _judge(names, y, prediction, past, observed)
        limited = tuple(self._limited(item) for item in found)
        return _said(limited, coverage)

    def _limited(self, finding: Finding) -> Finding:
        low, high, now = self._params.minimum.get(finding.name), self._params.maximum.get(finding.name), finding.now
        if now is None or not ((low is not None and now < low) or (high is not None and now > high)):
            return finding
        words = f"{finding.name} is {now:.4f}, the limit is {low if low is not None and now < low else high:g}"
        return Finding(name=finding.name, status="alarm", words=words, before=finding.before, now=now,
                       adjusted=finding.adjusted, details=finding.details)  # fmt: skip


def _judge(
    names: Sequence[str], y: Floats, prediction: Floats, past: Sequence[tuple[Floats, Floats]], observed: Observed
) -> tuple[Finding, ...]:
    now = [measure_with_error(name, y, prediction) for name in names]
    before = [[measure_with_error(name, *pair) for pair in past if len(pair[0])] for name in names]
    verdicts = [against(value, known) for value, known in zip(now, before, strict=True)]
    return _findings(names, now, verdicts, observed)


def _findings(
    names: Sequence[str], now: Sequence[Measured], verdicts: Sequence[Verdict | None], observed: Observed
) -> tuple[Finding, ...]:
    tails = np.array([1.0 if verdict is None else verdict.tail for verdict in verdicts])
    adjusted = adjust(tails, np.array([verdict is not None for verdict in verdicts], dtype=bool))
    return tuple(
        _one(name, value, verdict, float(level), observed)
        for name, value, verdict, level in zip(names, now, verdicts, adjusted, strict=True)
    )


def _one(name: str, now: Measured, verdict: Verdict | None, adjusted: float, observed: Observed) -> Finding:
    reach = {"low": _end(now, -1.96), "high": _end(now, 1.96), "error": now.error, "rows": now.rows}
    if now.value is None or verdict is None:
        why = now.why or "fewer than 5 held-out chunks to compare with"
        return Finding(name=name, status="insufficient_data", words=f"{name}: {why}", now=now.value, details=reach)
    alarm = adjusted <= observed.rules.level and is_worse(name, now.value, verdict.expected)
    words = f"{name} is {now.value:.4f}, {verdict.expected:.4f} ± {2 * verdict.usual:.4f} is usual"
    return Finding(
        name=name, status="alarm" if alarm else "ok", adjusted=adjusted, words=words, before=verdict.expected, now=now.value,
        effect=abs(now.value - verdict.expected) / verdict.usual if verdict.usual else None,
        details={**reach, "usual": verdict.usual},
    )  # fmt: skip


def _end(measured: Measured, by: float) -> float | None:
    return None if measured.value is None else measured.value + by * measured.error


def _said(findings: Sequence[Finding], coverage: float | None = None) -> Said:
    first = findings[0]
    alarms = [item for item in findings if item.status == "alarm"]
    known = [item for item in findings if item.status != "insufficient_data"]
    status: ReadingStatus = "alarm" if alarms else "ok" if known else "insufficient_data"
    words = "; ".join(item.words for item in alarms or findings[:1])
    return Said(
        status, words, first.now, first.details.get("low"), first.details.get("high"), first.before, coverage,
        tuple(sorted(findings, key=lambda item: item.status != "alarm")),
    )  # fmt: skip


class Estimated:
    """Expected performance from scores alone."""

    def __init__(self, params: EstimatedParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Estimate, and compare with the same estimate of held-out chunks."""
        pairs = [_pair(chunk) for chunk in observed.past.held_out]
        if observed.mode == "compat" and observed.task == BINARY and any(len(y) for y, _ in pairs):
            return read_estimated([Labelled(*pair) for pair in pairs if len(pair[0])], _scores(observed.rows))
        names = self._params.metrics or metrics_of(observed.task)
        prediction = _scores(observed.rows)
        estimator = _estimator(observed)
        labels = len(estimator.held[0])
        if len(prediction) < observed.rules.min_rows or labels < 200:
            words = f"{len(prediction)} scores, {labels} held-out labels; {observed.rules.min_rows} and 200 needed"
            return insufficient(words)
        now = [estimator.expect(name, observed.rows) for name in names]
        past = [
            [estimator.expect(name, chunk, place % 2) for place, chunk in enumerate(estimator.chunks)] for name in names
        ]
        verdicts = [against(value, known) for value, known in zip(now, past, strict=True)]
        said = _said(_findings(names, now, verdicts, observed))
        blind = "an estimate from scores does not see a changed base rate or relation"
        return Said(
            said.status, f"{said.words} ({blind})", said.value, said.low, said.high, said.expected, None, said.findings
        )


def _scores(rows: pl.DataFrame) -> Floats:
    if PREDICTION not in rows.columns:
        return np.empty(0)
    values = rows[PREDICTION].cast(pl.Float64).to_numpy()
    return np.asarray(values[np.isfinite(values)])


@dataclass(frozen=True, slots=True)
class Estimator:
    """What held-out rows say of scores: `held` is (labels, scores), `points` their calibration for a binary label.

    `losses` has a model of each metric's loss for a regression with features; without, the loss of like scores is taken.
    """

    held: tuple[Floats, Floats]
    points: tuple[Floats, Floats] | None
    chunks: tuple[pl.DataFrame, ...] = ()
    table: FrozenTable | None = None
    losses: dict[str, LossModel] = field(default_factory=dict)

    def expect(self, name: str, rows: pl.DataFrame, half: int | None = None) -> Measured:
        """Give the expected metric of scored rows; `half` is 0 or 1 by turns for the held-out chunks themselves."""
        prediction = _scores(rows)
        if self.points is not None:
            return estimate_binary(name, apply_calibration(self.points, prediction), prediction)
        if self.table is None or len(self.chunks) < _FOLDED or name not in {"rmse", "mae", "mse"}:
            return estimate_regression(name, self.held, prediction)
        if name not in self.losses:
            self.losses[name] = fit_losses(name, self.chunks, self.table)
        return self.losses[name].expect(rows, half)


def _estimator(observed: Observed) -> Estimator:
    """Fit once for all chunks that share held-out rows."""
    kept = observed.facts.get("kept", {})
    made: Estimator | None = kept.get("estimator")
    if made is None:
        held = _held(observed)
        binary = observed.task == BINARY and len(held[0]) > 0
        points = calibrate(held[1], held[0]) if binary else None
        chunks = tuple(chunk for chunk in observed.past.held_out if len(_pair(chunk)[0]))
        columns = [
            item for item in observed.reference.frozen.columns
            if item.kind != "identifier" and item.name in observed.columns and all(item.name in chunk.columns for chunk in chunks)
        ]  # fmt: skip
        made = kept["estimator"] = Estimator(
            held, points, chunks, FrozenTable(columns=tuple(columns)) if columns else None
        )
    return made


class Calibration:
    """Whether probabilities mean what they say."""

    def __init__(self, params: CalibrationParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Measure error, slope and Brier score; judge the error and the mean."""
        y, prediction = _pair(observed.rows)
        coverage = _coverage(observed, len(y))
        if observed.task != BINARY:
            return insufficient("calibration is of probabilities", coverage)
        if len(y) < self._params.min_labels:
            return insufficient(f"{len(y)} labels, {self._params.min_labels} needed", coverage)
        past = [_pair(chunk) for chunk in observed.past.held_out]
        found = list(_judge(("calibration_error", "brier"), y, prediction, past, observed))
        found.append(_in_the_large(y, prediction, past, observed))
        limit = self._params.max_error
        if limit is not None and found[0].now is not None and found[0].now > limit:
            words = f"calibration error beyond chance is {found[0].now:.4f}, at most {limit:g} allowed"
            found[0] = Finding(
                name="calibration_error", status="alarm", words=words, now=found[0].now, before=found[0].before
            )
        slope = calibration_slope(y, prediction)
        said = _said(found, coverage)
        held = _held(observed)
        details = {
            "slope": [slope.value, slope.low, slope.high, slope.reason],
            "curve": _curve(y, prediction),
            "curve_before": _curve(*held) if len(held[0]) else [],
        }
        return Said(
            said.status, said.words, said.value, said.low, said.high, said.expected, coverage, said.findings, details
        )


def _curve(y: Floats, prediction: Floats) -> list[list[float]]:
    curve = curves_of(BINARY, y, prediction).calibration
    return (
        [list(map(float, item)) for item in zip(curve.predicted, curve.observed, curve.n, strict=True)] if curve else []
    )


def _in_the_large(y: Floats, prediction: Floats, past: Sequence[tuple[Floats, Floats]], observed: Observed) -> Finding:
    """Judge the mean label less the mean score: the base rate, which no score can see."""

    def gap(pair: tuple[Floats, Floats]) -> Measured:
        apart = pair[0] - pair[1]
        return Measured(float(apart.mean()), float(apart.std() / np.sqrt(len(apart))), len(apart))

    now, verdict = gap((y, prediction)), against(gap((y, prediction)), [gap(pair) for pair in past if len(pair[0])])
    words = f"labels are {y.mean():.4f} on average, scores {prediction.mean():.4f}"
    if verdict is None:
        return Finding(name="mean_gap", status="insufficient_data", words=words, now=now.value)
    alarm = verdict.tail * 3 <= observed.rules.level and abs((now.value or 0.0) - verdict.expected) >= _RESIDUAL
    return Finding(
        name="mean_gap", status="alarm" if alarm else "ok", adjusted=min(1.0, verdict.tail * 3), words=words, now=now.value,
        before=verdict.expected, details={"error": now.error},
    )  # fmt: skip


class Concept:
    """Realised less estimated: what the features do not explain."""

    def __init__(self, params: ConceptParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Judge the gap of each metric, and the residuals by tenth of the score."""
        y, prediction = _pair(observed.rows)
        coverage, estimator = _coverage(observed, len(y)), _estimator(observed)
        held = estimator.held
        if len(y) < self._params.min_labels or len(held[0]) < 200:
            return insufficient(
                f"{len(y)} labels, {len(held[0])} held-out ones; {self._params.min_labels} and 200 needed", coverage
            )
        names = self._params.metrics or metrics_of(observed.task)
        past = [_pair(chunk) for chunk in observed.past.held_out]
        now = [_gap(name, estimator, observed.rows) for name in names]
        verdicts = [
            against(value, [_gap(name, estimator, chunk, place % 2) for place, chunk in enumerate(estimator.chunks)])
            for name, value in zip(names, now, strict=True)
        ]
        found = list(_findings(names, now, verdicts, observed))
        found.append(_residuals(held, past, (y, prediction), observed))
        said = _said(found, coverage)
        words = f"realised less estimated: {said.words}"
        return Said(said.status, words, said.value, said.low, said.high, said.expected, coverage, said.findings)


def _gap(name: str, estimator: Estimator, rows: pl.DataFrame, half: int | None = None) -> Measured:
    """Give realised less expected over the rows that have labels."""
    labelled = rows.filter(pl.col(LABEL).is_not_null())
    pair = _pair(labelled)
    realised, expected = measure_with_error(name, *pair), estimator.expect(name, labelled, half)
    if realised.value is None or expected.value is None:
        return Measured(None, 0.0, len(pair[0]), realised.why or expected.why)
    return Measured(realised.value - expected.value, expected.error or realised.error, len(pair[0]))


def _residuals(
    held: tuple[Floats, Floats], past: Sequence[tuple[Floats, Floats]], now: tuple[Floats, Floats], observed: Observed
) -> Finding:
    """Judge mean residuals by tenth of the score: a chi-squared over tenths, scaled by what it is in held-out chunks."""
    edges = np.unique(np.quantile(held[1], np.linspace(0, 1, 11)[1:-1]))
    width = len(edges) + 1

    def sums(pair: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats]:
        place, apart = np.searchsorted(edges, pair[1]), pair[0] - pair[1]
        count = np.bincount(place, minlength=width).astype(np.float64)
        total = np.bincount(place, weights=apart, minlength=width)
        return count, np.asarray(total, float), np.asarray(np.bincount(place, weights=apart**2, minlength=width), float)

    whole, total, squares = sums(held)
    mean = total / np.maximum(whole, 1)
    spread = np.maximum(squares / np.maximum(whole, 1) - mean**2, 1e-9)

    def squared(pair: tuple[Floats, Floats]) -> tuple[float, int]:
        count, moved, _ = sums(pair)
        used = (count >= 5) & (whole >= 5)
        apart = moved / np.maximum(count, 1) - mean
        parts = apart**2 / (spread * (1 / np.maximum(count, 1) + 1 / np.maximum(whole, 1)))
        return float(parts[used].sum()), int(used.sum())

    statistic, nu = squared(now)
    known = [squared(pair) for pair in past if len(pair[0])]
    if nu < 1 or len(known) < 5:
        return Finding(name="residuals", status="insufficient_data", words="residuals: too few held-out chunks")
    scale = max(1.0, float(np.mean([value / max(count, 1) for value, count in known])))
    freedom = float(sum(count for _, count in known)) - nu
    tail = float(special.fdtrc(nu, max(freedom, 1.0), statistic / nu / scale))
    size = float(np.sqrt(max(statistic / nu - scale, 0.0) / max(len(now[0]), 1) * width))
    alarm = tail <= observed.rules.level / 2 and size >= observed.rules.effect
    words = f"residuals by tenth of the score are {size:.2f} standard deviations off"
    return Finding(name="residuals", status="alarm" if alarm else "ok", adjusted=min(1.0, 2 * tail), effect=size, words=words,
                   component="residuals")  # fmt: skip

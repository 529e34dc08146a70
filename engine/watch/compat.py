"""`mode: compat`: the drift and estimated monitors as Evidently and NannyML would read the same chunk, for those who compare.

Enters: an `Observed` chunk. Leaves: what is said, with both tools' numbers, thresholds and verdicts of every column. Called by
the monitors `drift`, `prediction` and `estimated` when `watch.mode` is `compat`. These are their rules and not ours: no
evidence across columns, and chunks in their own reference. Infinities are left out for both, as Evidently does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.watch import evidently_numbers, nannyml_numbers
from engine.watch.evidently_numbers import Pair, PeerValue, evidently_default, evidently_value
from engine.watch.frozen import as_text, doubles_of, is_number
from engine.watch.moderation import Floats
from engine.watch.nannyml_numbers import nannyml_auc, nannyml_auc_error, nannyml_counts, nannyml_fit
from engine.watch.observed import Observed, Said, insufficient
from engine.watch.performance import apply_calibration, calibrate
from engine.watch_records import Finding

DATASET_SHARE = 0.5
"""Evidently calls a data set drifted when this share of its columns is."""
_DEVIATIONS, _THRESHOLD = 3.0, 0.5


@dataclass(frozen=True, slots=True)
class Samples:
    """A column's values without nulls, by reference chunk and of the chunk in question."""

    name: str
    chunks: tuple[NDArray[Any], ...]
    current: NDArray[Any]
    numeric: bool


def read_drift(observed: Observed, columns: Sequence[str], chunks: Sequence[pl.DataFrame]) -> Said:
    """Read columns of a chunk against reference chunks as both tools do."""
    if not chunks or not observed.rows.height:
        return insufficient("no rows in the chunk, or none in the reference")
    found = [_column(name, chunks, observed.rows) for name in columns]
    drifted = sum(1 for item in found if item.details.get("evidently", {}).get("drifted"))
    share = drifted / max(len(found), 1)
    alerts = sum(1 for item in found if item.details.get("nannyml", {}).get("drifted"))
    words = (
        f"Evidently: {drifted} of {len(found)} columns drifted, the data set {'has' if share >= DATASET_SHARE else 'has not'}; "
        f"NannyML: {alerts} alerts"
    )
    details = {"mode": "compat", "evidently_share": share, "evidently_dataset_drift": share >= DATASET_SHARE}
    ordered = tuple(sorted(found, key=lambda item: item.status != "alarm"))
    return Said(
        "alarm" if drifted or alerts else "ok", words, float(drifted + alerts), findings=ordered, details=details
    )


def _column(name: str, chunks: Sequence[pl.DataFrame], rows: pl.DataFrame) -> Finding:
    if name not in rows.columns:
        return Finding(name=name, status="broken", component="schema", words=f"{name}: the column is not there")
    samples = samples_of(name, chunks, rows)
    if samples is None:
        return Finding(name=name, status="broken", component="schema", words=f"{name}: the type is not the reference's")
    return judge_samples(samples)


def samples_of(name: str, chunks: Sequence[pl.DataFrame], rows: pl.DataFrame) -> Samples | None:
    """Take a column's values; `None` when numbers became text or the other way round."""
    parts = [chunk[name] for chunk in chunks if name in chunk.columns]
    numeric = bool(parts) and is_number(parts[0].dtype)
    if any(is_number(part.dtype) != numeric for part in [*parts, rows[name]] if part.dtype != pl.Null):
        return None
    return Samples(
        name, tuple(_values(part, numeric=numeric) for part in parts), _values(rows[name], numeric=numeric), numeric
    )


def _values(values: pl.Series, *, numeric: bool) -> NDArray[Any]:
    if numeric:
        doubles = doubles_of(values)
        return np.asarray(doubles[np.isfinite(doubles)])
    return np.array(as_text(values).drop_nulls().to_list(), dtype=str)


def judge_samples(samples: Samples) -> Finding:
    """Give every number of one column; in alarm when either tool would say so by itself."""
    pair = Pair(np.concatenate(samples.chunks), samples.current, samples.numeric)
    default = evidently_default(pair)
    fitted = nannyml_fit("jensen_shannon", samples.chunks)
    theirs = fitted.read(samples.current) if fitted else None
    if default is None or theirs is None:
        return Finding(name=samples.name, status="insufficient_data", words=f"{samples.name}: no values to compare")
    said = [f"{tool} {item.method} {item.value:.3g}, limit {item.threshold:.3g}"
            for tool, item in (("Evidently", default), ("NannyML", theirs)) if item.drifted]  # fmt: skip
    return Finding(
        name=samples.name, status="alarm" if said else "ok", component="compat", effect=default.value,
        words=f"{samples.name}: {'; '.join(said)}" if said else "", distances=distances_of(pair, samples),
        details={"evidently": _told(default), "nannyml": _told(theirs)},
    )  # fmt: skip


def _told(value: PeerValue) -> dict[str, object]:
    return {"method": value.method, "value": value.value, "threshold": value.threshold, "drifted": value.drifted}


def distances_of(pair: Pair, samples: Samples) -> dict[str, float]:
    """Give every number of both tools that the column admits."""
    found = {}
    for module, prefix in ((evidently_numbers, "evidently"), (nannyml_numbers, "nannyml")):
        barred = module.CATEGORIES_ONLY if samples.numeric else module.NUMERIC_ONLY
        for method in module.METHODS:
            if method in barred:
                continue
            if prefix == "evidently":
                value = evidently_value(method, pair).value
            else:
                fitted = nannyml_fit(method, samples.chunks)
                read = fitted.read(samples.current) if fitted else None
                value = read.value if read else float("nan")
            if np.isfinite(value):
                found[f"{prefix}_{method}"] = value
    return found


@dataclass(frozen=True, slots=True)
class Labelled:
    """Scores of a reference chunk with its labels, (n,) each."""

    y: Floats
    score: Floats


def read_estimated(chunks: Sequence[Labelled], score: Floats) -> Said:
    """Estimate as NannyML's CBPE does, with isotonic calibration on the whole reference; its thresholds and sampling error."""
    y, before = (np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("y", "score"))
    if not len(score) or len(np.unique(y)) < 2:
        return insufficient("no scores, or one class of labels only in the reference")
    points = calibrate(before, y)
    probability = apply_calibration(points, score)
    low, high = _limits([_realised_auc(chunk) for chunk in chunks])
    value, error = nannyml_auc(probability, score), nannyml_auc_error(y, before)(len(score))
    alert = value < low or value > high
    found = [Finding(name="roc_auc", status="alarm" if alert else "ok", now=value, component="compat",
                     words=f"roc_auc is estimated at {value:.4f}, NannyML's limits are {low:.4f} and {high:.4f}",
                     details={"error": error, "lower": low, "upper": high})]  # fmt: skip
    counts = nannyml_counts(probability, score >= _THRESHOLD)
    found += [Finding(name=name, status="ok", now=value, component="compat") for name, value in counts.items()]
    reach = _DEVIATIONS * error  # its plots show three standard errors
    return Said("alarm" if alert else "ok", found[0].words, value, value - reach, value + reach, findings=tuple(found),
                details={"mode": "compat"})  # fmt: skip


def _realised_auc(chunk: Labelled) -> float:
    from engine.evaluation.metrics import measure  # noqa: PLC0415 - start-up time

    value = measure("roc_auc", chunk.y, chunk.score) if len(chunk.y) else None
    return float("nan") if value is None else value


def _limits(realised: Sequence[float]) -> tuple[float, float]:
    known = np.array([value for value in realised if np.isfinite(value)])
    if not len(known):
        return 0.0, 1.0
    reach = _DEVIATIONS * float(known.std())
    return max(0.0, float(known.mean()) - reach), min(1.0, float(known.mean()) + reach)

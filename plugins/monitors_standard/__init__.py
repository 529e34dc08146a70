"""Monitors every model can have: of its features, its scores, its data, its performance, its operation.

Enters: one chunk of scored rows with its reference. Leaves: what each says of it. Called by `engine monitor` and by the tick.
This module holds the parameters and is all that checking a declaration imports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from engine.components import Component, Params
from engine.spec.base import Duration, Fraction

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Distance = Literal["psi", "jensen_shannon", "hellinger", "ks", "wasserstein", "chi_squared", "l_infinity"]


class DriftParams(Params, frozen=True, kw_only=True):
    """Features against the reference: evidence and size, chunk by chunk and, for `trends`, over the last 16 chunks.

    `thresholds` are distances that no column may exceed besides; they are magnitudes, and alarm without evidence.
    """

    trends: bool = True
    thresholds: dict[_Distance, float] = {}


class PredictionParams(Params, frozen=True, kw_only=True):
    """The distribution of the score against held-out rows."""

    thresholds: dict[_Distance, float] = {}


class MultivariateParams(Params, frozen=True, kw_only=True):
    """A classifier that tells the chunk from the reference: the area under its ROC curve on rows it did not see.

    Judged against how well it tells reference chunks from each other. `rows` of each side at most.
    """

    rows: _Count = 2000
    folds: Annotated[int, msgspec.Meta(ge=2, le=20)] = 3


class QualityParams(Params, frozen=True, kw_only=True):
    """Lost, new and retyped columns, nulls, NaN, values beyond the range or never seen, duplicates, order, volume, freshness.

    `ranges` are hard limits by column, `values` allowed ones; `max_duplicates` is a share of row ids; `max_age` the age of
    the newest row when the chunk is read. `references` names a Parquet or CSV file, and its column, that a column's values
    must be found in (`{tailnum: planes.parquet#tailnum}`); at least `min_match` of the rows must be.
    """

    ranges: dict[str, tuple[float | None, float | None]] = {}
    values: dict[str, tuple[str, ...]] = {}
    max_nulls: dict[str, Fraction] = {}
    max_duplicates: Fraction = 0.0
    max_age: Duration | None = None
    references: dict[str, str] = {}
    min_match: Fraction = 0.99
    volume: bool = True


class CalibrationParams(Params, frozen=True, kw_only=True):
    """Expected calibration error beyond chance, slope and Brier score of the labelled rows, and the curve."""

    min_labels: _Count = 200
    max_error: Fraction | None = None


class PerformanceParams(Params, frozen=True, kw_only=True):
    """Metrics of the rows whose labels are known, restated as more come. `minimum` and `maximum` are hard limits by metric."""

    metrics: tuple[str, ...] = ()
    min_labels: _Count = 200
    min_coverage: Fraction = 0.0
    minimum: dict[str, float] = {}
    maximum: dict[str, float] = {}


class EstimatedParams(Params, frozen=True, kw_only=True):
    """The same metrics before labels: expected from calibrated scores, or from the loss of held-out rows with like scores."""

    metrics: tuple[str, ...] = ()


class ConceptParams(Params, frozen=True, kw_only=True):
    """Realised minus estimated performance, and residuals by tenth of the score: what changed beside the features."""

    metrics: tuple[str, ...] = ()
    min_labels: _Count = 200


class ParityParams(Params, frozen=True, kw_only=True):
    """Features computed again from the snapshot, against those that were served: the share of values that differ.

    `share` of the keys is looked at, by a hash, and at most `rows` requests of a chunk, the latest.
    """

    max_differing: Fraction = 0.0
    share: Fraction = 1.0
    rows: _Count = 2000


class StalenessParams(Params, frozen=True, kw_only=True):
    """How old the model is, and its newest training row."""

    max_age: Duration = "180d"


class ServiceParams(Params, frozen=True, kw_only=True):
    """Latency and errors of requests, from `latency_ms` (to score, in the server) and `failed` (no finite score) of the log."""

    max_latency_ms: Annotated[float, msgspec.Meta(gt=0)] = 250.0
    quantile: Fraction = 0.99
    max_errors: Fraction = 0.01


_KINDS: dict[str, tuple[type[Params], str, str]] = {
    "drift": (DriftParams, "drifting", "Drift"),
    "prediction": (PredictionParams, "drifting", "Prediction"),
    "multivariate": (MultivariateParams, "telling", "Multivariate"),
    "quality": (QualityParams, "quality", "Quality"),
    "calibration": (CalibrationParams, "performing", "Calibration"),
    "performance": (PerformanceParams, "performing", "Performance"),
    "estimated": (EstimatedParams, "performing", "Estimated"),
    "concept": (ConceptParams, "performing", "Concept"),
    "parity": (ParityParams, "operating", "Parity"),
    "staleness": (StalenessParams, "operating", "Staleness"),
    "service": (ServiceParams, "operating", "Service"),
}


def components() -> tuple[Component, ...]:
    """Give the monitors; their code is imported when one is built."""
    return tuple(
        Component(role="monitor", name=name, params=params, build=_builder(module, kind))
        for name, (params, module, kind) in _KINDS.items()
    )


def _builder(module: str, kind: str) -> Callable[[Any], Any]:
    def build(params: Any) -> Any:
        from importlib import import_module  # noqa: PLC0415 - monitors need scipy; checking a declaration does not

        return getattr(import_module(f".{module}", __package__), kind)(params)

    return build

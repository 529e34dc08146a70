"""Two runs on the same rows: differences of metrics with paired bootstrap intervals, from the predictions that both kept.

Enters: two runs and the artefact store. Leaves: metric changes. Rows are matched by id; rows that only one run scored
are left out and counted. The only module of its package that reads rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from engine.contracts import ArtefactStore, Scores
from engine.errors import EngineError
from engine.evaluation.bootstrap import Drawn, Resampling, difference_of, draw
from engine.evaluation.metrics import METRICS
from engine.experiment_records import MetricChange
from engine.experiments.differences import Looked, Part

_ROW_ID = "row_id"
_RESAMPLES = 300
_KEPT_BY: Mapping[Part, tuple[str, str]] = {"test": ("evaluate", "challenger"), "validation": ("tune", "prediction")}


@dataclass(frozen=True, slots=True)
class PairedMeasure:
    """Measures right minus left, resampled together."""

    store: ArtefactStore

    def __call__(self, left: Looked, right: Looked, part: Part, metrics: tuple[str, ...]) -> Mapping[str, MetricChange]:
        """Measure what can be; nothing when a run has no predictions left or they share no row."""
        known = tuple(name for name in metrics if name in METRICS)
        frames = [self._predictions(side, part) for side in (left, right)]
        if frames[0] is None or frames[1] is None:
            return {}
        joined = frames[0].join(frames[1], on=_ROW_ID, suffix="_right", maintain_order="left")
        kept = joined.filter(pl.col("y").eq_missing(pl.col("y_right")))
        if not kept.height:
            return {}
        y = kept["y"].to_numpy()
        models = {
            name: Scores(y, kept[column].to_numpy())
            for name, column in (("left", "prediction"), ("right", "prediction_right"))
        }
        resampling = Resampling(resamples=_RESAMPLES)
        drawn = draw(models, known, resampling)
        apart = max(frame.height for frame in frames if frame is not None) - kept.height
        reason = f"{apart} rows that only one of them scored, or that have another label, are left out" if apart else ""
        return {name: _change((name, part), drawn, resampling.level, reason) for name in known}

    def _predictions(self, side: Looked, part: Part) -> pl.DataFrame | None:
        name, column = _KEPT_BY[part]
        node = next((node for node in side.record.nodes if node.name == name), None)
        if node is None or node.output is None or not self.store.exists(node.output.digest):
            return None
        try:
            path = self.store.open(node.output.digest) / "predictions.parquet"
            return pl.read_parquet(path, columns=[_ROW_ID, "y", column]).rename({column: "prediction"})
        except (EngineError, OSError, pl.exceptions.PolarsError):
            return None


def _change(what: tuple[str, Part], drawn: Mapping[str, Drawn], level: float, reason: str) -> MetricChange:
    (name, part), left, right = what, drawn["left"], drawn["right"]
    found = difference_of(name, right, left, level)
    better = None
    if found.low is not None and found.high is not None and (found.low > 0 or found.high < 0):
        better = "right" if (found.low > 0) == found.higher_is_better else "left"
    return MetricChange(
        name=name,
        part=part,
        left=left.values.get(name),
        right=right.values.get(name),
        difference=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        paired=True,
        better=better,
        reason=found.reason or reason,
    )

"""Multivariate drift by a domain classifier: can a model tell the chunk's rows from the reference's? Through the catalogue.

A classifier is trained to tell the two apart, and judged on rows it did not see; an area under the ROC curve of one half
means that it cannot (Lopez-Paz & Oquab 2017). How well it tells one reference chunk from the others, when nothing changed, is
what the area is compared with: with wobble, one half is not to be expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.evaluation.metrics import measure
from engine.watch.frozen import FrozenTable
from engine.watch.observed import PREDICTION, Observed, Said, insufficient
from engine.watch.performance import Measured, against
from engine.watch_records import Finding

from . import MultivariateParams
from .encoding import matrix_of

_COMPARED = 6  # reference chunks that are told apart, which bounds the time
_MIN_ROWS = 100
_MIN_AREA = 0.02


class Multivariate:
    """One number for how different a chunk is, and the columns that give it away."""

    def __init__(self, params: MultivariateParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Train and judge."""
        chunks = [chunk for chunk in observed.past.chunks if chunk.height >= _MIN_ROWS]
        if observed.rows.height < _MIN_ROWS or len(chunks) < 5:
            return insufficient(
                f"{observed.rows.height} rows and {len(chunks)} reference chunks; {_MIN_ROWS} and 5 are needed"
            )
        frozen = FrozenTable(columns=tuple(
            item for item in observed.reference.frozen.columns if item.kind != "identifier" and item.name != PREDICTION
            and item.name in observed.rows.columns and not observed.profile.columns[item.name].trouble
        ))  # fmt: skip
        matrices = [matrix_of(chunk, frozen) for chunk in chunks]
        kept = observed.facts.get("kept", {})
        areas = kept.get("areas", {}).get(tuple(column.name for column in frozen.columns))
        if areas is None:
            drawn = np.unique(np.linspace(0, len(chunks) - 1, min(_COMPARED, len(chunks))).astype(np.int64))
            areas = [
                self.tell_apart(matrices[index], [item for place, item in enumerate(matrices) if place != index])[0]
                for index in drawn
            ]
            kept.setdefault("areas", {})[tuple(column.name for column in frozen.columns)] = areas
        now, gains = self.tell_apart(matrix_of(observed.rows, frozen), matrices)
        verdict = against(now, areas)
        if verdict is None or now.value is None:
            return insufficient(now.why or "too few reference chunks")
        high = now.value > verdict.expected + _MIN_AREA and verdict.tail <= observed.rules.level
        ranked = sorted(zip(frozen.columns, gains, strict=True), key=lambda pair: -pair[1])[:5]
        total = float(gains.sum()) or 1.0
        findings = tuple(
            Finding(
                name=column.name, status="alarm" if high else "ok", component="multivariate", effect=float(gain / total)
            )
            for column, gain in ranked
        )
        words = f"rows are told from the reference with AUC {now.value:.3f}; {verdict.expected:.3f} is usual"
        reach = 2 * verdict.usual
        return Said(
            "alarm" if high else "ok", words, now.value, now.value - reach, now.value + reach, verdict.expected,
            findings=findings,
        )  # fmt: skip

    def tell_apart(self, rows: np.ndarray, others: Sequence[np.ndarray]) -> tuple[Measured, np.ndarray]:
        """Train on all folds but one, score that; gives the area over all rows, and the gain of each column."""
        import lightgbm  # noqa: PLC0415 - start-up time

        past = np.concatenate(others)
        most = min(self._params.rows, len(rows), len(past))
        ours, theirs = _thinned(rows, most), _thinned(past, most)
        x, y = np.concatenate([ours, theirs]), np.repeat([1.0, 0.0], [len(ours), len(theirs)])
        fold = np.arange(len(x)) % self._params.folds
        score, gains = np.zeros(len(x)), np.zeros(x.shape[1])
        settings: dict[str, Any] = {
            "objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20, "verbosity": -1,
            "deterministic": True, "force_col_wise": True, "num_threads": 1, "seed": 1,
        }  # fmt: skip
        for held in range(self._params.folds):
            kept = fold != held
            model = lightgbm.train(
                settings, lightgbm.Dataset(x[kept], y[kept], params={"verbosity": -1, "num_threads": 1}), 30
            )
            score[~kept] = np.asarray(model.predict(x[~kept], num_threads=1))
            gains += model.feature_importance("gain")
        value = measure("roc_auc", y, score)
        return Measured(value, 0.3 / float(np.sqrt(most)), len(y), "" if value is not None else "no area"), gains


def _thinned(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]

"""Training, loading and explaining boosted trees.

What makes the bits independent of threads: `deterministic` with `force_col_wise` (row-wise histograms are summed by
thread), no quantised gradients, no gradient-based sampling (its blocks follow the threads), fixed seeds, and early
stopping on a loss that is summed here in one fixed order (LightGBM sums its metrics by thread). The number of threads
is taken out of the model's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.contracts import UNMEASURED, FitRequest, Matrix, Predictor, is_told
from engine.errors import ConfigError, DataError, IntegrityError, Problem

from . import LightGbmParams
from .binning import bin_rows
from .library import import_lightgbm
from .loss import Loss, loss_of
from .rows import check_labels, check_rows, tell_empty_columns

_OBJECTIVES = {"binary": ("binary",), "regression": ("regression", "regression_l1", "huber", "quantile", "poisson")}
_MODEL, _COLUMNS = "model.txt", "columns.json"

_LARGE_BATCH = 10_000
# Always set, and never by the user.
FIXED: Mapping[str, Any] = {"deterministic": True, "force_col_wise": True, "use_quantized_grad": False, "verbosity": -1}


class LightGbmTrainer:
    """Trains, loads and explains boosted trees."""

    def __init__(self, params: LightGbmParams) -> None:
        self._params = params

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:
        """Fit; raises `DataError` for rows nothing can be learnt from, `ConfigError` for another task's objective."""
        objective = self._objective(fit.task)
        least = 2 * self._params.params.min_data_in_leaf
        check_rows(train, fit.task, "training", least)
        if objective == "poisson" and train.y.min() < 0:
            raise DataError("the poisson objective needs labels of 0 or more", hint="choose another train.objective")
        if self._params.early_stopping:
            hint = "make the split leave validation rows, or set train.early_stopping=0"
            if len(validation.y) == 0:
                raise DataError("there are no validation rows to stop by", hint=hint)
            check_labels(validation, fit.task, "validation")
        tell_empty_columns(train, fit.progress)
        booster = self._boost(train, validation, fit, self._settings(objective, train, fit))
        columns = json.dumps(list(train.names), ensure_ascii=False)
        return {_MODEL: booster.encode(), _COLUMNS: columns.encode()}

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Parse the text, whose digest has been verified: LightGBM crashes on an edited one."""
        return TreePredictor(_read_booster(files))

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Total gain of the splits on each column."""
        gains = _read_booster(files).feature_importance(importance_type="gain")
        return {name: float(gain) for name, gain in zip(json.loads(files[_COLUMNS]), gains, strict=True)}

    def _objective(self, task: str) -> str:
        allowed = _OBJECTIVES[task]
        chosen = self._params.objective or allowed[0]
        if chosen not in allowed:
            raise ConfigError(
                [Problem("train.objective", f"not an objective for the task {task}", value=chosen, allowed=allowed)]
            )
        return chosen

    def _settings(self, objective: str, train: Matrix, fit: FitRequest) -> dict[str, Any]:
        tree = msgspec.structs.asdict(self._params.params)
        if objective != "binary":
            tree = {name: value for name, value in tree.items() if name not in ("scale_pos_weight", "is_unbalance")}
        settings = {
            **tree,
            **self._params.extra,
            "objective": objective,
            "metric": "None",
            "num_iterations": self._params.rounds,
            "seed": fit.seed % 2**31,
            "num_threads": max(1, fit.threads),
            **FIXED,
        }
        strange = sorted(set(self._params.monotone) - set(train.names))
        if strange:
            raise ConfigError(
                [Problem("train.monotone", "not a column of the model", value=strange[0], allowed=train.names)]
            )
        if self._params.monotone:
            settings["monotone_constraints"] = [self._params.monotone.get(name, 0) for name in train.names]
        return settings

    def _boost(self, train: Matrix, validation: Matrix, fit: FitRequest, settings: dict[str, Any]) -> str:
        """Add trees round by round; gives the model's text up to the best round."""
        lightgbm = import_lightgbm()
        watch: Callable[[Any], float] | None = None
        try:
            binned = bin_rows(train, validation if len(validation.y) else None, settings, self._params.categorical)
            booster = lightgbm.Booster(settings, binned.rows)
            if self._params.early_stopping or (binned.unseen is not None and fit.measured is not UNMEASURED):
                booster.add_valid(binned.unseen, "validation")
                watch = _watch(loss_of(settings, train.y), validation.y)
            best = self._rounds(booster, watch, fit)
        except lightgbm.basic.LightGBMError as error:
            raise DataError(
                f"LightGBM refused the training: {error}", hint="check train.params and train.extra"
            ) from error
        return normalise(booster.model_to_string(num_iteration=best))

    def _rounds(self, booster: Any, watch: Callable[[Any], float] | None, fit: FitRequest) -> int:
        """Add trees; gives the number of those to keep."""
        rounds, patience = self._params.rounds, self._params.early_stopping
        best, lowest = 0, float("inf")
        for number in range(1, rounds + 1):
            booster.update()
            if watch is None or not (patience or is_told(number)):
                fit.progress(f"round {number} of {rounds}", None, number / rounds)
                continue
            seen = watch(booster)
            fit.measured(number, seen)
            if seen < lowest:
                best, lowest = number, seen
            fit.progress(f"round {number} of {rounds}, validation loss {seen:.5f}", None, number / rounds)
            if patience and number - best >= patience:
                break
        return (best or rounds) if patience else rounds


def _watch(loss: Loss, y: NDArray[np.float64]) -> Callable[[Any], float]:
    """Give a function that measures a booster on its validation rows, whose predictions LightGBM keeps up to date."""

    def evaluate(prediction: NDArray[np.float64], _: Any) -> tuple[str, float, bool]:
        return "loss", loss(y, prediction), False

    return lambda booster: float(booster.eval_valid(evaluate)[0][2])


class TreePredictor:
    """A loaded model. Small batches are scored with one thread, since on two they stall for milliseconds.

    A row's score is its own, so the threads of a large batch change no bit.
    """

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self._width: int = booster.num_feature()

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score rows; raises `DataError` when `x` has another number of columns than the model."""
        if x.ndim != 2 or x.shape[1] != self._width:
            raise DataError(f"the model has {self._width} columns, the rows have shape {x.shape}")
        if len(x) == 0:
            return np.empty(0)
        threads = 0 if len(x) >= _LARGE_BATCH else 1  # 0: as many as OpenMP may use
        found = self._booster.predict(np.ascontiguousarray(x, dtype=np.float64), num_threads=threads)
        return np.asarray(found, dtype=np.float64)


def normalise(text: str) -> str:
    r"""Take the number of threads, which is not a property of the model, out of its text.

    >>> normalise("[seed: 1]\n[num_threads: 2]\n[verbosity: -1]\n")
    '[seed: 1]\n[verbosity: -1]\n'
    """
    return re.sub(r"^\[num_threads: .*\]\n", "", text, flags=re.MULTILINE)


def _read_booster(files: Mapping[str, bytes]) -> Any:
    lightgbm = import_lightgbm()
    lacking = {_MODEL, _COLUMNS} - set(files)
    if lacking:
        raise IntegrityError(f"the model lacks {', '.join(sorted(lacking))}")
    try:
        return lightgbm.Booster(model_str=files[_MODEL].decode(), params={"verbosity": -1})
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the model's text cannot be parsed: {error}") from error

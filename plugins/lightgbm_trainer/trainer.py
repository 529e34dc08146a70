"""Training, loading and explaining boosted trees.

What makes the bits independent of threads: `deterministic` with `force_col_wise` (row-wise histograms are summed by
thread), no quantised gradients, no gradient-based sampling (its blocks follow the threads), fixed seeds, and early
stopping on a loss that is summed here in one fixed order (LightGBM sums its metrics by thread). The number of threads
is taken out of the model's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.contracts import UNMEASURED, FitRequest, Matrix, Predictor, is_told
from engine.errors import ConfigError, DataError, IntegrityError, Problem

from . import LightGbmParams
from .binning import bin_rows
from .forest import Forest, make_forest
from .library import import_lightgbm
from .loss import Loss, loss_of
from .rows import DEMANDS, by_query, check_rows, tell_empty_columns
from .single_rows import single_rows

_OBJECTIVES = {
    "binary": ("binary",),
    "multiclass": ("multiclass",),
    "regression": ("regression", "regression_l1", "huber", "quantile", "poisson"),
    "quantile": ("quantile",),
    "ranking": ("lambdarank",),
}
_MODEL, _COLUMNS, _LEVELS = "model.txt", "columns.json", "quantiles.json"

_PARSED: dict[tuple[bytes, ...], list[Any]] = {}  # the last one: what was trained is explained, and then scored
_LARGE_BATCH, _FEW = 10_000, 32
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
        check_rows(train, fit.task, least)
        if objective == "poisson" and train.y.min() < 0:
            raise DataError("the poisson objective needs labels of 0 or more", hint="choose another train.objective")
        if self._params.early_stopping:
            hint = "make the split leave validation rows, or set train.early_stopping=0"
            if len(validation.y) == 0:
                raise DataError("there are no validation rows to stop by", hint=hint)
            DEMANDS.check_labels(validation, fit.task, "validation")
        tell_empty_columns(train, fit.progress)
        train, validation = by_query(train), by_query(validation)
        settings = self._settings(objective, train, fit)
        files = put_documents(train.names, fit.quantiles)
        for index, level in enumerate(fit.quantiles or (None,)):
            own = settings if level is None else {**settings, "alpha": level}
            stage = Stage(fit, index, max(1, len(fit.quantiles)))
            files[model_file(index)] = self._boost(train, validation, own, stage).encode()
        return files

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Parse the text, whose digest has been verified: LightGBM crashes on an edited one."""
        boosters = _read_boosters(files)
        return (
            TreePredictor(boosters[0])
            if len(boosters) == 1 and not _is_quantiles(files)
            else QuantilePredictor(boosters)
        )

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Total gain of the splits on each column, over all quantiles or classes."""
        gains = sum(booster.feature_importance(importance_type="gain") for booster in _read_boosters(files))
        return {name: float(gain) for name, gain in zip(json.loads(files[_COLUMNS]), gains, strict=True)}

    def to_onnx(self, files: Mapping[str, bytes]) -> bytes:
        """Write the trees as ONNX; raises `UsageError` for what has no counterpart there."""
        from .onnx_trees import trees_to_onnx  # noqa: PLC0415 - when exporting only

        dumps = [booster.dump_model() for booster in _read_boosters(files)]
        return trees_to_onnx(dumps, levels=_is_quantiles(files))

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
        if objective == "multiclass":
            settings["num_class"] = len(fit.classes)
        if objective == "lambdarank":
            settings["label_gain"] = [float(2**grade - 1) for grade in range(int(train.y.max()) + 1)]
        return settings | self._constraints(train.names)

    def _constraints(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Translate constraints by column name to LightGBM's, by place; raises `ConfigError` for an unknown name."""
        named = {
            "monotone": set(self._params.monotone),
            "interaction": {n for group in self._params.interaction for n in group},
        }
        problems = [
            Problem(f"train.{key}", "not a column of the model", value=strange, allowed=names)
            for key, given in named.items()
            for strange in sorted(given - set(names))
        ]
        if problems:
            raise ConfigError(problems)
        found: dict[str, Any] = {}
        if self._params.monotone:
            found["monotone_constraints"] = [self._params.monotone.get(name, 0) for name in names]
        if self._params.interaction:
            groups = [[names.index(name) for name in group] for group in self._params.interaction]
            # LightGBM never splits on a column that is in no group: here such a column stands alone.
            alone = [[index] for index in range(len(names)) if not any(index in group for group in groups)]
            found["interaction_constraints"] = groups + alone
        return found

    def _boost(self, train: Matrix, validation: Matrix, settings: dict[str, Any], stage: Stage) -> str:
        """Add trees round by round; gives the model's text up to the best round."""
        lightgbm = import_lightgbm()
        watch: Callable[[Any], float] | None = None
        try:
            binned = bin_rows(train, validation if len(validation.y) else None, settings, self._params.categorical)
            booster = lightgbm.Booster(settings, binned.rows)
            if self._params.early_stopping or (binned.unseen is not None and stage.fit.measured is not UNMEASURED):
                booster.add_valid(binned.unseen, "validation")
                watch = _watch(loss_of(settings, train, validation))
            best = self._rounds(booster, watch, stage)
        except lightgbm.basic.LightGBMError as error:
            raise DataError(
                f"LightGBM refused the training: {error}", hint="check train.params and train.extra"
            ) from error
        return normalise(booster.model_to_string(num_iteration=best))

    def _rounds(self, booster: Any, watch: Callable[[Any], float] | None, stage: Stage) -> int:
        """Add trees; gives the number of those to keep."""
        rounds, patience = self._params.rounds, self._params.early_stopping
        best, lowest = 0, float("inf")
        for number in range(1, rounds + 1):
            booster.update()
            if watch is None or not (patience or is_told(number)):
                stage.tell(f"round {number} of {rounds}", number / rounds)
                continue
            seen = watch(booster)
            stage.measure(number, seen)
            if seen < lowest:
                best, lowest = number, seen
            stage.tell(f"round {number} of {rounds}, validation loss {seen:.5f}", number / rounds)
            if patience and number - best >= patience:
                break
        return (best or rounds) if patience else rounds


@dataclass(frozen=True, slots=True)
class Stage:
    """Which of several boosters is trained, so that progress goes from 0 to 1 once, and one of them is measured."""

    fit: FitRequest
    index: int
    count: int

    def tell(self, words: str, done: float) -> None:
        """Report."""
        which = f"quantile {self.index + 1} of {self.count}, " if self.count > 1 else ""
        self.fit.progress(which + words, None, (self.index + done) / self.count)

    def measure(self, number: int, loss: float) -> None:
        """Pass a loss on: of several boosters that of the middle one, so that steps rise and losses compare."""
        if self.index == self.count // 2:
            self.fit.measured(number, loss)


def _watch(loss: Loss) -> Callable[[Any], float]:
    """Give a function that measures a booster on its validation rows, whose predictions LightGBM keeps up to date."""

    def evaluate(prediction: NDArray[np.float64], _: Any) -> tuple[str, float, bool]:
        return "loss", loss(prediction), False

    return lambda booster: float(booster.eval_valid(evaluate)[0][2])


class TreePredictor:
    """A loaded model. Small batches are scored with one thread, since on two they stall for milliseconds; a few rows one by one.

    A row's score is its own, so the threads of a large batch change no bit. A server's trees are scored by a `Forest`.
    """

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self._width: int = booster.num_feature()
        self._classes: int = booster.num_model_per_iteration()
        self._single = single_rows(booster, self._width, self._classes)
        self._forest: Forest | None = None

    def prepare(self) -> None:
        """See `ServingPredictor`."""
        self._forest = make_forest(self._booster)

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score rows; raises `DataError` when `x` has another number of columns than the model."""
        if x.ndim != 2 or x.shape[1] != self._width:
            raise DataError(f"the model has {self._width} columns, the rows have shape {x.shape}")
        if len(x) == 0:
            return np.empty(0) if self._classes == 1 else np.empty((0, self._classes))
        x = np.ascontiguousarray(x, dtype=np.float64)
        if self._forest is not None and len(x) < _LARGE_BATCH:
            return self._forest.score(x)
        if self._single is not None and len(x) <= _FEW:
            return self._single.score(x)
        threads = 0 if len(x) >= _LARGE_BATCH else 1  # 0: as many as OpenMP may use
        return np.asarray(self._booster.predict(x, num_threads=threads), dtype=np.float64)

    def contributions(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give SHAP values of the raw score (Lundberg et al. 2020), (n, columns) or (n, columns, classes); without the base."""
        found = self._booster.predict(np.ascontiguousarray(x, dtype=np.float64), pred_contrib=True, num_threads=1)
        parts = np.asarray(found, dtype=np.float64).reshape(len(x), self._classes, self._width + 1)[:, :, :-1]
        return parts[:, 0] if self._classes == 1 else parts.transpose(0, 2, 1)


class QuantilePredictor:
    """One model a level. Quantiles that cross are put in order (Chernozhukov et al. 2010), each row by itself."""

    def __init__(self, boosters: Sequence[Any]) -> None:
        self._levels = [TreePredictor(booster) for booster in boosters]

    def prepare(self) -> None:
        """See `ServingPredictor`."""
        for level in self._levels:
            level.prepare()

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score rows, (n, levels); raises `DataError` when `x` has another number of columns than the model."""
        return np.sort(np.stack([level.predict(x) for level in self._levels], axis=1), axis=1)


def normalise(text: str) -> str:
    r"""Take the number of threads and who trained with whom, which are no properties of the model, out of its text.

    >>> normalise("[seed: 1]\n[num_threads: 2]\n[verbosity: -1]\n")
    '[seed: 1]\n[verbosity: -1]\n'
    """
    places = "num_threads|machines|local_listen_port|time_out|num_machines|pre_partition|tree_learner"
    trees, heading, parameters = text.rpartition("\nparameters:\n")  # of megabytes of trees, no line is looked at
    return trees + heading + re.sub(rf"^\[(?:{places}): .*\]\n", "", parameters, flags=re.MULTILINE)


def put_documents(names: Sequence[str], quantiles: Sequence[float]) -> dict[str, bytes]:
    """Give the files beside the trees: the columns' true names, and the levels when there are any."""
    files = {_COLUMNS: json.dumps(list(names), ensure_ascii=False).encode()}
    if quantiles:
        files[_LEVELS] = json.dumps(list(quantiles)).encode()
    return files


def model_file(index: int) -> str:
    """Name the file of a level's trees."""
    return _MODEL if index == 0 else f"model_{index}.txt"


def _is_quantiles(files: Mapping[str, bytes]) -> bool:
    """Say whether the files were trained for the task `quantile`; a regression may have that objective too."""
    return _LEVELS in files


def _read_boosters(files: Mapping[str, bytes]) -> list[Any]:
    """Parse every level's text, in order; raises `IntegrityError` for what is missing or cannot be parsed."""
    lightgbm = import_lightgbm()
    lacking = {_MODEL, _COLUMNS} - set(files)
    if lacking:
        raise IntegrityError(f"the model lacks {', '.join(sorted(lacking))}")
    names = [_MODEL, *sorted((name for name in files if re.fullmatch(r"model_\d+\.txt", name)), key=_place)]
    texts = tuple(files[name] for name in names)
    try:
        boosters = _PARSED.get(texts) or [lightgbm.Booster(model_str=text.decode()) for text in texts]
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the model's text cannot be parsed: {error}") from error
    _PARSED.clear()
    _PARSED[texts] = boosters
    return boosters


def _place(name: str) -> int:
    return int(name.removeprefix("model_").removesuffix(".txt"))

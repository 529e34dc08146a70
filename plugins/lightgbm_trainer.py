"""Trainer `lightgbm`: gradient-boosted trees, bit for bit the same for any number of threads.

Enters: matrices of training and validation rows. Leaves: `model.txt` (LightGBM's own text) and `columns.json`. Called by the
`train` node, and to score by whoever loads a model package.

What makes the bits independent of threads: `deterministic` with `force_col_wise` (row-wise histograms differ with the number
of threads), no quantised gradients, no gradient-based sampling (its blocks follow the threads), fixed seeds, and early
stopping on a loss that is summed here in one fixed order (LightGBM sums its metrics by thread). The count of threads is
taken out of the model's text. LightGBM and numpy are imported inside functions, for start-up: planning needs neither.
"""

from __future__ import annotations

import importlib
import importlib.abc
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

from engine.components import Component, Params
from engine.contracts import FitRequest, Matrix, Predictor, Progress
from engine.errors import ConfigError, DataError, IntegrityError, Problem, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Objective: TypeAlias = Literal["binary", "regression", "regression_l1", "huber", "quantile", "poisson"]
_OBJECTIVES = {"binary": ("binary",), "regression": ("regression", "regression_l1", "huber", "quantile", "poisson")}
_MODEL, _COLUMNS = "model.txt", "columns.json"
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_NonNegative = Annotated[float, msgspec.Meta(ge=0)]
_Share = Annotated[float, msgspec.Meta(gt=0, le=1)]

# Further parameters of LightGBM that may be set under `extra`: none of them changes with threads or machine.
EXTRA = frozenset(
    {
        "alpha", "boost_from_average", "cat_l2", "cat_smooth", "extra_trees", "feature_fraction_bynode",
        "max_cat_threshold", "max_cat_to_onehot", "max_delta_step", "min_data_in_bin", "min_data_per_group",
        "min_sum_hessian_in_leaf", "monotone_constraints_method", "monotone_penalty", "neg_bagging_fraction",
        "path_smooth", "poisson_max_delta_step", "pos_bagging_fraction", "sigmoid", "use_missing", "zero_as_missing",
    }
)  # fmt: skip
_REFUSED = {
    "the seed of a training is `train.seed`": ("seed", "random_state"),
    "threads come from `execute.threads` and never change the result": ("thread", "n_jobs", "nthread"),
    "training is deterministic, and this would end that": (
        "device", "gpu", "force_row_wise", "force_col_wise", "deterministic", "quant", "data_sample_strategy", "goss", "tree_learner", "machine",
    ),
}  # fmt: skip


class TreeParams(Params, frozen=True, kw_only=True):
    """LightGBM's parameters under their own names and with their own defaults."""

    num_leaves: Annotated[int, msgspec.Meta(ge=2, le=131_072)] = 31
    learning_rate: _Positive = 0.1
    min_data_in_leaf: Annotated[int, msgspec.Meta(ge=1)] = 20
    feature_fraction: _Share = 1.0
    bagging_fraction: _Share = 1.0
    bagging_freq: Annotated[int, msgspec.Meta(ge=0)] = 0
    lambda_l1: _NonNegative = 0.0
    lambda_l2: _NonNegative = 0.0
    max_depth: Annotated[int, msgspec.Meta(ge=-1)] = -1
    max_bin: Annotated[int, msgspec.Meta(ge=2, le=65_535)] = 255
    min_gain_to_split: _NonNegative = 0.0
    scale_pos_weight: _Positive = 1.0
    is_unbalance: bool = False

    def __post_init__(self) -> None:
        """Refuse what LightGBM would only notice after the data was read."""
        if self.is_unbalance and self.scale_pos_weight != 1:
            raise ValueError("`is_unbalance` and `scale_pos_weight` both weight the positives: set one of them")
        if self.bagging_fraction < 1 and self.bagging_freq == 0:
            raise ValueError("`bagging_fraction` does nothing while `bagging_freq` is 0: set `bagging_freq: 1`")


class LightGbmParams(Params, frozen=True, kw_only=True):
    """`rounds` is the most trees; `early_stopping` rounds without a better validation loss end it (0: never).

    `objective` is by default the task's own. `monotone` maps a column to 1 (rising), -1 (falling) or 0.
    """

    rounds: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 300
    early_stopping: Annotated[int, msgspec.Meta(ge=0)] = 30
    objective: Objective | None = None
    params: TreeParams = TreeParams()
    monotone: dict[str, Literal[-1, 0, 1]] = {}
    extra: dict[str, bool | int | float | str] = {}

    def __post_init__(self) -> None:
        """Refuse parameters under `extra` that have a field of their own, or that would make the result vary."""
        for name in self.extra:
            if name not in EXTRA:
                raise ValueError(_refusal(name))


def _refusal(name: str) -> str:
    """Say why a parameter is not taken.

    >>> _refusal("num_threads")
    '`extra.num_threads` is not allowed: threads come from `execute.threads` and never change the result'
    """
    if name in TreeParams.__struct_fields__:
        return f"`extra.{name}` has a place of its own: `params.{name}`"
    for reason, parts in _REFUSED.items():
        if any(part in name for part in parts):
            return f"`extra.{name}` is not allowed: {reason}"
    return f"`extra.{name}` is not allowed; allowed: {', '.join(sorted(EXTRA))}"


class LightGbmTrainer:
    """Trains, loads and explains boosted trees."""

    def __init__(self, params: LightGbmParams) -> None:
        self._params = params

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:
        """Fit; raises `DataError` for rows nothing can be learnt from, `ConfigError` for an objective of another task."""
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
        _tell_empty_columns(train, fit.progress)
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
            raise ConfigError([Problem("train.objective", f"not an objective for the task {task}", value=chosen, allowed=allowed)])
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
            raise ConfigError([Problem("train.monotone", "not a column of the model", value=strange[0], allowed=train.names)])
        if self._params.monotone:
            settings["monotone_constraints"] = [self._params.monotone.get(name, 0) for name in train.names]
        return settings

    def _boost(self, train: Matrix, validation: Matrix, fit: FitRequest, settings: dict[str, Any]) -> str:
        """Add trees round by round; gives the model's text up to the best round."""
        lightgbm = import_lightgbm()
        dataset = {"categorical_feature": _categorical(train), "feature_name": _plain_names(train.names)}
        loss = _loss_of(settings) if self._params.early_stopping else None
        try:
            rows = lightgbm.Dataset(train.x, train.y, params=settings, **dataset)
            booster = lightgbm.Booster(settings, rows)
            if loss is not None:
                booster.add_valid(lightgbm.Dataset(validation.x, validation.y, reference=rows, params=settings), "validation")
            best = self._rounds(booster, loss, fit.progress)
        except lightgbm.basic.LightGBMError as error:
            raise DataError(f"LightGBM refused the training: {error}", hint="check train.params and train.extra") from error
        return normalise(booster.model_to_string(num_iteration=best))

    def _rounds(self, booster: Any, loss: Loss | None, progress: Progress) -> int:
        rounds, patience = self._params.rounds, self._params.early_stopping
        best, lowest, seen = rounds, float("inf"), 0.0
        for number in range(1, rounds + 1):
            booster.update()
            if loss is None:
                progress(f"round {number} of {rounds}", None, number / rounds)
                continue
            [(_, _, seen, _)] = booster.eval_valid(lambda prediction, data: ("loss", loss(data.get_label(), prediction), False))
            if seen < lowest:
                best, lowest = number, seen
            progress(f"round {number} of {rounds}, validation loss {seen:.5f}", None, number / rounds)
            if number - best >= patience:
                break
        return best


# Always set, and never by the user.
FIXED: Mapping[str, Any] = {"deterministic": True, "force_col_wise": True, "use_quantized_grad": False, "verbosity": -1}


class TreePredictor:
    """A loaded model. One thread: small batches on two stall for milliseconds, and rows are scored one by one anyway."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self._width: int = booster.num_feature()

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score rows; raises `DataError` when `x` has another number of columns than the model."""
        import numpy as np  # start-up

        if x.ndim != 2 or x.shape[1] != self._width:
            raise DataError(f"the model has {self._width} columns, the rows have shape {x.shape}")
        if len(x) == 0:
            return np.empty(0)
        found = self._booster.predict(np.ascontiguousarray(x, dtype=np.float64), num_threads=1)
        return np.asarray(found, dtype=np.float64)


def normalise(text: str) -> str:
    """Take the number of threads, which is not a property of the model, out of its text.

    >>> normalise("[seed: 1]\\n[num_threads: 2]\\n[verbosity: -1]\\n")
    '[seed: 1]\\n[verbosity: -1]\\n'
    """
    return re.sub(r"^\[num_threads: .*\]\n", "", text, flags=re.MULTILINE)


def check_rows(matrix: Matrix, task: str, part: str, least: int) -> None:
    """Raise `DataError` for rows from which no tree can be learnt."""
    import numpy as np  # start-up

    if len(matrix.y) < least:
        hint = "widen the split, or lower train.params.min_data_in_leaf"
        raise DataError(f"{len(matrix.y)} {part} rows are too few: one split needs {least}", hint=hint)
    check_labels(matrix, task, part)
    if matrix.y.min() == matrix.y.max():
        what = "one class only" if task == "binary" else "the same label everywhere"
        raise DataError(f"the {part} rows have {what} ({matrix.y[0]:g})", hint="check the label and the split's boundaries")
    if matrix.x.shape[1] == 0 or bool(np.isnan(matrix.x).all()):
        raise DataError(f"every feature is null in all {len(matrix.y)} {part} rows", hint="check the sources and their availability")


def check_labels(matrix: Matrix, task: str, part: str) -> None:
    """Raise `DataError` for labels that are missing, infinite, or not 0 and 1 where the task is binary."""
    import numpy as np  # start-up

    missing = int((~np.isfinite(matrix.y)).sum())
    if missing:
        raise DataError(f"{missing} of {len(matrix.y)} {part} rows have no finite label", hint="check `label`: its expression gave null or infinity")
    if task == "binary" and not bool(np.isin(matrix.y, (0.0, 1.0)).all()):
        strange = matrix.y[~np.isin(matrix.y, (0.0, 1.0))][0]
        raise DataError(f"a {part} row has the label {strange:g}, and a binary task needs 0 or 1", hint="set train.task=regression, or fix the label")


def import_lightgbm() -> Any:
    """Import LightGBM without pandas and scikit-learn, which it uses only if it finds them: 0.4 s instead of 1.1 s.

    Raises `UnavailableError` when the library or the OpenMP run-time that it needs is not installed.
    """
    if "lightgbm" in sys.modules:
        return sys.modules["lightgbm"]
    try:
        with _hidden({"pandas", "sklearn", "dask", "matplotlib", "graphviz"}):
            return importlib.import_module("lightgbm")
    except OSError as error:
        hint = "install the OpenMP run-time: `apt-get install libgomp1` (Debian, Ubuntu), `brew install libomp` (macOS)"
        raise UnavailableError(f"LightGBM's library cannot be loaded: {error}", hint=hint) from error
    except ImportError as error:
        raise UnavailableError(f"LightGBM cannot be imported: {error}", hint="pip install lightgbm") from error


class _Hider(importlib.abc.MetaPathFinder):
    """Says that some packages are not installed, to one thread only; what is imported already stays as it is."""

    def __init__(self, names: set[str]) -> None:
        self._names, self._thread = names, threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        """Refuse the hidden names; leave the rest to the other finders."""
        if threading.get_ident() == self._thread and name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"{name} is hidden while LightGBM is imported", name=name)


@contextmanager
def _hidden(names: set[str]) -> Iterator[None]:
    hider = _Hider(names)
    sys.meta_path.insert(0, hider)
    try:
        yield
    finally:
        sys.meta_path.remove(hider)


def _read_booster(files: Mapping[str, bytes]) -> Any:
    lightgbm = import_lightgbm()
    lacking = {_MODEL, _COLUMNS} - set(files)
    if lacking:
        raise IntegrityError(f"the model lacks {', '.join(sorted(lacking))}")
    try:
        return lightgbm.Booster(model_str=files[_MODEL].decode(), params={"verbosity": -1})
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise IntegrityError(f"the model's text cannot be parsed: {error}") from error


def _tell_empty_columns(train: Matrix, progress: Progress) -> None:
    import numpy as np  # start-up

    empty = [name for name, null in zip(train.names, np.isnan(train.x).all(axis=0), strict=True) if null]
    if empty:
        progress(f"warning: null in every training row: {', '.join(empty)}", None, None)


def _categorical(train: Matrix) -> list[int]:
    """Give the columns to split by category: encoded ones whose values are whole numbers in LightGBM's range."""
    import numpy as np  # start-up

    found = []
    for index, name in enumerate(train.names):
        if name in train.categorical:
            present = train.x[:, index][~np.isnan(train.x[:, index])]
            if bool(((present == np.floor(present)) & (np.abs(present) < 2**31)).all()):
                found.append(index)
    return found


def _plain_names(names: Sequence[str]) -> list[str]:
    """LightGBM's text cannot hold every name; `columns.json` has the true ones.

    >>> _plain_names(["amt", "a: b"])
    ['amt', 'column_1']
    """
    return [name if re.fullmatch(r"[A-Za-z0-9_]+", name) else f"column_{index}" for index, name in enumerate(names)]


Loss: TypeAlias = "Callable[[NDArray[np.float64], NDArray[np.float64]], float]"


def _loss_of(settings: Mapping[str, Any]) -> Loss:
    """Give the loss that early stopping watches: each objective's own, as a mean that does not depend on threads."""
    import numpy as np  # start-up

    alpha = float(settings.get("alpha", 0.9))
    tiny = np.finfo(np.float64).tiny
    match settings["objective"]:
        case "binary":
            return lambda y, p: float(-np.log(np.maximum(np.where(y > 0, p, 1 - p), tiny)).mean())
        case "quantile":
            return lambda y, p: float(np.maximum(alpha * (y - p), (alpha - 1) * (y - p)).mean())
        case "regression_l1" | "huber":
            return lambda y, p: float(np.abs(y - p).mean())
        case "poisson":
            return lambda y, p: float((p - y * np.log(np.maximum(p, tiny))).mean())
        case _:
            return lambda y, p: float(np.square(y - p).mean())


def components() -> tuple[Component, ...]:
    """Contribute the trainer."""
    doc = "gradient-boosted trees (LightGBM), bit for bit the same for any number of threads"
    return (Component("trainer", "lightgbm", LightGbmParams, LightGbmTrainer, ("lightgbm", "numpy"), doc),)

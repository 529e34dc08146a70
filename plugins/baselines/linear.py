"""The trainer `linear`: logistic or linear regression with an L2 penalty, by L-BFGS.

The bits do not depend on threads: rows are held in blocks of a fixed size, sums over rows are made by `einsum` and
`bincount` in one thread and a fixed order, and BLAS and LAPACK, which make the coordinates that the minimiser steps in, are
held to one thread: in parallel they round differently. A score is added up column by column, so one row gets the same bits as
a million.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from engine.contracts import FitRequest, Matrix, Predictor, Progress
from engine.errors import DataError
from engine.keys import canonical_json
from engine.training_rows import RowDemands

from . import LinearParams
from .conditioning import condition
from .encoding import Encoding, Floats, encoding_from_json, fit_encoding, places, standardised
from .rows import MODEL, check_width, read_model

_DEMANDS = RowDemands()
_CHANCES = ("binary", "multiclass")
_BLOCK = 4096  # rows; a block of some dozen columns stays in the processor's cache
_GRADIENT = 1e-5  # of the mean loss by a standardised weight: far below what any metric shows
_LANES = 64  # `exp` runs on whole vectors of numbers: padding gives the last rows the same instructions as the first


class LinearTrainer:
    """Fits, loads and explains the regression."""

    def __init__(self, params: LinearParams) -> None:
        self._params = params

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:  # noqa: ARG002
        """Fit; raises `DataError` for rows that nothing can be learnt from."""
        _DEMANDS.check(train, fit.task)
        encoding = fit_encoding(train, self._params.max_levels)
        blocks = _blocks(train, encoding)
        weights = [
            _fit_one(blocks, encoding, self._params, replace(fit, progress=_stage(fit, index)), target)
            for index, target in enumerate(_targets(train.y, fit))
        ]
        document = {
            "kind": "linear",
            "task": fit.task,
            "columns": list(train.names),
            "encoding": encoding.to_json(),
            "weights": [own.tolist() for own in weights],
            "offsets": _offsets(blocks, encoding, weights[0], train.y, fit),
            "importance": np.mean([_importance(blocks, encoding, own) for own in weights], axis=0).tolist(),
        }
        return {MODEL: canonical_json(document)}

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Read the weights back."""
        return LinearPredictor(read_model(files, "linear"))

    def to_onnx(self, files: Mapping[str, bytes]) -> bytes:
        """Write the model as ONNX."""
        from .onnx_baselines import linear_to_onnx  # noqa: PLC0415 - when exporting only

        return linear_to_onnx(read_model(files, "linear"))

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Standard deviation of each column's part of the score, over the training rows."""
        document = read_model(files, "linear")
        return dict(zip(document["columns"], document["importance"], strict=True))


@dataclass(frozen=True, slots=True)
class Block:
    """At most 4096 encoded training rows: numbers (k, rows), null rows of each indicator, places of each category."""

    rows: slice
    weight: Floats
    numbers: Floats
    absent: tuple[Any, ...]
    levels: tuple[Any, ...]

    def scores(self, parts: Parts) -> Floats:
        """Give intercept and every column's part, added up, (rows,)."""
        found: Floats = np.einsum("kn,k->n", self.numbers, parts.numbers) + parts.intercept
        for rows, weight in zip(self.absent, parts.indicators.tolist(), strict=True):
            found[rows] += weight
        for member, own in zip(self.levels, parts.levels, strict=True):
            found += own[member]
        return found

    def gradient(self, residual: Floats, parts: Parts) -> Floats:
        """Give the sum over rows of residual times column, for the intercept and every weight."""
        numbers = np.einsum("kn,n->k", self.numbers, residual)
        absent = [residual[rows].sum() for rows in self.absent]
        levels = [
            np.bincount(member, weights=residual, minlength=len(own))[:-1]
            for member, own in zip(self.levels, parts.levels, strict=True)
        ]
        return np.concatenate([[residual.sum()], numbers, absent, *levels])


@dataclass(frozen=True, slots=True)
class Parts:
    """Weights by what they belong to; the levels of a category end with the 0 of all other values."""

    intercept: float
    numbers: Floats
    indicators: Floats
    levels: tuple[Floats, ...]

    @classmethod
    def of(cls, weights: Floats, encoding: Encoding) -> Parts:
        """Cut one row of weights."""
        ends = np.cumsum([1, len(encoding.numbers), len(encoding.indicators), *map(len, encoding.levels)]).tolist()
        first, *cut = np.split(weights, ends[:-1])
        return cls(float(first[0]), cut[0], cut[1], tuple(np.append(own, 0.0) for own in cut[2:]))


def _targets(y: Floats, fit: FitRequest) -> list[Floats]:
    """Give what each set of weights is fitted to: the label, or each class against the rest."""
    return [(y == place) * 1.0 for place in range(len(fit.classes))] if fit.classes else [y]


def _stage(fit: FitRequest, index: int) -> Progress:
    """Report one fit of several as its share of the whole."""
    count = max(1, len(fit.classes))

    def progress(message: str, rows: int | None, done: float | None) -> None:
        which = f"class {fit.classes[index]}, " if fit.classes else ""
        fit.progress(which + message, rows, None if done is None else (index + done) / count)

    return progress


def _fit_one(blocks: list[Block], encoding: Encoding, params: LinearParams, fit: FitRequest, target: Floats) -> Floats:
    chances = fit.task in _CHANCES
    shift, scale = (0.0, 1.0) if chances else _moments(target)
    weights = _minimise(blocks, encoding, params, fit, (target - shift) / scale) * scale
    weights[0] += shift
    return weights


def _offsets(blocks: list[Block], encoding: Encoding, weights: Floats, y: Floats, fit: FitRequest) -> list[float]:
    """Give how far each quantile of the label lies from the regression line: one distance for all rows."""
    if not fit.quantiles:
        return []
    parts = Parts.of(weights, encoding)
    gap = y - np.concatenate([block.scores(parts) for block in blocks])
    found: list[float] = np.quantile(gap, fit.quantiles, method="inverted_cdf").tolist()
    return found


def _blocks(train: Matrix, encoding: Encoding) -> list[Block]:
    """Encode the rows once, before the iterations."""
    fitted = list(zip(encoding.numbers, encoding.means.tolist(), encoding.scales.tolist(), strict=True))
    found = []
    weight = np.ones(len(train.y)) if train.weight is None else train.weight * (len(train.y) / train.weight.sum())
    for start in range(0, len(train.y), _BLOCK):
        part = slice(start, start + _BLOCK)
        x = np.asfortranarray(train.x[start : start + _BLOCK])
        columns = [standardised(x[:, index], mean, scale) for index, mean, scale in fitted]
        absent = tuple(np.flatnonzero(~np.isfinite(x[:, index])) for index in encoding.indicators)
        paired = zip(encoding.categories, encoding.levels, strict=True)
        levels = tuple(places(x[:, index], values) for index, values in paired)
        numbers = np.array(columns).reshape(len(fitted), len(x))
        found.append(Block(part, weight[part], numbers, absent, levels))
    return found


def _minimise(blocks: list[Block], encoding: Encoding, params: LinearParams, fit: FitRequest, target: Floats) -> Floats:
    """Minimise the mean loss plus `l2 / 2n` times the squared weights, which leave the intercept free.

    The steps are made in coordinates of even curvature, of which a tenth is needed; when to stop is asked of the weights.
    """
    loss = _Loss(blocks, encoding, params.l2, target, _logistic if fit.task in _CHANCES else _squared)
    start, curvature = _start(1 + encoding.weights, target, fit)
    iterations = 0

    def tell(_: Floats) -> None:
        nonlocal iterations
        iterations += 1
        fit.progress(f"iteration {iterations}", len(target), min(1.0, iterations / params.max_iterations))
        if loss.steepest <= _GRADIENT:
            raise StopIteration

    options = {"maxiter": params.max_iterations, "gtol": 0.0, "ftol": 1e-12, "maxcor": 20}
    with threadpool_limits(limits=1, user_api="blas"):
        space = condition(blocks, encoding, params.l2, curvature)

        def conditioned(coordinates: Floats) -> tuple[float, Floats]:
            value, gradient = loss.at(space.weights(coordinates))
            return value, space.gradient(gradient)

        first = space.coordinates(start)
        found = minimize(conditioned, first, jac=True, method="L-BFGS-B", callback=tell, options=options)
        return space.weights(np.asarray(found.x, dtype=np.float64))


def _start(width: int, target: Floats, fit: FitRequest) -> tuple[Floats, float]:
    """Give the weights of a model that knows no column, and how much a row's loss curves there."""
    start = np.zeros(width)
    if fit.task not in _CHANCES:
        return start, 1.0
    share = float(np.clip(target.mean(), 1e-3, 1 - 1e-3))
    start[0] = np.log(share / (1 - share))
    return start, share * (1 - share)


@dataclass
class _Loss:
    """The mean loss of weights; `steepest` is the largest part of the last gradient."""

    blocks: list[Block]
    encoding: Encoding
    l2: float
    target: Floats
    objective: Callable[[Floats, Floats], tuple[Floats, Floats]]
    steepest: float = np.inf

    def at(self, weights: Floats) -> tuple[float, Floats]:
        """Give value and gradient, (d,)."""
        n, parts = len(self.target), Parts.of(weights, self.encoding)
        gradient = self.l2 * weights
        gradient[0] = 0.0
        total = 0.5 * float(np.einsum("i,i->", gradient, weights))
        for block in self.blocks:
            values, residual = self.objective(self.target[block.rows], block.scores(parts))
            total += float((values * block.weight).sum())
            gradient += block.gradient(residual * block.weight, parts)
        self.steepest = float(np.abs(gradient).max()) / n
        return total / n, gradient / n


def _logistic(y: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Give each row's log loss and its derivative by score, without overflow for scores of any size."""
    tail = np.exp(-np.abs(score))
    value = np.maximum(score, 0.0) - y * score + np.log1p(tail)
    chance = np.where(score >= 0, 1.0, tail) / (1.0 + tail)
    return value, chance - y


def _squared(y: Floats, score: Floats) -> tuple[Floats, Floats]:
    gap = score - y
    return 0.5 * np.square(gap), gap


def _moments(y: Floats) -> tuple[float, float]:
    """Give mean and standard deviation of the labels, by which they are brought to the size of the columns."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(y.mean()), float(y.std())
    if not (np.isfinite(mean) and np.isfinite(scale) and scale > 0):
        raise DataError(
            "the training labels are too large to square", hint="rescale the label, as in `expr: label / 1e6`"
        )
    return mean, scale


def _importance(blocks: list[Block], encoding: Encoding, weights: Floats) -> list[float]:
    parts = Parts.of(weights, encoding)
    found = [0.0] * encoding.width
    for index, weight in zip(encoding.numbers, parts.numbers.tolist(), strict=True):
        found[index] = abs(weight)  # the column itself has a standard deviation of 1
    for place, index in enumerate(encoding.categories):
        own = parts.levels[place]
        found[index] = float(np.concatenate([own[block.levels[place]] for block in blocks]).std())
    return found


class LinearPredictor:
    """Scores rows column by column: each row's sum is made in the same order, whatever rows are beside it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._encoding = encoding_from_json(document["encoding"])
        self._weights: list[list[float]] = document["weights"]
        self._offsets: list[float] = document["offsets"]
        self._task: str = document["task"]

    def predict(self, x: Floats) -> Floats:
        """Score rows; raises `DataError` when `x` has another number of columns than the model."""
        check_width(x.shape, self._encoding.width)
        scores = [self._score(x, own) for own in self._weights]
        if self._task == "binary":
            return _chance(scores[0])
        if self._task == "multiclass":
            return _shares([_chance(score) for score in scores])
        if self._offsets:
            return np.stack([scores[0] + offset for offset in self._offsets], axis=1)
        return scores[0]

    def _score(self, x: Floats, weights: list[float]) -> Floats:
        fitted = self._encoding
        weight = iter(weights)
        score = np.full(len(x), next(weight))
        for index, mean, scale in zip(fitted.numbers, fitted.means.tolist(), fitted.scales.tolist(), strict=True):
            score += standardised(x[:, index], mean, scale) * next(weight)
        for index in fitted.indicators:
            score += np.where(np.isfinite(x[:, index]), 0.0, next(weight))
        for index, levels in zip(fitted.categories, fitted.levels, strict=True):
            own = np.array([*(next(weight) for _ in levels), 0.0])
            score += own[places(x[:, index], levels)]
        return score


def _shares(chances: list[Floats]) -> Floats:
    """Bring the classes' chances, each against the rest, to a sum of one; added up in one order."""
    total = chances[0].copy()
    for chance in chances[1:]:
        total += chance
    total = np.maximum(total, np.finfo(np.float64).tiny)
    return np.stack([chance / total for chance in chances], axis=1)


def _chance(score: Floats) -> Floats:
    """Give the logistic function, with the same bits for a number wherever it stands in the array."""
    padded = np.zeros(-(-len(score) // _LANES) * _LANES)
    padded[: len(score)] = score
    tail = np.exp(-np.abs(padded))
    chances: Floats = np.where(padded >= 0, 1.0, tail) / (1.0 + tail)
    return chances[: len(score)].copy()

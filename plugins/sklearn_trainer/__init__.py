"""Trainer `sklearn`: estimators and pipelines of scikit-learn by allow-listed name, stored by skops, never as a pickle.

Enters: matrices of training rows. Leaves: `model.skops` (with plain numbers for Python's object ids, so that the same model
has the same bytes) and `model.json`. Needs the extra `sklearn`. This module is all that planning imports.
"""

from __future__ import annotations

from typing import TypeAlias

from engine.components import Component, Params
from engine.contracts import Trainer

Setting: TypeAlias = bool | int | float | str | list[bool | int | float | str] | None

# Where each name is imported from, and for which tasks it is; an estimator of a task that is not here cannot be asked for.
CLASSIFIERS = {
    "LogisticRegression": "sklearn.linear_model", "GaussianNB": "sklearn.naive_bayes",
    "KNeighborsClassifier": "sklearn.neighbors", "DecisionTreeClassifier": "sklearn.tree",
    "RandomForestClassifier": "sklearn.ensemble", "ExtraTreesClassifier": "sklearn.ensemble",
    "GradientBoostingClassifier": "sklearn.ensemble", "HistGradientBoostingClassifier": "sklearn.ensemble",
    "AdaBoostClassifier": "sklearn.ensemble", "MLPClassifier": "sklearn.neural_network",
    "LinearDiscriminantAnalysis": "sklearn.discriminant_analysis",
}  # fmt: skip
REGRESSORS = {
    "LinearRegression": "sklearn.linear_model", "Ridge": "sklearn.linear_model", "Lasso": "sklearn.linear_model",
    "ElasticNet": "sklearn.linear_model", "HuberRegressor": "sklearn.linear_model",
    "KNeighborsRegressor": "sklearn.neighbors", "DecisionTreeRegressor": "sklearn.tree",
    "RandomForestRegressor": "sklearn.ensemble", "ExtraTreesRegressor": "sklearn.ensemble",
    "GradientBoostingRegressor": "sklearn.ensemble", "HistGradientBoostingRegressor": "sklearn.ensemble",
    "MLPRegressor": "sklearn.neural_network",
}  # fmt: skip
STEPS = {
    "SimpleImputer": "sklearn.impute", "MissingIndicator": "sklearn.impute", "StandardScaler": "sklearn.preprocessing",
    "MinMaxScaler": "sklearn.preprocessing", "RobustScaler": "sklearn.preprocessing", "PCA": "sklearn.decomposition",
    "QuantileTransformer": "sklearn.preprocessing", "PowerTransformer": "sklearn.preprocessing",
    "PolynomialFeatures": "sklearn.preprocessing", "KBinsDiscretizer": "sklearn.preprocessing",
    "SplineTransformer": "sklearn.preprocessing", "VarianceThreshold": "sklearn.feature_selection",
}  # fmt: skip
_REFUSED = {"random_state": "the seed of a training is `train.seed`", "n_jobs": "threads never change the result here"}


class StepParams(Params, frozen=True, kw_only=True):
    """One transformer before the estimator, with its own parameters under scikit-learn's names."""

    name: str
    params: dict[str, Setting] = {}

    def __post_init__(self) -> None:
        """Refuse a transformer that is not allow-listed."""
        _check(self.name, STEPS, "steps.name", self.params)


class SklearnParams(Params, frozen=True, kw_only=True):
    """An estimator by name with its parameters, after `steps` in order.

    Without `steps`, an estimator that takes no nulls gets the median for them, and then a common scale.
    """

    estimator: str
    params: dict[str, Setting] = {}
    steps: tuple[StepParams, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse an estimator that is not allow-listed."""
        _check(self.estimator, CLASSIFIERS | REGRESSORS, "estimator", self.params)


def _check(name: str, allowed: dict[str, str], key: str, params: dict[str, Setting]) -> None:
    if name not in allowed:
        raise ValueError(f"`{key}` {name!r} is not allowed; allowed: {', '.join(sorted(allowed))}")
    for refused, reason in _REFUSED.items():
        if refused in params:
            raise ValueError(f"`params.{refused}` is not allowed: {reason}")


def build(params: SklearnParams) -> Trainer:
    """Make the trainer."""
    from .trainer import SklearnTrainer  # noqa: PLC0415 - start-up: planning does not need scikit-learn

    return SklearnTrainer(params)


def components() -> tuple[Component, ...]:
    """Contribute the trainer."""
    doc = "scikit-learn estimators and pipelines by allow-listed name, stored by skops"
    return (Component("trainer", "sklearn", SklearnParams, build, ("scikit-learn", "skops", "numpy"), doc),)

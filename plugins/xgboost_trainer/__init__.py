"""Trainer `xgboost`: boosted trees of XGBoost, in its own JSON. Needs the extra `xgboost`.

Its histograms are summed by thread, so it trains with one thread, whatever `execute.threads` says: the same rows give the
same bytes. This module is all that planning imports.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.components import Component, Params
from engine.contracts import Trainer

_REFUSED = (
    "seed", "random_state", "nthread", "n_jobs", "device", "tree_method", "objective", "num_class", "quantile_alpha",
    "eval_metric", "verbosity", "process_type", "updater", "booster",
)  # fmt: skip


class XgboostParams(Params, frozen=True, kw_only=True):
    """`rounds` is the most trees; `early_stopping` rounds without a better validation loss end it (0: never).

    `params` are XGBoost's own names (max_depth, eta, subsample, …). `monotone` maps a column to 1, -1 or 0.
    """

    rounds: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 300
    early_stopping: Annotated[int, msgspec.Meta(ge=0)] = 30
    params: dict[str, bool | int | float | str] = {}
    monotone: dict[str, int] = {}

    def __post_init__(self) -> None:
        """Refuse parameters that the engine sets, or that would make the result vary."""
        for name in self.params:
            if name in _REFUSED:
                raise ValueError(f"`params.{name}` is not allowed: the task, the seed and determinism decide it")


def build(params: XgboostParams) -> Trainer:
    """Make the trainer."""
    from .trainer import XgboostTrainer  # noqa: PLC0415 - start-up: planning does not need XGBoost

    return XgboostTrainer(params)


def components() -> tuple[Component, ...]:
    """Contribute the trainer."""
    doc = "gradient-boosted trees (XGBoost), trained by one thread"
    return (Component("trainer", "xgboost", XgboostParams, build, ("xgboost-cpu", "xgboost", "numpy"), doc),)

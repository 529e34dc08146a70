"""Trainer `catboost`: boosted symmetric trees of CatBoost, in its own binary format. Needs the extra `catboost`.

It trains with one thread, so that the same rows give the same bytes; the model's random identifier and its date are taken
out. Encoded columns are split by order. This module is all that planning imports.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.components import Component, Params
from engine.contracts import Trainer

_REFUSED = (
    "random_seed", "random_state", "thread_count", "task_type", "devices", "loss_function", "objective", "iterations",
    "eval_metric", "train_dir", "allow_writing_files", "verbose", "logging_level", "early_stopping_rounds", "od_wait",
)  # fmt: skip


class CatboostParams(Params, frozen=True, kw_only=True):
    """`rounds` is the most trees; `early_stopping` rounds without a better validation loss end it (0: never).

    `params` are CatBoost's own names (depth, learning_rate, l2_leaf_reg, …).
    """

    rounds: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 300
    early_stopping: Annotated[int, msgspec.Meta(ge=0)] = 30
    params: dict[str, bool | int | float | str] = {}

    def __post_init__(self) -> None:
        """Refuse parameters that the engine sets, or that would make the result vary."""
        for name in self.params:
            if name in _REFUSED:
                raise ValueError(f"`params.{name}` is not allowed: the task, the seed and determinism decide it")


def build(params: CatboostParams) -> Trainer:
    """Make the trainer."""
    from .trainer import CatboostTrainer  # noqa: PLC0415 - start-up: planning does not need CatBoost

    return CatboostTrainer(params)


def components() -> tuple[Component, ...]:
    """Contribute the trainer."""
    doc = "gradient-boosted symmetric trees (CatBoost), trained by one thread"
    return (Component("trainer", "catboost", CatboostParams, build, ("catboost", "numpy"), doc),)

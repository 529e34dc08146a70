"""Trainer `command`: the user's own program, in any language, in a process of its own.

Enters: rows as Parquet and `params.json`; leaves: whatever the program left in the artefact directory (weights, an adapter,
text), which goes through the same gates and registry. A second program scores, kept alive between requests. The protocol is
in docs/training.md. This module is all that planning imports.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from engine.components import Component, Params
from engine.contracts import Trainer
from engine.spec.base import Duration

Setting: TypeAlias = bool | int | float | str | list[bool | int | float | str] | None
Command = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class CommandParams(Params, frozen=True, kw_only=True):
    """`train` and `score` are programs with their arguments, run without a shell in a folder that holds copies of `files`.

    `files` (paths relative to the project) are copied into the model, so that it scores anywhere; their content is part of the
    training's key. `version` stands for what the program reads beyond them: change it to train again. `params` are handed on.
    Standard error is shown while training.
    """

    train: Command
    score: Command
    files: tuple[str, ...] = ()
    version: str = ""
    params: dict[str, Setting] = {}
    timeout: Duration = "1h"
    start_timeout: Duration = "60s"
    score_timeout: Duration = "60s"

    def __post_init__(self) -> None:
        """Refuse files outside the project."""
        for name in self.files:
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"`files`: {name!r} leaves the project; give paths relative to it")

    def reads_files(self) -> tuple[str, ...]:
        """The program's own files."""
        return self.files


def build(params: CommandParams) -> Trainer:
    """Make the trainer."""
    from .trainer import CommandTrainer  # noqa: PLC0415 - start-up: planning needs neither numpy nor polars

    return CommandTrainer(params)


def components() -> tuple[Component, ...]:
    """Contribute the trainer."""
    doc = "the user's own program, trained and scored in processes of its own"
    return (Component("trainer", "command", CommandParams, build, ("polars",), doc),)

"""Refusing rows that not even a simple model can be learnt from, and reading a model's file back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.contracts import Matrix
from engine.errors import DataError, IntegrityError

MODEL = "model.json"


def check_rows(train: Matrix, task: str, least: int) -> None:
    """Raise `DataError` for too few rows, labels that are missing, not those of the task, or all the same."""
    y = train.y
    if len(y) < least:
        raise DataError(f"{len(y)} training rows are too few: {least} are needed", hint="widen the split")
    missing = int((~np.isfinite(y)).sum())
    if missing:
        hint = "check `label`: its expression gave null or infinity"
        raise DataError(f"{missing} of {len(y)} training rows have no finite label", hint=hint)
    strange = y[(y != 0) & (y != 1)]
    if task == "binary" and len(strange):
        hint = "set train.task=regression, or fix the label"
        raise DataError(f"a training row has the label {strange[0]:g}, and a binary task needs 0 or 1", hint=hint)
    if y.min() == y.max():
        what = "one class only" if task in {"binary", "multiclass"} else "the same label everywhere"
        hint = "check the label and the split's boundaries"
        raise DataError(f"the training rows have {what} ({y[0]:g})", hint=hint)


def read_model(files: Mapping[str, bytes], kind: str) -> dict[str, Any]:
    """Parse a model's file; raises `IntegrityError` when it is not one of this kind."""
    try:
        document = json.loads(files[MODEL])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"the model has no readable {MODEL}: {error!r}") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise IntegrityError(f"{MODEL} does not hold a model of the kind {kind}")
    return document


def check_width(shape: tuple[int, ...], width: int) -> None:
    """Raise `DataError` when rows to score have another number of columns than the model."""
    if len(shape) != 2 or shape[1] != width:
        raise DataError(f"the model has {width} columns, the rows have shape {shape}")

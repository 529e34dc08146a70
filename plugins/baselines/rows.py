"""Reading a model's file back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.errors import DataError, IntegrityError

MODEL = "model.json"


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

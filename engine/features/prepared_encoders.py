"""What a model sees of one request: the columns of `encode`, as doubles with NaN for null, from a prepared row.

Called by scorers after `Prepared.row`; the tests hold it to `encode` and the matrix that training used.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from engine.errors import DataError
from engine.features.encoders import FittedEncoder, FittedEncoders
from engine.features.prepared import Prepared, Row
from engine.features.steps import NUMERIC, Encoded

Number: TypeAlias = Callable[[Row], float | None]
"""A column of one row, `None` for null: an array of doubles takes it for NaN."""
_NAN = math.nan


def prepare_columns(
    prepared: Prepared, fitted: FittedEncoders, columns: Sequence[str]
) -> Callable[[Row], Sequence[float | None]]:
    """A function from a prepared row to the model's columns, in their order; `None` or NaN for null.

    Raises `DataError` for a column that is neither a number nor a fitted encoder.
    """
    numbers = [_column(prepared, fitted, name) for name in columns]
    return lambda row: [number(row) for number in numbers]


def _column(prepared: Prepared, fitted: FittedEncoders, name: str) -> Number:
    step = prepared.program.by_name.get(name)
    if isinstance(step, Encoded) and name in fitted.encoders:
        slot, encoded = prepared.slots[step.column], _encoded(step, fitted.encoders[name])
        return lambda row: encoded(row[slot])
    if step is None or isinstance(step, Encoded) or step.type not in NUMERIC:
        raise DataError(f"the model's column `{name}` is no number of this program")
    return itemgetter(prepared.slots[name])


def _encoded(step: Encoded, fitted: FittedEncoder) -> Callable[[Any], float]:
    unknown = _NAN if fitted.unknown is None else float(fitted.unknown)
    match step.encoder:
        case "standardise":
            mean, sd = fitted.mean or 0.0, fitted.sd or 0.0

            def standardised(value: Any) -> float:
                if value is None:
                    return unknown
                score = (float(value) - mean) / sd + 0.0 if sd else 0.0
                return score if -math.inf < score < math.inf else unknown

            return standardised
        case "bins":
            edges = fitted.edges or ()
            return lambda value: unknown if value is None else float(bisect_left(edges, value))
    numbers = {value: float(number) for value, number in zip(fitted.values, fitted.numbers, strict=True)}
    return lambda value: unknown if value is None else numbers.get(value, unknown)

"""What a window step aggregates of the events of one key: the rows it takes, as numbers, kept with the events.

Enters: events and a step. Leaves: a `Track`. Called by `single`. A track is made once for as long as a reader gives the same
events, so a second request of a key pays for none of it. Row expressions are evaluated by the lowering, all those of a join
in one go; a bare column needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.features.coverage_arrays import largest_size
from engine.features.events import Events, Values, values_of
from engine.features.exact import Flags, quantise_doubles
from engine.features.expression import to_json
from engine.features.frames import Ints, plain
from engine.features.lowered_functions import DTYPES
from engine.features.lowering import evaluate, lower
from engine.features.steps import Window
from engine.features.syntax import Column, Expression
from engine.features.vectors import condition
from engine.keys import digest

Trees = Mapping[Expression, str]
"""Row expressions with their types."""


@dataclass(frozen=True)
class Track:
    """The rows that a step takes, in total order: `rows` are their places (`None`: all), `data` their values.

    Values are doubles, integers, or places among `texts`; for sums they are whole multiples of 10**-decimals.
    """

    rows: Ints | None
    data: npt.NDArray[Any]
    texts: Sequence[str] = ()

    @cached_property
    def largest(self) -> int:
        """The largest absolute value of integers."""
        return largest_size(self.data)

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """Which of the taken rows are at places from `first` to before `last`."""
        if self.rows is None:
            return first, last
        low, high = self.rows.searchsorted([first, last])
        return int(low), int(high)

    def among(self, places: Ints) -> npt.NDArray[Any]:
        """The values of the taken rows among rising places."""
        if self.rows is None:
            return np.asarray(self.data[places])
        if not len(self.rows):
            return self.data
        found = self.rows.searchsorted(places)
        held = self.rows[np.minimum(found, len(self.rows) - 1)] == places
        return np.asarray(self.data[found[held]])


EXACT = frozenset({"sum", "mean", "std", "smoothed_mean"})
"""Aggregates of exact integers."""


def track_key(step: Window) -> str:
    """The name of a step's track: the same for steps that take the same rows and numbers. Made once, since hashing trees is slow."""
    parts = [None if tree is None else to_json(tree) for tree in (step.of, step.where)]
    return digest([*parts, step.decimals if step.agg in EXACT else None, step.agg in EXACT])


def track_of(events: Events, step: Window, trees: Trees, kept: str) -> Track:
    """The track of a step, under its `track_key`; `trees` are all the row expressions of its join."""
    return events.keep(kept, lambda rows: _make(rows, step, trees, exact=step.agg in EXACT))


def _make(events: Events, step: Window, trees: Trees, *, exact: bool) -> Track:
    operand = values(events, step.of, trees) if step.of is not None else None
    data: npt.NDArray[Any] = operand.data if operand is not None else events.time
    keep = operand.valid if operand is not None else None
    if exact and operand is not None and operand.type == "f64":
        data, fits = quantise_doubles(data, step.decimals or 0)
        keep = _both(keep, fits)
    if step.where is not None:
        holds = values(events, step.where, trees)
        keep = _both(_both(keep, holds.valid), holds.data != 0)
    texts = operand.texts if operand is not None else ()
    if keep is None or keep.all():
        return Track(None, data, texts)
    rows = np.flatnonzero(keep)
    return Track(rows, data[rows], texts)


def _both(left: Flags | None, right: Flags | None) -> Flags | None:
    return right if left is None else left if right is None else left & right


def values(events: Events, tree: Expression, trees: Trees) -> Values:
    """A row expression over the events."""
    if isinstance(tree, Column):
        return events.columns[tree.name]
    if trees.get(tree) == "bool":
        simple = events.keep(("condition", tree), lambda kept: condition(kept, tree))
        if simple is not None:
            return simple
    return events.keep("expressions", lambda kept: _evaluate(kept, trees))[tree]


def _evaluate(events: Events, trees: Trees) -> dict[Expression, Values]:
    wanted = {str(number): tree for number, tree in enumerate(trees) if not isinstance(tree, Column)}
    types = {name: column.type for name, column in events.columns.items()}
    made = evaluate(lower(wanted, types), events.frame(tuple(types)))
    found: dict[Expression, Values] = {}
    for name, tree in wanted.items():
        found[tree] = values_of(plain(made[name]).cast(DTYPES[trees[tree]]), trees[tree])
    return found

"""Typed trees to Polars, in a way that gives the same bits for a million rows, for one row and for any chunking.

Enters: named expressions and the types of the frame's columns. Leaves: a `Lowered` program of stages, evaluated by
`evaluate`. Called by `sources`, `windows`, `label` and `compute`. Three things make it safe, each held by a test:

- Polars divides by a scalar through its reciprocal when there are many rows and directly when there is one, and raises
  to the power of a column otherwise than to that of its only value. So every constant inside a divisor or a power is a
  real column here, no column is secretly a scalar, and a single row is evaluated as two.
- Doubles that are not finite become null, and there is one zero (Polars turns `0.0 - x` round and leaves `x + 0.0` out,
  for constants only). Sums, products and quotients carry a non-finite value on, so one check at the
  end of such a chain equals a check after each step; a divisor is checked on its own.
- A value that is used twice is made once, in an earlier stage: nothing is evaluated exponentially often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from engine.features.expression import type_of
from engine.features.lowered_functions import (
    ARITHMETIC,
    BUILD,
    DTYPES,
    NOT_FINITE,
    TWICE,
    Part,
    align,
    cast,
    compare,
    literal,
    wide,
    widen,
)
from engine.features.syntax import Call, Case, Cast, Column, Expression, Literal
from engine.features.timestamps import MAX_MOMENT, MIN_MOMENT, TIMESTAMP


@dataclass(frozen=True, slots=True)
class Lowered:
    """Stages of hidden columns, then the outputs. `constants` are the hidden columns that divisors need."""

    names: tuple[str, ...]
    constants: Mapping[str, tuple[Any, str]]
    stages: tuple[tuple[pl.Expr, ...], ...]
    outputs: tuple[pl.Expr, ...]


def lower(expressions: Mapping[str, Expression], columns: Mapping[str, str]) -> Lowered:
    """Lower checked expressions over typed columns; a pure function, so its result can be kept and used again."""
    builder = _Builder(columns)
    outputs = []
    for name, tree in expressions.items():
        part = builder.guarded(builder.lower(tree))
        outputs.append(part.expr.alias(name))
    stages = tuple(tuple(stage) for stage in builder.stages)
    return Lowered(tuple(expressions), builder.constants, stages, tuple(outputs))


def evaluate(lowered: Lowered, frame: pl.DataFrame) -> pl.DataFrame:
    """Evaluate over a frame: one column a name, one row a row. The frame's columns have the types of the specs."""
    if not lowered.names:
        return pl.DataFrame(height=frame.height)
    height = frame.height
    work = materialise(frame)
    if lowered.constants:
        work = work.with_columns(
            pl.Series(name, [value], dtype=DTYPES[type_]).new_from_index(0, work.height)
            for name, (value, type_) in lowered.constants.items()
        )
    for stage in lowered.stages:
        work = materialise(work.with_columns(stage))
    return materialise(work.with_columns(lowered.outputs).select(lowered.names)).head(height)


def materialise(frame: pl.DataFrame) -> pl.DataFrame:
    """The same frame as contiguous real columns, and one row twice: Polars computes with scalars in another way."""
    if frame.height == 1:
        return pl.DataFrame([column.new_from_index(0, 2) for column in frame.get_columns()])
    return pl.DataFrame([column.rechunk() for column in frame.get_columns()])


class _Builder:
    """Lowers trees and collects the stages they need."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self.constants: dict[str, tuple[Any, str]] = {}
        self.stages: list[list[pl.Expr]] = []
        self._known: dict[tuple[Expression, bool], Part] = {}
        self._count = 0

    def lower(self, node: Expression, *, solid: bool = False) -> Part:
        """Lower a node; `solid` means that it stands in a divisor, where constants must be columns."""
        key = (node, solid)
        if key not in self._known:
            self._known[key] = self._lower(node, solid)
        return self._known[key]

    def _lower(self, node: Expression, solid: bool) -> Part:  # noqa: FBT001
        match node:
            case Literal():
                return self._constant(node.value, node.type) if solid else literal(node.value, node.type)
            case Column():
                return Part(pl.col(node.name), self._columns[node.name], simple=True)
            case Cast():
                return self._cast(node, solid)
            case Case():
                return self._case(node, solid)
            case Call():
                args = [self.lower(argument, solid=solid) for argument in node.args]
                return self._call(node, args)

    # --- stages ---

    def hoist(self, part: Part) -> Part:
        """The same value as a hidden column, so that it can be used more than once."""
        if part.simple:
            return part
        while len(self.stages) <= part.stage:
            self.stages.append([])
        name = f"\x00{self._count}"
        self._count += 1
        self.stages[part.stage].append(part.expr.alias(name))
        return Part(pl.col(name), part.type, part.stage + 1, part.raw, simple=True)

    def guarded(self, part: Part) -> Part:
        """The same value with doubles that are not finite made null, and negative zeros made zeros."""
        if not part.raw:
            return part
        made = self.hoist(part)
        value = made.expr
        return Part(pl.when(value == 0).then(pl.lit(0.0)).when(value.is_finite()).then(value), "f64", made.stage)

    def _constant(self, value: Any, type_: str) -> Part:
        if type_ == "null":
            return literal(value, type_)
        name = f"\x00{type_}:{value!r}"
        self.constants[name] = (value, type_)
        return Part(pl.col(name), type_, simple=True)

    # --- nodes ---

    def _cast(self, node: Cast, solid: bool) -> Part:  # noqa: FBT001
        part = self.guarded(self.lower(node.operand, solid=solid))
        if part.type == "str" and node.type == "timestamp":
            part = self.hoist(part)
        raw = part.type == "str" and node.type == "f64"  # the texts 'nan' and 'inf'
        return Part(cast(part.expr, part.type, node.type), node.type, part.stage, raw)

    def _case(self, node: Case, solid: bool) -> Part:  # noqa: FBT001
        result = type_of(node, self._columns)
        operand = self.hoist(self.guarded(self.lower(node.operand, solid=solid))) if node.operand is not None else None
        stage = operand.stage if operand is not None else 0
        chain: Any = None
        for condition, value in node.branches:
            test = self.guarded(self.lower(condition, solid=solid))
            if operand is not None:
                left, right = align([operand, test])
                test = Part(compare("=", left, right), "bool", test.stage)
            then = widen(self.guarded(self.lower(value, solid=solid)), result)
            stage = max(stage, test.stage, then.stage)
            holds = test.expr.cast(pl.Boolean)
            chain = (pl.when(holds) if chain is None else chain.when(holds)).then(then.expr)
        last = node.otherwise if node.otherwise is not None else Literal("null", None)
        otherwise = widen(self.guarded(self.lower(last, solid=solid)), result)
        if chain is None:
            return otherwise
        return Part(chain.otherwise(otherwise.expr), result, max(stage, otherwise.stage))

    def _call(self, node: Call, args: list[Part]) -> Part:
        if node.name in ARITHMETIC:
            return self._arithmetic(node.name, args)
        if node.name == "/":
            return self._divide(args[0], self.lower(node.args[1], solid=True))
        if node.name == "power":
            args = [self.lower(argument, solid=True) for argument in node.args]
        args = [self.guarded(part) for part in args]
        if node.name in TWICE:
            args = [self.hoist(part) for part in args]
        stage = max(part.stage for part in args)
        if node.name in {"epoch_seconds", "hours_between"}:
            return self._elapsed(node.name, args)
        type_ = type_of(node, self._columns)
        made = BUILD[node.name](args, type_, node)
        return Part(made, type_, stage, raw=node.name in NOT_FINITE and type_ == "f64")

    def _arithmetic(self, name: str, args: list[Part]) -> Part:
        stage = max(part.stage for part in args)
        types = [part.type for part in args]
        if "f64" in types:
            values = [widen(part, "f64").expr for part in args]
            return Part(ARITHMETIC[name](*values), "f64", stage, raw=True)
        values = [wide(part) for part in args]
        narrow = ARITHMETIC[name](*values).cast(pl.Int64, strict=False)
        if types.count("timestamp") != 1:
            return Part(narrow, "duration" if {"timestamp", "duration"} & set(types) else "i64", stage)
        moment = self.hoist(Part(narrow, "i64", stage))
        inside = moment.expr.is_between(MIN_MOMENT, MAX_MOMENT)
        return Part(pl.when(inside).then(moment.expr).cast(TIMESTAMP), "timestamp", moment.stage)

    def _divide(self, left: Part, right: Part) -> Part:
        divisor = self.guarded(right)
        quotient = widen(left, "f64").expr / widen(divisor, "f64").expr
        return Part(quotient, "f64", max(left.stage, divisor.stage), raw=True)

    def _elapsed(self, name: str, args: list[Part]) -> Part:
        micros = [part.expr.cast(TIMESTAMP).dt.epoch("us") for part in args]
        amount = micros[0] if name == "epoch_seconds" else micros[1] - micros[0]
        unit = self._constant(1e6 if name == "epoch_seconds" else 3.6e9, "f64")
        return Part(amount.cast(pl.Float64) / unit.expr, "f64", max(part.stage for part in args))

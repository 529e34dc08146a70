"""Run the cases under `tests:`: rows through ingest's own code, the row asked about through the feature program.

Enters checked cases and the compiled pipeline; leaves one record a case. No store is touched. Called by
`engine features test`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from engine.clock import isoformat, to_microseconds
from engine.features.cases import moment_of_text
from engine.features.compute import compute
from engine.features.lowered_functions import DTYPES
from engine.features.program import CompileResult
from engine.features.sources import apply_source
from engine.features.steps import EVENT_TIME, SourceProgram
from engine.records import FeatureCaseResult, FeatureComparison
from engine.spec.cases import FeatureTestSpec
from engine.spec.features import Scalar

Row = Mapping[str, Scalar | None]


def run_cases(cases: Mapping[str, FeatureTestSpec], compiled: CompileResult) -> list[FeatureCaseResult]:
    """Run every case, in order."""
    return [_run_case(name, case, compiled) for name, case in cases.items()]


def _run_case(name: str, case: FeatureTestSpec, compiled: CompileResult) -> FeatureCaseResult:
    program = compiled.program
    history = {
        source: _ingest(compiled.sources[source], case.given.get(source, ())) for source in program.feature_sources
    }
    spine = frame_of([{**case.request, EVENT_TIME: case.at}], {EVENT_TIME: "timestamp", **program.spine.request})
    (made,) = compute(program, spine, history).rows(named=True)
    compared = tuple(
        _compare(feature, expected, made[feature], program.output_types[feature], case.tolerance)
        for feature, expected in case.expect.items()
    )
    return FeatureCaseResult(name=name, passed=all(item.equal for item in compared), compared=compared)


def _ingest(source: SourceProgram, rows: Sequence[Row]) -> pl.DataFrame:
    """The rows as ingest would leave them; derived columns that a row names are taken as they are."""
    derived = {step.name for step in source.derive}
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(sorted(derived & row.keys())), []).append(row)
    parts = [_ingest_alike(source, named, found) for named, found in groups.items()]
    return pl.concat(parts) if parts else _ingest_alike(source, (), [])


def _ingest_alike(source: SourceProgram, named: Sequence[str], rows: Sequence[Row]) -> pl.DataFrame:
    declared = {**source.declared, **{column: source.columns[column] for column in named}}
    derive = tuple(step for step in source.derive if step.name not in named)
    variant = msgspec.structs.replace(source, declared=declared, derive=derive)
    return apply_source(variant, frame_of(rows, declared)).select(*source.columns)


def frame_of(rows: Sequence[Row], types: Mapping[str, str]) -> pl.DataFrame:
    """Give rows as a frame of these types; what a row does not name is null."""
    columns = []
    for name, type_ in types.items():
        values = [_plain(row.get(name), type_) for row in rows]
        dtype = pl.Int64 if type_ == "timestamp" else DTYPES[type_]
        columns.append(pl.Series(name, values, dtype=dtype).cast(DTYPES[type_]))
    return pl.DataFrame(columns)


def _plain(value: Scalar | None, type_: str) -> Any:
    if value is None:
        return None
    if type_ == "timestamp":
        return moment_of_text(str(value))
    return float(value) if type_ == "f64" else value


def _compare(
    feature: str, expected: Scalar | None, actual: Any, type_: str, tolerance: float | None
) -> FeatureComparison:
    """Equal bits for doubles, unless a tolerance says how far apart they may be."""
    wanted = _plain(expected, type_)
    found = to_microseconds(actual) if isinstance(actual, datetime) else actual
    equal = wanted == found and type(wanted) is type(found)
    if isinstance(wanted, float) and isinstance(found, float):
        close = tolerance is not None and abs(wanted - found) <= tolerance
        equal = close or struct.pack("<d", wanted) == struct.pack("<d", found)
    shown = isoformat(actual) if isinstance(actual, datetime) else actual
    return FeatureComparison(feature=feature, expected=expected, actual=shown, equal=equal)

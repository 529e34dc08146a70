"""Check the cases under `tests:`: that they name what exists, with values of its type. No data library.

Called when a pipeline is compiled, so `engine check` finds every mistake with its place; `case_runner` runs the cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from engine.clock import to_microseconds
from engine.errors import ConfigError
from engine.features.problems import Problems
from engine.features.program import CompileResult
from engine.features.steps import Encoded
from engine.spec.cases import FeatureTestSpec
from engine.spec.features import Scalar

_WRITTEN = {"bool": "true or false", "i64": "a whole number", "f64": "a number", "str": "a text"}


def check_cases(cases: Mapping[str, FeatureTestSpec], compiled: CompileResult) -> None:
    """Raise `ConfigError` with every mistake of every case."""
    problems = Problems()
    for name, case in cases.items():
        _check_case(f"tests.{name}", case, compiled, problems)
    if problems.found:
        raise ConfigError(problems.found)


def moment_of_text(text: str) -> int | None:
    """A moment in microseconds, UTC when it names no zone; None when it is no moment.

    >>> moment_of_text("1970-01-01T00:00:01Z")
    1000000
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return to_microseconds(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _check_case(path: str, case: FeatureTestSpec, compiled: CompileResult, problems: Problems) -> None:
    _check_value(f"{path}.at", case.at, "timestamp", problems)
    for source, rows in case.given.items():
        if source not in compiled.sources:
            problems.unknown(f"{path}.given.{source}", "source", source, tuple(compiled.sources))
            continue
        columns = compiled.sources[source].columns
        for index, row in enumerate(rows):
            place = f"{path}.given.{source}.{index}"
            _check_values(place, f"column of source `{source}`", row, columns, problems)
    _check_values(f"{path}.request", "request field", case.request, compiled.program.spine.request, problems)
    encoded = [name for name in case.expect if isinstance(compiled.program.by_name.get(name), Encoded)]
    for name in encoded:
        problems.add(
            f"{path}.expect.{name}",
            f"`{name}` is encoded by what training rows had, and a case has none",
            hint="expect what it encodes",
        )
    wanted = {name: value for name, value in case.expect.items() if name not in encoded}
    _check_values(f"{path}.expect", "feature", wanted, compiled.program.output_types, problems)


def _check_values(
    path: str, what: str, values: Mapping[str, Scalar | None], types: Mapping[str, str], problems: Problems
) -> None:
    for name, value in values.items():
        if name in types:
            _check_value(f"{path}.{name}", value, types[name], problems)
        else:
            problems.unknown(f"{path}.{name}", what, name, tuple(types))


def _check_value(path: str, value: Scalar | None, type_: str, problems: Problems) -> None:
    match type_, value:
        case (_, None) | ("bool", bool()) | ("str", str()):
            return
        case "i64", int() if not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return
        case "f64", int() | float() if not isinstance(value, bool):
            return
        case "timestamp", str() if moment_of_text(value) is not None:
            return
        case "timestamp", _:
            problems.add(path, "not a moment", value=str(value), hint="write it as 2013-11-01T00:00:00Z")
        case _:
            problems.add(path, f"must be {_WRITTEN[type_]}, since the column is {type_}", value=str(value))

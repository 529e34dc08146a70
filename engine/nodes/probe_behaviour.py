"""Behaviour: whether the model does what everybody expects of it, on rows that are asked about on purpose.

Leaves `probe.json`: for each gate how many rows were tried and failed, and some failing rows, made as small as they go:
a change that is not needed to fail is undone, and a field that may be anything is given its usual value, so that what is
left is why. Minimum functionality, invariance and direction are those of Ribeiro et al. 2020 (CheckList).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.clock import isoformat
from engine.components import catalogue_of
from engine.contracts import Work
from engine.errors import DataError
from engine.features.case_runner import frame_of
from engine.features.expression import from_json
from engine.features.syntax import Expression
from engine.keys import Json
from engine.nodes.features import ROW_ID
from engine.nodes.frames import read_source, source_inputs, write_document
from engine.nodes.matrix import load_model, read_parts
from engine.nodes.perturbed import Masks, Subject
from engine.spec.probes import BehaviourProbe

Flags: TypeAlias = "NDArray[np.bool_]"
_LISTED = 20
_MINIMISED = 3
_HASH_SEED = 0


@dataclass(frozen=True, slots=True)
class Case:
    """One behaviour test, compiled."""

    spec: BehaviourProbe
    where: Expression | None
    change: Mapping[str, Expression]

    def fails(self, before: np.ndarray, after: np.ndarray) -> Flags:
        """Say which predictions are not as expected, (n,) boolean; one that is no number is not."""
        failing: Flags = ~(self.distance(before, after) <= 0)  # one that is no number is at no distance
        return failing

    def distance(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Say how far predictions are from what is expected, (n,): at most 0 passes, NaN where there is no number."""
        spec = self.spec
        with np.errstate(invalid="ignore"):
            moved = after - before
            if spec.test == "inv":
                far = np.abs(moved) - spec.tolerance
            elif spec.test == "dir":
                far = spec.by - (moved if spec.direction == "up" else -moved)
            else:
                low = spec.at_least if spec.at_least is not None else -np.inf
                high = spec.at_most if spec.at_most is not None else np.inf
                far = np.maximum(low - after, after - high)
            return np.where(np.isfinite(after) & np.isfinite(before), far, np.nan)


def probe_behaviour(work: Work) -> Mapping[str, Json]:
    """Run every behaviour test; the notes count failing rows by gate."""
    settings: Any = work.settings
    model = load_model(work.inputs["model"].path, catalogue_of(work.place))
    sources, program = source_inputs(work), model.program
    history = {name: read_source(work, sources[name], program.source_columns(name)) for name in program.feature_sources}
    subject = Subject(model, history, settings["as_of"])
    columns = list(dict.fromkeys((ROW_ID, *subject.columns)))
    rows = read_parts(work.inputs["rows"], work.inputs["split"], ("test",), columns)[0]
    found: dict[str, Any] = {}
    for name, asked in settings["asked"].items():
        found[name] = run_case(_case(asked), subject, rows)
        work.progress(f"{name}: {found[name]['failed']} of {found[name]['rows']} rows fail", None, None)
    write_document(work.out / "probe.json", found)
    return {name: {"rows": item["rows"], "failed": item["failed"]} for name, item in found.items()}


def _case(asked: Mapping[str, Any]) -> Case:
    change = {name: from_json(tree) for name, tree in asked["change"].items()}
    where = from_json(asked["where"]) if asked["where"] is not None else None
    spec = msgspec.convert({**asked, "where": None, "change": {}}, BehaviourProbe)
    return Case(spec, where, change)


def run_case(case: Case, subject: Subject, test: pl.DataFrame) -> dict[str, Any]:
    """Try one test: how many rows, how many fail, and which, as plain JSON."""
    matching = _rows(case, subject, test)
    before_rows = matching
    after_rows = subject.changed(matching, case.change) if case.change and matching.height else matching
    touched = _differ(before_rows, after_rows, tuple(case.change)) if case.change else np.ones(matching.height, bool)
    if case.spec.test != "mft":
        keep = pl.Series(touched)
        before_rows, after_rows = before_rows.filter(keep), after_rows.filter(keep)
    before, after = _output(case, subject, before_rows), _output(case, subject, after_rows)
    failing = case.fails(before, after)
    worst = _worst_first(case, before, after)
    listed = [
        _describe(subject, (before_rows, after_rows), (before, after), index, tuple(case.change))
        for index in worst[:_LISTED]
    ]
    chosen = before_rows[worst[:_MINIMISED]] if worst else before_rows.head(0)
    return {
        "rows": before_rows.height,
        "matched": matching.height,
        "unchanged": 0 if case.spec.test == "mft" else int((~touched).sum()),
        "failed": int(failing.sum()),
        "not_finite": int((~np.isfinite(after)).sum()),
        "failing": listed,
        "minimised": minimise(case, subject, chosen, matching) if chosen.height else [],
    }


def minimise(case: Case, subject: Subject, rows: pl.DataFrame, usual: pl.DataFrame) -> list[dict[str, Any]]:
    """Make failing rows small: undo changes, then give fields their usual value, as long as the row still fails."""
    masks: dict[str, np.ndarray] = {name: np.ones(rows.height, dtype=bool) for name in case.change}
    for name in case.change if len(case.change) > 1 else ():
        tried = {**masks, name: np.zeros(rows.height, dtype=bool)}
        masks[name] = ~_still_fails(case, subject, rows, tried)
    rows, free = _usual(case, subject, (rows, usual), masks)
    after_rows = subject.changed(rows, case.change, masks) if case.change else rows
    before, after = _output(case, subject, rows), _output(case, subject, after_rows)
    described = []
    for index in range(rows.height):
        needed = tuple(name for name in case.change if masks[name][index])
        found = _describe(subject, (rows, after_rows), (before, after), index, needed)
        essential = {name: value for name, value in found["request"].items() if name not in free[index]}
        described.append({**found, "matters": essential, "usual": free[index]})
    return described


def _usual(
    case: Case, subject: Subject, rows: tuple[pl.DataFrame, pl.DataFrame], masks: Masks
) -> tuple[pl.DataFrame, list[list[str]]]:
    """Give fields their usual value where the row fails all the same; and which fields of each row that is."""
    failing, usual = rows
    free: list[list[str]] = [[] for _ in range(failing.height)]
    for name, value in _typical(subject, usual).items():
        filled = pl.Series(name, [value], dtype=failing[name].dtype).new_from_index(0, failing.height)
        candidate = subject.with_values(failing, [filled])
        kept = _still_fails(case, subject, candidate, masks) & subject.matching(candidate, case.where)
        mixed = [candidate[column].zip_with(pl.Series(kept), failing[column]) for column in subject.columns]
        failing = failing.with_columns(mixed)
        for place in np.flatnonzero(kept):
            free[int(place)].append(name)
    return failing, free


def _still_fails(case: Case, subject: Subject, rows: pl.DataFrame, masks: Masks) -> np.ndarray:
    after = subject.changed(rows, case.change, masks) if case.change else rows
    return case.fails(_output(case, subject, rows), _output(case, subject, after))


def _rows(case: Case, subject: Subject, test: pl.DataFrame) -> pl.DataFrame:
    """Give the rows to try: those written down, or a sample of the test rows by a hash of their ids."""
    if case.spec.rows:
        made = subject.features(frame_of(case.spec.rows, subject.request))
        ids = pl.Series(ROW_ID, [f"rows.{index}" for index in range(made.height)])
    else:
        found = test.filter(pl.Series(subject.matching(test, case.where)))
        if found.height > case.spec.sample:
            order = found[ROW_ID].cast(pl.String).hash(seed=_HASH_SEED).arg_sort().head(case.spec.sample).sort()
            found = found[order]
        made, ids = found.select(*subject.columns), found[ROW_ID].cast(pl.String)
    return made.with_columns(ids.alias(ROW_ID)).select(*subject.columns, ROW_ID)


def _output(case: Case, subject: Subject, rows: pl.DataFrame) -> np.ndarray:
    """Score, and take the one column that the test is about; (n,)."""
    if rows.height == 0:
        return np.empty(0)
    found = subject.score(rows)
    if found.ndim == 1:
        return found
    names = subject.model.target.outputs
    if case.spec.output not in names:
        raise DataError(
            f"a behaviour test of this model names its `output`: {', '.join(names)}",
            hint=f"as in output: {names[0]}" if names else None,
        )
    return np.ascontiguousarray(found[:, names.index(str(case.spec.output))])


def _differ(left: pl.DataFrame, right: pl.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    """Say which rows a change changed at all."""
    found = np.zeros(left.height, dtype=bool)
    for name in names:
        found |= left[name].ne_missing(right[name]).to_numpy()
    return found


def _worst_first(case: Case, before: np.ndarray, after: np.ndarray) -> list[int]:
    """Give the failing rows, those furthest from what is expected first, rows without a number before all."""
    index = np.flatnonzero(case.fails(before, after))
    far = np.nan_to_num(case.distance(before, after)[index], nan=np.inf)
    return [int(place) for place in index[np.argsort(-far, kind="stable")]]


def _typical(subject: Subject, rows: pl.DataFrame) -> dict[str, Any]:
    """Give each request field its usual value: the median of doubles, else the commonest, the least of equals."""
    found: dict[str, Any] = {}
    for name, type_ in subject.model.program.spine.request.items():
        values = rows[name].drop_nulls()
        if values.len():
            found[name] = values.median() if type_ == "f64" else values.mode().sort()[0]
    return found


def _describe(
    subject: Subject,
    rows: tuple[pl.DataFrame, pl.DataFrame],
    scores: tuple[np.ndarray, np.ndarray],
    index: int,
    changed: tuple[str, ...],
) -> dict[str, Any]:
    """Tell one row: what was asked, what was changed, what came out."""
    asked, after = rows[0].row(index, named=True), rows[1].row(index, named=True)
    return {
        "row_id": asked.get(ROW_ID),
        "request": {name: _plain(asked[name]) for name in subject.request},
        "change": {name: [_plain(asked[name]), _plain(after[name])] for name in changed},
        "before": _plain(float(scores[0][index])),
        "after": _plain(float(scores[1][index])),
    }


def _plain(value: Any) -> Json:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return isoformat(value)

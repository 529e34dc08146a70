"""Data and models with which nothing can be shown: a clear refusal or a verdict, never a crash, never a promotion."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.nodes.evaluate import _refused
from engine.nodes.matrix import row_hashes

UserProject = Any  # see conftest.py
GATES = """gates:
  test_size: {rows: 100, positives: 10, negatives: 10}
  farther: {kind: dir, change: {distance: "distance + 30"}, direction: up, severity: warn}
  leaks: {kind: leakage}
  fair: {kind: fairness, group: driver, measure: equal_opportunity, max_gap: 0.9, min_rows: 20}
  learns: {kind: training}"""


def each(text: str, change: Callable[[list[str]], list[str]]) -> str:
    """Change every row of the file."""
    head, *rows = text.splitlines()
    return "\n".join([head, *(",".join(change(row.split(","))) for row in rows)]) + "\n"


def few(text: str) -> str:
    lines = text.splitlines()
    return "\n".join([lines[0], lines[10], lines[3000], lines[3900]]) + "\n"


BAD: dict[str, tuple[Callable[[str], str], int, str]] = {
    "a constant label": (lambda text: each(text, lambda row: [*row[:5], "0"]), 5, "one class only"),
    "a test of one class": (
        lambda text: each(text, lambda row: [*row[:5], row[5] if row[4] < "2024-01-25" else "1"]), 3, "too few negatives",
    ),
    "three rows": (few, 5, "too few"),
    "a feature without any value": (lambda text: each(text, lambda row: [*row[:2], "", *row[3:]]), 0, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_or_judged(project: UserProject, name: str) -> None:
    spoil, code, words = BAD[name]
    path = project.root / "data" / "rides.csv"
    path.write_text(spoil(path.read_text()))
    project.edit("conf/pipeline/rides.yaml", "gates: {test_size: {rows: 100, positives: 10, negatives: 10}}", GATES)
    outcome = project.engine("run", "pipeline=rides", "-q", "--json")
    answer = outcome.json
    assert "Traceback" not in outcome.err
    if code:
        assert outcome.code == code, outcome.out
        assert answer["promoted"] is False
        gates = project.record("1")["gates"]
        assert words in (answer["error"] or " ".join(gate["reason"] for gate in gates))
    else:
        assert answer["status"] == "succeeded"


def test_a_challenger_trained_on_the_holdout_is_refused(tmp_path: Any) -> None:
    rows = pl.DataFrame({"row_id": ["a", "b", "c"]})
    np.save(tmp_path / "trained_on.npy", row_hashes(pl.Series(["b", "c", "z"])), allow_pickle=False)
    work: Any = SimpleNamespace(inputs={"model": SimpleNamespace(path=tmp_path)})
    assert _refused(work, rows) == {"challenger": "the challenger was trained on 2 of the 3 test rows"}
    np.save(tmp_path / "trained_on.npy", row_hashes(pl.Series(["z"])), allow_pickle=False)
    assert _refused(work, rows) == {}

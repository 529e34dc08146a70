"""docs/features.md: its YAML compiles, its cases pass, its tables are what the engine gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import yaml

from engine.features.case_runner import run_cases
from engine.features.cases import check_cases
from engine.features.expression import check, parse
from engine.features.lowering import evaluate, lower
from engine.features.program import CompileResult, compile_program
from engine.features.timestamps import TIMESTAMP, moment_of
from engine.features.typing_rules import SIGNATURES
from engine.spec import FeatureTestSpec, LabelSpec, SourceSpec, SpineSpec, rebuild
from engine.spec.aggregates import EXAMPLES
from tests.features import worlds as w

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
BLOCKS = [yaml.load(text, yaml.BaseLoader) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
ROWS = re.findall(r"^\| `(.+?)` \| (.+?) \|$", PAGE.split("## Expressions")[1].split("## The label")[0], re.MULTILINE)


def values(node: Any) -> Any:
    """Plain YAML values, with moments left as texts, as the engine reads them."""
    if isinstance(node, dict):
        return {key: values(value) for key, value in node.items()}
    if isinstance(node, list):
        return [values(value) for value in node]
    loaded = yaml.safe_load(node)
    return loaded if isinstance(loaded, bool | int | float) or loaded is None else node


def compiled() -> CompileResult:
    document: dict[str, Any] = {"features": {}}
    for block in map(values, BLOCKS):
        document["features"] |= block.get("features", {})
        document |= {key: value for key, value in block.items() if key not in {"features", "tests"}}
    sources = {
        name: rebuild(SourceSpec, {key: value for key, value in source.items() if key != "path"}, w.Nowhere())
        for name, source in document["sources"].items()
    }
    spine, label = msgspec.convert(document["spine"], SpineSpec), msgspec.convert(document["label"], LabelSpec)
    return compile_program(w.typed(document["features"]), spine, label, sources)


def test_the_declarations_compile_and_the_cases_pass() -> None:
    result = compiled()
    tests = msgspec.convert(values(BLOCKS[-1])["tests"], dict[str, FeatureTestSpec])
    check_cases(tests, result)
    assert len(tests) == 2
    for case in run_cases(tests, result):
        assert [item for item in case.compared if not item.equal] == []


@pytest.mark.parametrize(("text", "expected"), ROWS)
def test_an_expression_gives_what_the_table_says(text: str, expected: str) -> None:
    tree = parse(text.replace("\\|", "|"))
    check(tree, {"event_time": "timestamp"})
    frame = pl.DataFrame({"event_time": pl.Series([moment_of("2024-02-29T23:30:00Z")]).cast(TIMESTAMP)})
    found = evaluate(lower({"x": tree}, {"event_time": "timestamp"}), frame)["x"][0]
    shown = (
        {None: "null", True: "true", False: "false"}[found] if found is None or isinstance(found, bool) else repr(found)
    )
    assert shown == expected


def test_every_function_and_aggregate_is_described() -> None:
    used = {name for text, _ in ROWS for name in re.findall(r"[A-Z_0-9]+(?=\()", text)}
    assert {name.upper() for name, signature in SIGNATURES.items() if signature.callable} <= used
    assert all(f"`{name}: {{" in PAGE for name in EXAMPLES)

"""The generated JSON Schemas: valid, deterministic, in step with the specs, and of use to an editor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from engine.components import load_catalogue
from engine.config import check_schemas, generate_schemas, shipped_plugins, write_schemas
from engine.config.files import read_yaml
from engine.project import shipped
from engine.spec import PipelineSpec, SettingsSpec


@pytest.fixture
def schemas(prepared) -> dict[str, dict]:
    return {name: json.loads(content) for name, content in generate_schemas(prepared[1]).items()}


def test_the_bytes_do_not_depend_on_the_run(prepared) -> None:
    assert generate_schemas(prepared[1]) == generate_schemas(prepared[1])


def test_each_is_a_valid_schema_whose_references_lead_somewhere(schemas) -> None:
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        for reference in references(schema):
            assert reference.removeprefix("#/$defs/") in schema["$defs"], (name, reference)


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for item in node for found in references(item)] if isinstance(node, list) else []


def test_every_key_of_the_root_is_described(schemas) -> None:
    keys = {*SettingsSpec.__struct_encode_fields__, *PipelineSpec.__struct_encode_fields__}
    assert schemas["strict/config.json"]["properties"].keys() == keys
    assert schemas["editor/pipeline.json"]["properties"].keys() == keys | {"defaults", "hydra"}


def test_the_strict_schema_admits_what_loads(prepared, schemas) -> None:
    Draft202012Validator(schemas["strict/config.json"]).validate(dict(prepared[0].values))
    for group in ("split", "train", "gates", "sources", "features", "execute"):
        Draft202012Validator(schemas[f"strict/{group}.json"]).validate(prepared[0].values[group])


@pytest.mark.parametrize(
    "path", ["pipeline/loans", "split/by_time", "split/by_chance", "train/forest", "gates/standard"]
)
def test_the_editor_schema_admits_the_files(stage, schemas, path: str) -> None:
    values = read_yaml(stage.root / "shipped" / "conf" / f"{path}.yaml", path).values
    Draft202012Validator(schemas[f"editor/{path.split('/', maxsplit=1)[0]}.json"]).validate(values)


@pytest.mark.parametrize(
    "document",
    [
        {"defaults": ["loans", {"/train": "forest"}, "_self_"]},
        {"train": {"trees": "${execute.workers}"}},
        {"train": {"kind": "forest", "params": {"depth": "???"}}},
        {"train": "${other}", "features": {"a": "${features.b}", "c": {"expr": "${x}", "tags": ["${y}"]}}},
        {"execute": {"workers": "${oc.decode:${env:N,1}}"}},
        {"sources": {"loans": {"kind": "csv"}}},
        {},
    ],
)
def test_the_editor_schema_admits_partial_files_and_interpolations(schemas, document: dict) -> None:
    Draft202012Validator(schemas["editor/pipeline.json"]).validate(document)


@pytest.mark.parametrize(
    "document",
    [
        {"trian": {}},
        {"train": {"kind": "forest", "tres": 3}},
        {"train": {"kind": "forest", "trees": "many"}},
        {"train": {"kind": "forrest"}},
        {"features": {"a": {"expr": "x", "off": 1}}},
        {"features": {"a": {"from": "loans", "window": "7 days"}}},
        {"execute": {"workers": 0}},
        {"evaluate": {"metrics": [3]}},
    ],
)
def test_the_editor_schema_still_finds_mistakes(schemas, document: dict) -> None:
    assert not Draft202012Validator(schemas["editor/pipeline.json"]).is_valid(document)


def test_writing_makes_checking_silent_and_any_byte_loud(prepared, tmp_path: Path) -> None:
    catalogue = prepared[1]
    names = list(generate_schemas(catalogue))
    assert check_schemas(tmp_path / "schemas", catalogue) == names
    assert write_schemas(tmp_path / "schemas", catalogue) == names
    assert check_schemas(tmp_path / "schemas", catalogue) == []
    (tmp_path / "schemas" / names[0]).write_bytes(b"{}")
    (tmp_path / "schemas" / "left_over.json").write_bytes(b"{}")
    assert check_schemas(tmp_path / "schemas", catalogue) == sorted([names[0], "left_over.json"])
    assert write_schemas(tmp_path / "schemas", catalogue) == sorted([names[0], "left_over.json"])
    assert check_schemas(tmp_path / "schemas", catalogue) == []
    assert not (tmp_path / "schemas" / "left_over.json").exists()


def test_shipped_files_fit_the_editor_schema_of_shipped_plugins(tmp_path: Path) -> None:
    catalogue = load_catalogue(tmp_path, shipped_plugins())
    schemas = {name: json.loads(content) for name, content in generate_schemas(catalogue).items()}
    for group in ("split", "train", "gates"):
        for file in sorted((shipped("conf") / group).glob("*.yaml")):
            found = read_yaml(file, file.name)
            assert found.problems == ()
            Draft202012Validator(schemas[f"editor/{group}.json"]).validate(found.values)

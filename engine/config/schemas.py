"""The published JSON Schemas as files: `strict/`, `editor/`, `records/`. Called by `engine schema write` and `check`.

A file's bytes depend on the spec classes, the records and the components of the catalogue, and on nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine import (
    analysis_records,
    backtest_records,
    ci_records,
    data_records,
    experiment_records,
    loop_records,
    model_records,
    online_records,
    records,
    score_records,
    sweep_records,
)
from engine.components import Catalogue, Role
from engine.spec.schema import ParamsByRole, Schema, config_schema, editor_schema, group_schema, record_schema

ROLES: tuple[Role, ...] = (
    "source",
    "trainer",
    "splitter",
    "gate",
    "analysis",
    "trigger",
    "monitor",
    "notifier",
    "tracker",
)
PUBLISHED: tuple[type[msgspec.Struct], ...] = (
    records.RunRecord,
    records.RunAnswer,
    records.Event,
    records.NodeResult,
    records.GateResult,
    records.ConfigValue,
    records.ModelVersion,
    records.LedgerEntry,
    records.FeatureTestReport,
    records.FeatureExplanation,
    records.PredictAnswer,
    records.ServeStart,
    records.FeedbackAnswer,
    records.ArmOutcome,
    ci_records.CiReport,
    ci_records.CiBaseline,
    score_records.ScoreReport,
    analysis_records.AnalysisAnswer,
    analysis_records.AnalysisDocument,
    model_records.ProductionAnswer,
    model_records.ListedModel,
    model_records.VerifyAnswer,
    model_records.DrillAnswer,
    model_records.ExportAnswer,
    records.RolloutState,
    data_records.SnapshotSource,
    data_records.SnapshotCommit,
    data_records.Quarantined,
    data_records.SnapshotDiff,
    data_records.TableProfile,
    data_records.Validation,
    data_records.GarbageReport,
    online_records.MaterializeReport,
    online_records.ParityReport,
    sweep_records.SweepRecord,
    sweep_records.TrialRecord,
    *loop_records.LOOP_RECORDS,
    *backtest_records.BACKTEST_RECORDS,
    experiment_records.RunDiff,
    experiment_records.Reproduction,
)


def params_by_role(catalogue: Catalogue) -> ParamsByRole:
    """Give every component's parameter class."""
    return {role: {name: component.params for name, component in catalogue.of(role).items()} for role in ROLES}


def generate_schemas(catalogue: Catalogue) -> Mapping[str, bytes]:
    """Generate every schema file: its path under `schemas/`, and its bytes."""
    strict = config_schema(params_by_role(catalogue))
    schemas: dict[str, Schema] = {"strict/config.json": strict, "editor/config.json": editor_schema(strict)}
    # A pipeline file stands in the root, so it is a whole configuration with some keys left to others.
    schemas["editor/pipeline.json"] = {**editor_schema(strict), "title": "Plumbline pipeline"}
    for key, schema in strict["properties"].items():
        if _is_group(schema, strict):
            schemas[f"strict/{key}.json"] = group_schema(strict, key)
            schemas[f"editor/{key}.json"] = editor_schema(group_schema(strict, key))
    schemas |= {f"records/{_file_name(record)}.json": record_schema(record) for record in PUBLISHED}
    return {name: _encode(schema) for name, schema in sorted(schemas.items())}


def write_schemas(folder: Path, catalogue: Catalogue) -> list[str]:
    """Write the schema files and remove those that are no longer generated; gives the names that changed."""
    changed = check_schemas(folder, catalogue)
    for name, content in generate_schemas(catalogue).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in changed:
        if name not in generate_schemas(catalogue):
            (folder / name).unlink()
    return changed


def check_schemas(folder: Path, catalogue: Catalogue) -> list[str]:
    """Name the files that differ by any byte from what would be generated, are missing, or are too many."""
    wanted = generate_schemas(catalogue)
    found = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.json")} if folder.is_dir() else {}
    )
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def _is_group(schema: Schema, strict: Schema) -> bool:
    """A key can be a folder of options when its value is a mapping."""
    if "$ref" in schema:
        return _is_group(strict["$defs"][schema["$ref"].removeprefix("#/$defs/")], strict)
    return schema.get("type") in ("object", ["object", "string"]) or any(
        _is_group(branch, strict) for branch in schema.get("anyOf", ())
    )


def _file_name(record: type[msgspec.Struct]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", record.__name__).lower()


def _encode(schema: Schema) -> bytes:
    return msgspec.json.format(msgspec.json.encode(schema, order="deterministic"), indent=2) + b"\n"

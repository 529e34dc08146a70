"""JSON Schemas (draft 2020-12) of what YAML may say, generated from the spec classes and the components' parameters.

Enters the parameter classes by role and name; leaves schemas as plain JSON. Two a group: strict for a composed
configuration, editor for files (also `defaults:`, `${...}`, `???`, and files that leave keys out). Kinds are told apart
by `if`/`then` on the distinguishing key, never by a bare `anyOf`, so that a validator's complaint is about the branch
that the author meant.
Pure; `engine.config.schemas` writes the files, `engine.config.diagnosis` validates with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from engine.spec.analysis import AnalysisSpec
from engine.spec.base import Identifier
from engine.spec.features import FEATURE_KINDS
from engine.spec.monitoring import MonitorSpec, NotifierSpec
from engine.spec.pipeline import PipelineSpec, SettingsSpec
from engine.spec.sources import SourceSpec
from engine.spec.training import BaselineSpec, GateSpec, SplitSpec, TrackerSpec, TrainSpec
from engine.spec.triggers import TriggerSpec

Schema: TypeAlias = dict[str, Any]
ParamsByRole: TypeAlias = Mapping[str, Mapping[str, type[msgspec.Struct]]]
"""Role, then component name, to the class of its parameters."""

DRAFT = "https://json-schema.org/draft/2020-12/schema"
INTERPOLATION = {
    "type": "string",
    "pattern": r"\$\{|^\?\?\?$",
    "description": "an interpolation, or ??? for a value to come",
}

# Which role fills a key of the root, by which spec class, and whether the key holds many by name.
COMPONENT_KEYS: dict[str, tuple[str, type[msgspec.Struct], bool]] = {
    "sources": ("source", SourceSpec, True),
    "split": ("splitter", SplitSpec, False),
    "train": ("trainer", TrainSpec, False),
    "baseline": ("trainer", BaselineSpec, False),
    "gates": ("gate", GateSpec, True),
    "analysis": ("analysis", AnalysisSpec, True),
    "triggers": ("trigger", TriggerSpec, True),
    "monitors": ("monitor", MonitorSpec, True),
    "notifiers": ("notifier", NotifierSpec, True),
    "trackers": ("tracker", TrackerSpec, True),
}


def config_schema(params: ParamsByRole) -> Schema:
    """Describe a whole composed configuration, strictly: settings and pipeline side by side in the root."""
    definitions: dict[str, Schema] = {}
    properties: dict[str, Schema] = {}
    required: list[str] = []
    roots: tuple[type[msgspec.Struct], ...] = (SettingsSpec, PipelineSpec)
    for spec in roots:
        plain = [
            field for field in msgspec.structs.fields(spec) if field.encode_name not in {*COMPONENT_KEYS, "features"}
        ]
        part = _describe(
            msgspec.defstruct(spec.__name__, [_as_tuple(field) for field in plain], kw_only=True), "", definitions
        )
        properties |= part["properties"]
        required += [field.encode_name for field in msgspec.structs.fields(spec) if field.required]
    for key, (role, spec, many) in COMPONENT_KEYS.items():
        one = _component(key, role, spec, params.get(role, {}), definitions)
        properties[key] = _named(one) if many else one
        if key not in required:
            properties[key] = _with_default(properties[key], key)
    properties["features"] = {
        "type": "object",
        "additionalProperties": _feature(definitions),
        "description": "columns, by name",
    }
    return {
        "$schema": DRAFT,
        "title": "Plumbline configuration",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def group_schema(config: Schema, key: str) -> Schema:
    """Cut the schema of one key out of the whole, with just the definitions that it needs."""
    return _prune(
        {"$schema": DRAFT, "title": f"Plumbline {key}", **config["properties"][key], "$defs": config["$defs"]}
    )


def editor_schema(strict: Schema) -> Schema:
    """Loosen a strict schema for files as people write them: nothing is required, any value may be an interpolation."""
    loose: Schema = _loosen(strict, at_root=True)
    if "properties" not in loose:
        loose["properties"] = {}
    # The root of a file also has what Hydra reads there.
    loose["properties"] |= {
        "defaults": {
            "type": "array",
            "items": {"type": ["string", "object"]},
            "description": "files that this one builds on",
        },
        "hydra": {"type": "object", "description": "settings of Hydra itself"},
    }
    loose["$defs"] = {**loose.get("$defs", {}), "interpolation": INTERPOLATION}
    return loose


def record_schema(record: type[msgspec.Struct]) -> Schema:
    """Describe one published record; unknown fields are allowed, since records only grow."""
    definitions: dict[str, Schema] = {}
    return {"$schema": DRAFT, **_describe(record, "", definitions), "$defs": dict(sorted(definitions.items()))}


def _describe(kind: type[msgspec.Struct], prefix: str, definitions: dict[str, Schema]) -> Schema:
    """Describe a struct; what it refers to goes to `definitions` under `prefix`. Prose is joined to one line."""
    _, components = msgspec.json.schema_components([kind], ref_template=f"#/$defs/{prefix}{{name}}")
    own: Schema = components.pop(kind.__name__)
    definitions |= {prefix + name: _tidy(schema) for name, schema in components.items()}
    return _tidy(own)  # type: ignore[no-any-return]


def _component(
    key: str,
    role: str,
    spec: type[msgspec.Struct],
    known: Mapping[str, type[msgspec.Struct]],
    definitions: dict[str, Schema],
) -> Schema:
    """Describe a component's use: the spec's keys and the component's own, side by side, chosen by `kind`."""
    shared = msgspec.structs.fields(spec)
    plain = [_as_tuple(field) for field in shared if field.encode_name != "params"]
    common = _describe(msgspec.defstruct(spec.__name__, plain, kw_only=True), "", definitions)
    branches = []
    for name, params in sorted(known.items()):
        label = f"{key}.{name}"
        own = _describe(params, f"{label}.", definitions)
        definitions[label] = {
            "title": f"{role} {name}",
            "type": "object",
            "description": own.get("description", ""),
            "properties": {**common["properties"], **own["properties"], "kind": {"const": name}},
            "required": list(dict.fromkeys([*common["required"], *own["required"]])),
            "additionalProperties": False,
        }
        branches.append(
            {
                "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{label}"},
            }
        )
    kind = {"enum": sorted(known), "description": f"which {role}"}
    return {
        "type": "object",
        "description": _tidy_text(spec.__doc__),
        "properties": {"kind": kind},
        "required": ["kind"],
        **({"allOf": branches} if branches else {}),
    }


def _feature(definitions: dict[str, Schema]) -> Schema:
    branches = []
    for key, spec in FEATURE_KINDS.items():
        label = f"feature.{key}"
        definitions[label] = _describe(spec, "", definitions)
        branches.append({"if": {"required": [key]}, "then": {"$ref": f"#/$defs/{label}"}})
    return {"type": "object", "oneOf": [{"required": [key]} for key in FEATURE_KINDS], "allOf": branches}


def _named(one: Schema) -> Schema:
    names = msgspec.json.schema(Identifier)
    return {
        "type": "object",
        "propertyNames": {key: names[key] for key in ("pattern", "maxLength")},
        "additionalProperties": one,
    }


def _with_default(schema: Schema, key: str) -> Schema:
    """An optional component may be switched off with null; optional many are empty by default; monitors have a full set."""
    if key in {"monitors", "analysis"}:
        # What holds for a mapping says nothing of a text, so a mistake inside is told at its own place.
        full_set = {"if": {"type": "string"}, "then": {"const": "default", "description": "the full set"}}
        return {**schema, **full_set, "type": ["object", "string"], "default": {}}
    if COMPONENT_KEYS[key][2]:
        return {**schema, "default": {}}
    return {"anyOf": [schema, {"type": "null"}], "default": None}


def _as_tuple(field: msgspec.structs.FieldInfo) -> tuple[str, Any, Any]:
    default = msgspec.field(name=field.encode_name)
    if field.default is not msgspec.NODEFAULT:
        default = msgspec.field(name=field.encode_name, default=field.default)
    elif field.default_factory is not msgspec.NODEFAULT:
        default = msgspec.field(name=field.encode_name, default_factory=field.default_factory)
    return (field.name, field.type, default)


def _tidy(node: Any) -> Any:
    """Join docstrings to one line, and drop msgspec's docstring of a class that has none of its own."""
    if isinstance(node, dict):
        tidied = {
            key: _tidy_text(value) if key == "description" and isinstance(value, str) else _tidy(value)
            for key, value in node.items()
        }
        return {key: value for key, value in tidied.items() if not (key == "description" and value == "")}
    if isinstance(node, list | tuple):
        return [_tidy(item) for item in node]
    return node


def _tidy_text(text: str | None) -> str:
    words = " ".join((text or "").split())
    return "" if words.startswith("A base class for defining efficient serializable objects") else words


# Where a schema's value is a schema, a list of schemas, or a map of schemas.
_NESTED, _LISTS, _MAPS = ("items", "additionalProperties", "then"), ("anyOf", "allOf"), ("properties", "$defs")


def _loosen(schema: Schema, *, at_root: bool = False, described: bool = True) -> Schema:
    """Drop `required` and admit an interpolation for every value; a condition (`if`) keeps its `required`."""
    loose = {key: value for key, value in schema.items() if key not in {"required", "oneOf"}}
    for key in _NESTED:
        if isinstance(loose.get(key), dict):
            loose[key] = _loosen(loose[key]) if key == "then" else _or_interpolation(_loosen(loose[key]))
    for key in _LISTS:
        if key in loose:
            loose[key] = [_loosen(item) for item in loose[key]]
    for key in _MAPS:
        if key in loose:
            convert = _or_interpolation if key == "properties" else (lambda item: item)
            loose[key] = {name: convert(_loosen(item)) for name, item in loose[key].items()}
    return loose if at_root or described else {}


def _or_interpolation(schema: Schema) -> Schema:
    """Admit an interpolation beside a value; a text without limits admits it already, and `kind` decides branches."""
    if schema.get("type") == "string" and not {"pattern", "maxLength", "enum"} & schema.keys():
        return schema
    if "const" in schema or not schema:
        return schema
    outer: Schema = {key: schema[key] for key in ("description", "default", "title") if key in schema}
    inner = {key: value for key, value in schema.items() if key not in outer}
    return {**outer, "anyOf": [inner, {"$ref": "#/$defs/interpolation"}]}


def _prune(schema: Schema) -> Schema:
    """Keep only the definitions that can be reached."""
    definitions, needed = schema["$defs"], set()
    pending = list(_references({key: value for key, value in schema.items() if key != "$defs"}))
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += _references(definitions[name])
    kept = {name: definitions[name] for name in sorted(needed)}
    return {**{key: value for key, value in schema.items() if key != "$defs"}, **({"$defs": kept} if kept else {})}


def _references(node: Any) -> Iterable[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix("#/$defs/")
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)

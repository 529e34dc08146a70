"""The OpenAPI document of a served model, generated from its own request schema. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.serve.mistakes import LONGEST_ID
from engine.serve.package import Served

_TYPES: Mapping[str, Mapping[str, Any]] = {
    "bool": {"type": ["boolean", "null"]},
    "i64": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
    "f64": {"type": ["number", "null"]},
    "str": {"type": ["string", "null"]},
    "timestamp": {"type": ["string", "null"], "format": "date-time"},
}
_EXAMPLES = {"bool": True, "i64": 1, "f64": 1.5, "str": "text", "timestamp": "2026-01-31T12:00:00Z"}


def row_schema(served: Served) -> dict[str, Any]:
    """The JSON Schema of one row."""
    fields = served.program.spine.request
    return {
        "type": "object",
        "required": list(fields),
        "additionalProperties": False,
        "properties": {
            **{name: dict(_TYPES[type_]) for name, type_ in fields.items()},
            "event_time": {**_TYPES["timestamp"], "description": "the moment of the request; now when absent"},
            "prediction_id": {
                "type": ["string", "null"], "minLength": 1, "maxLength": LONGEST_ID,
                "description": "names the answer for later labels; made by the server when absent",
            },
        },
        "example": example_row(served),
    }  # fmt: skip


def example_row(served: Served) -> dict[str, Any]:
    """A row of the right types."""
    return {name: _EXAMPLES[type_] for name, type_ in served.program.spine.request.items()}


def openapi(served: Served, most_rows: int) -> dict[str, Any]:
    """The whole document."""
    row, many = {"$ref": "#/components/schemas/Row"}, {"$ref": "#/components/schemas/Rows"}
    answer = {"oneOf": [{"$ref": "#/components/schemas/Prediction"}, {"$ref": "#/components/schemas/Predictions"}]}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{served.version.name}", "version": str(served.version.version),
                 "description": f"Model {served.label}, package {served.version.digest}."},
        "paths": {
            "/predict": {"post": _operation("Score one row or many", {"oneOf": [row, many]}, answer)},
            "/events": {"post": _operation("Push events of a source; durable when acknowledged",
                                           {"oneOf": [_events_schema(served, name) for name in _pushable(served)] or [{}]},
                                           {"type": "object", "additionalProperties": {"type": "integer"}})},
            "/feedback": {"post": _operation("Give labels by prediction id, late or revised",
                                             {"oneOf": [{"$ref": "#/components/schemas/Label"}, _list("labels", "Label")]},
                                             {"type": "object", "properties": {"accepted": {"type": "integer"}}})},
            **{path: {"get": {"summary": words, "responses": {"200": {"description": "ok"}}}} for path, words in _READING.items()},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Row": row_schema(served),
                "Rows": {**_list("rows", "Row", most_rows)},
                "Prediction": _PREDICTION | {"properties": _PREDICTION["properties"] | {"score": _score(served)}},
                "Predictions": _list("predictions", "Prediction"),
                "Label": _LABEL,
                "Problem": _PROBLEM,
            },
        },
    }  # fmt: skip


_READING = {
    "/healthz": "Is the process alive",
    "/readyz": "What is served, and what is amiss",
    "/metrics": "Prometheus",
}
_PREDICTION: dict[str, Any] = {
    "type": "object",
    "required": ["prediction_id", "score", "model", "logged"],
    "properties": {
        "prediction_id": {"type": "string"},
        "score": {"type": ["number", "null"]},
        "model": {"type": "string", "description": "name:version"},
        "logged": {"type": "boolean", "description": "the answer is in the prediction log"},
        "outputs": {
            "type": "object",
            "description": "every class or quantile, where there are several",
            "additionalProperties": {"type": "number"},
        },
    },
}
_LABEL = {
    "type": "object",
    "required": ["prediction_id", "label"],
    "additionalProperties": False,
    "properties": {
        "prediction_id": {"type": "string"},
        "label": {
            "type": ["number", "boolean", "string", "null"],
            "description": "a class's name where there are several; null takes a label back",
        },
        "at": {"type": "string", "format": "date-time", "description": "when it came to be known; now when absent"},
    },
}
_PROBLEM = {
    "type": "object",
    "properties": {
        "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}, "hint": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object", "properties": {
            "path": {"type": "string"}, "message": {"type": "string"}, "value": {"type": "string"}, "allowed": {"type": "string"},
        }}},
    },
}  # fmt: skip


def _score(served: Served) -> dict[str, Any]:
    limits: dict[str, Any] = {"minimum": 0, "maximum": 1} if served.task == "binary" else {}
    if served.model.target.classes:
        limits = {"description": f"the place of the likeliest class among {', '.join(served.model.target.classes)}"}
    return {"type": ["number", "null"], **limits}


def _pushable(served: Served) -> tuple[str, ...]:
    return tuple(name for name in served.program.feature_sources if name in served.sources)


def _events_schema(served: Served, source: str) -> dict[str, Any]:
    columns = {name: dict(_TYPES[type_]) for name, type_ in served.sources[source].declared.items()}
    event = {"type": "object", "additionalProperties": False, "properties": columns}
    return {
        "type": "object",
        "required": ["source", "events"],
        "properties": {
            "source": {"const": source},
            "events": {"type": "array", "items": event},
            "token": {"type": "string"},
        },
    }


def _list(key: str, item: str, most: int | None = None) -> dict[str, Any]:
    items: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"$ref": f"#/components/schemas/{item}"}}
    if most is not None:
        items["maxItems"] = most
    return {"type": "object", "required": [key], "properties": {key: items}}


def _operation(summary: str, body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    problem = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    words = {"400": "not JSON", "401": "no token", "413": "too much at once", "422": "does not fit; every mistake with its path",
             "503": "overloaded or draining"}  # fmt: skip
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "answered", "content": {"application/json": {"schema": answer}}},
            **{status: {"description": text, **problem} for status, text in words.items()},
        },
    }

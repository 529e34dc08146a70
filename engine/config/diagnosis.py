"""Every mistake of a configuration whose shape is wrong, in people's words. Imported only when a conversion has failed.

`jsonschema` finds the mistakes against the strict schema, which chooses branches by `kind` or by a feature's
distinguishing key; its errors are said in our words. A misspelt key is not also reported as a missing one, and what
lies below a feature of no single kind is not reported at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from engine.components import Catalogue
from engine.config.composed import join_path
from engine.config.composition import SETTINGS_KEYS
from engine.config.schemas import params_by_role
from engine.config.wording import nearest, show_value
from engine.durations import DURATION_PATTERN, microseconds
from engine.errors import Problem
from engine.spec import FEATURE_KINDS
from engine.spec.aggregates import EXAMPLES
from engine.spec.schema import Schema, config_schema

_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing (null)",
}
# A whole number is written without a point, as msgspec has it.
_is_integer = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
_Validator: Any = extend(Draft202012Validator, type_checker=_is_integer)  # type: ignore[no-untyped-call]
_COMPONENT = re.compile(r"(source|trainer|splitter|gate) (\w+)")
_ALTERNATIVES = re.compile(r"\^\(([\w|]+)\)\$")


def diagnose(values: Mapping[str, Any], catalogue: Catalogue) -> list[Problem]:
    """Find every mistake in a whole composed configuration."""
    return _find(config_schema(params_by_role(catalogue)), values)


def diagnose_settings(values: Mapping[str, Any]) -> list[Problem]:
    """Find every mistake in the settings alone."""
    whole = config_schema({})
    properties = {key: whole["properties"][key] for key in SETTINGS_KEYS}
    return _find({**whole, "properties": properties, "required": []}, values)


def _find(schema: Schema, values: Mapping[str, Any]) -> list[Problem]:
    errors = sorted(
        _Validator(schema).iter_errors(values), key=lambda error: [str(part) for part in error.absolute_path]
    )
    problems = [problem for error in errors for problem in _translate(error)]
    return _without_echoes(problems)


def _without_echoes(problems: Iterable[Problem]) -> list[Problem]:
    """Drop repeats, what lies at or below a feature of no single kind, and a missing key that was merely misspelt."""
    unique = list(dict.fromkeys(problems))
    undecided = {problem.path for problem in unique if problem.message.startswith(_NOT_ONE_KIND)}
    misspelt = {
        ".".join([*problem.path.split(".")[:-1], problem.suggestion])
        for problem in unique
        if problem.message.startswith(_UNKNOWN_KEY) and problem.suggestion
    }
    return [
        problem
        for problem in unique
        if problem.path in undecided
        or not (
            any(problem.path.startswith(f"{path}.") for path in undecided)
            or (problem.message == _MISSING and problem.path in misspelt)
        )
        if problem.path not in undecided or problem.message.startswith(_NOT_ONE_KIND)
    ]


_UNKNOWN_KEY, _MISSING, _NOT_ONE_KIND = "unknown key", "missing: this key is required", "a feature has exactly one of"


def _translate(error: ValidationError) -> Iterator[Problem]:
    """Say one error of `jsonschema` in our words."""
    path = join_path(error.absolute_path) or "(configuration)"
    say = _bad_name if "propertyNames" in error.schema_path else _TRANSLATIONS.get(str(error.validator))
    if say is None:
        yield Problem(path, error.message, value=show_value(error.instance))
    else:
        yield from say(path, error)


def _unknown_keys(path: str, error: ValidationError) -> Iterator[Problem]:
    schema: Any = error.schema
    known = sorted(schema.get("properties", {}))
    component = _COMPONENT.fullmatch(str(schema.get("title", "")))
    message = f"{_UNKNOWN_KEY} of the {component[1]} `{component[2]}`" if component else _UNKNOWN_KEY
    instance: Any = error.instance
    for key in instance:
        if key not in known:
            near = nearest(str(key), known)
            yield Problem(_below(path, key), message, value=show_value(instance[key]),
                          allowed=() if near else tuple(known), suggestion=near)  # fmt: skip


def _missing_keys(path: str, error: ValidationError) -> Iterator[Problem]:
    wanted: Any = error.validator_value
    schema: Any = error.schema
    instance: Any = error.instance
    for key in wanted:
        if key not in instance:
            description = schema.get("properties", {}).get(key, {})
            allowed = tuple(map(str, description.get("enum", ()))) if isinstance(description, dict) else ()
            yield Problem(_below(path, key), _MISSING, allowed=allowed)


def _wrong_type(path: str, error: ValidationError) -> Iterator[Problem]:
    wanted: Any = error.validator_value
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    yield Problem(path, f"must be {' or '.join(_KINDS[name] for name in names)}", value=show_value(error.instance),
                  hint=_type_hint(names, error.instance))  # fmt: skip


def _type_hint(names: Sequence[str], value: Any) -> str | None:
    if "boolean" in names and isinstance(value, str) and value.lower() in {"yes", "no", "on", "off", "y", "n"}:
        return "write true or false: yes, no, on and off are texts"
    if names == ["string"] and isinstance(value, int | float):
        return f'quote it: "{json.dumps(value)}"'
    if {"integer", "number"} & set(names) and isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+", value):
        return "write it without quotes and without leading zeros"
    return None


def _not_among(path: str, error: ValidationError) -> Iterator[Problem]:
    choices: Any = error.validator_value
    allowed = [str(choice) for choice in (choices if error.validator == "enum" else [choices])]
    schema: Any = error.schema
    what = re.fullmatch(r"which (\w+)", str(schema.get("description", "")))
    message = f"no {what[1]} is called so" if what else "not one of the allowed values"
    yield Problem(path, message, value=show_value(error.instance), allowed=tuple(allowed),
                  suggestion=nearest(str(error.instance), allowed),
                  hint=_plugin_hint(what, allowed) or _aggregate_hint(str(error.instance), allowed))  # fmt: skip


def _plugin_hint(what: re.Match[str] | None, allowed: Sequence[str]) -> str | None:
    return f"list the plugin that brings a {what[1]} under `extra_plugins`" if what and not allowed else None


def _aggregate_hint(value: str, allowed: Sequence[str]) -> str | None:
    """Aggregates that take parameters are not written as a name."""
    if not set(allowed) >= {"n_distinct", "std"}:
        return None
    meant = value if value in EXAMPLES else nearest(value, EXAMPLES)
    return f"with parameters: {EXAMPLES[meant] if meant else ', '.join(EXAMPLES.values())}"


def _not_matching(path: str, error: ValidationError) -> Iterator[Problem]:
    pattern, value = str(error.validator_value), str(error.instance)
    schema: Any = error.schema
    alternatives = _ALTERNATIVES.fullmatch(pattern)
    if pattern == DURATION_PATTERN:
        message, hint = "not a duration", "a whole number and one of us, ms, s, m, h, d, w, as in 30d"
        yield Problem(path, message, value=show_value(value), hint=hint, suggestion=_mended_duration(value))
    elif alternatives:
        allowed = alternatives[1].split("|")
        yield Problem(path, "not one of the allowed values", value=show_value(value), allowed=tuple(allowed),
                      suggestion=nearest(value, allowed))  # fmt: skip
    elif pattern.startswith("^[A-Za-z_]") and "." in pattern.replace("\\.", ".")[10:]:
        yield Problem(path, "must be written source.column", value=show_value(value))
    elif pattern.startswith("^[A-Za-z_]"):
        yield Problem(path, "not a name: letters, digits and _, and no digit first", value=show_value(value))
    else:
        said = schema.get("description", f"does not match {pattern}")
        yield Problem(path, f"not written as needed: {said}", value=show_value(value))


def _mended_duration(text: str) -> str | None:
    """`7 days` is 7d: what a person probably meant."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]+)", text.strip())
    units = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "hr": "h", "day": "d", "week": "w"}
    unit = match and units.get(
        match[2].lower().removesuffix("s") or "s", match[2].lower() if len(match[2]) == 1 else None
    )
    mended = f"{int(match[1])}{unit}" if match and unit else ""
    try:
        microseconds(mended)
    except ValueError:
        return None
    return mended


def _limit(words: str) -> Callable[[str, ValidationError], Iterator[Problem]]:
    def say(path: str, error: ValidationError) -> Iterator[Problem]:
        yield Problem(path, words.format(error.validator_value), value=show_value(error.instance))

    return say


def _too_short(path: str, error: ValidationError) -> Iterator[Problem]:
    least = error.validator_value
    yield Problem(
        path,
        "must not be empty" if least == 1 else f"must not be shorter than {least} characters",
        value=show_value(error.instance),
    )


def _bad_name(path: str, error: ValidationError) -> Iterator[Problem]:
    name = str(error.instance)
    yield Problem(_below(path, name), "not a name: letters, digits and _, and no digit first", value=name)


def _one_kind(path: str, error: ValidationError) -> Iterator[Problem]:
    """The distinguishing key of a feature: none is there, or several."""
    if not isinstance(error.instance, Mapping):
        return  # the wrong type is reported by itself
    present = [key for key in FEATURE_KINDS if key in error.instance]
    keys = list(error.instance)
    wrong = next((key for key in keys if nearest(str(key), FEATURE_KINDS)), None)
    found = f"; it has {' and '.join(present)}" if present else ""
    meant = nearest(str(wrong), FEATURE_KINDS) if wrong is not None and not present else None
    value = None if present else show_value(error.instance)
    yield Problem(path, f"{_NOT_ONE_KIND} {', '.join(FEATURE_KINDS)}{found}", value=value, suggestion=meant)


def _alternatives(path: str, error: ValidationError) -> Iterator[Problem]:
    """Of several shapes, speak about the one that the value's type picks; else name the types that are possible."""
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.schema_path[0], []).append(inner)
    picked = [
        errors for errors in branches.values() if not any(not inner.path and _is_other_shape(inner) for inner in errors)
    ]
    if picked:
        for inner in picked[0]:
            yield from _translate(inner)
        return
    names = [
        str(inner.validator_value) for errors in branches.values() for inner in errors if inner.validator == "type"
    ]
    if "number" in names:
        names = [name for name in names if name != "integer"]
    words = [_KINDS[name] for name in dict.fromkeys(names)]
    yield Problem(
        path, f"must be {' or '.join(words)}", value=show_value(error.instance), hint=_type_hint(names, error.instance)
    )


def _is_other_shape(error: ValidationError) -> bool:
    """Say whether a branch is about another kind of value: a list of names is, where the value is no name."""
    named = error.validator == "enum" and isinstance(error.instance, dict | list)
    return error.validator == "type" or named


def _below(path: str, key: Any) -> str:
    return str(key) if path == "(configuration)" else f"{path}.{key}"


_TRANSLATIONS: dict[str, Callable[[str, ValidationError], Iterator[Problem]]] = {
    "additionalProperties": _unknown_keys,
    "required": _missing_keys,
    "type": _wrong_type,
    "enum": _not_among,
    "const": _not_among,
    "pattern": _not_matching,
    "anyOf": _alternatives,
    "oneOf": _one_kind,
    "minimum": _limit("must be at least {}"),
    "maximum": _limit("must be at most {}"),
    "exclusiveMinimum": _limit("must be more than {}"),
    "exclusiveMaximum": _limit("must be less than {}"),
    "multipleOf": _limit("must be a multiple of {}"),
    "minLength": _too_short,
    "maxLength": _limit("must not be longer than {} characters"),
    "minItems": _limit("must have at least {} items"),
    "minProperties": _limit("must have at least {} entry"),
    "maxItems": _limit("must have at most {} items"),
}

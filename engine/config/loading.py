"""From composed values to typed specs: strict conversion first, and only when that fails the search for every mistake.

In YAML a component's own parameters stand beside the spec's keys; here they are separated, and become `params` of the
class that the component declares. A feature's class follows from its distinguishing key. Called by `engine.api`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar

import msgspec

from engine.components import Catalogue, Component, PluginError, Role
from engine.config.composed import ComposedConfig, attach_places
from engine.config.composition import SETTINGS_KEYS
from engine.config.meaning import check_meaning, check_values
from engine.errors import ConfigError, NotFoundError, Problem
from engine.project import shipped
from engine.spec import FEATURE_KINDS, FeatureSpec, PipelineSpec, SettingsSpec, rebuild
from engine.spec.analysis import DEFAULT_ANALYSES
from engine.spec.monitoring import DEFAULT_MONITORS
from engine.spec.schema import COMPONENT_KEYS

S = TypeVar("S", bound=msgspec.Struct)
_WHOLE = "(configuration)"
_DEFAULTS = {"monitors": DEFAULT_MONITORS, "analysis": DEFAULT_ANALYSES}


class _Malformed(Exception):  # noqa: N818 - a signal, not an error: it leads to the search for all mistakes
    """The values do not fit; its text is told only if the schema finds nothing."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be converted, and why."""

    path: str
    error: Exception


class _Failed(Exception):  # noqa: N818 - as above, for several components of one key
    def __init__(self, failures: list[Failure]) -> None:
        super().__init__(len(failures))
        self.failures = failures


def load_plugins(config: ComposedConfig) -> tuple[str, ...]:
    """Name the plugins to load, the shipped and the project's own.

    When the lists themselves are wrong there are none: `load_spec` and `load_settings` report that with all else.
    """
    return _listed_plugins(config) or ()


def shipped_plugins() -> tuple[str, ...]:
    """Name the plugins that came with the engine, for what concerns all of them and no project, as the schemas do."""
    from engine.config.files import read_yaml  # noqa: PLC0415 - a command that composes nothing needs no YAML

    file = read_yaml(shipped("conf") / "builtin.yaml", "conf/builtin.yaml")
    if file.problems:
        raise ConfigError(file.problems)
    return msgspec.convert(file.values.get("plugins", []), tuple[str, ...])


def load_settings(config: ComposedConfig) -> SettingsSpec:
    """Convert the settings, which need no catalogue; raises `ConfigError` with every mistake and its place."""
    values = _settings(config.values)
    problems = check_values(values)
    if not problems:
        try:
            return msgspec.convert(values, SettingsSpec, strict=True)
        except msgspec.ValidationError as error:
            from engine.config.diagnosis import diagnose_settings  # noqa: PLC0415 - jsonschema costs a tenth of a second

            problems = diagnose_settings(values) or [Problem("settings", str(error))]
    raise ConfigError(_in_order(attach_places(problems, config)))


Known: TypeAlias = dict[int, tuple[Any, Any]]
"""What values of the root's keys became, by the identity of the value, which is kept so that nothing else gets it."""


def load_spec(config: ComposedConfig, catalogue: Catalogue, known: Known | None = None) -> PipelineSpec:
    """Convert and check the pipeline; raises `ConfigError` with every mistake and its place, those of settings too.

    With `known`, what was converted before for the very same value (of another trial, of the same catalogue) is taken.
    """
    if _listed_plugins(config) is None:
        load_settings(config)  # which raises: without plugins every component would seem unknown
    known = {} if known is None else known
    fresh = {key: value for key, value in config.values.items() if id(value) not in known}
    parts, failures = _convert_parts(config.values, catalogue, known)
    problems = [*check_values(fresh), *check_meaning(parts, config.values.keys())]
    if not failures and not problems:
        return PipelineSpec(**parts)
    if failures:
        said = {problem.path for problem in problems}
        problems += [problem for problem in _diagnose(config, catalogue) if problem.path not in said]
        problems += _unsaid(failures, problems)
    raise ConfigError(_in_order(attach_places(problems, config)))


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[Any, ...]:
    return tuple(msgspec.structs.fields(kind))


def _unsaid(failures: Sequence[Failure], problems: Sequence[Problem]) -> list[Problem]:
    """What no schema can say: the checks that a component makes of its own parameters."""
    paths = [problem.path for problem in problems]
    found = []
    for failure in failures:
        told = any(path == failure.path or path.startswith(f"{failure.path}.") for path in paths)
        if told or (problems and (failure.path == _WHOLE or not isinstance(failure.error, msgspec.ValidationError))):
            continue
        words, _, inside = str(failure.error).partition(" - at `$")
        found.append(Problem(failure.path + inside.rstrip("`"), words))
    return found


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """File by file and line by line, then what the command line brought, then what is nowhere."""

    def rank(problem: Problem) -> tuple[int, str, int, int]:
        if problem.override or not problem.places:
            return (1 if problem.override else 2, "", 0, 0)
        place = problem.places[0]
        return (0, place.file, place.line, place.column)

    return sorted(problems, key=rank)


def _listed_plugins(config: ComposedConfig) -> tuple[str, ...] | None:
    lists = {key: config.values[key] for key in ("plugins", "extra_plugins") if key in config.values}
    try:
        settings = msgspec.convert(lists, SettingsSpec)
    except msgspec.ValidationError:
        return None
    return (*settings.plugins, *settings.extra_plugins)


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in SETTINGS_KEYS}


def _diagnose(config: ComposedConfig, catalogue: Catalogue) -> list[Problem]:
    from engine.config.diagnosis import diagnose  # noqa: PLC0415 - jsonschema costs a tenth of a second

    return diagnose(config.values, catalogue)


def _convert_parts(
    values: Mapping[str, Any], catalogue: Catalogue, known: Known
) -> tuple[dict[str, Any], list[Failure]]:
    """Convert each key of the root that can be converted; gives them by field name, and what failed."""
    fields = {field.encode_name: field for field in _fields(PipelineSpec)}
    unknown = values.keys() - fields.keys() - set(SETTINGS_KEYS)
    missing = [name for name, field in fields.items() if field.required and name not in values]
    failures: list[Failure] = []
    if unknown or missing:
        words = f"unknown keys {sorted(unknown)}, missing keys {missing}"
        failures.append(Failure(_WHOLE, _Malformed(words)))
    try:
        msgspec.convert(_settings(values), SettingsSpec, strict=True)
    except msgspec.ValidationError as error:
        failures.append(Failure(_WHOLE, error))
    parts: dict[str, Any] = {}
    for key, value in values.items():
        if key in fields:
            try:
                part = (
                    known[id(value)][1] if id(value) in known else _convert_key(key, value, fields[key].type, catalogue)
                )
                parts[fields[key].name] = part
                if isinstance(value, dict):
                    known[id(value)] = (value, part)
            except _Failed as failed:
                failures += failed.failures
            except (_Malformed, msgspec.ValidationError) as error:
                failures.append(Failure(key, error))
    return parts, failures


def _convert_key(key: str, value: Any, kind: Any, catalogue: Catalogue) -> Any:
    if value == "default" and key in _DEFAULTS:
        value = _DEFAULTS[key]
    if key == "features":
        return {name: _convert_feature(feature) for name, feature in _mapping(value).items()}
    if key not in COMPONENT_KEYS or (value is None and key == "baseline"):
        return msgspec.convert(value, kind, strict=True)
    role, spec, many = COMPONENT_KEYS[key]
    if many:
        names = msgspec.convert(list(_mapping(value)), list[_key_type(kind)], strict=True)  # type: ignore[misc]
        return _convert_many({f"{key}.{name}": value[name] for name in names}, role, spec, catalogue)  # type: ignore[arg-type]
    return _convert_component(spec, _component(role, value, catalogue), value)  # type: ignore[arg-type]


def _convert_many(values: Mapping[str, Any], role: Role, spec: type[S], catalogue: Catalogue) -> dict[str, S]:
    made, failures = {}, []
    for path, value in values.items():
        try:
            made[path.partition(".")[2]] = _convert_component(spec, _component(role, value, catalogue), value)
        except (_Malformed, msgspec.ValidationError) as error:
            failures.append(Failure(path, error))
    if failures:
        raise _Failed(failures)
    return made


def _key_type(kind: Any) -> Any:
    return kind.__args__[0]


def _component(role: Role, value: Any, catalogue: Catalogue) -> Component:
    kind = _mapping(value).get("kind")
    try:
        return catalogue.get(role, kind if isinstance(kind, str) else "")
    except NotFoundError as error:
        raise _Malformed(error.message) from None


def _convert_component(spec: type[S], component: Component, value: Mapping[str, Any]) -> S:
    shared = {field.encode_name for field in _fields(spec)} - {"params"}
    own = {field.encode_name for field in _fields(component.params)}
    if shared & own:
        names = ", ".join(sorted(shared & own))
        raise PluginError(
            f"the {component.role} `{component.name}` has parameters that are keys of every {component.role}: {names}"
        )
    params = msgspec.convert(
        {key: item for key, item in value.items() if key not in shared}, component.params, strict=True
    )
    written = {key: item for key, item in value.items() if key in shared}
    try:
        return rebuild(spec, written, params)
    except TypeError as error:  # a required key is missing
        raise _Malformed(str(error)) from None


def _convert_feature(value: Any) -> FeatureSpec:
    kinds = [kind for key, kind in FEATURE_KINDS.items() if key in _mapping(value)]
    if len(kinds) != 1:
        raise _Malformed("a feature has exactly one of " + ", ".join(FEATURE_KINDS))
    return msgspec.convert(value, kinds[0], strict=True)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _Malformed("a mapping is needed")
    return value

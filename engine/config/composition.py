"""Compose a pipeline: the project's files over the shipped ones, overrides over both, interpolations resolved.

`compose` does what a Hydra application does before its task, without Hydra's own node (logging, launchers, folders),
in a fraction of the time, and keeps where each value came from. `engine.config.application` runs the whole of Hydra and
comes back here for each job. Nothing here knows components: `engine.config.loading` checks what the values mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from engine.config.composed import ComposedConfig, Origin, attach_places, join_path
from engine.config.folders import PIPELINE, PRIMARY, search_path
from engine.config.interpolation import oversized, references, resolvers
from engine.config.kept import compose_once
from engine.config.wording import nearest, show_value
from engine.errors import ConfigError, Place, Problem
from engine.project import Project
from engine.spec import PipelineSpec, SettingsSpec

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from engine.config.files import YamlFile
    from engine.config.origins import OriginTree
    from engine.config.overrides import Overrides
    from engine.config.repository import Repository

SETTINGS_KEYS = tuple(field.encode_name for field in msgspec.structs.fields(SettingsSpec))
PIPELINE_KEYS = tuple(field.encode_name for field in msgspec.structs.fields(PipelineSpec))
ROOT_KEYS = (*SETTINGS_KEYS, *PIPELINE_KEYS)


def compose(project: Project, overrides: Sequence[str]) -> ComposedConfig:
    """Compose, or give what the same files and overrides composed to.

    Raises `ConfigError` with every mistake in files and overrides that is visible without components.
    """
    return compose_once(project, overrides, lambda variables: _compose(project, overrides, variables))


def _compose(project: Project, overrides: Sequence[str], variables: dict[str, str | None]) -> ComposedConfig:
    from engine.config.overrides import apply_values, read_overrides  # noqa: PLC0415 - Hydra costs a quarter of a second
    from engine.config.repository import Repository  # noqa: PLC0415

    repository = Repository(search_path(project))
    asked = read_overrides(overrides, repository, ROOT_KEYS)
    merged, origins, pipeline = merge_files(repository, asked)
    problems = apply_values(asked.values, merged, origins)
    if problems:
        raise ConfigError(problems)
    values, sources = resolve_values(merged, origins.flatten(), tuple(overrides), variables)
    values.setdefault("name", PurePosixPath(pipeline).name.removesuffix(".yaml"))
    file = repository.files.get(f"{PIPELINE}/{pipeline}")
    return ComposedConfig(values, sources, tuple(overrides), pipeline, Place(file.name, 1, 1) if file else None)


def list_pipelines(project: Project) -> list[str]:
    """Name the pipelines that a project can run, its own and the shipped ones."""
    from engine.config.repository import Repository  # noqa: PLC0415

    return Repository(search_path(project)).options(PIPELINE)


def merge_files(repository: Repository, asked: Overrides) -> tuple[DictConfig, OriginTree, str]:
    """Walk the defaults lists, then merge files and places in the same order."""
    from omegaconf import OmegaConf, flag_override  # noqa: PLC0415
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    from engine.config.hydra_internals import embed_in_package  # noqa: PLC0415
    from engine.config.origins import OriginTree  # noqa: PLC0415

    defaults, choices = _walk(repository, asked)
    config, origins = OmegaConf.create(), OriginTree()
    with flag_override(config, "no_deepcopy_set_nodes", True):  # noqa: FBT003 - OmegaConf's own signature
        for default in defaults:
            loaded = repository.read(default.config_path)
            content = embed_in_package(loaded, default.package).config
            file, package = repository.files[default.config_path], default.package or ""
            try:
                config.merge_with(content)
            except OmegaConfBaseException:
                raise ConfigError([_conflict(config, content, origins, (file, package))]) from None
            origins.add_file(file, package)
    OmegaConf.set_struct(config, True)  # noqa: FBT003 - OmegaConf's own signature
    return config, origins, str(choices.get("pipeline", ""))


def _conflict(config: DictConfig, content: Any, origins: OriginTree, adding: tuple[YamlFile, str]) -> Problem:
    """Name the value that is a list in one file and a mapping in another, with both places."""
    from omegaconf import OmegaConf  # noqa: PLC0415

    before = origins.flatten()
    path = _clash(OmegaConf.to_container(config, resolve=False), OmegaConf.to_container(content, resolve=False), ())
    origins.add_file(*adding)
    places = [found[path].place for found in (origins.flatten(), before) if path in found]
    message = "a list here and a mapping in another file: they cannot be merged"
    return Problem(path, message, places=tuple(place for place in places if place), hint="make both of the same kind")


def _clash(one: Any, other: Any, parts: tuple[str, ...]) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        found = (_clash(one[key], other[key], (*parts, str(key))) for key in one.keys() & other.keys())
        return next((path for path in found if path), "")
    return join_path(parts) if {type(one), type(other)} == {dict, list} else ""


def _walk(repository: Repository, asked: Overrides) -> tuple[list[Any], Mapping[str, str | None]]:
    from engine.config.hydra_internals import VERSION_BASE, HydraException, create_defaults_list, version  # noqa: PLC0415

    version.setbase(VERSION_BASE)
    try:
        found = create_defaults_list(
            repo=repository,
            config_name=PRIMARY,
            overrides_list=[override for override in asked.groups if override.key_or_group not in repository.unknown],
            prepend_hydra=False,
            skip_missing=False,
        )
    except (HydraException, ValueError) as error:
        raise ConfigError([*repository.problems, _explain(str(error), asked)]) from None
    except RecursionError:
        raise ConfigError([*repository.problems, repository.circle()]) from None
    choices = found.overrides.known_choices
    if repository.problems:
        raise ConfigError(repository.problems)
    if PIPELINE not in choices:
        raise ConfigError([_no_place_for_a_pipeline()])
    return found.defaults, choices


def _no_place_for_a_pipeline() -> Problem:
    hint = "add `- pipeline: ???` to its defaults list, after `- builtin` and `- _self_`"
    return Problem(
        "pipeline", "conf/config.yaml has no place for a pipeline", hint=hint, places=(Place("conf/config.yaml", 1, 1),)
    )


def _explain(error: str, asked: Overrides) -> Problem:
    """Say what Hydra's walk refused; `Could not override` is the one that people meet."""
    refused = re.search(r"Could not (override|delete) '([^'=]+)", error)
    if refused is None:
        return Problem("defaults", " ".join(error.split("Config search path", maxsplit=1)[0].split()))
    key = refused[2]
    if key == "pipeline":
        return _no_place_for_a_pipeline()
    text = next((str(item.input_line) for item in asked.groups if item.key_or_group == key.split("@")[0]), None)
    message = "is not in the defaults list of this pipeline"
    return Problem(key, message, override=text, hint=f"+{text} adds it" if text and refused[1] == "override" else None)


def resolve_values(
    merged: DictConfig,
    origins: dict[str, Origin],
    overrides: tuple[str, ...],
    variables: dict[str, str | None] | None = None,
) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Resolve interpolations, all mistakes at once; each interpolated value gets both ends as its origin.

    The environment variables that were read are noted in `variables`.
    """
    from omegaconf import OmegaConf  # noqa: PLC0415
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    raw: Any = OmegaConf.to_container(merged, resolve=False)
    texts, sizes = _measure(raw)
    if not texts:
        return raw, origins
    for path in texts:
        ends = tuple(dict.fromkeys(_ends(path, texts, origins)))
        origins[path] = (
            Origin(origins[path].place, origins[path].override, ends) if path in origins else Origin(sources=ends)
        )
    unresolved = ComposedConfig(raw, origins, overrides)
    too_large = oversized(texts, sizes)
    if too_large is not None:
        message = "this interpolation needs itself, or grows without measure"
        raise ConfigError(attach_places([Problem(too_large, message, value=show_value(texts[too_large]))], unresolved))
    with resolvers(variables):
        try:
            values: Any = OmegaConf.to_container(merged, resolve=True)
        except OmegaConfBaseException:
            problems = [problem for path, text in texts.items() for problem in _mistakes(merged, path, text, raw)]
            raise ConfigError(attach_places(problems, unresolved)) from None
    return values, origins


def _measure(raw: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, int]]:
    """Give the texts with interpolations by path, and for every path how much is at and below it."""
    texts: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def visit(parts: tuple[str | int, ...], value: Any) -> int:
        path = join_path(parts)
        items: list[tuple[Any, Any]] = []
        if isinstance(value, dict):
            items = list(value.items())
        elif isinstance(value, list):
            items = list(enumerate(value))
        elif isinstance(value, str) and "${" in value:
            texts[path] = value
        own = len(value) if isinstance(value, str) else 1
        sizes[path] = own + sum(visit((*parts, key), item) for key, item in items)
        return sizes[path]

    visit((), raw)
    return texts, sizes


def _ends(path: str, texts: Mapping[str, str], origins: Mapping[str, Origin], depth: int = 0) -> list[Place]:
    """Follow an interpolation to the places where its parts are written."""
    found: list[Place] = []
    for target in references(texts[path], path):
        origin = origins.get(target)
        if origin is not None and origin.place is not None:
            found.append(origin.place)
        if target in texts and depth < 10:
            found += _ends(target, texts, origins, depth + 1)
    return found


def _mistakes(merged: DictConfig, path: str, text: str, raw: Mapping[str, Any]) -> list[Problem]:
    from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException  # noqa: PLC0415

    *around, last = path.split(".")
    node: Any = merged
    try:
        for part in around:
            node = node[int(part) if part.isdigit() and hasattr(node, "append") else part]
        node = node[int(last) if last.isdigit() and hasattr(node, "append") else last]
    except InterpolationKeyError:
        missing = next((target for target in references(text, path) if not _reaches(raw, target)), None)
        message = f"nothing is at `{missing}`" if missing else "refers to nothing"
        return [Problem(path, message, value=show_value(text), suggestion=missing and nearest(missing, _paths(raw)))]
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error.__context__
        said = str(cause) if isinstance(cause, ValueError) else str(error)
        return [
            Problem(
                path, said.splitlines()[0].removeprefix("ValueError raised while resolving interpolation: "), value=text
            )
        ]
    except RecursionError:
        return [Problem(path, "this interpolation needs itself", value=show_value(text))]
    return []


def _reaches(raw: Any, target: str) -> bool:
    for part in target.split("."):
        if isinstance(raw, dict) and part in raw:
            raw = raw[part]
        elif isinstance(raw, list) and part.isdigit() and int(part) < len(raw):
            raw = raw[int(part)]
        else:
            return isinstance(raw, str) and "${" in raw
    return True


def _paths(raw: Mapping[str, Any]) -> list[str]:
    return [path for path in _measure(raw)[1] if path]

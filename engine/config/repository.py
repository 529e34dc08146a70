"""The files of one composition: each read once, the defaults lists checked, mistakes collected.

`Repository` is what Hydra's walk over the defaults lists asks for files. It never fails: a broken file counts as empty, a
missing one is left out, and `problems` tells about both, so one composition reports every mistake. Importing this module
imports Hydra.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from omegaconf import OmegaConf

from engine.config.files import YamlFile
from engine.config.folders import PIPELINE, PRIMARY
from engine.config.hydra_internals import (
    ConfigDefault,
    ConfigLoadError,
    ConfigRepository,
    ConfigResult,
    GroupDefault,
    InputDefault,
    ObjectType,
)
from engine.config.sources import YamlSource
from engine.config.wording import nearest
from engine.errors import Place, Problem


@dataclass(frozen=True, slots=True)
class _Include:
    """One entry of a defaults list: the files it asks for, and where it stands."""

    group: str
    names: tuple[str, ...]
    place: Place | None
    optional: bool
    replaceable: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """The files' paths in the search path, without `.yaml`."""
        return tuple(f"{self.group}/{name}" if self.group else name for name in self.names)


class Repository(ConfigRepository):
    """The files of one composition; afterwards `files` and `problems` tell what was read and what is wrong.

    `chosen` are the groups whose option the overrides name, `unknown` those whose option does not exist.
    """

    def __init__(self, folders: Sequence[tuple[str, Path]]) -> None:
        self.folders = [YamlSource(provider, f"{YamlSource.scheme()}://{path}") for provider, path in folders]
        self.sources = [*self.folders]
        self.files: dict[str, YamlFile] = {}
        self.problems: list[Problem] = []
        self.chosen: set[str] = set()
        self.unknown: set[str] = set()
        self.edges: dict[str, list[tuple[str, Place | None]]] = {}
        self._results: dict[str, ConfigResult | None] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Read a file once; `None` when neither folder has it."""
        if config_path not in self._results:
            source = next((source for source in self.folders if source.is_config(config_path)), None)
            self._results[config_path] = None if source is None else self._load(source, config_path)
        return self._results[config_path]

    def read(self, config_path: str) -> ConfigResult:
        """Give a file that the walk has found."""
        found = self.load_config(config_path)
        if found is None:
            raise ConfigLoadError(f"{config_path} has vanished while it was being read")
        return found

    def options(self, group: str) -> list[str]:
        """Name the options of a group, from both folders."""
        return list(self.get_group_options(group, ObjectType.CONFIG))

    def groups(self) -> list[str]:
        """Name the groups at the top."""
        return list(self.get_group_options("", ObjectType.GROUP))

    def _load(self, source: YamlSource, config_path: str) -> ConfigResult:
        file = source.read(config_path)
        self.problems += file.problems
        package = file.package
        if package is None and config_path.startswith(f"{PIPELINE}/") and file.root is not None:
            package = "_global_"
            self.problems.append(_missing_header(file))
        self.files[config_path] = replace(file, package=package)
        # Of a broken file only the inclusions are followed, to find the mistakes behind them.
        kept = {"defaults"} if file.problems else file.values.keys() - {"hydra"}
        values = {key: value for key, value in file.values.items() if key in kept}
        self._refuse_search_path(file)
        defaults = values.pop("defaults", None)
        result = source.result(values, package)
        result.defaults_list = list(self._includes(file, config_path, defaults)) if defaults is not None else []
        return result

    def _refuse_search_path(self, file: YamlFile) -> None:
        hydra = file.values.get("hydra")
        if isinstance(hydra, dict) and "searchpath" in hydra:
            hint = "put the files under the project's conf/, or start the project in the folder that has them"
            place = (file.place(file.root.start_mark),) if file.root else ()
            self.problems.append(
                Problem(
                    "hydra.searchpath",
                    "only the project's conf/ and the shipped one are searched",
                    hint=hint,
                    places=place,
                )
            )

    def _includes(self, file: YamlFile, config_path: str, defaults: Any) -> Iterator[InputDefault]:
        """Give the entries of a defaults list that can be followed; record what is wrong with the others."""
        places = _places_of_defaults(file)
        if not isinstance(defaults, list):
            self.problems.append(
                Problem(
                    "defaults", "a defaults list is a list", places=places[:1], hint="write `- group: option` lines"
                )
            )
            return
        for index, entry in enumerate(defaults):
            place = places[index + 1] if index + 1 < len(places) else None
            try:
                (item,) = self._create_defaults_list(config_path, OmegaConf.create([entry]))
            except (ValueError, AssertionError):
                hint = "write `- option`, `- group: option`, `- override /group: option` or `- _self_`"
                self.problems.append(
                    Problem(
                        "defaults", "this entry of the defaults list cannot be read", places=_some(place), hint=hint
                    )
                )
                continue
            include = _include(item, config_path, place)
            if self._can_follow(include):
                self.edges.setdefault(config_path, []).extend(
                    (path, place) for path in (include.paths if include else ())
                )
                yield item

    def _can_follow(self, include: _Include | None) -> bool:
        if include is None:
            return True
        if include.group == "hydra" or include.group.startswith("hydra/"):
            return False  # how Hydra runs and logs: for its own application only
        if include.replaceable and include.group in self.unknown:
            return False
        if include.optional or (include.replaceable and include.group in self.chosen):
            return True
        fine = [self._exists(include, name, path) for name, path in zip(include.names, include.paths, strict=True)]
        return all(fine)

    def _exists(self, include: _Include, name: str, path: str) -> bool:
        if name == "???":
            self.problems.append(self._nothing_chosen(include))
            return False
        if "${" in path or self.config_exists(path):
            return True
        options = self.options(include.group)
        self.problems.append(
            Problem(include.group if include.replaceable else "defaults", f"the included file {path}.yaml does not exist", value=name,
                    allowed=tuple(option for option in options if option != PRIMARY), suggestion=nearest(name, options),
                    places=_some(include.place))
        )  # fmt: skip
        return False

    def circle(self) -> Problem:
        """The mistake of files that include one another, with the place of each inclusion."""
        trail = _find_circle(self.edges)
        places = tuple(place for _, place in trail if place)
        names = " -> ".join(path for path, _ in trail)
        return Problem(
            "defaults", f"files include one another in a circle: {names}", places=places, hint="remove one of them"
        )

    def _nothing_chosen(self, include: _Include) -> Problem:
        group, options = include.group, self.options(include.group)
        example = f"{group}={options[0]}" if options else f"write conf/{group}/NAME.yaml, then {group}=NAME"
        places = () if group == PIPELINE else _some(include.place)
        return Problem(group, f"no {group} is chosen", allowed=tuple(options), hint=example, places=places)


def _include(item: InputDefault, config_path: str, place: Place | None) -> _Include | None:
    folder = str(PurePosixPath(config_path).parent).removeprefix(".")
    match item:
        case ConfigDefault(path="_self_"):
            return None
        case ConfigDefault():
            path = PurePosixPath(_absolute(str(item.path), folder))
            return _Include(str(path.parent).removeprefix("."), (path.name,), place, bool(item.optional))
        case GroupDefault():
            names = item.value if isinstance(item.value, list) else [item.value]
            written = tuple(str(name) for name in names if name is not None)
            return _Include(_absolute(str(item.group), folder), written, place, bool(item.optional), replaceable=True)
        case _:
            return None


def _find_circle(edges: Mapping[str, Sequence[tuple[str, Place | None]]]) -> list[tuple[str, Place | None]]:
    """Give the files of one circle with the places where they are included; empty when there is none."""

    def visit(path: str, trail: list[tuple[str, Place | None]]) -> list[tuple[str, Place | None]]:
        for target, place in edges.get(path, ()):
            names = [name for name, _ in trail]
            if target in names:
                return [*trail[names.index(target) + 1 :], (target, place)]
            found = visit(target, [*trail, (target, place)])
            if found:
                return found
        return []

    return next((found for start in edges if (found := visit(start, [(start, None)]))), [])


def _absolute(path: str, folder: str) -> str:
    if path.startswith("/"):
        return path[1:]
    return f"{folder}/{path}" if folder else path


def _missing_header(file: YamlFile) -> Problem:
    return Problem("(file)", "a pipeline file starts with a package header", places=(Place(file.name, 1, 1),),
                   hint="make the first line `# @package _global_`")  # fmt: skip


def _places_of_defaults(file: YamlFile) -> tuple[Place, ...]:
    """Places of the key `defaults` and of each of its entries."""
    for key, value in file.root.value if file.root else ():
        if key.value == "defaults":
            items = value.value if isinstance(value, yaml.SequenceNode) else []
            return (file.place(key.start_mark), *(file.place(item.start_mark) for item in items))
    return ()


def _some(place: Place | None) -> tuple[Place, ...]:
    return (place,) if place else ()

"""The catalogue: named implementations, found by an explicit list of plugins and by entry points, never by scanning.

A plugin is a Python file or package `plugins/<name>` (the project's own first, then the shipped ones) with
`def components() -> tuple[Component, ...]`. A plugin that fails to load is fatal: a missing check must not look like a
passed one.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, TypeAlias, get_args

import msgspec

from engine.errors import EngineError, ExitCode, NotFoundError
from engine.keys import digest, digest_bytes
from engine.project import shipped
from engine.spec.analysis import Fit, Subject
from engine.spec.probes import Probe

Role: TypeAlias = Literal[
    "source", "trainer", "splitter", "gate", "analysis", "online", "trigger", "monitor", "notifier", "tracker"
]  # fmt: skip
ENTRY_POINT_GROUP = "plumbline.plugins"
_MODULE_PREFIX = "plumbline_plugins"
_IMPORTING = threading.RLock()


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of a component's typed parameters; subclasses say `frozen=True, kw_only=True`. Their schema joins the pipeline's."""

    def demands(self) -> Mapping[str, Probe]:
        """Give what a gate needs measured beyond the evaluation, by the probe's name (`engine.plan.probes.PROBES`)."""
        return {}

    def fits(self, subject: Subject) -> Mapping[str, Fit]:  # noqa: ARG002 - most vary nothing
        """Give what an analysis needs trained beside the model, by a label that it finds the scores under."""
        return {}

    @property
    def needs_model(self) -> bool:
        """Whether an analysis looks at the pipeline's own model and held-out rows, beside its fits."""
        return False

    @property
    def needs_baseline(self) -> bool:
        """Whether an analysis that looks at the model also asks what the pipeline's baseline says of the same rows."""
        return False

    def reads_files(self) -> tuple[str, ...]:
        """Name the project's files whose content decides what the component does: they are part of its nodes' keys."""
        return ()


class PluginError(EngineError):
    """A plugin that cannot be loaded, or that contributes something that is not a component."""

    exit_code = ExitCode.USAGE


def _nothing() -> None:
    """There is nothing to import ahead of time."""


@dataclass(frozen=True, slots=True)
class Component:
    """One named implementation of a role.

    `build(params)` makes the object that fulfils the role's Protocol; it does no I/O. `libraries` are the distributions
    whose versions decide its result: they, and the digest of the plugin's source, are part of a node's key. `prewarm()`
    imports what will be needed, and may be called beside other work before `build` is.
    """

    role: Role
    name: str
    params: type[Params]
    build: Callable[[Any], Any]
    libraries: tuple[str, ...] = ()
    doc: str = ""
    prewarm: Callable[[], None] = _nothing
    source_digest: str = ""


class Catalogue:
    """Components by role and name."""

    def __init__(self, components: Iterable[Component]) -> None:
        self._components: dict[tuple[Role, str], Component] = {}
        for component in components:
            if (component.role, component.name) in self._components:
                raise PluginError(
                    f"two plugins contribute the {component.role} `{component.name}`",
                    hint="rename one of them",
                )
            self._components[component.role, component.name] = component

    def get(self, role: Role, name: str) -> Component:
        """Look one up; raises `NotFoundError` that lists the names."""
        found = self._components.get((role, name))
        if found is None:
            raise NotFoundError(f"no {role} is called {name!r}; known: {', '.join(self.names(role)) or 'none'}")
        return found

    def names(self, role: Role) -> tuple[str, ...]:
        """The names of a role, sorted."""
        return tuple(sorted(name for kind, name in self._components if kind == role))

    def of(self, role: Role) -> Mapping[str, Component]:
        """The components of a role by name, sorted."""
        return {name: self._components[role, name] for name in self.names(role)}


def load_catalogue(root: Path, plugins: tuple[str, ...]) -> Catalogue:
    """Load the listed plugins and the installed entry points; raises `PluginError` naming the plugin and its failure."""
    loaded = [component for name in plugins for component in _contributions(name, *_load(root, name))]
    for point in _entry_points():
        module = _guard(point.name, point.load)
        owner = sys.modules[module.__module__] if callable(module) else module
        loaded += _contributions(point.name, owner, _digest_module(owner))
    return Catalogue(loaded)


@lru_cache(maxsize=4)
def keep_catalogue(root: Path, plugins: tuple[str, ...]) -> Catalogue:
    """As `load_catalogue`, once a process: for bodies, whose process serves one state of the code and reads it anew for another."""
    return load_catalogue(root, plugins)


class Plugged(Protocol):
    """A place with plugins, as a node's `contracts.Place` is."""

    @property
    def root(self) -> Path:
        """The project's folder."""

    @property
    def plugins(self) -> tuple[str, ...]:
        """The names of its plugins."""


def catalogue_of(place: Plugged) -> Catalogue:
    """Give the catalogue that a body at this place works with."""
    return keep_catalogue(place.root, place.plugins)


@cache
def _entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    """The installed plugins: only distributions that name the group are parsed, which takes a third of the time."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for installed in importlib.metadata.distributions():
        if ENTRY_POINT_GROUP in (installed.read_text("entry_points.txt") or ""):
            for point in installed.entry_points.select(group=ENTRY_POINT_GROUP):
                found.setdefault(point.name, point)  # of one found twice, the first on the path counts, as for imports
    return tuple(found.values())


@cache
def library_version(name: str) -> str:
    """The installed version of a distribution; `absent` when it is not installed."""
    try:
        installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
    # A line of it, since parsing it all, read-me included, takes milliseconds.
    for line in (installed.read_text("METADATA") or "").splitlines():
        if line.startswith("Version:"):
            return line.partition(":")[2].strip()
    return installed.version


def _load(root: Path, name: str) -> tuple[ModuleType, str]:
    for folder in (root / "plugins", shipped("plugins")):
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            if path.is_file():
                return _guard(name, lambda path=path: _import_file(name, path)), _digest_source(path)  # type: ignore[misc]
    looked = ", ".join(str(folder) for folder in (root / "plugins", shipped("plugins")))
    raise PluginError(
        f"plugin `{name}` is listed but not found",
        hint=f"put {name}.py into one of: {looked}; or remove it from `plugins:`",
    )


def _guard(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except EngineError:
        raise
    except Exception as error:
        raise PluginError(
            f"plugin `{name}` failed to load: {type(error).__name__}: {error}",
            hint="fix it, or remove it from `plugins:`",
        ) from error


def _import_file(name: str, path: Path) -> ModuleType:
    with _IMPORTING:  # a module is known before it has run, and another thread must not take it for whole
        return _import_whole(name, path)


def _import_whole(name: str, path: Path) -> ModuleType:
    module_name = f"{_MODULE_PREFIX}.{name}"
    known = sys.modules.get(module_name)
    if known is not None and known.__file__ == str(path):
        return known
    locations = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(module_name, path, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin `{name}` at {path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _contributions(name: str, module: ModuleType, source_digest: str) -> tuple[Component, ...]:
    listed = getattr(module, "components", None)
    if not callable(listed):
        raise PluginError(
            f"plugin `{name}` has no function `components()`",
            hint="define `def components() -> tuple[Component, ...]`",
        )
    made = _guard(name, listed)
    wrong = [item for item in made if not (isinstance(item, Component) and item.role in get_args(Role))]
    if wrong:
        raise PluginError(
            f"plugin `{name}`: components() returned {wrong[0]!r}, which is not a Component of a known role ({', '.join(get_args(Role))})"
        )
    return tuple(dataclasses.replace(item, source_digest=source_digest) for item in made)


def _digest_module(module: ModuleType) -> str:
    return _digest_source(Path(module.__file__)) if module.__file__ else ""


def _digest_source(path: Path) -> str:
    """Digest a plugin's source: its file, or every Python file of its package."""
    if path.name != "__init__.py":
        return digest_bytes(path.read_bytes())
    files = sorted(path.parent.rglob("*.py"))
    return digest({str(file.relative_to(path.parent)): digest_bytes(file.read_bytes()) for file in files})

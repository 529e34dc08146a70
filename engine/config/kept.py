"""Compositions kept between commands: the same files, overrides and variables compose to the same values, without Hydra.

Enters: a project, overrides, and how to compose. Leaves: what composing gives. Importing Hydra and composing take half of
a command that has nothing to do, so a finished composition is kept under the project's own folder, by the content of every
YAML file that could take part. An entry that is damaged, or read other environment variables, counts as absent; mistakes
are never kept. Called by `engine.config.composition`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from engine import __version__
from engine.config.composed import ComposedConfig
from engine.config.folders import search_path
from engine.keys import digest, digest_bytes
from engine.project import Project

KEPT = 64
_DIGEST = hashlib.sha256().digest_size


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    """One composition, and the variables that it read with what they held (`None`: not set)."""

    config: ComposedConfig
    variables: dict[str, str | None]


def compose_once(
    project: Project,
    overrides: Sequence[str],
    compose: Callable[[dict[str, str | None]], ComposedConfig],
) -> ComposedConfig:
    """Give the kept composition, or compose and keep it; `compose` notes in its argument the variables that it reads.

    Nothing is written before the project has a folder of the engine's: checking a configuration leaves no trace.
    """
    place = project.home / "composed" / digest([*_material(project), list(overrides)])
    entry = _read(place)
    if entry is not None and all(os.environ.get(name) == value for name, value in entry.variables.items()):
        return entry.config
    variables: dict[str, str | None] = {}
    config = compose(variables)
    if project.home.is_dir():
        config = replace(config, text=config.as_yaml())
        _keep(place, _Entry(config, variables))
    return config


def _material(project: Project) -> Iterator[str]:
    """All that a composition depends on, except overrides and variables: the code, and the files of both folders."""
    yield __version__
    for path in sorted(Path(__file__).parent.glob("*.py")):
        status = path.stat()
        yield f"{path.name} {status.st_size} {status.st_mtime_ns}"
    for _, folder in search_path(project):
        yield str(folder)
        for name in _yaml_files(str(folder), set()):
            yield name
            with suppress(OSError):  # composing will say what is wrong with it
                yield digest_bytes(Path(name).read_bytes())


def _yaml_files(folder: str, seen: set[str]) -> Iterator[str]:
    """Walk a folder in order, links too, each real folder once."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    with suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir():
                yield entry.path  # an empty group is a group
                yield from _yaml_files(entry.path, seen)
            elif entry.name.endswith(".yaml"):
                yield entry.path


def _read(place: Path) -> _Entry | None:
    try:
        content = place.read_bytes()
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        return msgspec.msgpack.decode(content[_DIGEST:], type=_Entry)
    except (OSError, msgspec.DecodeError):
        return None


def _keep(place: Path, entry: _Entry) -> None:
    """Write an entry whole; one that does not read back as it was, or cannot be written, is not kept."""
    with suppress(OSError, TypeError, msgspec.MsgspecError, OverflowError):
        content = msgspec.msgpack.encode(entry)
        if msgspec.msgpack.decode(content, type=_Entry) != entry or not _same_kinds(entry.config.values):
            return
        place.parent.mkdir(exist_ok=True)
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
        temporary.replace(place)
        _forget_oldest(place.parent)


def _same_kinds(values: object) -> bool:
    """Say whether values are of the kinds that reading gives back: `(1,) == [1]` is no comfort to `isinstance`."""
    if isinstance(values, Mapping):
        return type(values) is dict and all(type(key) is str and _same_kinds(item) for key, item in values.items())
    if isinstance(values, list):
        return all(map(_same_kinds, values))
    return values is None or type(values) in {bool, int, float, str}


def _forget_oldest(folder: Path) -> None:
    entries = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in entries[KEPT:]:
        path.unlink(missing_ok=True)

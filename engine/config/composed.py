"""What composing leaves: plain values, and for each of them the place that it came from.

`attach_places` gives problems that others found (by dotted path) their `file:line:col` and override. Standard library
only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import Place, Problem

_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: `place` in a file (of its key, or of the item in a list), or the `override` that set it.

    `sources` are the places that an interpolated value takes its parts from.
    """

    place: Place | None = None
    override: str | None = None
    sources: tuple[Place, ...] = ()

    def __str__(self) -> str:
        return self.override if self.override is not None else str(self.place or "default")


@dataclass(frozen=True, slots=True)
class ComposedConfig:
    """A pipeline's configuration with all files merged and overrides applied.

    `values` is plain JSON: interpolations are resolved, `${secret:NAME}` is kept as it was written. `origins` maps
    dotted paths (list items by number, as in `sources.flights.expect.0.column`) to where they came from. `file` is the
    beginning of the pipeline's file: the place of what ought to be there and is not. `text` is `values` as YAML, where
    somebody has written it already.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    pipeline: str = ""
    file: Place | None = None
    text: str = ""

    def as_yaml(self) -> str:
        """Give the values as YAML."""
        return self.text or dump_yaml(self.values)

    def origin(self, path: str) -> Origin | None:
        """Give the origin of a path, or of the nearest thing around it that was written down."""
        parts = _INDEX.sub(r".\1", path).split(".")
        for length in range(len(parts), 0, -1):
            found = self.origins.get(".".join(parts[:length]))
            if found is not None:
                return found
        return Origin(self.file) if self.file else None


def dump_yaml(document: Any) -> str:
    """Write plain JSON as YAML; the library is imported late, since importing it takes longer than most configs do."""
    import yaml  # noqa: PLC0415 - start-up time

    text: str = yaml.dump(
        document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, allow_unicode=True, width=120
    )
    return text


def attach_places(problems: Iterable[Problem], config: ComposedConfig) -> list[Problem]:
    """Add places and override to problems that have none; one that is about nothing written keeps none."""
    return [_placed(problem, config.origin(problem.path)) for problem in problems]


def join_path(parts: Iterable[str | int]) -> str:
    """Join keys and indices to a dotted path.

    >>> join_path(["sources", "flights", "expect", 0])
    'sources.flights.expect.0'
    """
    return ".".join(map(str, parts))


def _placed(problem: Problem, origin: Origin | None) -> Problem:
    if origin is None or problem.places or problem.override:
        return problem
    places = tuple(dict.fromkeys((*((origin.place,) if origin.place else ()), *origin.sources)))
    return dataclasses.replace(problem, places=places, override=origin.override)

"""A source as its node was given it: the declaration rebuilt, the component that reads it, and what identifies the result.

Called by `ingest`. `identity` covers all that decides what an ingestion leaves, but for the last good snapshot and the
clock: declaration, code, pin, and the content of sources referred to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from engine.components import Component, catalogue_of, library_version
from engine.contracts import Pin, Source, Work
from engine.features.program import SourceProgram
from engine.keys import digest
from engine.nodes.reading import Reader
from engine.plan.code import MODULES, engine_digest
from engine.spec import SourceSpec, rebuild

REFERENCE = "reference."


@dataclass(frozen=True, slots=True)
class Declared:
    """One source; `declaration` covers spec and code, `identity` the pin and the references too (empty: cannot be known)."""

    name: str
    spec: SourceSpec
    reader: Reader
    declaration: str
    identity: str


def read_declared(work: Work) -> Declared:
    """Rebuild a source from the settings of its node."""
    settings: Any = work.settings
    name = settings["source"]
    component = catalogue_of(work.place).get("source", settings["spec"]["kind"])
    params = msgspec.convert(settings["spec"]["params"], component.params)
    spec = rebuild(SourceSpec, settings["spec"], params)
    source: Source = component.build(params)
    reader = Reader(
        name=name,
        spec=spec,
        program=SourceProgram.from_json(settings["program"]),
        source=source,
        root=work.place.root,
        pin=Pin(settings["pin"], ""),
        progress=work.progress,
    )
    read = {key: value for key, value in settings["spec"].items() if key != "ref"}  # which commit is not what
    declaration = digest({"spec": read, "program": settings["program"], "code": _code(component)})
    references = {role: item.digest for role, item in work.inputs.items() if role.startswith(REFERENCE)}
    known = {"declaration": declaration, "pin": settings["pin"], "references": references}
    return Declared(name, spec, reader, declaration, digest(known) if settings["pin"] is not None else "")


def _code(component: Component) -> dict[str, str]:
    """Name what computes: the engine's modules, the plugin's source, the libraries."""
    libraries = {name: library_version(name) for name in ("polars", *component.libraries)}
    return {"engine": engine_digest(MODULES["ingest"]), "component": component.source_digest, **libraries}

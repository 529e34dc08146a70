"""Where the loop's state lies: most pipelines of a project share one database. Called by the commands."""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import EngineError, NotFoundError
from engine.locations import Stores
from engine.loop.declarations import Declaration, read_declarations
from engine.project import Project
from engine.spec import SettingsSpec, StoresSpec
from engine.stores.loop_state import LoopState


def states_of(project: Project) -> Iterator[tuple[Declaration, LoopState]]:
    """Give each pipeline that has triggers, with its state; those whose declaration is wrong are left to the tick to tell."""
    opened: dict[StoresSpec, LoopState] = {}
    for _, found in read_declarations(project):
        if isinstance(found, Declaration):
            spec = found.declared.stores
            if spec not in opened:
                opened[spec] = LoopState(Stores(project, SettingsSpec(stores=spec)).database)
            yield found, opened[spec]


def state_of(project: Project, key: str) -> LoopState:
    """Find the state that holds a request; a pipeline may have been deleted meanwhile. Raises `NotFoundError`."""
    tried: list[LoopState] = [*dict.fromkeys(state for _, state in states_of(project))]
    tried.append(LoopState(Stores(project, SettingsSpec()).database))
    for state in tried:
        try:
            state.find(key)
        except NotFoundError:
            continue
        return state
    raise NotFoundError(f"no request is called {key!r}", hint="engine triggers ls")


def stores_of(project: Project, declaration: Declaration) -> Stores:
    """Open the stores of a pipeline."""
    return Stores(project, SettingsSpec(stores=declaration.declared.stores))


def pipeline_of(project: Project, name: str) -> tuple[Declaration, LoopState]:
    """Find one pipeline with triggers; raises `NotFoundError` that lists them, or the error in its declaration."""
    names = []
    for pipeline, found in read_declarations(project):
        if pipeline == name and isinstance(found, EngineError):
            raise found
        if isinstance(found, Declaration):
            names.append(pipeline)
            if pipeline == name:
                return found, LoopState(Stores(project, SettingsSpec(stores=found.declared.stores)).database)
    raise NotFoundError(f"no pipeline {name!r} has triggers", hint=f"those that have: {', '.join(names) or 'none'}")

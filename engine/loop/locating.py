"""Where the loop's state lies: most pipelines of a project share one database. Called by the commands."""

from __future__ import annotations

from engine.errors import EngineError, NotFoundError
from engine.locations import Stores
from engine.loop.declarations import Declaration, read_declarations
from engine.project import Project
from engine.spec import SettingsSpec, StoresSpec
from engine.stores.loop_state import LoopState


def states_of(project: Project) -> tuple[list[tuple[Declaration, LoopState]], list[EngineError]]:
    """Give each pipeline that has triggers, with its state, and why states cannot be opened.

    Pipelines whose declaration is wrong are left to the tick to tell.
    """
    found = [declaration for _, declaration in read_declarations(project) if isinstance(declaration, Declaration)]
    opened: dict[StoresSpec, LoopState] = {}
    problems: list[EngineError] = []
    for spec in dict.fromkeys(declaration.declared.stores for declaration in found):
        try:
            opened[spec] = _open(project, spec)
        except EngineError as error:
            problems.append(error)
    known = [(item, opened[item.declared.stores]) for item in found if item.declared.stores in opened]
    return known, problems


def _open(project: Project, spec: StoresSpec) -> LoopState:
    return LoopState(Stores(project, SettingsSpec(stores=spec)).database)


def state_of(project: Project, key: str) -> LoopState:
    """Find the state that holds a request; a pipeline may have been deleted meanwhile. Raises `NotFoundError`.

    A state that cannot be opened is told of, as what it is, only when no other holds the request.
    """
    declared = [found.declared.stores for _, found in read_declarations(project) if isinstance(found, Declaration)]
    unreadable: list[EngineError] = []
    for spec in dict.fromkeys([*declared, StoresSpec()]):
        try:
            state = _open(project, spec)
            state.find(key)
        except NotFoundError:
            continue
        except EngineError as error:
            unreadable.append(error)
        else:
            return state
    if unreadable:
        raise unreadable[0]
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
                return found, _open(project, found.declared.stores)
    raise NotFoundError(f"no pipeline {name!r} has triggers", hint=f"those that have: {', '.join(names) or 'none'}")

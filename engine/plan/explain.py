"""What a run would do and why: the second interpreter of a plan (the first is `execute`).

`forecast` looks every action up; `render_forecast` lays it out as a tree for people. No node is run, no data is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeGuard

import msgspec
from msgspec import structs

from engine.durations import as_text
from engine.errors import EngineError
from engine.features.expression import from_json, render
from engine.keys import Json, canonical_json
from engine.plan.model import ExecutionPlan, PlanNode, action_key
from engine.records import NodeOutput

Lookup: TypeAlias = Callable[[str], NodeOutput | None]
ForecastState: TypeAlias = Literal["cached", "run", "depends", "effect"]
_MAX_CHANGES = 6
_EXPRESSIONS = frozenset({"expr", "of", "where"})
_DURATIONS = frozenset({"window", "max_age", "horizon", "maturity", "delay"})


class Change(msgspec.Struct, frozen=True):
    """One declared value, code digest or input that differs from the previous run; `path` is in the words of the YAML."""

    path: str
    old: Any
    new: Any


class NodeForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to one node. `depends`: its inputs will be made again, so it runs unless they come out the same."""

    name: str
    kind: str
    state: ForecastState
    reason: str
    title: str = ""
    inputs: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    key: str | None = None
    digest: str | None = None


def forecast(
    plan: ExecutionPlan, find_action: Lookup, previous: ExecutionPlan | None, previous_digests: Mapping[str, str]
) -> tuple[NodeForecast, ...]:
    """Say for each node whether it is cached or would run, and why, against the pipeline's previous run."""
    before = {node.name: node for node in previous.nodes} if previous else {}
    digests: dict[str, str] = {}
    found: list[NodeForecast] = []
    for node in plan.nodes:
        one = _forecast_node(node, digests, find_action, before.get(node.name), previous_digests)
        if one.digest is not None:
            digests[node.name] = one.digest
        found.append(one)
    return tuple(found)


def known_outputs(plan: ExecutionPlan, find_action: Lookup) -> dict[str, NodeOutput]:
    """Give the outputs of all nodes that are cached, following content digests downwards."""
    known: dict[str, NodeOutput] = {}
    for node in plan.nodes:
        if node.effect or node.uncacheable or not all(name in known for name in node.inputs.values()):
            continue
        output = find_action(action_key(node, {role: known[name].digest for role, name in node.inputs.items()}))
        if output is not None:
            known[node.name] = output
    return known


def changes_between(old: PlanNode, new: PlanNode) -> tuple[Change, ...]:
    """List what was declared differently, deepest paths first told, in the words of the YAML."""
    settings = [
        Change(_declared_path(new, path), _humane(path, before), _humane(path, after))
        for path, before, after in _differences(_plain(old.settings), _plain(new.settings), ())
    ]
    code = [
        Change(f"code {path[0]}", _short(a), _short(b)) for path, a, b in _differences(old.code, new.code, ()) if path
    ]
    inputs = [Change(f"input {path[0]}", a, b) for path, a, b in _differences(old.inputs, new.inputs, ()) if path]
    return (*settings, *code, *inputs)


def render_forecast(pipeline: str, nodes: tuple[NodeForecast, ...], *, colour: bool = False) -> str:
    """Lay the forecast out as a tree: each node under the last of its inputs, with state and reason."""
    by_name = {node.name: node for node in nodes}
    position = {node.name: index for index, node in enumerate(nodes)}
    children: dict[str | None, list[str]] = {}
    for node in nodes:
        parent = max(node.inputs, key=position.__getitem__, default=None)
        children.setdefault(parent, []).append(node.name)
    lines = [_paint(pipeline, "1", colour)]
    for name, prefix in _tree(children, None, ""):
        lines += _describe(by_name[name], prefix, children, colour=colour)
    counts = {state: sum(node.state == state for node in nodes) for state in ("cached", "run", "depends", "effect")}
    words = {"cached": "cached", "run": "to run", "depends": "depending on them", "effect": "effects"}
    lines.append("")
    lines.append(", ".join(f"{count} {words[state]}" for state, count in counts.items() if count))
    return "\n".join(lines)


def _forecast_node(
    node: PlanNode,
    digests: Mapping[str, str],
    find_action: Lookup,
    before: PlanNode | None,
    old_digests: Mapping[str, str],
) -> NodeForecast:
    needed = tuple(dict.fromkeys(node.inputs.values()))
    changes = changes_between(before, node) if before else ()
    base = NodeForecast(
        name=node.name, kind=node.kind, state="run", reason="", title=node.title, inputs=needed, changes=changes
    )
    waiting = [name for name in needed if name not in digests]
    if node.effect:
        return structs.replace(base, state="effect", reason="changes the world; done when its inputs say so")
    if waiting:
        reason = f"after {', '.join(waiting)}" + ("" if changes else "; skipped if nothing they make changes")
        return structs.replace(base, state="run" if changes else "depends", reason=reason)
    key = action_key(node, {role: digests[name] for role, name in node.inputs.items()})
    if node.uncacheable:
        return structs.replace(base, reason=f"not cached: {node.uncacheable}", key=key)
    output = find_action(key)
    if output is not None:
        return structs.replace(base, state="cached", changes=(), key=key, digest=output.digest)
    return structs.replace(base, reason=_why(node, before, changes, digests, old_digests), key=key)


def _why(
    node: PlanNode,
    before: PlanNode | None,
    changes: tuple[Change, ...],
    digests: Mapping[str, str],
    old: Mapping[str, str],
) -> str:
    if changes:
        return "changed"
    fresh = [name for name in node.inputs.values() if name in old and old[name] != digests[name]]
    if fresh:
        return f"new content from {', '.join(dict.fromkeys(fresh))}"
    return "its result is no longer in the store" if before and node.name in old else "never run"


def _plain(settings: Mapping[str, Json]) -> Json:
    """Give settings as they are after reading them from a file: what was a tuple is a list there."""
    plain: Json = msgspec.json.decode(canonical_json(settings))
    return plain


def _differences(old: Json, new: Json, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json, Json]]:
    """Yield the leaves that differ; a value that exists on one side only is shown whole, with `null` on the other."""
    if path and path[-1] in _EXPRESSIONS and (old or new):
        if old != new:
            yield path, _expression(old), _expression(new)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            yield from _differences(old.get(key), new.get(key), (*path, key))
    elif _is_named(old) and _is_named(new):
        yield from _differences(_by_name(old), _by_name(new), path)
    elif old != new or type(old) is not type(new):
        yield path, old, new


def _is_named(value: Json) -> TypeGuard[Sequence[Mapping[str, Json]]]:
    """Say whether this is a list of things with names, which is compared by name and not by position."""
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and "name" in item for item in value)
    )


def _by_name(items: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    return {str(item["name"]): item for item in items}


def _expression(tree: Json) -> Json:
    """Show a compiled expression as text; whatever is none, as it is."""
    try:
        return render(from_json(tree)) if tree is not None else None
    except EngineError:
        return tree


def _humane(path: tuple[str, ...], value: Json) -> Json:
    """Write a compiled duration the way people do."""
    return as_text(value) if path and path[-1] in _DURATIONS and isinstance(value, int) else value


def _declared_path(node: PlanNode, path: tuple[str, ...]) -> str:
    dotted = ".".join(path)
    for prefix in sorted(node.declared_at, key=len, reverse=True):
        if dotted == prefix or dotted.startswith(prefix + "."):
            return node.declared_at[prefix] + dotted[len(prefix) :]
    return dotted


def _tree(children: Mapping[str | None, list[str]], parent: str | None, prefix: str) -> Iterator[tuple[str, str]]:
    names = children.get(parent, [])
    for index, name in enumerate(names):
        last = index == len(names) - 1
        yield name, prefix + ("└─ " if last else "├─ ")
        yield from _tree(children, name, prefix + ("   " if last else "│  "))


_COLOURS = {"cached": "32", "run": "33", "depends": "36", "effect": "35"}
_WORDS = {"cached": "cached", "run": "run", "depends": "depends", "effect": "effect"}


def _describe(node: NodeForecast, prefix: str, children: Mapping[str | None, list[str]], *, colour: bool) -> list[str]:
    others = f"  {node.reason}" if node.reason else ""
    title = f" ({node.title})" if node.title else ""
    state = _paint(f"{_WORDS[node.state]:<7}", _COLOURS[node.state], colour)
    below = prefix.replace("├─ ", "│  ").replace("└─ ", "   ") + ("│  " if children.get(node.name) else "   ")
    shown = [
        f"{below}  {change.path}: {_value(change.old)} -> {_value(change.new)}"
        for change in node.changes[:_MAX_CHANGES]
    ]
    if len(node.changes) > _MAX_CHANGES:
        shown.append(f"{below}  and {len(node.changes) - _MAX_CHANGES} more (--json lists them)")
    return [f"{prefix}{state} {node.name}{title}{others}", *shown]


def _value(value: Json) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _short(value: Json) -> Json:
    return value[:12] if isinstance(value, str) and len(value) == 64 else value


def _paint(text: str, code: str, colour: bool) -> str:  # noqa: FBT001
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text

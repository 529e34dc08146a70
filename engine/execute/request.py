"""What `execute` is asked to do: which nodes, how, where, and who listens. Values only; the caller is `engine.api`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from engine.clock import Clock, SystemClock
from engine.dag import ancestors, descendants
from engine.errors import UsageError
from engine.execute.seats import Stops
from engine.keys import Json
from engine.plan.model import ExecutionPlan, PlanNode
from engine.records import Event, NodeResult

Effect: TypeAlias = Callable[[PlanNode, Mapping[str, NodeResult]], Mapping[str, Json]]
"""What an effect node does: reads the results of all nodes, changes the world idempotently, returns its notes."""


class Observer(Protocol):
    """Who hears what happens while a plan runs. Calls come one at a time, from any thread; they should be quick."""

    def on_event(self, event: Event) -> None:
        """Hear one event. What it raises ends the run (a journal that cannot write must not be ignored)."""
        ...


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """How to execute.

    `bodies` maps a kind to "module:function", imported in the child only; `effects` maps a kind to what the engine's
    own process does. `address` is an existing Dask scheduler, `None` the embedded one with `workers` nodes at a time.
    `threads` is how many one node may use; `None` shares the cores among the slots. `resources` are what a Dask worker
    must declare. `selected` limits what may run (`None`: all); `force` maps nodes to why they run though cached.
    `cores` limits the threads of all nodes together, and then `wide` nodes, which nothing runs beside, use all of them.
    `stops` ends single nodes before their time.
    """

    bodies: Mapping[str, str]
    effects: Mapping[str, Effect] = field(default_factory=dict)
    address: str | None = None
    workers: int = 1
    threads: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    selected: frozenset[str] | None = None
    force: Mapping[str, str] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    wide: frozenset[str] = frozenset()
    cores: int | None = None
    stops: Stops | None = None


def select(plan: ExecutionPlan, from_: str | None, to: str | None, only: str | None) -> frozenset[str] | None:
    """Give the nodes that `--from`, `--to` and `--only` leave to run, `None` for all; raises `UsageError`.

    `--from` keeps a node and all that need it, `--to` a node and all it needs, both the paths between; `--only` is one.
    """
    named = {"--from": from_, "--to": to, "--only": only}
    for flag, name in named.items():
        if name is not None:
            check_name(plan, name, flag)
    if only is not None and (from_ is not None or to is not None):
        raise UsageError(
            "--only cannot be combined with --from or --to", hint="--from A --to B gives the paths between"
        )
    if only is not None:
        return frozenset({only})
    if from_ is None and to is None:
        return None
    every = frozenset(plan.edges)
    after = descendants(plan.edges, [from_]) if from_ is not None else every
    before = ancestors(plan.edges, [to]) if to is not None else every
    if not after & before:
        raise UsageError(f"no path leads from {from_} to {to}", hint="`engine plan` shows what needs what")
    return after & before


def check_name(plan: ExecutionPlan, name: str, flag: str) -> None:
    """Refuse a name that is no node of the plan; raises `UsageError` with the nearest name."""
    names = tuple(plan.edges)
    if name in names:
        return
    from difflib import get_close_matches  # noqa: PLC0415 - start-up time

    near = get_close_matches(name, names, 1)
    meant = f" (did you mean `{near[0]}`?)" if near else ""
    shown = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    raise UsageError(f"{flag} {name}: no such node{meant}", hint=f"the nodes are: {shown}")

"""From nodes that must run to results: build the Dask graph and give it to the embedded or an existing scheduler.

Called by `run.execute` when something has to run; imports Dask at the last moment, while a child already warms up.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from msgspec import structs

from engine.components import Role
from engine.contracts import ArtefactStore, Place
from engine.execute.attempts import NodeTask
from engine.execute.interrupts import Interrupts
from engine.execute.link import Link, LocalLink, StoppableLink
from engine.execute.node import run_node
from engine.execute.pool import POOL, Seat
from engine.execute.request import ExecuteRequest
from engine.execute.seats import share_of_cores
from engine.execute.wire import Prepare
from engine.plan.model import PlanNode
from engine.records import NodeResult

Graph: TypeAlias = dict[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Nodes to run, in topological order, with the results of what they need and is settled.

    `code` is the digest of all code of the plan: a child serves one of them, never a newer version of a module.
    """

    nodes: tuple[PlanNode, ...]
    settled: Mapping[str, NodeResult]
    forced: Mapping[str, str]
    request: ExecuteRequest
    place: Place
    code: str


def dispatch(batch: Batch, store: ArtefactStore, link: LocalLink, interrupts: Interrupts) -> list[NodeResult]:
    """Run a batch and give its results in order; raises `UnavailableError` (no such scheduler, resource)."""
    # never the same twice: a shared scheduler would answer an equal key with its old result
    prefix = f"{batch.place.run_id}-{secrets.token_hex(4)}/"
    keys = [prefix + node.name for node in batch.nodes]
    if batch.request.address is not None:
        from engine.execute.cluster import ClusterLink, run_on_cluster  # noqa: PLC0415 - takes a second

        topic = f"plumbline-{prefix}"
        graph = build_graph(batch, store, ClusterLink(topic, tuple(batch.request.resources.items())), prefix)
        return run_on_cluster(graph, batch, topic, link, interrupts)
    _warm_up(batch)
    from engine.execute.embedded import run_embedded  # noqa: PLC0415 - a no-op run needs none of it

    return run_embedded(build_graph(batch, store, link, prefix), keys, batch.request.workers)


def build_graph(batch: Batch, store: ArtefactStore, link: Link, prefix: str) -> Graph:
    """Lay out the tasks: the key of each upstream task, or the result itself when it is settled."""
    running = {node.name for node in batch.nodes}
    graph: Graph = {}
    for node in batch.nodes:
        task = NodeTask(
            node=node,
            place=batch.place,
            body=batch.request.bodies[node.kind],
            code=batch.code,
            clock=batch.request.clock,
            threads=_threads(node, batch.request),
            forced=batch.forced.get(node.name),
            measure=batch.request.stops is not None,
        )
        upstream = (
            prefix + name if name in running else batch.settled[name] for name in dict.fromkeys(node.inputs.values())
        )
        stops = batch.request.stops
        own = link if stops is None or batch.request.address is not None else StoppableLink(link, stops, node.name)
        graph[prefix + node.name] = (run_node, task, store, own, *upstream)
    return graph


def _threads(node: PlanNode, request: ExecuteRequest) -> int | None:
    """Give a wide node all the threads that there are."""
    return request.cores if request.cores is not None and node.name in request.wide else request.threads


def _warm_up(batch: Batch) -> None:
    """Start children for what can start at once: they import their libraries while this process imports Dask."""
    running = {node.name for node in batch.nodes}
    ready = [node for node in batch.nodes if not running.intersection(node.inputs.values())][: batch.request.workers]
    threads = (_threads(ready[0], batch.request) if ready else None) or batch.request.threads
    threads = threads or share_of_cores(batch.request.workers)
    components = dict.fromkeys(_component(part) for node in batch.nodes for part in node.code if _component(part))
    wanted = Prepare((), tuple(pair for pair in components if pair), str(batch.place.root), batch.place.plugins)
    modules = [batch.request.bodies[node.kind].partition(":")[0] for node in ready]
    POOL.warm(Seat(threads, batch.code), [structs.replace(wanted, modules=(module,)) for module in modules])


def _component(part: str) -> tuple[str, str] | None:
    """Read a part of a node's code as role and name of a component."""
    role, _, name = part.partition(":")
    return (role, name) if name and role in get_args(Role) else None

"""The embedded Dask scheduler: threads of this process, each of which waits for a child. The only importer of `dask`.

The graph is the one that `cluster` gives to a distributed scheduler. Imported late: `import dask` takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from dask.threaded import get

from engine.records import NodeResult

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_embedded(graph: Mapping[str, tuple[Any, ...]], keys: Sequence[str], workers: int) -> list[NodeResult]:
    """Run a graph of `run_node` tasks, so many at a time; gives the results of `keys`."""
    with ThreadPoolExecutor(workers, thread_name_prefix="node") as threads:
        return list(cast("Sequence[NodeResult]", get(graph, list(keys), pool=threads)))


def map_embedded(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """Apply a function to each item, so many at a time."""
    graph = {f"item-{place}": (function, item) for place, item in enumerate(items)}
    with ThreadPoolExecutor(workers, thread_name_prefix="map") as threads:
        return list(cast("Sequence[Result]", get(graph, list(graph), pool=threads)))

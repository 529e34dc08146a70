"""The embedded Dask scheduler: threads of this process, each of which waits for a child. The only importer of `dask`.

The graph is the one that `cluster` gives to a distributed scheduler. Imported late: `import dask` takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar, cast

from dask.threaded import get

from engine.records import NodeResult

Item = TypeVar("Item")
Result = TypeVar("Result")


_SIGNAL_SECONDS = 0.2  # how late a signal is heard at most


def run_embedded(graph: Mapping[str, tuple[Any, ...]], keys: Sequence[str], workers: int) -> list[NodeResult]:
    """Run a graph of `run_node` tasks, so many at a time; gives the results of `keys`."""
    return cast("list[NodeResult]", _get(graph, keys, workers, "node"))


def map_embedded(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """Apply a function to each item, so many at a time."""
    graph = {f"item-{place}": (function, item) for place, item in enumerate(items)}
    return cast("list[Result]", _get(graph, list(graph), workers, "map"))


def _get(graph: Mapping[str, tuple[Any, ...]], keys: Sequence[str], workers: int, name: str) -> list[Any]:
    """Have a thread run the graph, while this one looks up now and then.

    Dask itself waits without an end; a signal that comes just before that is never handled, since Python does it in the main
    thread alone, and only when that moves.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix=name) as threads, ThreadPoolExecutor(1, "graph") as runner:
        running = runner.submit(get, graph, list(keys), pool=threads)
        while not wait([running], _SIGNAL_SECONDS).done:
            pass
        return list(running.result())

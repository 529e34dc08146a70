"""The embedded Dask scheduler: threads of this process, each of which waits for a child. The only importer of `dask`.

The graph is the one that `cluster` gives to a distributed scheduler. Imported late: `import dask` takes its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from dask.threaded import get

from engine.records import NodeResult


def run_embedded(graph: Mapping[str, tuple[Any, ...]], keys: Sequence[str], workers: int) -> list[NodeResult]:
    """Run a graph of `run_node` tasks, so many at a time; gives the results of `keys`."""
    with ThreadPoolExecutor(workers, thread_name_prefix="node") as threads:
        return list(cast("Sequence[NodeResult]", get(graph, list(keys), pool=threads)))

"""One function over many items, on the embedded scheduler or on an existing one: for work that is no plan, such as profiles.

Enters: a module's function and items, which travel by pickling. Leaves: results in order. Called by `watch.profiles`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_over(
    function: Callable[[Item], Result], items: Sequence[Item], address: str | None = None, workers: int = 1
) -> list[Result]:
    """Apply; with an `address` on its workers, which see the same files. The first error is raised."""
    if len(items) < 2 and address is None:
        return [function(item) for item in items]
    if address is None:
        from engine.execute.embedded import map_embedded  # noqa: PLC0415 - dask takes its time

        return map_embedded(function, items, workers)
    from engine.execute.cluster import map_on_cluster  # noqa: PLC0415 - as above

    return map_on_cluster(function, items, address)

"""Work on several threads at once, where it leaves the interpreter's lock alone: NumPy's, Numba's and Polars' does.

Enters: a function and what it is applied to. Leaves: what it gave, in order. Called by `features`, `nodes` and `watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar, cast

import polars as pl

_T = TypeVar("_T")
_R = TypeVar("_R")
_END: Final = object()


def in_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """Apply a function to each, on as many threads as Polars has where there are several; never from one of those threads."""
    if len(items) < 2:
        return [function(item) for item in items]
    return [done.result() for done in [_threads().submit(function, item) for item in items]]


def one_ahead(items: Iterator[_T]) -> Iterator[_T]:
    """Give items while a thread makes the next one; at most two are held at a time."""
    with ThreadPoolExecutor(1, "ahead") as reader:
        coming = reader.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = reader.submit(next, items, _END)
            yield cast("_T", item)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(pl.thread_pool_size(), thread_name_prefix="piece")

"""Graphs of names: topological order, cycles, ancestors, descendants. Standard library only; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

Edges = Mapping[str, Iterable[str]]


class CyclicError(ValueError):
    """A name that needs itself; `path` starts and ends with it."""

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path = path
        super().__init__(" -> ".join(path))


def topological(edges: Edges) -> tuple[str, ...]:
    """Order names so that each follows what it needs (`edges[name]`); ties in order of the mapping. Raises `CyclicError`.

    >>> topological({"train": ["features"], "features": []})
    ('features', 'train')
    """
    sorter: TopologicalSorter[str] = TopologicalSorter(edges)
    try:
        sorter.prepare()
    except CycleError as error:
        raise CyclicError(tuple(reversed(error.args[1]))) from None
    position = {name: index for index, name in enumerate(edges)}
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: position.get(name, len(position)))
        order += ready
        sorter.done(*ready)
    return tuple(order)


def ancestors(edges: Edges, names: Iterable[str]) -> frozenset[str]:
    """All that `names` need, directly or not, and `names` themselves.

    >>> sorted(ancestors({"c": ["b"], "b": ["a"], "a": [], "d": []}, ["b"]))
    ['a', 'b']
    """
    seen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(edges.get(name, ()))
    return frozenset(seen)


def descendants(edges: Edges, names: Iterable[str]) -> frozenset[str]:
    """All that need `names`, directly or not, and `names` themselves.

    >>> sorted(descendants({"c": ["b"], "b": ["a"], "a": [], "d": []}, ["b"]))
    ['b', 'c']
    """
    users: dict[str, list[str]] = {}
    for name, needed in edges.items():
        for other in needed:
            users.setdefault(other, []).append(name)
    return ancestors(users, names)

"""Layered drawing of a DAG (Sugiyama, Tagawa and Toda 1981), from left to right: where nodes go and how edges run.

Enters: edges by name and the size of each node's box. Leaves: boxes and the points that each edge passes. The steps are
the classic ones: drop implied edges, longest-path layers, order within layers by barycentres, then positions that
straighten edges, found exactly for each layer by isotonic regression. `graph` draws the result. Pure; no randomness.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

Size: TypeAlias = tuple[float, float]
Needs: TypeAlias = Mapping[str, Sequence[str]]
# A place in a layer: a node, or where an edge over several layers passes (source, target, layer).
Spot: TypeAlias = "str | tuple[str, str, int]"

GAP_X = 24.0
GAP_Y = 14.0
_LANE = 4.0  # height of a place where an edge passes a layer
_SWEEPS = 6
_STRAIGHTENING = 8


@dataclass(frozen=True, slots=True)
class Box:
    """A node's place: its upper left corner and size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Route:
    """One edge: the points it passes, the first on its source's right side, the last on its target's left side."""

    source: str
    target: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing without ink. `implied` counts the edges that others imply, which are not drawn."""

    boxes: Mapping[str, Box]
    routes: tuple[Route, ...]
    width: float
    height: float
    implied: int


@dataclass(frozen=True, slots=True)
class _Grid:
    """Spots by layer, in order, with the links between neighbouring layers."""

    layers: list[list[Spot]]
    before: Mapping[Spot, list[Spot]]
    after: Mapping[Spot, list[Spot]]
    chains: Mapping[tuple[str, str], list[Spot]]


def arrange(needs: Needs, sizes: Mapping[str, Size]) -> Layout:
    """Lay a DAG out. `needs` names each node's inputs and lists them in topological order; other inputs are ignored.

    >>> arrange({"a": [], "b": ["a"]}, {"a": (50, 20), "b": (50, 20)}).boxes["b"].x
    74.0
    """
    whole = {name: list(dict.fromkeys(other for other in inputs if other in needs)) for name, inputs in needs.items()}
    if not whole:
        return Layout({}, (), 0.0, 0.0, 0)
    direct = drop_implied(whole)
    grid = _order(_grid(direct, assign_layers(direct)))
    heights = {spot: sizes[spot][1] if isinstance(spot, str) else _LANE for layer in grid.layers for spot in layer}
    centres = _straighten(grid, heights)
    top = min(centre - heights[spot] / 2 for spot, centre in centres.items())
    places: dict[Spot, Box] = {}
    for (left, width), layer in zip(_columns(grid, sizes), grid.layers, strict=True):
        for spot in layer:
            places[spot] = Box(left, centres[spot] - heights[spot] / 2 - top, width, heights[spot])
    routes = tuple(Route(*edge, _waypoints([places[spot] for spot in chain])) for edge, chain in grid.chains.items())
    implied = sum(map(len, whole.values())) - sum(map(len, direct.values()))
    right = max(box.x + box.width for box in places.values())
    bottom = max(box.y + box.height for box in places.values())
    return Layout({name: places[name] for name in whole}, routes, right, bottom, implied)


def drop_implied(needs: Needs) -> dict[str, list[str]]:
    """Leave out each edge that a longer path implies (transitive reduction); nodes come in topological order.

    >>> drop_implied({"a": [], "b": ["a"], "c": ["a", "b"]})
    {'a': [], 'b': ['a'], 'c': ['b']}
    """
    bit = {name: 1 << index for index, name in enumerate(needs)}
    reach: dict[str, int] = {}
    kept: dict[str, list[str]] = {}
    for name, inputs in needs.items():
        above = 0
        for other in inputs:
            above |= reach[other] & ~bit[other]
        kept[name] = [other for other in inputs if not above & bit[other]]
        reach[name] = above | bit[name]
        for other in inputs:
            reach[name] |= bit[other]
    return kept


def assign_layers(needs: Needs) -> dict[str, int]:
    """Put each node one layer after the last of its inputs; one without inputs goes right before its first user.

    >>> assign_layers({"a": [], "late": [], "b": ["a"], "c": ["b", "late"]})
    {'a': 0, 'late': 1, 'b': 1, 'c': 2}
    """
    layer: dict[str, int] = {}
    for name, inputs in needs.items():
        layer[name] = max((layer[other] + 1 for other in inputs), default=0)
    first_user: dict[str, int] = {}
    for name, inputs in needs.items():
        for other in inputs:
            first_user[other] = min(layer[name], first_user.get(other, layer[name]))
    return {
        name: index if needs[name] or name not in first_user else first_user[name] - 1 for name, index in layer.items()
    }


def _grid(needs: Needs, layer: Mapping[str, int]) -> _Grid:
    layers: list[list[Spot]] = [[] for _ in range(max(layer.values()) + 1)]
    before: dict[Spot, list[Spot]] = {name: [] for name in needs}
    after: dict[Spot, list[Spot]] = {name: [] for name in needs}
    chains: dict[tuple[str, str], list[Spot]] = {}
    for name in needs:
        layers[layer[name]].append(name)
    for target, inputs in needs.items():
        for source in inputs:
            between: list[Spot] = [(source, target, index) for index in range(layer[source] + 1, layer[target])]
            for spot, index in zip(between, range(layer[source] + 1, layer[target]), strict=True):
                layers[index].append(spot)
                before[spot], after[spot] = [], []
            chain: list[Spot] = [source, *between, target]
            for left, right in pairwise(chain):
                after[left].append(right)
                before[right].append(left)
            chains[source, target] = chain
    return _Grid(layers, before, after, chains)


def _order(grid: _Grid) -> _Grid:
    """Sweep to and fro, ordering each layer by its neighbours' mean position; keep what crosses least."""
    layers = [list(layer) for layer in grid.layers]
    best, fewest = [list(layer) for layer in layers], _crossings(layers, grid.after)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forward = sweep % 2 == 0
        neighbours = grid.before if forward else grid.after
        indices = range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1)
        for index in indices:
            position = _positions(layers[index - 1] if forward else layers[index + 1])
            layers[index].sort(key=_barycentre(neighbours, position, _positions(layers[index])))
        found = _crossings(layers, grid.after)
        if found < fewest:
            best, fewest = [list(layer) for layer in layers], found
    return _Grid(best, grid.before, grid.after, grid.chains)


def _positions(layer: Sequence[Spot]) -> dict[Spot, float]:
    """Relative position of each spot, 0 to 1, so that layers of different length compare."""
    return {spot: (index + 0.5) / len(layer) for index, spot in enumerate(layer)}


def _barycentre(
    neighbours: Mapping[Spot, list[Spot]], position: Mapping[Spot, float], own: Mapping[Spot, float]
) -> Callable[[Spot], float]:
    def weigh(spot: Spot) -> float:
        found = [position[other] for other in neighbours[spot]]
        return sum(found) / len(found) if found else own[spot]

    return weigh


def _crossings(layers: Sequence[Sequence[Spot]], after: Mapping[Spot, list[Spot]]) -> int:
    """Count pairs of links that cross: inversions, by insertion into a sorted list."""
    total = 0
    for left, right in pairwise(layers):
        position = {spot: index for index, spot in enumerate(right)}
        seen: list[int] = []
        for spot in left:
            targets = sorted(position[other] for other in after[spot])
            total += sum(len(seen) - bisect_right(seen, target) for target in targets)
            for target in targets:
                insort(seen, target)
    return total


def _straighten(grid: _Grid, heights: Mapping[Spot, float]) -> dict[Spot, float]:
    """Find centres: each layer in turn moves as close to its neighbours as order and gaps allow."""
    centres: dict[Spot, float] = {}
    for layer in grid.layers:
        y = 0.0
        for spot in layer:
            centres[spot] = y + heights[spot] / 2
            y += heights[spot] + GAP_Y
        for spot in layer:
            centres[spot] -= (y - GAP_Y) / 2
    for sweep in range(_STRAIGHTENING):
        forward = sweep % 2 == 0
        for layer in grid.layers if forward else reversed(grid.layers):
            wanted, weights = [], []
            for spot in layer:
                near = grid.before[spot] if forward else grid.after[spot]
                near = near or (grid.after[spot] if forward else grid.before[spot])
                wanted.append(sum(centres[other] for other in near) / len(near) if near else centres[spot])
                weights.append(1.0 if isinstance(spot, str) else 4.0)
            centres |= zip(layer, _spread(wanted, weights, [heights[spot] for spot in layer]), strict=True)
    return centres


def _spread(wanted: Sequence[float], weights: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Move centres least (weighted squares) so that boxes keep order and gaps: pool adjacent violators."""
    shift = [0.0]
    for upper, lower in pairwise(heights):
        shift.append(shift[-1] + (upper + lower) / 2 + GAP_Y)
    pools: list[tuple[float, float, int]] = []
    for value, weight, offset in zip(wanted, weights, shift, strict=True):
        pool = (value - offset, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, mass, count = pools.pop()
            pool = ((mean * mass + pool[0] * pool[1]) / (mass + pool[1]), mass + pool[1], count + pool[2])
        pools.append(pool)
    flat = [mean for mean, _, count in pools for _ in range(count)]
    return [value + offset for value, offset in zip(flat, shift, strict=True)]


def _columns(grid: _Grid, sizes: Mapping[str, Size]) -> list[tuple[float, float]]:
    """Give each layer its left edge and width; a gap widens with the number of edges that cross it."""
    columns: list[tuple[float, float]] = []
    left = 0.0
    for layer in grid.layers:
        width = max((sizes[spot][0] for spot in layer if isinstance(spot, str)), default=0.0)
        columns.append((left, width))
        links = sum(len(grid.after[spot]) for spot in layer)
        left += width + GAP_X + min(2.0 * max(links - 4, 0), 90.0)
    return columns


def _waypoints(chain: Sequence[Box]) -> tuple[tuple[float, float], ...]:
    """Leave the first box on its right, pass each lane from end to end, meet the last box on its left."""
    points = [(chain[0].x + chain[0].width, chain[0].y + chain[0].height / 2)]
    for lane in chain[1:-1]:
        middle = lane.y + lane.height / 2
        points += [(lane.x, middle), (lane.x + lane.width, middle)]
    return (*points, (chain[-1].x, chain[-1].y + chain[-1].height / 2))

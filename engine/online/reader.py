"""Events of one key as arrays, straight from the cells: what `features.prepared` asks for one request after another.

Enters: a join, a key, a time. Leaves: `Events` in total order, with when each counts. A bucket's events are kept, decoded,
as long as its cell has the same bytes, so a busy key is decoded once for many requests. Called by scorers.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from engine.features.events import Events, Join, Key
from engine.online.arrays import arrays_of
from engine.online.blocks import concat
from engine.online.buckets import read_directory
from engine.online.indexes import Index, hash_key
from engine.online.reading import Asked, Finder, StaleError
from engine.online.state import EventState
from engine.online_contracts import Get

_KEPT = 4096
_TRIES = 20
_Name: TypeAlias = tuple[bytes, Join, tuple[int, ...]]


class StateReader:
    """Fulfils `features.events.EventReader` over a state. Safe for threads."""

    def __init__(self, state: EventState, kept: int = _KEPT) -> None:
        self._state = state
        self._finder = {(need.index.source, need.index.columns): need.index for need in state.indexes.needs}
        self._places: dict[tuple[str, object], tuple[Index, tuple[int, ...]]] = {}
        self._kept: OrderedDict[_Name, tuple[bytes, Events]] = OrderedDict()
        self._most = kept
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def moment(self) -> Iterator[None]:
        """All reads of this thread within see the store as it is now, where the store can; one opening for all of them."""
        with self._state.cells.view() as get:
            self._local.get = get
            try:
                yield
            finally:
                self._local.get = None

    def read(self, join: Join, key: Key, at: int) -> Events:
        """See `EventReader.read`."""
        get: Get | None = getattr(self._local, "get", None)
        for _ in range(_TRIES):
            try:
                if get is not None:
                    return self._read(join, key, at, get)
                with self._state.cells.view() as fresh:
                    return self._read(join, key, at, fresh)
            except StaleError:
                continue
        raise StaleError("a bucket changed every time that it was read", hint="push in larger batches")

    def _read(self, join: Join, key: Key, at: int, get: Get) -> Events:
        index, order = self._place(join)
        bucket = index.prefix() + hash_key(tuple(key[place] for place in order))
        (data,) = get([bucket])
        held = self._state.indexes.sources[join.source]
        directory = read_directory(held, data)
        finder = Finder(self._state.indexes, (), get)
        if join.reach is None and not held.timeless:  # the latest row, wherever it is: few rows, not worth keeping
            blocks = finder.select(held, bucket, directory, Asked(at, at, index.reach, latest=True, known=None))
            mixed = directory.mixed or any(chunk.mixed for chunk in directory.chunks)
            return arrays_of(held, concat(held.layout, blocks), join, key, mixed=mixed)
        low = at - (join.reach or 0)
        chunks = [chunk for chunk in directory.chunks if held.timeless or (chunk.high >= low and chunk.low < at)]
        name = bucket, join, tuple(chunk.number for chunk in chunks)
        known = self._kept.get(name)
        if known is not None and known[0] == data:
            return known[1]
        block = concat(held.layout, [*finder.load(held, bucket, chunks), directory.tail])
        made = arrays_of(held, block, join, key, mixed=directory.mixed or any(chunk.mixed for chunk in chunks))
        self._keep(name, data or b"", made)
        return made

    def _place(self, join: Join) -> tuple[Index, tuple[int, ...]]:
        """The index of a join, and in which order it takes the key."""
        name = join.source, join.on
        if name not in self._places:
            order = tuple(sorted(range(len(join.on)), key=lambda place: join.on[place]))
            self._places[name] = self._finder[join.source, tuple(join.on[place][0] for place in order)], order
        return self._places[name]

    def _keep(self, name: _Name, data: bytes, made: Events) -> None:
        with self._lock:
            self._kept[name] = data, made
            self._kept.move_to_end(name)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

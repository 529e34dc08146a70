"""Packed rows as the arrays that `features.prepared` reads, in total order. Called by `reader`.

Rows without ties in time, or with ids that break them, and without versions, are decoded column by column. The others go
the long way round, through the same timeline as training's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.features.events import Events, Join, Key, Values, events_of
from engine.features.frames import Ints
from engine.online.blocks import Block
from engine.online.indexes import Held


def arrays_of(held: Held, block: Block, join: Join, key: Key, *, mixed: bool) -> Events:
    """The rows of one key; `mixed` says that ids may have several versions, also of other keys."""
    order = None if mixed or held.timeless else _order(held, block)
    if order is None:
        return _by_timeline(held, block, join, key)
    columns = {name: _values(block, name, order) for name in join.columns}
    return Events(held.times(block)[order], held.available(block)[order], columns)


def _order(held: Held, block: Block) -> Ints | None:
    """The total order, when times and ids decide it."""
    times = held.times(block)
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    if not (ordered[1:] == ordered[:-1]).any():
        return order
    id_ = held.program.id
    if id_ is None or not block.valid(id_).all():
        return None
    return np.lexsort((_values(block, id_, slice(None)).data, times))


def _by_timeline(held: Held, block: Block, join: Join, key: Key) -> Events:
    frame = block.frame()
    every = events_of(held.program, frame)
    same = np.ones(every.count, dtype=np.bool_)
    for (column, _), value in zip(join.on, key, strict=True):
        same &= _equal(every.columns[column], value)
    columns = {name: _some(every.columns[name], same) for name in join.columns}
    until = every.until[same] if every.until is not None else None
    return Events(every.time[same], every.available[same], columns, until)


def _some(values: Values, rows: npt.NDArray[np.bool_]) -> Values:
    return Values(
        values.type, values.data[rows], values.valid[rows] if values.valid is not None else None, values.texts
    )


def _equal(values: Values, wanted: Any) -> npt.NDArray[np.bool_]:
    if values.type == "str":
        places = [place for place, text in enumerate(values.texts) if text == wanted]
        same = values.data == (places[0] if places else -1)
    else:
        same = values.data == wanted
    same = np.asarray(same, dtype=np.bool_)
    return same & values.valid if values.valid is not None else same


def _values(block: Block, name: str, order: Any) -> Values:
    """One column as arrays, in this order."""
    number, type_ = block.layout.number[name], block.layout.columns[name]
    valid = block.valid(name)[order]
    flags = None if valid.all() else valid
    if type_ != "str":
        data = block.records[f"v{number}"][order]
        return Values(type_, data.astype(np.int64) if type_ == "bool" else np.ascontiguousarray(data), flags)
    offsets, lengths = block.records[f"o{number}"][order], block.records[f"l{number}"][order]
    keys = offsets.astype(np.uint64) << np.uint64(32) | lengths
    if len(keys) and (keys == keys[0]).all():
        start = int(offsets[0])
        return Values(
            type_, np.zeros(len(keys), np.int64), flags, (block.heap[start : start + int(lengths[0])].decode(),)
        )
    distinct, inverse = np.unique(keys, return_inverse=True)
    parts = [_text(block.heap, key) for key in distinct.tolist()]
    texts: Sequence[str] = sorted(set(parts))
    place = {text: number for number, text in enumerate(texts)}
    codes = np.array([place[text] for text in parts], dtype=np.int64)
    return Values(type_, codes[inverse], flags, texts)


def _text(heap: bytes, key: int) -> str:
    start = key >> 32
    return heap[start : start + (key & 0xFFFFFFFF)].decode()

"""Finding the events of some requests: which buckets, which chunks of them, which rows. Never a value.

A program may join by a feature that another join gives. Joins are therefore found in rounds: what can be joined by the
columns known so far, then the features that the next joins need, by the same `compute` as always. Called by `state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import polars as pl

from engine.errors import StoreError
from engine.features.compute import compute
from engine.features.frames import Ints, microseconds_of
from engine.features.steps import EVENT_TIME, AnyStep, FeatureProgram, Formula, Lookup, Window
from engine.features.syntax import Column, walk
from engine.online.blocks import Block, concat, decode
from engine.online.buckets import Chunk, Directory, chunk_key, read_directory
from engine.online.indexes import Held, Indexes, Need, hash_key, key_rows
from engine.online_contracts import Get

_LOWEST = -(2**62)


@dataclass(frozen=True, slots=True)
class Round:
    """Joins that can be found together; first, the features that they join by."""

    needs: tuple[Need, ...]
    before: FeatureProgram | None


@dataclass(slots=True)
class Asked:
    """Some moments at which one bucket is asked for; how far back, and whether for the latest row; rows known by when."""

    first: int
    last: int
    reach: int
    latest: bool
    known: int | None

    def include(self, moment: int, need: Need) -> None:
        """Ask for one more moment."""
        self.first, self.last = min(self.first, moment), max(self.last, moment)
        self.reach, self.latest = max(self.reach, need.reach), self.latest or need.latest

    def knows(self, moment: int) -> int:
        """The last availability that counts at a moment."""
        return moment if self.known is None else min(moment, self.known)


class StaleError(StoreError):
    """A chunk was replaced between reading its directory and reading it; the reader begins again."""


def rounds_of(indexes: Indexes) -> tuple[Round, ...]:
    """Order a program's joins by what they need."""
    known = {EVENT_TIME, *indexes.program.spine.request}
    left, rounds, before = list(indexes.needs), [], None
    while left:
        now = [need for need in left if known.issuperset(need.targets)]
        left = [need for need in left if need not in now]
        rounds.append(Round(tuple(now), before))
        if not left:
            break
        wanted = _next_targets(indexes.program, left, tuple(need for each in rounds for need in each.needs)) - known
        before = restricted(indexes.program, wanted)
        known |= wanted
    return tuple(rounds)


def _next_targets(program: FeatureProgram, left: Sequence[Need], found: Sequence[Need]) -> set[str]:
    """The features that later joins need and that the joins found so far suffice for."""
    done = {(need.index.source, tuple(sorted(zip(need.index.columns, need.targets, strict=True)))) for need in found}
    wanted = set()
    for target in {target for need in left for target in need.targets if target in program.by_name}:
        steps = restricted(program, {target}).steps
        joins = {(s.source, tuple(sorted(s.on))) for s in steps if isinstance(s, Lookup | Window)}
        if joins <= done:
            wanted.add(target)
    return wanted


def restricted(program: FeatureProgram, names: set[str]) -> FeatureProgram:
    """The same program, with only what these features need; its values have the same bits."""
    wanted, queue = set[str](), list(names)
    while queue:
        name = queue.pop()
        if name in program.by_name and name not in wanted:
            wanted.add(name)
            queue += _reads(program.by_name[name])
    steps = tuple(step for step in program.steps if step.name in wanted)
    order = tuple(name for name in program.order if name in wanted)
    return msgspec.structs.replace(program, steps=steps, order=order)


def _reads(step: AnyStep) -> list[str]:
    if isinstance(step, Formula):
        return [node.name for node, _ in walk(step.expr) if isinstance(node, Column)]
    return [target for _, target in step.on] if isinstance(step, Lookup | Window) else [step.column]


@dataclass
class Finder:
    """One reading for some requests."""

    indexes: Indexes
    rounds: tuple[Round, ...]
    get: Get
    as_of: int | None = None
    _found: dict[str, list[Block]] = field(default_factory=dict)

    def find(self, spine: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """All that the program needs of every source, for these rows."""
        times = microseconds_of(spine[EVENT_TIME])
        for each in self.rounds:
            if each.before is not None:
                made = compute(each.before, spine, self._frames(), self.as_of)
                spine = spine.with_columns(made.get_columns())
            self._find(each.needs, spine, times)
        return self._frames()

    def _frames(self) -> dict[str, pl.DataFrame]:
        return {name: self._rows(held).frame() for name, held in self.indexes.sources.items()}

    def _rows(self, held: Held) -> Block:
        blocks = self._found.get(held.program.name, [])
        rows = concat(held.layout, blocks)
        if len(blocks) > 1:  # a row lies in several buckets and counts once
            _, first = np.unique(rows.records["uid"], return_index=True)
            if len(first) < len(rows):
                rows = Block(held.layout, rows.records[np.sort(first)], rows.heap)
        return rows

    def _find(self, needs: Sequence[Need], spine: pl.DataFrame, times: Ints) -> None:
        asked: dict[bytes, tuple[Held, Asked]] = {}
        moments = times.tolist()
        for need in needs:
            prefix, held = need.index.prefix(), self.indexes.sources[need.index.source]
            for key, moment in zip(key_rows(spine, need.targets), moments, strict=True):
                if None in key:
                    continue
                bucket = prefix + hash_key(key)
                if bucket in asked:
                    asked[bucket][1].include(moment, need)
                else:
                    asked[bucket] = held, Asked(moment, moment, need.reach, need.latest, self.as_of)
        cells = self.get(list(asked))
        for (bucket, (held, request)), data in zip(asked.items(), cells, strict=True):
            if data is not None:
                directory = read_directory(held, data)
                self._found.setdefault(held.program.name, []).extend(self.select(held, bucket, directory, request))

    def select(self, held: Held, bucket: bytes, directory: Directory, asked: Asked) -> list[Block]:
        """The rows of one bucket that some moments may see."""
        if held.timeless:
            chunks = self.load(held, bucket, directory.chunks)
            return [*chunks, directory.tail]
        if asked.latest:
            return self._latest(held, bucket, directory, asked)
        low = asked.first - asked.reach
        chosen = [chunk for chunk in directory.chunks if chunk.high >= low and chunk.low < asked.last]
        blocks = zip(chosen, self.load(held, bucket, chosen), strict=True)
        rows = [_within(held, block, low, asked, mixed=chunk.mixed) for chunk, block in blocks]
        return [*rows, _within(held, directory.tail, low, asked, mixed=directory.mixed)]

    def _latest(self, held: Held, bucket: bytes, directory: Directory, asked: Asked) -> list[Block]:
        """From the latest row that is surely visible at the earliest moment: chunks by their ends, until one has it."""
        window = asked.first - asked.reach
        low = min(window, _latest_visible(held, directory.tail, asked, mixed=directory.mixed))
        taken = [(directory.tail, directory.mixed)]
        chosen = [chunk for chunk in directory.chunks if chunk.low < asked.last]
        for chunk in sorted(chosen, key=lambda chunk: chunk.high, reverse=True):
            if chunk.high < low:
                break
            (block,) = self.load(held, bucket, [chunk])
            taken.append((block, chunk.mixed))
            low = max(low, min(window, _latest_visible(held, block, asked, mixed=chunk.mixed)))
        return [_within(held, block, low, asked, mixed=mixed) for block, mixed in taken]

    def load(self, held: Held, bucket: bytes, chunks: Sequence[Chunk]) -> list[Block]:
        """Read chunks whole; raises `StaleError` when one is not there any more."""
        cells = self.get([chunk_key(bucket, chunk.number) for chunk in chunks]) if chunks else []
        if None in cells:
            raise StaleError("a bucket changed while it was read", hint="ask again")
        return [decode(held.layout, data) for data in cells if data is not None]


def _within(held: Held, block: Block, low: int, asked: Asked, *, mixed: bool) -> Block:
    """The rows that may count at the moments asked about; of a mixed block also those that replace one of them."""
    if not len(block):
        return block
    keep = held.available(block) <= asked.knows(asked.last)
    if not mixed:
        times = held.times(block)
        keep &= (times >= low) & (times < asked.last)
    if keep.all():
        return block
    return Block(block.layout, block.records[keep], block.heap)


def _latest_visible(held: Held, block: Block, asked: Asked, *, mixed: bool) -> int:
    """The time of the latest row that counts at the first moment; a mixed block may have replaced it, and proves nothing."""
    if mixed or not len(block):
        return _LOWEST
    times = held.times(block)
    seen = times[(times < asked.first) & (held.available(block) <= asked.knows(asked.first))]
    return int(seen.max()) if len(seen) else _LOWEST

"""Filling an online state from snapshots: what changed since the last time, resumable at any point.

Enters: a state, and where each of its sources is published. Leaves: counts by source; progress on the way. The target commit
is noted first, and every push has a token, so a run that was killed is taken up where it stopped, towards the same commit,
and nothing is added twice. Called by `engine features materialize`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.clock import stopwatch
from engine.contracts import Progress, SnapshotStore
from engine.errors import NotFoundError
from engine.features.frames import conform
from engine.keys import digest
from engine.online.blocks import pack
from engine.online.indexes import Held
from engine.online.state import EventState

CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Published:
    """Where a source's rows are: a repository and a branch, or any ref."""

    repository: str
    ref: str


@dataclass(slots=True)
class Filled:
    """What was done for one source; `previous` is the commit that the state had before."""

    source: str
    commit: str
    previous: str | None
    objects: int = 0
    added: int = 0
    repeated: int = 0
    removed: int = 0
    unknowable: int = 0
    expired: int = 0
    seconds: float = 0.0


@dataclass
class Materialiser:
    """One filling of a state."""

    state: EventState
    store: SnapshotStore
    published: Mapping[str, Published]
    progress: Progress
    _started: float = field(default_factory=stopwatch)

    def fill(self) -> list[Filled]:
        """Bring every source to the head of its branch; raises `NotFoundError` when nothing was ever published."""
        return [self._fill(held) for held in self.state.indexes.sources.values()]

    def _fill(self, held: Held) -> Filled:
        name, started = held.program.name, stopwatch()
        place = self.published[name]
        if place.repository not in self.store.repositories():
            raise NotFoundError(f"source `{name}` has no snapshot yet", hint="engine run pipeline=… ingests it")
        head = self.store.resolve(place.repository, place.ref)
        mark = self.state.watermark(name)
        done = Filled(name, head, mark.commit)
        if mark.target is not None and mark.target != head:  # a run was stopped on its way: arrive there first
            self._step(held, place, mark.commit, mark.target, done)
            mark = self.state.watermark(name)
        if mark.commit != head:
            self.state.aim(name, head)
            self._step(held, place, mark.commit, head, done)
        done.seconds = stopwatch() - started
        return done

    def _step(self, held: Held, place: Published, before: str | None, after: str, done: Filled) -> None:
        """Go from one commit to another, and note the arrival."""
        old = self._objects(held, place, before) if before is not None else {}
        new = self._objects(held, place, after)
        gone = sorted(path for path in old if new.get(path) != old[path])
        come = sorted(path for path in new if new[path] != old.get(path))
        name = held.program.name
        added, removed = _Surplus(held), _Surplus(held)
        if gone:
            added.exclude(self._frames(held, place, after, come), self._frames(held, place, str(before), gone))
            removed.exclude(self._frames(held, place, str(before), gone), self._frames(held, place, after, come))
        for number, path in enumerate(come):
            for token, rows in _chunks(
                added.of(self._frame(held, place, after, path)), (str(before), after, path, "+")
            ):
                pushed = self.state.push(name, rows, token)
                done.added += pushed.accepted
                done.repeated += pushed.repeated
                done.unknowable += pushed.unknowable
                done.expired += pushed.expired
                self.progress(f"{name}: {path}", done.added + done.repeated, (number + 0.5) / max(len(come), 1))
        for path in gone:
            rest = removed.of(self._frame(held, place, str(before), path))
            for token, rows in _chunks(rest, (str(before), after, path, "-")):
                done.removed += self.state.retract(name, rows, token)
        done.objects += len(come) + len(set(gone) - set(come))
        self.state.mark(name, after)

    def _objects(self, held: Held, place: Published, ref: str) -> dict[str, str]:
        found = self.store.list(place.repository, ref, f"{held.program.name}/")
        return {item.path: item.digest for item in found if item.path.endswith(".parquet")}

    def _frames(self, held: Held, place: Published, ref: str, paths: Sequence[str]) -> Iterator[pl.DataFrame]:
        return (self._frame(held, place, ref, path) for path in paths)

    def _frame(self, held: Held, place: Published, ref: str, path: str) -> pl.DataFrame:
        columns = list(held.layout.columns)
        return pl.read_parquet(self.store.fetch(place.repository, ref, path), columns=columns, glob=False)


class _Surplus:
    """The rows that one side has more often than the other; without `exclude`, all rows."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._left: dict[int, int] | None = None

    def exclude(self, mine: Iterator[pl.DataFrame], theirs: Iterator[pl.DataFrame]) -> None:
        """Count by content: eight bytes a row, whatever the rows are."""
        here, there = self._counts(mine), self._counts(theirs)
        self._left = {key: count - there.get(key, 0) for key, count in here.items() if count > there.get(key, 0)}

    def of(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Those rows of a frame that are left; each is given once."""
        if self._left is None:
            return frame
        keep = np.zeros(frame.height, dtype=np.bool_)
        for row, key in enumerate(self._digests(frame).tolist()):
            if self._left.get(key, 0) > 0:
                self._left[key] -= 1
                keep[row] = True
        return frame.filter(pl.Series(keep, dtype=pl.Boolean))

    def _counts(self, frames: Iterator[pl.DataFrame]) -> dict[int, int]:
        digests = [self._digests(frame) for frame in frames]
        if not digests:
            return {}
        keys, counts = np.unique(np.concatenate(digests), return_counts=True)
        return dict(zip(keys.tolist(), counts.tolist(), strict=True))

    def _digests(self, frame: pl.DataFrame) -> npt.NDArray[np.uint64]:
        rows = conform(frame, self._held.layout.columns, f"snapshot of source `{self._held.program.name}`")
        found: npt.NDArray[np.uint64] = pack(self._held.layout, rows).records["digest"]
        return found


def _chunks(frame: pl.DataFrame, what: tuple[str, str, str, str]) -> Iterator[tuple[str, pl.DataFrame]]:
    for start in range(0, frame.height, CHUNK):
        yield digest([*what, start]), frame[start : start + CHUNK]

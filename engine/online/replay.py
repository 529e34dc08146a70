"""Training's features again, as serving would have computed them: each row alone, from a state filled out of order.

Enters: rows with the features that training used, and the history they came from. Leaves: counts of bits that differ, by
feature. Some rows are chosen by a hash of their ids; the state gets the events that they can see, as many as `events`
allows, shuffled, in pushes of different sizes, some twice. Called by the parity probe.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.features.compute import compute
from engine.features.frames import Ints, conform, microseconds_of
from engine.features.lowered_functions import DTYPES
from engine.features.matching import match_keys
from engine.features.prepared import prepare
from engine.features.steps import EVENT_TIME, FeatureProgram
from engine.features.timeline import Timeline, build_timeline
from engine.online.comparing import compare_columns, total_of
from engine.online.indexes import Need, indexes_of
from engine.online.memory import MemoryCells
from engine.online.reader import StateReader
from engine.online.state import EventState

_SHOWN = 5
_SINGLES = 8
_NEIGHBOURS = 40
_CANDIDATES = 4  # for each row that is replayed


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many rows are replayed at most, and from how many events at most; at least one row always is."""

    rows: int = 40
    events: int = 15_000
    seed: int = 0


def replay(
    program: FeatureProgram,
    rows: pl.DataFrame,
    history: Mapping[str, pl.DataFrame],
    sampling: Sampling,
    as_of: int | None,
) -> dict[str, Any]:
    """Replay a sample of rows (`row_id`, event time, request fields, computed features); a document of what differs."""
    candidates = rows[_candidates(rows, sampling)]
    seen = _Seen(program, candidates, history, as_of)
    chosen = seen.fitting(sampling)
    sample = candidates[chosen]
    state = EventState(program, MemoryCells())
    pushed = 0
    for name, events in seen.events(chosen).items():
        pushed += _push_shuffled(state, name, events, random.Random(sampling.seed))  # noqa: S311
    fields = [EVENT_TIME, *program.spine.request]
    one_by_one = [compute(program, one, state.read(one, as_of), as_of) for one in sample.select(fields).iter_slices(1)]
    served = pl.concat(one_by_one) if one_by_one else sample.select(program.computed_names)
    document = _document(program, sample, served, pushed)
    return (
        document
        if as_of is not None
        else _plus(document, _document(program, sample, _by_arrays(state, sample), pushed))
    )


def _by_arrays(state: EventState, sample: pl.DataFrame) -> pl.DataFrame:
    """The same rows as a scorer computes them: from arrays, one after another."""
    program = state.program
    prepared, reader = prepare(program), StateReader(state)
    plain = sample.select(EVENT_TIME, *program.spine.request).with_columns(pl.selectors.datetime().dt.epoch("us"))
    rows = [prepared.features(request, reader) for request in plain.iter_rows(named=True)]
    columns = []
    for place, name in enumerate(program.computed_names):
        type_ = program.output_types[name]
        values = pl.Series(
            name, [row[place] for row in rows], dtype=pl.Int64 if type_ == "timestamp" else DTYPES[type_]
        )
        columns.append(values.cast(DTYPES[type_]))
    return pl.DataFrame(columns)


def _plus(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two documents of the same rows, by two ways of serving, as one: counts add up."""
    keys = ("compared", "mismatches", "missing", "extra")
    features = {
        name: {**item, **{key: item[key] + other["features"][name][key] for key in keys}}
        for name, item in one["features"].items()
    }
    return {
        **one,
        **total_of(features),
        "features": features,
        "examples": [*one["examples"], *other["examples"]][:_SHOWN],
    }


def _candidates(rows: pl.DataFrame, sampling: Sampling) -> list[int]:
    """Places of candidates: some by a hash of their ids, and after each its neighbours in time, who see much the same events."""
    by_time = rows[EVENT_TIME].arg_sort().to_numpy()
    place = np.empty(rows.height, dtype=np.int64)
    place[by_time] = np.arange(rows.height)
    firsts = rows["row_id"].hash(seed=sampling.seed).arg_sort().head(sampling.rows).to_list()
    groups = (by_time[place[first] : place[first] + _NEIGHBOURS].tolist() for first in firsts)
    return list(dict.fromkeys(row for group in groups for row in group))[: _CANDIDATES * sampling.rows]


def _document(program: FeatureProgram, sample: pl.DataFrame, served: pl.DataFrame, pushed: int) -> dict[str, Any]:
    names = [name for name in program.computed_names if name != "row_id"]
    compared = compare_columns(sample.select(names), served.select(names))
    features = {name: item.counts() for name, item in compared.items()}
    examples = [
        {
            "feature": name,
            "row": str(sample["row_id"][row]),
            "trained": _show(sample[name][row]),
            "served": _show(served[name][row]),
        }
        for name, item in compared.items()
        for row in np.flatnonzero(item.differs)[:1].tolist()
    ]
    return {
        **total_of(features),
        "rows": sample.height,
        "events": pushed,
        "features": features,
        "examples": examples[:_SHOWN],
    }


def _show(value: Any) -> str:
    return value.hex() if isinstance(value, float) else str(value)


def _push_shuffled(state: EventState, name: str, events: pl.DataFrame, chance: random.Random) -> int:
    """Push in a random order; a few events alone, the others in batches, the last batch twice where that may be."""
    shuffled = events.sample(fraction=1.0, shuffle=True, seed=chance.randrange(2**32))
    singles = min(_SINGLES, shuffled.height)
    cuts = sorted({*range(singles + 1), *(chance.randint(singles, shuffled.height) for _ in range(3)), shuffled.height})
    for start, end in pairwise(cuts):
        state.push(name, shuffled[start:end])
    source = state.program.sources[name]
    id_ = source.id
    if len(cuts) > 1 and (source.static or (id_ is not None and not shuffled[id_].null_count())):
        state.push(name, shuffled[cuts[-2] : cuts[-1]])
    return shuffled.height


class _Seen:
    """Which events the rows can see, row by row, so that as many rows are taken as the events allow."""

    def __init__(
        self, program: FeatureProgram, rows: pl.DataFrame, history: Mapping[str, pl.DataFrame], as_of: int | None
    ) -> None:
        self._program = program
        self._history = {
            name: conform(history[name], program.sources[name].columns, f"history of source `{name}`")
            for name in program.feature_sources
        }
        self._times = microseconds_of(rows[EVENT_TIME])
        needs = indexes_of(program).needs
        lines = {name: _line(program, name, self._history[name], as_of) for name in program.feature_sources}
        self._found: dict[str, list[list[Ints]]] = {name: [[] for _ in range(rows.height)] for name in lines}
        for need in needs:
            for row, found in self._visible(need, lines[need.index.source], rows):
                self._found[need.index.source][row].append(found)
        self._lines = lines

    def fitting(self, sampling: Sampling) -> list[int]:
        """Choose rows, in order, that see no more different events together than allowed; without any, the first.

        A row that would see too many is passed over: of the rows of a busy key all see much the same.
        """
        taken = {name: np.zeros(line.frame.height, dtype=np.bool_) for name, line in self._lines.items()}
        chosen: list[int] = []
        left = sampling.events
        for row in range(len(self._times)):
            new = {name: self._unseen(name, row, mask) for name, mask in taken.items()}
            needed = sum(len(events) for events in new.values())
            if needed <= left:
                left -= needed
                chosen.append(row)
                for name, events in new.items():
                    taken[name][events] = True
            if len(chosen) == sampling.rows:
                break
        return chosen or [0][: len(self._times)]

    def _unseen(self, name: str, row: int, taken: npt.NDArray[np.bool_]) -> Ints:
        found = self._found[name][row]
        every = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
        return np.asarray(every[~taken[every]])

    def events(self, chosen: Sequence[int]) -> dict[str, pl.DataFrame]:
        """The events that these rows see, by source, with all versions of each."""
        made = {}
        for name, line in self._lines.items():
            visible = [events for row in chosen for events in self._found[name][row]]
            rows = np.unique(np.concatenate(visible)) if visible else np.empty(0, dtype=np.int64)
            kept, id_ = line.frame[rows], self._program.sources[name].id
            if id_ is not None and not self._program.sources[name].static and kept.height:
                known = line.frame[id_].is_in(kept[id_].drop_nulls().unique().implode())
                known = known.fill_null(value=False) | pl.Series(np.isin(np.arange(line.frame.height), rows))
                kept = line.frame.filter(known)
            made[name] = kept
        return made

    def _visible(self, need: Need, line: Timeline, rows: pl.DataFrame) -> Iterator[tuple[int, Ints]]:
        on = tuple(zip(need.index.columns, need.targets, strict=True))
        asked, held = match_keys(rows, line.frame, on)
        matched = np.flatnonzero(held >= 0)
        order = matched[np.argsort(held[matched], kind="stable")]
        codes, times = held[order], line.time[order]
        for row, code in enumerate(asked.tolist()):
            if code < 0:
                continue
            mine = slice(np.searchsorted(codes, code), np.searchsorted(codes, code, side="right"))
            if self._program.sources[need.index.source].static:
                yield row, order[mine]
            else:
                yield row, _in_reach(need, line, (order[mine], times[mine]), int(self._times[row]))


def _in_reach(need: Need, line: Timeline, held: tuple[Ints, Ints], at: int) -> Ints:
    """Of a key's events and their times, those that a row sees, and that its features need."""
    last, low = np.searchsorted(held[1], at), at - need.reach
    if not need.latest:
        mine = held[0][np.searchsorted(held[1], low) : last]
        return mine[line.available[mine] <= at]
    mine = held[0][:last]
    mine = mine[line.available[mine] <= at]
    counting = mine[line.until[mine] >= at]
    low = min(low, int(line.time[counting[-1]])) if len(counting) else -(2**62)
    return mine[np.searchsorted(line.time[mine], low) :]


def _line(program: FeatureProgram, name: str, history: pl.DataFrame, as_of: int | None) -> Timeline:
    return build_timeline(program.sources[name], history, as_of)


def differing(document: Mapping[str, Any]) -> Sequence[str]:
    """The features of a replay's document of which some bit differs."""
    bad = ("mismatches", "missing", "extra")
    return [name for name, item in document["features"].items() if any(item[key] for key in bad)]

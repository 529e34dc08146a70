"""Runs as a list: filtered, sorted, with what differs between them. Only the index is read, so ten thousand are no matter.

Enters: what to list. Leaves: summaries, and facts of each by dotted name. A run folder that the index does not know is
taken into it; one that is gone is said to be. Called by `engine runs list`, `best`, `compare` and `export`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.errors import IntegrityError, NotFoundError, UsageError
from engine.experiments.facts import Facts, needed_columns
from engine.experiments.filters import Filter, read_filter
from engine.locations import Stores
from engine.runs import RunFolder, flatten
from engine.stores.database import Row
from engine.stores.runs_index import RunSummary


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs: an expression, an order (`name desc`: falling), how many."""

    where: str | None = None
    sort: str | None = None
    limit: int | None = 20


@dataclass(frozen=True, slots=True)
class Listed:
    """One run of a list, with facts by dotted name; `gone` when its folder was deleted."""

    summary: RunSummary
    facts: Callable[[str], Any]
    gone: bool


@dataclass(frozen=True, slots=True)
class _At:
    """The facts of one run of many."""

    of: Facts
    place: int

    def __call__(self, name: str) -> Any:
        """Give a fact by its dotted name."""
        return self.of.column(name)[self.place]


@dataclass(frozen=True)
class Listing:
    """The runs of a project, looked up through its index."""

    stores: Stores

    def find(self, wanted: Wanted) -> list[Listed]:
        """List runs, the latest first unless sorted; raises `UsageError` for an expression that cannot be read."""
        condition = read_filter(wanted.where) if wanted.where else None
        there = self._adopt()
        if condition is None and wanted.sort is None:
            rows = self.stores.index.scan(wanted.limit)
        else:
            rows = self.stores.index.rows(self._chosen(condition, wanted.sort)[: wanted.limit])
        facts = self._facts(rows)
        status, error = facts.column("status"), facts.column("error")
        found = []
        for place, row in enumerate(rows):
            summary = self.stores.index.summarise(row, facts.tags.get(row["run_id"], {}))
            if summary.status != status[place]:
                summary = msgspec.structs.replace(summary, status=status[place], error=error[place])
            found.append(Listed(summary, _At(facts, place), summary.run_id not in there))
        return found

    def differences(self, runs: Sequence[Listed]) -> dict[str, list[Any]]:
        """Give the config paths whose values are not the same in all these runs, with each run's value."""
        ids = [run.summary.run_id for run in runs]
        configs = self.stores.index.configs(ids)
        keys = list(dict.fromkeys(key for config in configs.values() for key in config))
        found: dict[str, list[Any]] = {}
        for key in keys:
            values = [configs.get(run, {}).get(key) for run in ids]
            if all(value is values[0] for value in values):
                continue
            leaves = [dict(flatten(value, key)) if value is not None else {} for value in values]
            for path in dict.fromkeys(path for item in leaves for path in item):
                column = [item.get(path) for item in leaves]
                if any(value != column[0] for value in column):
                    found[path] = column
        return found

    def _facts(self, rows: Sequence[Row]) -> Facts:
        root = self.stores.runs_root
        return Facts(rows, self.stores.index.tags(), self.stores.index, lambda run: RunFolder(root / run).is_alive())

    def _chosen(self, condition: Filter | None, sort: str | None) -> list[str]:
        """Give the ids of the runs that a condition accepts, in order; only the columns that it needs are read."""
        by, falling = _order(sort) if sort is not None else (None, False)
        names = sorted({*(condition.names if condition else ()), *([by] if by else [])})
        facts = self._facts(self.stores.index.scan(None, needed_columns(names)))
        for name in names:
            facts.check(name)
        places: Sequence[int] = range(len(facts.rows))
        if condition is not None:
            columns = [facts.column(name) for name in names]
            values = zip(*columns, strict=True) if columns else iter(() for _ in places)
            places = [
                place for place, own in enumerate(values) if condition.accepts(dict(zip(names, own, strict=True)).get)
            ]
        if by is not None:
            places = _sorted(places, facts.column(by), falling=falling)
        return [facts.rows[place]["run_id"] for place in places]

    def _adopt(self) -> set[str]:
        """Take run folders that the index does not know into it; gives the ids of all folders."""
        root = self.stores.runs_root
        names = os.listdir(root) if root.is_dir() else ()  # noqa: PTH208 - names alone, of ten thousand folders
        there = {name for name in names if name.isdigit()}
        known = self.stores.index.run_ids()
        for run_id in sorted(there - known, key=int):
            folder = RunFolder(root / run_id)
            try:
                self.stores.index.record_run(folder.read_record(), str(folder.path), folder.read_config())
            except (NotFoundError, IntegrityError):
                continue
        return there


def _order(sort: str) -> tuple[str, bool]:
    """Read `name`, `name desc` or `-name` as a name and whether it falls.

    >>> _order("metrics.roc_auc desc"), _order("seconds")
    (('metrics.roc_auc', True), ('seconds', False))
    """
    name, _, way = sort.strip().partition(" ")
    if way.strip().lower() not in {"", "asc", "desc"}:
        raise UsageError(f"--sort {sort}: cannot be read", hint="--sort 'metrics.roc_auc desc'")
    return name.lstrip("-"), name.startswith("-") or way.strip().lower() == "desc"


def _sorted(places: Sequence[int], values: Sequence[Any], *, falling: bool) -> list[int]:
    """Order places by their values, as numbers where all are; those without a value come last."""
    known = [place for place in places if values[place] is not None]
    numbers = all(isinstance(values[place], int | float) for place in known)
    known.sort(key=lambda place: values[place] if numbers else str(values[place]), reverse=falling)
    return known + [place for place in places if values[place] is None]

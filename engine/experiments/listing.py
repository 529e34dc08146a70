"""Runs as a list: filtered, sorted, with what differs between them. Only the index is read, so ten thousand are no matter.

Enters: what to list. Leaves: summaries, and facts of each by dotted name. A run folder that the index does not know is
taken into it; one that is gone is said to be. Called by `engine runs list`, `best`, `compare` and `export`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine.errors import IntegrityError, NotFoundError, UsageError
from engine.experiments.filters import Filter, read_filter
from engine.locations import Stores
from engine.runs import RunFolder, flatten
from engine.stores.database import Row
from engine.stores.runs_index import RunSummary

_ALIASES = {"run": "run_id", "id": "run_id", "started": "started_at", "finished": "finished_at", "folder": "run_dir"}
_DECODED = ("metrics", "tuned", "params")


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


@dataclass
class Listing:
    """The runs of a project, looked up through its index."""

    stores: Stores
    _configs: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def find(self, wanted: Wanted) -> list[Listed]:
        """List runs, the latest first unless sorted; raises `UsageError` for an expression that cannot be read."""
        condition = read_filter(wanted.where) if wanted.where else None
        there = self._adopt()
        if condition is None and wanted.sort is None:
            rows = self.stores.index.scan(wanted.limit)
        else:
            rows = self._chosen(self.stores.index.scan(None), condition, wanted.sort)
        tags = self.stores.index.tags()
        rows = rows if wanted.limit is None else rows[: wanted.limit]
        found = []
        for row in rows:
            summary = self.stores.index.summarise(row, tags.get(row["run_id"], {}))
            if summary.status == "running" and not RunFolder(self.stores.runs_root / summary.run_id).is_alive():
                summary = msgspec.structs.replace(
                    summary, status="interrupted", error="killed: it stopped without a word"
                )
            found.append(Listed(summary, self._facts(row, tags.get(row["run_id"], {})), summary.run_id not in there))
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

    def _chosen(self, rows: list[Row], condition: Filter | None, sort: str | None) -> list[Row]:
        tags = self.stores.index.tags()
        names = condition.names if condition else frozenset()
        self._load(rows, {*names, *([_order(sort)[0]] if sort else [])})
        kept = [
            row for row in rows if condition is None or condition.accepts(self._facts(row, tags.get(row["run_id"], {})))
        ]
        if sort is None:
            return kept
        name, falling = _order(sort)
        values = [(self._facts(row, {})(name), row) for row in kept]
        known = [(value, row) for value, row in values if value is not None]
        numbers = all(isinstance(value, int | float) for value, _ in known)
        known.sort(key=lambda item: item[0] if numbers else str(item[0]), reverse=falling)
        return [row for _, row in known] + [row for value, row in values if value is None]

    def _load(self, rows: Sequence[Row], names: Collection[str]) -> None:
        """Read the config parts that an expression asks for, of all runs at once."""
        keys = {name.partition(".")[0] for name in names if not _is_own(name)}
        if keys:
            self._configs |= self.stores.index.configs([row["run_id"] for row in rows], keys)

    def _facts(self, row: Row, tags: Mapping[str, str]) -> Callable[[str], Any]:
        decoded: dict[str, Any] = {}

        def part(name: str) -> Any:
            if name not in decoded:
                decoded[name] = msgspec.json.decode(row[name])
            return decoded[name]

        def facts(name: str) -> Any:
            name = _ALIASES.get(name, name)
            if name in row and name not in _DECODED:
                value = row[name]
                return (
                    bool(value) if name == "promoted" else int(value) if name == "run_id" and value.isdigit() else value
                )
            head, _, rest = name.partition(".")
            if head in _DECODED:
                return part(head).get(rest)
            if head == "tags":
                return tags.get(rest)
            if not rest and name in part("metrics"):
                return part("metrics")[name]
            if not rest and name in part("tuned"):
                return part("tuned")[name]
            found: Any = self._configs.get(row["run_id"])
            if found is None:
                found = self._configs[row["run_id"]] = self.stores.index.configs([row["run_id"]]).get(row["run_id"], {})
            for step in name.split("."):
                found = found.get(step) if isinstance(found, Mapping) else None
            return found

        return facts

    def _adopt(self) -> set[str]:
        """Take run folders that the index does not know into it; gives the ids of all folders."""
        root = self.stores.runs_root
        there = {entry.name for entry in os.scandir(root) if entry.name.isdigit()} if root.is_dir() else set()
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


def _is_own(name: str) -> bool:
    """Say whether a name is one of the index itself, and not a path of the config."""
    head = _ALIASES.get(name, name).partition(".")[0]
    return head in {*_DECODED, "tags"} or ("." not in name and _ALIASES.get(name, name) in RunSummary.__struct_fields__)

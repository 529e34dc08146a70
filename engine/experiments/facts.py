"""Facts of many runs by dotted name, one column at a time: what filters, orders and tables of thousands are made from.

Enters: rows of the index (only the columns that the names need), tags, configs by part. Leaves: a column a name, `None` for
a run that has no such fact. What runs share is decoded once. Called by `listing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import msgspec

from engine.errors import UsageError
from engine.runs import KILLED, flatten
from engine.stores.database import Row
from engine.stores.runs_index import RunsIndex, RunSummary

ALIASES = {"run": "run_id", "id": "run_id", "started": "started_at", "finished": "finished_at", "folder": "run_dir"}
_DECODED = ("metrics", "tuned", "params")
_OWN = frozenset(RunSummary.__struct_fields__) - {*_DECODED, "tags"}
_LOOKED_AT = 50  # runs whose names are looked through for a name that no run has


def needed_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Give the columns of the index that these names are read from.

    >>> needed_columns(["status", "metrics.roc_auc", "train.rounds", "tags.team"])
    ('metrics', 'run_id', 'status')
    """
    wanted = {"run_id"}
    for name in map(_plain, names):
        head = name.partition(".")[0]
        if name in _OWN:
            wanted |= {name, "status"} if name == "error" else {name}
        elif head in _DECODED:
            wanted.add(head)
        elif "." not in name:
            wanted |= {"metrics", "tuned"}
    return tuple(sorted(wanted))


@dataclass
class Facts:
    """The facts of some runs; `alive` says whether a run that is noted as running still goes on.

    A name without a dot is the index's own, else a metric if any of the runs has it, else a root of the config.
    """

    rows: Sequence[Row]
    tags: Mapping[str, Mapping[str, str]]
    index: RunsIndex
    alive: Callable[[str], bool]
    _columns: dict[str, list[Any]] = field(default_factory=dict)
    _decoded: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        """Give one fact of every run, in the order of the rows."""
        name = _plain(name)
        if name not in self._columns:
            self._columns[name] = self._read(name)
        return self._columns[name]

    def check(self, name: str) -> None:
        """Raise `UsageError`, with the nearest names, for a name that no run has; a tag may be one that is not given yet."""
        plain = _plain(name)
        if (
            not self.rows
            or plain in _OWN
            or plain.startswith("tags.")
            or any(v is not None for v in self.column(plain))
        ):
            return
        known = self._names()
        if any(item == plain or item.startswith(f"{plain}.") for item in known):
            return
        near = get_close_matches(name, known, 3)
        hint = (
            f"did you mean {' or '.join(f'`{item}`' for item in near)}?"
            if near
            else f"there are: {', '.join(known[:20])}, ..."
        )
        raise UsageError(f"no run has `{name}`", hint=hint)

    def _read(self, name: str) -> list[Any]:
        head, _, rest = name.partition(".")
        if name in _OWN:
            return self._own(name)
        if head in _DECODED:
            return [item.get(rest) for item in self._decode(head)]
        if head == "tags":
            return [self.tags.get(row["run_id"], {}).get(rest) for row in self.rows]
        groups = zip(self._decode("metrics"), self._decode("tuned"), strict=True) if not rest else ()
        found = [metrics.get(name, tuned.get(name)) for metrics, tuned in groups]
        return found if any(value is not None for value in found) else self._config(name)

    def _own(self, name: str) -> list[Any]:
        values = [row[name] for row in self.rows]
        if name == "promoted":
            return [bool(value) for value in values]
        if name == "run_id":
            return [int(value) if value.isdigit() else value for value in values]
        if name in {"status", "error"}:
            killed = self._killed()
            word = "interrupted" if name == "status" else KILLED
            return [word if row["run_id"] in killed else value for row, value in zip(self.rows, values, strict=True)]
        return values

    def _killed(self) -> set[str]:
        """Give the runs that are noted as running and do not go on any more."""
        return {row["run_id"] for row in self.rows if row["status"] == "running" and not self.alive(row["run_id"])}

    def _decode(self, column: str) -> list[dict[str, Any]]:
        if column not in self._decoded:
            self._decoded[column] = [msgspec.json.decode(row[column]) for row in self.rows]
        return self._decoded[column]

    def _config(self, name: str) -> list[Any]:
        """Walk each different part of the configs once."""
        head, *steps = name.split(".")
        parts = self.index.config_digests([row["run_id"] for row in self.rows])
        digests = [parts.get(row["run_id"], {}).get(head) for row in self.rows]
        contents = self.index.config_parts(list(dict.fromkeys(item for item in digests if item is not None)))
        values = {digest: _walk(content, steps) for digest, content in contents.items()}
        return [None if digest is None else values.get(digest) for digest in digests]

    def _names(self) -> list[str]:
        """Give what the latest runs have: metrics, parameters, and every path of their configs."""
        full = self.index.rows([row["run_id"] for row in self.rows[:_LOOKED_AT]])
        found = {
            f"{group}.{name}": None for row in full for group in _DECODED for name in msgspec.json.decode(row[group])
        }
        config = self.index.configs([row["run_id"] for row in full[:1]])
        paths = [path for document in config.values() for path, _ in flatten(document)]
        return list(dict.fromkeys([*found, *(name.partition(".")[2] for name in found), *sorted(_OWN), *paths]))


def _walk(value: Any, steps: Sequence[str]) -> Any:
    """Follow a path; a list is followed by number.

    >>> _walk({"a": [{"b": 1}]}, ["a", "0", "b"])
    1
    """
    for step in steps:
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _plain(name: str) -> str:
    return ALIASES.get(name, name)

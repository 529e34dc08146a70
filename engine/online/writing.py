"""Adding and removing events: which cells a push changes. Pure given a reader, so a store may call it again.

An event lies in one bucket of every index of its source, and under its id. As long as an id has one version, adding it
appends to those buckets. All versions of an id lie in every bucket that any of them belongs to: only then does a request
that reads one bucket know that an event has been replaced, by whatever key or time. Called by `state`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from engine.features.frames import Ints
from engine.online.blocks import Block, concat
from engine.online.buckets import Editor, read_directory
from engine.online.indexes import Held, Index, hash_key, key_rows
from engine.online_contracts import Get, Pushed

Writes = dict[bytes, bytes | None]
_VERSION = np.dtype([("uid", "<u8"), ("home", "u1", 16), ("time", "<i8")])
_Versions = npt.NDArray[Any]


class Progressed(msgspec.Struct, frozen=True):
    """One source's cell: how many events, the latest moments, what was materialised, what was forgotten."""

    events: int = 0
    time: int | None = None
    available: int | None = None
    commit: str | None = None
    target: str | None = None
    expired_before: int | None = None


def source_key(held: Held) -> bytes:
    """The key of a source's own cell."""
    return b"s" + held.number.to_bytes(2, "big")


def token_key(held: Held, token: str) -> bytes:
    """The key that remembers a token."""
    return b"t" + held.number.to_bytes(2, "big") + hash_key((token,))


def read_progress(held: Held, get: Get) -> Progressed:
    """A source's own cell."""
    (data,) = get([source_key(held)])
    return Progressed() if data is None else msgspec.json.decode(data, type=Progressed)


@dataclass(slots=True)
class Writer:
    """One change of one source."""

    held: Held
    get: Get
    _editors: dict[bytes, Editor] = field(default_factory=dict)
    _writes: Writes = field(default_factory=dict)

    def push(self, frame: pl.DataFrame, block: Block, token: str | None) -> tuple[Writes, Pushed]:
        """Add rows that conform and have a time; `block` is the same rows, packed."""
        progress = read_progress(self.held, self.get)
        if token is not None and self.get([token_key(self.held, token)]) != [None]:
            return {}, Pushed(repeated=len(block))
        keys = self._id_keys(frame, block)
        entries = self._entries(keys)
        single = zip(keys, _times(keys), strict=True)
        alone = np.array([key is None or (key not in entries and n == 1) for key, n in single], dtype=np.bool_)
        anonymous = np.array([key is None for key in keys], dtype=np.bool_)
        if anonymous.any():
            block.records["uid"][anonymous] = [secrets.randbits(64) for _ in range(int(anonymous.sum()))]
        late = alone & (self.held.times(block) < self._oldest(progress))
        plain = np.flatnonzero(alone & ~late)
        self._append(frame[plain], block.take(plain), [keys[row] for row in plain.tolist()])
        added = self._replace(block, keys, np.flatnonzero(~alone), entries)
        pushed = Pushed(len(plain) + added, len(block) - len(plain) - added - int(late.sum()), 0, int(late.sum()))
        if token is not None:
            self._writes[token_key(self.held, token)] = b"1"
        if pushed.accepted or token is not None:
            self._finish(progress, pushed.accepted, block)
        return self._writes, pushed

    def retract(self, frame: pl.DataFrame, block: Block, token: str | None) -> tuple[Writes, int]:
        """Remove rows that equal these, one for one."""
        progress = read_progress(self.held, self.get)
        if token is not None and self.get([token_key(self.held, token)]) != [None]:
            return {}, 0
        keys, times = self._id_keys(frame, block), self.held.times(block).tolist()
        entries = self._entries(keys)
        buckets = [self._buckets(index, frame) for index in self.held.indexes]
        removed = 0
        for row, key in enumerate(keys):
            uid = int(block.records["uid"][row])
            if key is None:
                home = self._editor(self.held.indexes[0], buckets[0][row] or b"")
                found = home.uids_like(uid, [times[row]])
                if not len(found):
                    continue
                lies_in = zip(self.held.indexes, (each[row] for each in buckets), strict=True)
                self._drop({i.prefix() + one for i, one in lies_in if one is not None}, [int(found[0])], [times[row]])
            elif uid in (versions := entries.get(key, _none()))["uid"].tolist():
                group = self._fetch(versions)
                self._drop(self._memberships(group), [uid], [times[row]])
                left = versions[versions["uid"] != np.uint64(uid)]
                entries[key] = left
                self._writes[key] = left.tobytes() or None
            else:
                continue
            removed += 1
        if token is not None:
            self._writes[token_key(self.held, token)] = b"1"
        if removed or token is not None:
            self._finish(progress, -removed, self.held.layout.empty)
        return self._writes, removed

    # --- buckets

    def _append(self, frame: pl.DataFrame, block: Block, keys: Sequence[bytes | None]) -> None:
        """Add rows whose ids are new, each id once."""
        if not len(block):
            return
        for index in self.held.indexes:
            buckets = self._buckets(index, frame)
            if index is self.held.indexes[0]:
                self._remember(block, buckets, keys)
            numbers: dict[bytes, int] = {}
            codes = np.array([-1 if b is None else numbers.setdefault(b, len(numbers)) for b in buckets])
            order = np.argsort(codes, kind="stable")
            order = order[np.searchsorted(codes[order], 0) :]
            cuts = np.flatnonzero(np.diff(codes[order])) + 1
            for rows in np.split(order, cuts) if len(order) else []:
                self._editor(index, buckets[int(rows[0])] or b"").append(block.take(rows))

    def _remember(self, block: Block, homes: Sequence[bytes | None], keys: Sequence[bytes | None]) -> None:
        made = _versions(block, homes, self.held.times(block))
        data, size = made.tobytes(), _VERSION.itemsize
        self._writes |= {key: data[at * size : (at + 1) * size] for at, key in enumerate(keys) if key is not None}

    def _replace(
        self,
        block: Block,
        keys: Sequence[bytes | None],
        rows: Ints,
        entries: dict[bytes, _Versions],
    ) -> int:
        """Add rows whose ids are known, or repeat in this push; gives how many were new."""
        groups: dict[bytes, list[int]] = {}
        for row in rows.tolist():
            key = keys[row]
            known = set(entries[key]["uid"].tolist()) if key in entries else set()
            new = groups.setdefault(key or b"", [])
            known |= {int(block.records["uid"][one]) for one in new}
            if int(block.records["uid"][row]) not in known:
                new.append(row)
        for key, new in groups.items():
            if not new:
                continue
            old = entries.get(key, _none())
            group = concat(self.held.layout, (self._fetch(old), block.take(np.array(new))))
            targets = self._memberships(group)
            self._drop(targets, old["uid"].tolist(), old["time"].tolist())
            for bucket in sorted(targets):
                self._edit(bucket).append(group, mixed=len(group) > 1)
            homes = self._buckets(self.held.indexes[0], group.frame())
            self._writes[key] = _versions(group, homes, self.held.times(group)).tobytes()
        return sum(map(len, groups.values()))

    def _fetch(self, versions: _Versions) -> Block:
        """The rows of an id's versions, from the bucket where the first one lies: all are there."""
        if not len(versions):
            return self.held.layout.empty
        home = self._editor(self.held.indexes[0], versions["home"][0].tobytes())
        return home.find(versions["uid"].tolist(), versions["time"].tolist())

    def _memberships(self, group: Block) -> set[bytes]:
        """The buckets that any of these rows belongs to."""
        frame = group.frame()
        return {
            index.prefix() + bucket
            for index in self.held.indexes
            for bucket in self._buckets(index, frame)
            if bucket is not None
        }

    def _drop(self, buckets: set[bytes], uids: Sequence[int], times: Sequence[int]) -> None:
        if uids:
            for bucket in sorted(buckets):
                self._edit(bucket).remove(uids, times)

    def _buckets(self, index: Index, frame: pl.DataFrame) -> list[bytes | None]:
        """The bucket of each row; a row with a null key has one in the first index only, where its id finds it."""
        first = index is self.held.indexes[0]
        made: dict[tuple[Any, ...], bytes | None] = {}
        found = []
        for key in key_rows(frame, index.columns):
            if key not in made:
                made[key] = hash_key(key) if first or None not in key else None
            found.append(made[key])
        return found

    def _editor(self, index: Index, bucket: bytes) -> Editor:
        return self._edit(index.prefix() + bucket)

    def _edit(self, key: bytes) -> Editor:
        if key not in self._editors:
            (data,) = self.get([key])
            self._editors[key] = Editor(self.held, key, self.get, read_directory(self.held, data))
        return self._editors[key]

    # --- ids and the source's own cell

    def _id_keys(self, frame: pl.DataFrame, block: Block) -> list[bytes | None]:
        """Where each row is known by its id; rows without time have no versions, and are known by their content."""
        prefix = b"i" + self.held.number.to_bytes(2, "big")
        if self.held.timeless:
            return [prefix + int(digest).to_bytes(8, "big") for digest in block.records["digest"]]
        id_ = self.held.program.id
        if id_ is None:
            return [None] * frame.height
        return [None if value is None else prefix + hash_key((value,)) for (value,) in key_rows(frame, (id_,))]

    def _entries(self, keys: Sequence[bytes | None]) -> dict[bytes, _Versions]:
        asked = list({key for key in keys if key is not None})
        found = zip(asked, self.get(asked), strict=True)
        return {key: np.frombuffer(data, _VERSION) for key, data in found if data is not None}

    def _oldest(self, progress: Progressed) -> int:
        if progress.expired_before is None or self.held.timeless or any(each.latest for each in self.held.indexes):
            return -(2**63)
        return progress.expired_before - max(each.reach for each in self.held.indexes)

    def _finish(self, progress: Progressed, more: int, block: Block) -> None:
        for editor in self._editors.values():
            self._writes |= editor.writes()
        time, available = progress.time, progress.available
        if len(block) and not self.held.timeless:
            time = max(int(self.held.times(block).max()), -(2**63) if time is None else time)
            available = max(int(self.held.available(block).max()), -(2**63) if available is None else available)
        made = msgspec.structs.replace(progress, events=progress.events + more, time=time, available=available)
        self._writes[source_key(self.held)] = msgspec.json.encode(made)


def _none() -> _Versions:
    return np.empty(0, dtype=_VERSION)


def _times(keys: Sequence[bytes | None]) -> list[int]:
    """How often each key occurs."""
    counts: dict[bytes | None, int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    return [counts[key] for key in keys]


def _versions(block: Block, homes: Sequence[bytes | None], times: Ints) -> _Versions:
    made = np.empty(len(block), dtype=_VERSION)
    made["uid"], made["time"] = block.records["uid"], times
    made["home"] = np.frombuffer(b"".join(home or b"" for home in homes), np.uint8).reshape(-1, 16)
    return made


def old_ids(keys: Sequence[bytes], get: Get, oldest: int) -> Writes:
    """The entries, among these, of ids whose every version is older."""
    found = zip(keys, get(keys), strict=True)
    return {
        key: None for key, data in found if data is not None and np.frombuffer(data, _VERSION)["time"].max() < oldest
    }


def merged(writes: Mapping[bytes, bytes | None], get: Get) -> Get:
    """A reader that sees these writes first."""

    def read(keys: Sequence[bytes]) -> list[bytes | None]:
        rest = [key for key in keys if key not in writes]
        found = dict(zip(rest, get(rest), strict=True)) if rest else {}
        return [writes[key] if key in writes else found[key] for key in keys]

    return read

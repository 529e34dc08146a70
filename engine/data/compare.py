"""What differs between two commits: objects, rows, columns and distributions, source by source.

Enters: a repository and two refs. Leaves: a `SnapshotDiff`. Rows of objects that both commits share are equal and are
not compared; distributions are those of the whole source. Rows are matched by the key that the audits name; a source
without one is compared as a bag of rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from engine.data.repository import Repository
from engine.data_records import ChangeKind, ColumnDiff, ObjectDiff, RowSample, SnapshotDiff, SourceDiff
from engine.errors import NotFoundError
from engine.nodes.frames import reading
from engine.profiling.bins import count_in, describe_bins, freeze_bins
from engine.profiling.columns import type_word
from engine.profiling.distance import column_psi, ks

MOVED_PSI = 0.1  # the field's rule of thumb: below it, stable (Siddiqi 2006)
_MARK = "\x00digest"
_SAMPLES = 5
_ABSENT = pl.LazyFrame()


def compare(repository: Repository, before: str, after: str, source: str | None = None) -> SnapshotDiff:
    """Compare two refs, whole or for one source; raises `NotFoundError` for what neither holds."""
    left, right = (repository.store.resolve(repository.name, ref) for ref in (before, after))
    objects = {item.path: item.kind for item in repository.store.diff(repository.name, left, right)}
    changed = {path.partition("/")[0] for path in objects if not path.startswith(".plumbline/")}
    if source is not None:
        if source not in repository.sources(left):
            repository.require(right, source)
        changed &= {source}
    with reading(f"{repository.name}@{left[:12]} and {right[:12]}"):
        sources = tuple(_compare_source(repository, (left, right), name) for name in sorted(changed))
    return SnapshotDiff(repository=repository.name, before=left, after=right, sources=sources)


def _compare_source(repository: Repository, refs: tuple[str, str], source: str) -> SourceDiff:
    objects = _compare_objects(repository, refs, source)
    whole = [_scan(repository, ref, source, None) for ref in refs]
    parts = [
        _scan(repository, ref, source, [item.path for item in objects if item.kind != absent]).collect()
        for ref, absent in zip(refs, ("added", "removed"), strict=True)
    ]
    shared = [name for name, dtype in parts[0].schema.items() if parts[1].schema.get(name) == dtype]
    key = _key(repository, refs, source, parts)
    rows = _Rows(parts[0], parts[1], key, shared)
    counted = rows.count()
    return SourceDiff(
        source=source,
        rows_before=_height(whole[0]),
        rows_after=_height(whole[1]),
        rows_added=counted["added"],
        rows_removed=counted["removed"],
        rows_changed=counted["changed"],
        key=key,
        objects=tuple(objects),
        columns=tuple(_compare_columns(whole[0], whole[1])),
        samples=tuple(rows.sample()),
    )


def _scan(repository: Repository, ref: str, source: str, paths: Sequence[str] | None) -> pl.LazyFrame:
    if paths is not None and not paths:
        return _ABSENT
    try:
        return repository.scan(ref, source, paths)
    except NotFoundError:
        return _ABSENT


def _height(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item()) if rows.collect_schema() else 0


def _compare_objects(repository: Repository, refs: tuple[str, str], source: str) -> list[ObjectDiff]:
    left, right = ({item.path: item for item in repository.objects(ref, source)} for ref in refs)
    found: list[ObjectDiff] = []
    for path in sorted(left.keys() | right.keys()):
        old, new = left.get(path), right.get(path)
        if old is not None and new is not None and old.digest == new.digest:
            continue
        kind: ChangeKind = "added" if old is None else "removed" if new is None else "changed"
        sizes = [item.size if item is not None else None for item in (old, new)]
        found.append(ObjectDiff(path=path, kind=kind, before=sizes[0], after=sizes[1]))
    return found


def _key(repository: Repository, refs: tuple[str, str], source: str, parts: Sequence[pl.DataFrame]) -> tuple[str, ...]:
    """Give the columns that name one row on both sides: the shortest start of the audits' key that does."""
    audits = [repository.audit(ref, source) for ref in refs]
    named = next((audit.key for audit in reversed(audits) if audit is not None and audit.key), ())
    present = [part for part in parts if part.width]
    for length in range(1, len(named) + 1):
        key = named[:length]
        if all(set(key) <= set(part.columns) and not part.select(key).is_duplicated().any() for part in present):
            return key
    return ()


class _Rows:
    """Rows of the objects that differ, on both sides, marked with a digest of the columns that both have."""

    def __init__(self, left: pl.DataFrame, right: pl.DataFrame, key: tuple[str, ...], shared: Sequence[str]) -> None:
        self.key, self.shared = key, list(shared)
        self.left, self.right = self._marked(left), self._marked(right)

    def count(self) -> dict[str, int]:
        """Count rows added, removed and changed."""
        if not self.left.width or not self.right.width:
            return {"added": self.right.height, "removed": self.left.height, "changed": 0}
        if not self.key:
            counts = [rows.group_by(_MARK).len() for rows in (self.left, self.right)]
            both = counts[0].join(counts[1], on=_MARK, how="full", suffix="_after", coalesce=True).fill_null(0)
            more = both["len_after"].cast(pl.Int64) - both["len"].cast(pl.Int64)
            return {"added": int(more.clip(0).sum()), "removed": int((-more).clip(0).sum()), "changed": 0}
        return {
            "added": self._only(self.right, self.left).height,
            "removed": self._only(self.left, self.right).height,
            "changed": self._changed().height,
        }

    def sample(self) -> list[RowSample]:
        """Give some rows of each kind."""
        if not self.left.width or not self.right.width:
            kind: ChangeKind = "added" if self.right.width else "removed"
            rows = self.right if self.right.width else self.left
            return [_sample(kind, item) for item in _texts(rows.head(_SAMPLES))]
        by = self.key or (_MARK,)
        found = [_sample("added", item) for item in _texts(self._only(self.right, self.left, by).head(_SAMPLES))]
        found += [_sample("removed", item) for item in _texts(self._only(self.left, self.right, by).head(_SAMPLES))]
        if self.key:
            changed = self._changed().head(_SAMPLES).select(self.key)
            new, old = (
                _texts(changed.join(rows, on=self.key, how="left", nulls_equal=True, maintain_order="left"))
                for rows in (self.right, self.left)
            )
            found += [RowSample(kind="changed", after=b, before=a) for a, b in zip(old, new, strict=True)]
        return found

    def _marked(self, rows: pl.DataFrame) -> pl.DataFrame:
        if not rows.width:
            return rows
        mark = pl.struct(self.shared).hash(1) if self.shared else pl.lit(0)
        return rows.with_columns(mark.alias(_MARK))

    def _only(self, rows: pl.DataFrame, others: pl.DataFrame, by: Sequence[str] | None = None) -> pl.DataFrame:
        return rows.join(others, on=by or self.key, how="anti", nulls_equal=True, maintain_order="left")

    def _changed(self) -> pl.DataFrame:
        both = self.right.select(*self.key, _MARK).join(
            self.left.select(*self.key, _MARK), on=self.key, nulls_equal=True, suffix="_before", maintain_order="left"
        )
        return both.filter(pl.col(_MARK) != pl.col(f"{_MARK}_before"))


def _texts(rows: pl.DataFrame) -> list[dict[str, str | None]]:
    return rows.drop(_MARK).select(pl.all().cast(pl.String, strict=False)).to_dicts()


def _sample(kind: ChangeKind, values: dict[str, str | None]) -> RowSample:
    return RowSample(kind=kind, before=values) if kind == "removed" else RowSample(kind=kind, after=values)


def _compare_columns(left: pl.LazyFrame, right: pl.LazyFrame) -> list[ColumnDiff]:
    before, after = left.collect_schema(), right.collect_schema()
    found: list[ColumnDiff] = []
    for name in dict.fromkeys((*after, *before)):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            if before and after:
                kind = "added" if old is None else "removed"
                types = {"type_before": old and type_word(old), "type_after": new and type_word(new)}
                found.append(ColumnDiff(column=name, kind=kind, **types))  # type: ignore[arg-type]
            continue
        values = [rows.select(name).collect()[name] for rows in (left, right)]
        found.append(_compare_values(name, values[0], values[1]))
    return found


def _compare_values(name: str, old: pl.Series, new: pl.Series) -> ColumnDiff:
    nulls = [values.null_count() / len(values) if len(values) else None for values in (old, new)]
    told = {"column": name, "type_before": type_word(old.dtype), "type_after": type_word(new.dtype)}
    told |= {"nulls_before": nulls[0], "nulls_after": nulls[1]}  # type: ignore[dict-item]
    if old.dtype != new.dtype:
        return ColumnDiff(kind="retyped", moved=True, **told)  # type: ignore[arg-type]
    bins = freeze_bins(old)
    counts = [count_in(values, bins) for values in (old, new)]
    shares = [tuple(count / max(1, sum(found)) for count in found) for found in counts]
    moved = column_psi(old, new)
    numeric = old.dtype.is_numeric()
    return ColumnDiff(
        kind="kept",
        mean_before=_mean(old) if numeric else None,
        mean_after=_mean(new) if numeric else None,
        psi=moved,
        ks=ks(old, new) if numeric or old.dtype.is_temporal() else None,
        moved=moved > MOVED_PSI,
        bins=describe_bins(bins, times=old.dtype.is_temporal()),
        shares_before=shares[0],
        shares_after=shares[1],
        **told,  # type: ignore[arg-type]
    )


def _mean(values: pl.Series) -> float | None:
    found = values.mean()
    return float(found) if isinstance(found, int | float) else None

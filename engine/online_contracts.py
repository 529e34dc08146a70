"""The Protocols of the online state: what serving asks of it, and what a store has to be able to do.

`OnlineState` holds the events that a feature program may need and finds those of a request; it never computes a feature.
`Cells` is all that a store must offer (a few named bytes, changed together and durably), so that every store holds the
same state in the same way. Implementations of `Cells` are components of the role `online`, named by the URL's scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import polars as pl

Get: TypeAlias = Callable[[Sequence[bytes]], list[bytes | None]]
"""Reads cells by key; `None` for one that is not there."""
Change: TypeAlias = Callable[[Get], Mapping[bytes, bytes | None]]
"""Given a reader, says which cells to write (`None` removes one). Pure, since it may be called again after a conflict."""


class Cells(Protocol):
    """Bytes by key. Keys have at most 64 bytes. Safe for threads, and for several processes where the store is shared."""

    def view(self) -> AbstractContextManager[Get]:
        """Give a reader; where the store can, all its reads see one moment."""
        ...

    def update(self, change: Change) -> None:
        """Apply a change whole or not at all, as if alone; durable when it returns, as far as `durability` says.

        Raises `StoreError`, and what the change raises.
        """
        ...

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """List the keys that start with a prefix, in any order; for expiry and counts, not for requests."""
        ...

    def clear(self) -> None:
        """Remove everything."""
        ...

    def durability(self) -> str | None:
        """Say in words what an acknowledged event is not safe from; `None` when it has been synced to disk."""
        ...

    def close(self) -> None:
        """Let go of files and connections; the state stays where it is."""
        ...


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of pushed events.

    `accepted` are new; `repeated` were there already, with the same content; `unknowable` have no time, or are never
    available; `expired` are older than what is kept.
    """

    accepted: int = 0
    repeated: int = 0
    unknowable: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far the state is, for one source: moments are microseconds since 1970, `None` when there is no event.

    `commit` is the snapshot that was materialised whole, `target` one that is being; `time` and `available` are the latest
    of any event; `events` counts what is held. `expired_before`: events that nothing could reach at that moment or later are gone.
    """

    source: str
    commit: str | None = None
    events: int = 0
    time: int | None = None
    available: int | None = None
    expired_before: int | None = None
    target: str | None = None


class OnlineState(Protocol):
    """The events behind one feature program, by source and join."""

    @property
    def program_digest(self) -> str:
        """The digest of the program that this state is for."""
        ...

    def push(self, source: str, events: pl.DataFrame, token: str | None = None) -> Pushed:
        """Add events, in any order, late or again; durable when it returns.

        `events` has the columns that the program reads of the source, as ingest leaves them. The same event again (same id,
        availability and values) changes nothing. Events of a source without `id` cannot be told apart; a `token` makes a
        repeated push of those a repetition too. Raises `DataError` for an unknown source or column, or another type.
        """
        ...

    def retract(self, source: str, events: pl.DataFrame, token: str | None = None) -> int:
        """Remove events that equal these in every column, one for one; gives how many were there."""
        ...

    def read(self, spine: pl.DataFrame, as_of: int | None = None) -> Mapping[str, pl.DataFrame]:
        """Find what `compute(program, spine, ..., as_of)` needs of every source, for these rows at their times.

        `spine` is as `compute` takes it; `as_of` in microseconds. The result may hold more rows than needed, never fewer.
        """
        ...

    def watermark(self, source: str) -> Watermark:
        """Say how far a source is; raises `DataError` for a source that the program's features do not read."""
        ...

    def expire(self, before: int) -> int:
        """Forget what no request at `before` or later can reach; gives how many events went."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...

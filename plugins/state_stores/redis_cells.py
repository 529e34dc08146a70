"""Cells in Redis or Valkey: the store that several servers share. A change is one MULTI, checked against what it read.

How durable an acknowledged event is, the server decides: with `appendonly yes` and `appendfsync always` the answer comes
after the sync; otherwise a crash of the machine may lose the last second, or everything. `durability` says which.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis

from engine.errors import EngineError, StoreError, UnavailableError, UsageError
from engine.online.grouping import GroupCommit, Pending
from engine.online.writing import merged
from engine.online_contracts import Change, Get

T = TypeVar("T")
_TRIES = 500
_SCAN = 1000


def open_server(url: str, name: str) -> RedisCells:
    """Connect; raises `UnavailableError` when no server answers. Neither says the password."""
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=30)
    except ValueError as error:
        raise UsageError("stores.online is not a Redis URL", hint="redis://host:6379/0") from error
    parts = urlsplit(url)
    cells = RedisCells(client, f"plumbline:{name}:".encode(), f"{parts.hostname}:{parts.port or 6379}{parts.path}")
    cells.guarded(client.ping)
    return cells


class RedisCells:
    """Fulfils `Cells`."""

    def __init__(self, client: redis.Redis, prefix: bytes, address: str) -> None:
        self._client: Any = client
        self._prefix = prefix
        self._address = address
        self._group = GroupCommit(self._commit)

    def guarded(self, call: Callable[[], T]) -> T:
        """Call the server; its errors are wrapped, without the URL, which may hold a password."""
        try:
            return call()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            kind = type(error).__name__
            raise UnavailableError(
                f"the online state at {self._address} does not answer ({kind})",
                hint="start it, or correct stores.online",
            ) from error
        except redis.RedisError as error:
            raise StoreError(f"the online state at {self._address} refused: {_short(error)}") from error

    @contextmanager
    def view(self) -> Iterator[Get]:
        """Give a reader; a bucket that changes between two reads is noticed by its chunks."""
        yield lambda keys: self.guarded(lambda: self._many(self._client, keys))

    def update(self, change: Change) -> None:
        """Apply a change in a MULTI, together with those that wait; again when somebody else was faster."""
        self._group.apply(change)

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """List the keys with a prefix."""
        pattern = _escaped(self._prefix + prefix) + b"*"
        found = self.guarded(lambda: set(self._client.scan_iter(match=pattern, count=_SCAN)))
        return iter([key[len(self._prefix) :] for key in found])

    def clear(self) -> None:
        """Remove everything of this state, and nothing else."""
        keys = [self._prefix + key for key in self.keys(b"")]
        for start in range(0, len(keys), _SCAN):
            part = keys[start : start + _SCAN]
            self.guarded(lambda part=part: self._client.delete(*part))  # type: ignore[misc]

    def durability(self) -> str | None:
        """What an acknowledged event is not safe from, in words; `None` when the server syncs before it answers."""
        try:
            settings = {**self._client.config_get("appendonly"), **self._client.config_get("appendfsync")}
        except redis.RedisError:
            return f"the server at {self._address} does not tell whether it syncs to disk before it answers"
        settings = {_text(key): _text(value) for key, value in settings.items()}
        if settings.get("appendonly") != "yes":
            return f"the server at {self._address} keeps no append-only file: a crash loses events (appendonly yes)"
        if settings.get("appendfsync") != "always":
            lost = "about a second of" if settings.get("appendfsync") == "everysec" else "the last"
            return f"the server at {self._address} syncs after it answers: a crash loses {lost} events (appendfsync always)"
        return None

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _many(self, connection: Any, keys: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = connection.mget([self._prefix + key for key in keys]) if keys else []
        return found

    def _commit(self, batch: Sequence[Pending]) -> None:
        for attempt in range(_TRIES):
            if self.guarded(lambda: self._attempt(batch)):
                return
            time.sleep(random.uniform(0, 0.002 * min(attempt + 1, 25)))  # noqa: S311 - spreads writers that met
        raise StoreError(f"other writers at {self._address} were faster {_TRIES} times", hint="push again")

    def _attempt(self, batch: Sequence[Pending]) -> bool:
        """Try to apply all; false when a cell that was read has changed since."""
        with self._client.pipeline(transaction=True) as pipe:
            writes: dict[bytes, bytes | None] = {}

            def watched(keys: Sequence[bytes]) -> list[bytes | None]:
                if keys:
                    pipe.watch(*(self._prefix + key for key in keys))
                return self._many(pipe, keys)

            for one in batch:
                one.error = None
                try:
                    writes |= one.change(merged(writes, watched))
                except EngineError as error:
                    one.error = error
            if not writes:
                return True
            pipe.multi()
            kept = {self._prefix + key: value for key, value in writes.items() if value is not None}
            gone = [self._prefix + key for key, value in writes.items() if value is None]
            if kept:
                pipe.mset(kept)
            if gone:
                pipe.delete(*gone)
            try:
                pipe.execute()
            except redis.WatchError:
                return False
            return True


def _escaped(text: bytes) -> bytes:
    return b"".join(b"\\" + bytes([byte]) if bytes([byte]) in b"\\*?[]" else bytes([byte]) for byte in text)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _short(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0][:200]

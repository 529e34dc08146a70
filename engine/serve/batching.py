"""Requests that arrive together are scored together; one that arrives alone does not wait.

Enters: `Rows` of one request each. Leaves: their answers, through futures. A batch is closed when the event loop has read
what had arrived, so the wait is about nothing when idle, and under load a batch is what came in while the last one was
scored. A request is never split, and one batch uses one model: an answer never mixes versions. Called by the application.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.serve.schema import Rows

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`rows`: of one batch; a request with more is a batch of its own, scored beside the loop. `queued`: rows that may wait."""

    rows: int = 256
    queued: int = 20_000


class OverloadedError(Exception):
    """More rows are waiting than may wait."""


class Batcher(Generic[Answer]):
    """Collects requests of one event loop. `score` maps requests to one answer each; it runs in the loop, and is quick."""

    def __init__(self, score: Callable[[list[Rows]], list[Answer | BaseException]], limits: BatchLimits) -> None:
        self._score = score
        self._limits = limits
        self._waiting: deque[tuple[Rows, asyncio.Future[Answer]]] = deque()
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large-batch")
        self._scheduled = False
        self.queued = 0

    async def submit(self, rows: Rows) -> Answer:
        """Score a request's rows in the next batch; raises `OverloadedError`, or what scoring raised for this request."""
        if self.queued + rows.count > self._limits.queued:
            raise OverloadedError(f"{self.queued} rows are waiting")
        loop = asyncio.get_running_loop()
        self.queued += rows.count
        if rows.count > self._limits.rows:
            return await self._submit_large(rows)
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((rows, future))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return await future

    async def _submit_large(self, rows: Rows) -> Answer:
        try:
            (answer,) = await asyncio.get_running_loop().run_in_executor(self._large, self._score, [rows])
        finally:
            self.queued -= rows.count
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _flush(self) -> None:
        """Score what is waiting, up to one batch; what is left is scored after the loop has looked around."""
        taken: list[tuple[Rows, asyncio.Future[Answer]]] = []
        count = 0
        while self._waiting and (not taken or count + self._waiting[0][0].count <= self._limits.rows):
            taken.append(self._waiting.popleft())
            count += taken[-1][0].count
        self.queued -= count
        self._scheduled = bool(self._waiting)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        alive = [(rows, future) for rows, future in taken if not future.done()]  # a caller may have given up
        if not alive:
            return
        for (_, future), answer in zip(alive, self._score([rows for rows, _ in alive]), strict=True):
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def close(self) -> None:
        """Finish what is being scored, and take no more large batches."""
        self._large.shutdown(wait=True)

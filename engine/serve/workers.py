"""Several serving processes behind one listening socket, watched by their parent. Called by `engine serve --workers N`.

A worker that dies is started anew; SIGTERM and SIGINT are passed on, and the parent waits until every request is finished.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from socket import socket

from engine.errors import EngineError, ExitCode, UnavailableError
from engine.serve.children import start_child
from engine.serve.server import DRAIN_SECONDS, Process, ServePlan, run_process

_RESTARTS, _RESTART_SECONDS = 20, 1.0


@dataclass(frozen=True)
class Started:
    """What a worker says once it answers."""

    model: str
    program: str


def serve_here(plan: ServePlan, listening: socket, started: Callable[[Started], None]) -> int:
    """Serve in this process."""
    return run_process(plan, listening, lambda process: started(_describe(process)))


def serve_workers(plan: ServePlan, listening: socket, count: int, started: Callable[[Started], None]) -> int:
    """Serve in `count` processes until told to stop; raises `EngineError` when the first does not come up."""
    with tempfile.TemporaryDirectory(prefix="plumbline-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # before the children import the library
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        workers = [_start(plan, listening) for _ in range(count)]
        try:
            started(_first_words(workers[0]))
            _watch(plan, listening, workers, stop)
        finally:
            _end([process for process, _ in workers])
    return ExitCode.OK


_Worker = tuple[BaseProcess, Connection]


def _start(plan: ServePlan, listening: socket) -> _Worker:
    hears, tells = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = start_child(_work, (plan, listening, tells), "serve-worker")
    tells.close()
    return process, hears


def _work(plan: ServePlan, listening: socket, tells: Connection) -> None:
    """One worker: say that it answers, or why not."""
    try:
        sys.exit(serve_here(plan, listening, tells.send))
    except EngineError as error:
        tells.send(str(error))
        sys.exit(error.exit_code)


def _first_words(worker: _Worker) -> Started:
    process, hears = worker
    try:
        words = hears.recv()
    except EOFError:
        process.join()
        raise UnavailableError(f"a worker ended with {process.exitcode} before it answered") from None
    if not isinstance(words, Started):
        raise UnavailableError(f"a worker could not start: {words}")
    return words


def _watch(plan: ServePlan, listening: socket, workers: list[_Worker], stop: threading.Event) -> None:
    """Start what died anew, not too often."""
    restarts = 0
    while not stop.wait(_RESTART_SECONDS):
        for index, (process, _) in enumerate(workers):
            if process.is_alive():
                continue
            restarts += 1
            if restarts > _RESTARTS:
                raise UnavailableError(f"workers died {restarts} times; the last one with {process.exitcode}")
            print(f"a worker ended with {process.exitcode}; starting another", file=sys.stderr, flush=True)
            workers[index] = _start(plan, listening)


def _end(workers: list[BaseProcess]) -> None:
    for process in workers:
        if process.is_alive():
            process.terminate()
    for process in workers:
        process.join(DRAIN_SECONDS + 5)
        if process.is_alive():
            process.kill()


def _describe(process: Process) -> Started:
    served = process.service.live.champion.served
    return Started(served.label, served.program.digest)

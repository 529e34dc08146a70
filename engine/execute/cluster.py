"""An existing Dask scheduler by address: the same graph of the same tasks. The only importer of `distributed`.

Checked at the start, with bounded waits: the scheduler answers, workers are there, they have this engine, see the same
files, and satisfy the resources. Events come back through the scheduler's topics. That a run was cancelled or is lost,
its workers see from the state of their own task, and kill their children.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from distributed import Client, get_client, get_worker, rejoin, secede, wait
from distributed import TimeoutError as DaskTimeoutError
from distributed.core import Status
from distributed.versions import VersionMismatchWarning

from engine import __version__
from engine.errors import ExitCode, UnavailableError, UsageError
from engine.execute.link import Division, Link, LocalLink, Narrator, PartTask
from engine.execute.wire import Failed, Finished
from engine.records import Event, NodeResult

if TYPE_CHECKING:
    from engine.execute.dispatch import Batch, Graph
    from engine.execute.interrupts import Interrupts

_CONNECT_SECONDS = 10.0
_CANCEL_SECONDS = 2.0
_LOOK_SECONDS = 1.0  # how often a wait looks whether the observer has failed
_ASK_SECONDS = 0.05
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ClusterLink:
    """The link of a node on a Dask worker; picklable, finds its worker when it is used."""

    topic: str
    resources: tuple[tuple[str, float], ...] = ()

    def emit(self, event: Event) -> None:
        """Send an event to the run through the scheduler."""
        with suppress(Exception):  # a worker that is closing: the result says what matters
            get_worker().log_event(self.topic, msgspec.to_builtins(event))

    def is_cancelled(self) -> bool:
        """Say whether nobody wants this task any more: cancelled, its client gone, or this worker closing."""
        worker = get_worker()
        if worker.status in {Status.closing, Status.closed, Status.failed}:  # as when the scheduler is gone
            return True
        task = worker.state.tasks.get(worker.get_current_task())
        return task is None or task.state == "cancelled"

    def wait(self, seconds: float) -> bool:
        """Wait that long or until cancelled."""
        end = time.monotonic() + seconds
        while not (cancelled := self.is_cancelled()) and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _ASK_SECONDS))
        return cancelled

    def descriptor(self) -> None:
        """Nothing to wait for: `is_cancelled` is asked."""

    def slots(self) -> int:
        """How many tasks this worker runs at a time."""
        return int(get_worker().state.nthreads)

    def worker(self) -> str:
        """The worker's address."""
        return str(get_worker().address)

    def occupy(self, threads: int) -> AbstractContextManager[None]:  # noqa: ARG002 - a worker's own slots decide
        """Nothing to wait for: the scheduler gives a worker no more tasks than it has threads."""
        return nullcontext()

    def why_cancelled(self) -> str:
        """Only a person stops a whole run."""
        return "interrupted"

    def beside(self) -> int:
        """The threads of all workers that share this machine, as far as this one can tell: by its share of the memory."""
        limit = get_worker().memory_manager.memory_limit
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return self.slots() * max(1, round(memory / limit) if limit else 1)

    def divide(self, tasks: Sequence[PartTask], link: Link | None = None) -> Division:
        """Run the parts on any workers that have the run's resources."""
        return ClusterDivision(tasks, link or self, dict(self.resources))


class ClusterDivision:
    """Parts of a node as tasks of the scheduler. The node's own task gives its thread back while it waits for them."""

    def __init__(self, tasks: Sequence[PartTask], link: Link, resources: Mapping[str, float]) -> None:
        self._client: Any = get_client()
        give_back: Callable[[], None] = secede  # distributed types little of itself
        give_back()
        workers = None
        if resources:  # the node holds its own while it waits: a part must not wait for the same
            found = self._client.scheduler_info(n_workers=-1)["workers"].items()
            workers = [name for name, worker in found if _has(worker, resources)]
        name = f"{link.worker()}-{secrets.token_hex(6)}"
        self._parts: list[Any] = [
            self._client.submit(task, link, key=f"{name}/{number}", pure=False, workers=workers)
            for number, task in enumerate(tasks)
        ]

    def poll(self) -> list[Finished | Failed | None] | None:
        """See `Division`."""
        ended = [part for part in self._parts if part.done()]
        if len(ended) == len(self._parts):
            found = [_part_result(part) for part in self._parts]
            take_back: Callable[[], None] = rejoin
            take_back()
            return found
        if any(not isinstance(_part_result(part), Finished) for part in ended):
            self.cancel()
        return None

    def cancel(self) -> None:
        """End all parts; their workers kill what runs."""
        with suppress(Exception):
            self._client.cancel([part for part in self._parts if not part.done()], force=True)


def _has(worker: Mapping[str, Any], resources: Mapping[str, float]) -> bool:
    return all(worker.get("resources", {}).get(name, 0) >= amount for name, amount in resources.items())


def _part_result(part: Any) -> Finished | Failed | None:
    if part.status == "finished":
        found: Finished | Failed | None = part.result(timeout=_CONNECT_SECONDS)
        return found
    if part.status == "cancelled":
        return None
    error = UnavailableError(f"the Dask worker of a part was lost: {part.exception(timeout=_CONNECT_SECONDS)}")
    return Failed(text=str(error), exit_code=int(error.exit_code), retry=False, trace=None)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself."""

    engine: str
    sees_root: bool
    sees_store: bool


def probe(root: str, artefacts: str, mark: str) -> WorkerFacts:
    """Run on every worker: which engine it has, whether it sees the project and the mark written into the store."""
    sees_store = "://" in artefacts or (Path(artefacts) / mark).is_file()
    return WorkerFacts(__version__, Path(root).is_dir(), sees_store)


def run_on_cluster(graph: Graph, batch: Batch, topic: str, link: LocalLink, interrupts: Interrupts) -> list[NodeResult]:
    """Run a graph and give the batch's results; raises `UnavailableError` or `UsageError` before anything runs."""
    with interrupts.raising(), _quiet_logs(), _connect(str(batch.request.address), link, batch) as client:
        _check_workers(client, batch)
        client.subscribe_topic(topic, lambda event: link.emit(msgspec.convert(event[1], Event)))
        futures = client.get(graph, list(graph), sync=False, resources=dict(batch.request.resources) or None)
        wait_for: Callable[..., Any] = wait
        try:
            while not link.is_cancelled():
                with suppress(DaskTimeoutError, CancelledError):
                    wait_for(futures, timeout=_LOOK_SECONDS)
                    break
                if client.status not in {"running", "connecting"} or any(future.cancelled() for future in futures):
                    break
        except KeyboardInterrupt:
            pass  # the cancellation is set: what has ended is gathered, the rest is cancelled
        try:
            return [
                _result(future, node.name, node.kind, link) for future, node in zip(futures, batch.nodes, strict=True)
            ]
        finally:
            if link.is_cancelled():
                client.cancel([future for future in futures if not future.done()], force=True)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep the client's own log off the terminal: what matters is said here, in fewer words."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _connect(address: str, link: LocalLink, batch: Batch) -> Iterator[Any]:
    make_client: Callable[..., Any] = Client  # distributed types little of itself
    hint = f"start one (`dask scheduler`, `dask worker {address}`), or set dask.address=null to run embedded"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VersionMismatchWarning)
        try:
            client = make_client(address, timeout=_CONNECT_SECONDS)
        except (OSError, DaskTimeoutError) as error:
            raise UnavailableError(
                f"no Dask scheduler answers at {address} within {_CONNECT_SECONDS:g} s", hint=hint
            ) from error
        except (ValueError, TypeError) as error:
            raise UsageError(f"dask.address={address}: {error}", hint="write tcp://host:8786") from error
    try:
        for warning in caught:
            if issubclass(warning.category, VersionMismatchWarning):
                _narrate(link, batch, str(warning.message))
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=_CANCEL_SECONDS)


def _narrate(link: LocalLink, batch: Batch, message: str) -> None:
    Narrator(link, batch.request.clock, batch.place.run_id).log("warning", message)


def _check_workers(client: Any, batch: Batch) -> None:
    address = batch.request.address
    try:
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except (DaskTimeoutError, OSError) as error:
        raise UnavailableError(
            f"the Dask scheduler at {address} has no workers", hint=f"start one: `dask worker {address}`"
        ) from error
    workers: Mapping[str, Mapping[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    for name, amount in batch.request.resources.items():
        if not any(_has(worker, {name: amount}) for worker in workers.values()):
            raise UnavailableError(
                f"no worker of {address} has the resource {name}={amount:g}, so the work would wait for ever",
                hint=f"start one with `dask worker {address} --resources {name}={amount:g}`, or ask for less",
            )
    mark = f".seen-{os.getpid()}-{threading.get_ident()}"
    path = Path(batch.place.artefacts) / mark
    if "://" not in batch.place.artefacts:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    try:
        facts = _within(
            lambda: client.run(probe, str(batch.place.root), batch.place.artefacts, mark, on_error="return")
        )
    finally:
        path.unlink(missing_ok=True)
    for worker, found in facts.items():
        _check_facts(worker, found, batch)


def _check_facts(worker: str, found: WorkerFacts | Exception, batch: Batch) -> None:
    if not isinstance(found, WorkerFacts):
        hint = f"install plumbline {__version__} in the workers' environment and start them again"
        raise UnavailableError(f"worker {worker} cannot run nodes: {type(found).__name__}: {found}", hint=hint)
    if found.engine != __version__:
        hint = "install the same version on both sides: the code of a node is part of its key"
        raise UnavailableError(f"worker {worker} has plumbline {found.engine}, this is {__version__}", hint=hint)
    for seen, what, path in (
        (found.sees_root, "project", batch.place.root),
        (found.sees_store, "artefact store", batch.place.artefacts),
    ):
        if not seen:
            hint = "put it on a file system that all machines share, under the same path"
            raise UnavailableError(f"worker {worker} does not see the {what} {path}", hint=hint)


def _within(call: Callable[[], Mapping[str, _T]]) -> Mapping[str, _T]:
    """Bound a call of the client that has no timeout of its own."""
    answers: list[Mapping[str, _T]] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    if not answers:
        raise UnavailableError(
            f"the Dask workers did not answer within {_CONNECT_SECONDS:g} s", hint="look at their logs"
        )
    return answers[0]


def _result(future: Any, name: str, kind: str, link: LocalLink) -> NodeResult:
    if future.status == "finished":
        with suppress(Exception):
            found: NodeResult = future.result(timeout=_CANCEL_SECONDS)
            return found
    if link.is_cancelled() and future.status in {"pending", "cancelled"}:
        return NodeResult(
            name=name, kind=kind, state="cancelled", reason="interrupted", exit_code=int(ExitCode.INTERRUPTED)
        )
    cause = ""
    if future.status == "error":
        with suppress(Exception):
            cause = f": {future.exception(timeout=_CANCEL_SECONDS)}"
    error = UnavailableError(f"its Dask worker or scheduler was lost{cause}", hint="run again: finished nodes are kept")
    return NodeResult(name=name, kind=kind, state="failed", error=str(error), exit_code=int(error.exit_code))


def map_on_cluster(function: Callable[[Any], _T], items: Sequence[Any], address: str) -> list[_T]:
    """Apply a function to each item on a scheduler's workers; raises `UnavailableError` when it does not answer."""
    try:
        with _quiet_logs(), Client(address, timeout=_CONNECT_SECONDS) as client:  # type: ignore[no-untyped-call]
            return list(client.gather(client.map(function, list(items), pure=False)))
    except (OSError, DaskTimeoutError) as error:
        hint = "start one with `dask scheduler` and `dask worker`, or leave `dask.address` out"
        raise UnavailableError(f"no Dask scheduler answers at {address}: {error}", hint=hint) from error

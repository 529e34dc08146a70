"""Trainer `lightgbm_distributed`: rows by share on Dask workers, the histograms summed among them (data-parallel learning).

Enters: rows on disk that every worker sees. Leaves: the same files as `lightgbm`, scored by the same predictor. Rows that are in
memory already (a probe's tiny batch) are trained on here, without workers.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from engine.contracts import FitRequest, Matrix, PartedRows
from engine.errors import DataError, UnavailableError

from . import DistributedParams
from .distributed_part import free_port, train_share
from .library import import_lightgbm
from .loss import loss_of
from .rows import DEMANDS, by_query
from .trainer import LightGbmTrainer, Stage, model_file, normalise, put_documents

_MINUTES = 2  # for workers to find each other
_SECONDS = 30.0


class DistributedTrainer(LightGbmTrainer):
    """Trains on shares; loads, explains and exports as `lightgbm` does."""

    def __init__(self, params: DistributedParams) -> None:
        super().__init__(params)
        self._workers = params.workers

    def train_parts(self, rows: PartedRows, columns: tuple[str, ...], fit: FitRequest) -> Mapping[str, bytes]:
        """Fit; raises `DataError` for rows nothing can be learnt from, `UnavailableError` without enough workers."""
        objective = self._objective(fit.task)
        known = Matrix(np.empty((0, len(columns))), rows.labels("train"), columns)
        _check(known, fit, self._workers * 2 * self._params.params.min_data_in_leaf)
        held = by_query(rows.read("validation")) if self._params.early_stopping else None
        if held is not None and not len(held.y):
            hint = "make the split leave validation rows, or set train.early_stopping=0"
            raise DataError("there are no validation rows to cut the trees by", hint=hint)
        settings = self._settings(objective, known, fit) | {"tree_learner": "data", "pre_partition": True}
        files = put_documents(columns, fit.quantiles)
        with _client(fit, self._workers) as client:
            for index, level in enumerate(fit.quantiles or (None,)):
                own = settings if level is None else {**settings, "alpha": level}
                stage = Stage(fit, index, max(1, len(fit.quantiles)))
                stage.tell(f"{self._workers} workers train on {len(known.y):,} rows", 0.0)
                text = self._together(client, rows, own)
                best = _best_round(text, own, (known, held)) if held is not None else None
                files[model_file(index)] = _cut(text, best).encode()
                stage.tell("trained" if best is None else f"trained; round {best} is the best", 1.0)
        return files

    def _together(self, client: Any, rows: PartedRows, settings: Mapping[str, Any]) -> str:
        """Have every chosen worker train its share at the same time, and give the model's text."""
        chosen = _free_workers(client, self._workers)
        ports = [client.submit(free_port, workers=[one], pure=False).result(_SECONDS) for one in chosen]
        machines = ",".join(f"{urlsplit(one).hostname}:{port}" for one, port in zip(chosen, ports, strict=True))
        network = {"machines": machines, "num_machines": len(chosen), "time_out": _MINUTES, "num_threads": 1}
        futures = [
            client.submit(
                train_share, rows, (index, len(chosen)), {**settings, **network, "local_listen_port": port},
                self._params.categorical, workers=[one], allow_other_workers=False, pure=False, retries=0,
            )
            for index, (one, port) in enumerate(zip(chosen, ports, strict=True))
        ]  # fmt: skip
        try:
            return str(client.gather(futures)[0])
        except Exception as error:
            words = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise DataError(f"a worker's share could not be trained: {words}", hint="see the workers' logs") from error
        finally:
            client.cancel(futures)


def _check(known: Matrix, fit: FitRequest, least: int) -> None:
    if len(known.y) < least:
        hint = "use the trainer `lightgbm`, or fewer workers"
        raise DataError(f"{len(known.y)} training rows are too few for so many shares: {least} are needed", hint=hint)
    if fit.task != "ranking":
        DEMANDS.check_labels(known, fit.task, "training")
    if known.y.min() == known.y.max():
        raise DataError(f"the training rows have the same label everywhere ({known.y[0]:g})", hint="check the label")


@contextmanager
def _client(fit: FitRequest, workers: int) -> Iterator[Any]:
    """Connect to the run's scheduler, or start workers of our own; plugin code is sent to them by value."""
    cloudpickle: Any = importlib.import_module("cloudpickle")  # only where models are trained
    from distributed import Client, LocalCluster  # noqa: PLC0415

    cloudpickle.register_pickle_by_value(sys.modules[train_share.__module__])
    make: Callable[..., Any] = Client
    try:
        if fit.cluster is not None:
            with make(fit.cluster, timeout=_SECONDS) as client:
                yield client
        else:
            start: Callable[..., Any] = LocalCluster
            with (
                start(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
                make(cluster) as client,
            ):
                yield client
    except OSError as error:
        raise UnavailableError(
            f"no Dask scheduler answers at {fit.cluster}: {error}", hint="see dask.address"
        ) from error
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[train_share.__module__])


def _free_workers(client: Any, wanted: int) -> list[str]:
    """Choose workers with a free slot, one a process; raises `UnavailableError` when there are fewer than wanted."""
    client.wait_for_workers(1, timeout=_SECONDS)
    known = client.scheduler_info(n_workers=-1)["workers"]
    busy = client.processing()
    free = sorted(name for name, facts in known.items() if facts["nthreads"] > len(busy.get(name, ())))
    if len(free) < wanted:
        hint = "start more (`dask worker`), with a slot beside the one that this training takes, or lower train.workers"
        raise UnavailableError(f"{len(free)} Dask workers have a free slot, train.workers asks for {wanted}", hint=hint)
    return free[:wanted]


def _best_round(text: str, settings: Mapping[str, Any], rows: tuple[Matrix, Matrix]) -> int:
    """Give the round with the lowest loss on the validation rows, adding up trees one round at a time."""
    known, held = rows
    booster = import_lightgbm().Booster(model_str=text)
    loss, link = loss_of(settings, known, held), _link(str(settings["objective"]))
    x = np.ascontiguousarray(held.x)
    score: NDArray[np.float64] | float = 0.0
    losses = []
    for round_ in range(booster.current_iteration()):
        score = score + booster.predict(x, raw_score=True, start_iteration=round_, num_iteration=1, num_threads=1)
        losses.append(loss(link(np.asarray(score))))
    return int(np.argmin(losses)) + 1


def _link(objective: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    match objective:
        case "binary":
            return lambda score: np.asarray(1 / (1 + np.exp(-score)))
        case "multiclass":
            return _softmax
        case "poisson":
            return lambda score: np.asarray(np.exp(score))
        case _:
            return lambda score: score


def _softmax(score: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(score - score.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _cut(text: str, best: int | None) -> str:
    booster = import_lightgbm().Booster(model_str=text)
    return normalise(str(booster.model_to_string(num_iteration=best if best is not None else -1)))

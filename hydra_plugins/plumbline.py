"""What Hydra finds of the engine: a launcher that runs a sweep as one merged DAG, and sweepers that know it.

Hydra imports every module of this namespace whenever it starts, so nothing here imports more than Hydra itself; the work
is in `engine.sweeps`, to which the launcher hands each batch through the task that the engine gave to Hydra.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


class PlumblineLauncher(Launcher):
    """Gives all jobs of a batch to the engine at once."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:  # noqa: ARG002 - Hydra's signature
        """Keep the task, which knows how to run many jobs."""
        self._task = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and give their results in order."""
        values = self._task.launch([list(item) for item in job_overrides], initial_job_idx)
        return [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=value)
            for overrides, value in zip(job_overrides, values, strict=True)
        ]


class PlumblineSweeper(BasicSweeper):
    """Hydra's own sweeper (choices, ranges, globs, several keys) without composing every job a second time."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave it to the launcher, which composes each job with the places of its mistakes."""


class OptunaSweeper(Sweeper):
    """Searches with Optuna; see `docs/sweeps.md` for what may be set under `hydra.sweeper`."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what a search needs."""
        self._context, self._task, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Search; the engine has the loop."""
        from omegaconf import OmegaConf  # noqa: PLC0415 - start-up time

        options = OmegaConf.to_container(OmegaConf.create(self._options), resolve=True)
        return self._task.search(options, arguments, self._context.config_loader)


_OPTUNA = {
    "_target_": "hydra_plugins.plumbline.OptunaSweeper",
    "n_trials": 20,
    "n_jobs": None,
    "sampler": "tpe",
    "pruner": None,
    "seed": 0,
    "study_name": None,
    "storage": None,
    "sampler_options": {},
    "pruner_options": {},
    "timeout": None,
    "params": {},
}
_SWEEPER = {"_target_": "hydra_plugins.plumbline.PlumblineSweeper", "max_batch_size": None, "params": None}
_STORE = ConfigStore.instance()
_STORE.store(group="hydra/launcher", name="plumbline", node={"_target_": "hydra_plugins.plumbline.PlumblineLauncher"})
_STORE.store(group="hydra/sweeper", name="plumbline", node=_SWEEPER)
_STORE.store(group="hydra/sweeper", name="optuna", node=_OPTUNA)

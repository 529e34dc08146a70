"""What Hydra finds of the engine: a launcher that runs a sweep as one merged DAG, and sweepers that know it.

Hydra imports every module of this namespace whenever it starts, so nothing here imports more than Hydra itself. The work
is in `engine.sweeps`, to which the launcher hands each batch through the task that the engine gave to Hydra. Annotations
are not postponed: Hydra runs this module before it is in `sys.modules`, where dataclasses would look for their names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass
class OptunaConf:
    """What may be set under `hydra.sweeper`; `engine.sweeps.optuna_search` says what it means."""

    _target_: str = "hydra_plugins.plumbline.OptunaSweeper"
    n_trials: int = 20
    n_jobs: int | None = None
    sampler: str = "tpe"
    pruner: str | None = None
    seed: int = 0
    study_name: str | None = None
    storage: str | None = None
    sampler_options: dict[str, Any] = field(default_factory=dict)
    pruner_options: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class SweeperConf:
    """Hydra's own settings of a sweep by combinations."""

    _target_: str = "hydra_plugins.plumbline.PlumblineSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


_STORE = ConfigStore.instance()
_STORE.store(group="hydra/launcher", name="plumbline", node={"_target_": "hydra_plugins.plumbline.PlumblineLauncher"})
_STORE.store(group="hydra/sweeper", name="plumbline", node=SweeperConf)
_STORE.store(group="hydra/sweeper", name="optuna", node=OptunaConf)

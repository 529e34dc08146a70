"""An optimising sweep: Optuna proposes trials batch by batch, the merged DAG runs them. The only importer of `optuna`.

Every proposal is drawn with a seed of its own, made of the search's seed and the trial's number, and batches are told in
order: a search that was killed goes on with the very trials that it would have had. Studies live in SQLite under
`.plumbline/`, or behind any URL that Optuna takes.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import optuna

from engine.clock import stopwatch
from engine.config import SweepFacts
from engine.errors import EngineError, UnavailableError, UsageError
from engine.keys import digest
from engine.sweep_records import TrialRecord
from engine.sweeps.planning import Objective
from engine.sweeps.space import Choices, Domain, Real, Space, Whole, read_space
from engine.sweeps.sweep import Sweep

_PRUNED = "pruned"  # the attribute of a trial that says why
_SAMPLERS: Mapping[str, Callable[..., Any]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "nsgaii": optuna.samplers.NSGAIISampler,
    "grid": optuna.samplers.GridSampler,
}
_PRUNERS: Mapping[str, Callable[..., Any]] = {
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "threshold": optuna.pruners.ThresholdPruner,
    "patient": optuna.pruners.PatientPruner,
}


class SearchOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be set under `hydra.sweeper`. `n_jobs` trials are proposed at once (default: as many as run side by side)."""

    n_trials: int = 20
    n_jobs: int | None = None
    sampler: str = "tpe"
    pruner: str | None = None
    seed: int = 0
    study_name: str | None = None
    storage: str | None = None
    sampler_options: dict[str, Any] = {}
    pruner_options: dict[str, Any] = {}
    timeout: float | None = None
    params: dict[str, Any] = {}

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> SearchOptions:
        """Check what was set; raises `UsageError` that lists what is allowed."""
        try:
            found = msgspec.convert({key: value for key, value in options.items() if value is not None}, cls)
        except msgspec.ValidationError as error:
            allowed = ", ".join(cls.__struct_fields__)
            raise UsageError(f"hydra.sweeper: {error}", hint=f"allowed: {allowed}") from None
        for what, name, known in (("sampler", found.sampler, _SAMPLERS), ("pruner", found.pruner, _PRUNERS)):
            if name is not None and name not in known:
                raise UsageError(f"hydra.sweeper.{what}={name}: unknown", hint=f"allowed: {', '.join(known)}")
        if found.n_trials < 1 or (found.n_jobs is not None and found.n_jobs < 1):
            raise UsageError("hydra.sweeper: n_trials and n_jobs are at least 1", hint="hydra.sweeper.n_trials=20")
        return found


def search(sweep: Sweep, options: SearchOptions, facts: SweepFacts) -> list[TrialRecord]:
    """Search to the end; gives the trials. Raises `UsageError` for a study of something else."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = read_space(facts.space, {key: str(value) for key, value in options.params.items()})
    objectives, pipeline = sweep.begin([*space.fixed, *_first(space)], frozenset(space.domains))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _Search(sweep, options, space, objectives, pipeline).to_the_end()


def _first(space: Space) -> list[str]:
    """Give one value of each key, to plan with before anything is proposed."""
    return [
        f"{key}={domain.words[0] if isinstance(domain, Choices) else domain.low}"
        for key, domain in space.domains.items()
    ]


class _Search:
    def __init__(
        self, sweep: Sweep, options: SearchOptions, space: Space, objectives: Sequence[Objective], pipeline: str
    ) -> None:
        self._sweep = sweep
        self._options = options
        self._space = space
        self._objectives = objectives
        self._distributions = {key: _distribution(domain) for key, domain in space.domains.items()}
        self._lock = threading.Lock()
        self._live: dict[int, Any] = {}
        self._decided: dict[int, str] = {}
        if options.pruner is not None and len(objectives) > 1:
            raise UsageError(
                "a pruner needs one objective", hint="leave out hydra.sweeper.pruner, or set one sweep.metrics"
            )
        if options.pruner is not None and sweep.is_remote:
            raise UsageError(
                "a pruner needs the embedded scheduler", hint="set dask.address=null, or leave the pruner out"
            )
        self._sampler(0)  # its options are wrong now, not after the first batch
        self._study = self._open(pipeline)

    def to_the_end(self) -> list[TrialRecord]:
        """Propose, run and tell batches until there are enough trials."""
        options, since = self._options, stopwatch()
        start = self._start()
        wanted = self._wanted()
        batch = options.n_jobs or self._sweep.workers
        done: list[TrialRecord] = []
        for first in range(start, start + wanted, batch):
            if options.timeout is not None and stopwatch() - since > options.timeout:
                break
            numbers = range(first, min(first + batch, start + wanted))
            done += self._batch(numbers)
        return done

    def _batch(self, numbers: range) -> list[TrialRecord]:
        for number in numbers:
            self._propose(number)
        frozen = self._study.get_trials(deepcopy=False)
        jobs = [self._overrides(frozen[number].params) for number in numbers]
        pruner = self if self._options.pruner is not None else None
        records = self._sweep.run(jobs, numbers.start, pruner)
        for record in records:
            self._tell(record)
        return records

    def _propose(self, number: int) -> None:
        """Add a trial with all its values at once, unless the study has it from before it was stopped."""
        known = self._study.get_trials(deepcopy=False)
        if number >= len(known):
            proposed = self._draw(number, known)
            self._study.add_trial(proposed)
            known = self._study.get_trials(deepcopy=False)
            if len(known) != number + 1 or known[number].params != proposed.params:
                hint = "let one finish, or name another with hydra.sweeper.study_name"
                raise UsageError(f"another process adds trials to the study {self._study.study_name}", hint=hint)
        if known[number].state == optuna.trial.TrialState.RUNNING:
            self._live[number] = optuna.trial.Trial(self._study, known[number]._trial_id)  # noqa: SLF001 - no other way
            if _PRUNED in known[number].user_attrs:
                self._decided[number] = known[number].user_attrs[_PRUNED]

    def _draw(self, number: int, known: Sequence[Any]) -> Any:
        """Draw a trial in memory: asked for in the database, a kill between two values would leave half of it there."""
        study = optuna.create_study(
            study_name=self._study.study_name,
            directions=self._study.directions,
            sampler=self._sampler(number),
            pruner=self._pruner(),
        )
        study.add_trials(known)
        study.ask(self._distributions)
        return study.get_trials(deepcopy=False)[number]

    def _tell(self, record: TrialRecord) -> None:
        if record.number not in self._live:
            return
        trial = self._live.pop(record.number)
        state = optuna.trial.TrialState
        values = [metric.value for metric in record.tuned]
        if record.run_id:
            trial.set_user_attr("run", record.run_id)
        if record.state == "succeeded" and values and None not in values:
            self._study.tell(trial, values=values)
        elif record.state == "pruned":
            self._study.tell(trial, state=state.PRUNED)
        else:
            self._study.tell(trial, state=state.FAIL)

    def hear(self, trial: int, step: int, value: float) -> str | None:
        """Hear an intermediate loss; lower is better there, whatever the objective's direction.

        What was decided once stays, also over a kill: the study has it before anybody acts on it.
        """
        with self._lock:
            live = self._live.get(trial)
            if live is None or trial in self._decided:
                return self._decided.get(trial)
            seen = self._study.get_trials(deepcopy=False)[trial].intermediate_values
            if step not in seen:
                live.report(-value if self._objectives[0].higher_is_better else value, step)
            if live.should_prune():
                reason = f"pruned at round {step} by {self._options.pruner}: its loss there was {value:.5f}"
                live.set_user_attr(_PRUNED, reason)
                self._decided[trial] = reason
            return self._decided.get(trial)

    def verdict(self, trial: int) -> str | None:
        """Give why a trial was stopped, also when its training had ended before it could be."""
        return self._decided.get(trial)

    def _overrides(self, params: Mapping[str, Any]) -> list[str]:
        return [*self._space.fixed, *(f"{key}={params[key]}" for key in self._space.domains if key in params)]

    def _wanted(self) -> int:
        """Give how many trials; a grid has no more than its cells."""
        if self._options.sampler != "grid":
            return self._options.n_trials
        cells = 1
        for values in self._space.grid().values():
            cells *= len(values)
        return min(cells, self._options.n_trials)

    def _start(self) -> int:
        """Give the number of this sweep's first trial in its study, which may hold those of others."""
        name = f"start:{self._sweep.row.sweep}"
        if name not in self._study.user_attrs:
            self._study.set_user_attr(name, len(self._study.get_trials(deepcopy=False)))
        return int(self._study.user_attrs[name])

    def _open(self, pipeline: str) -> Any:
        """Open or create the study; raises `UsageError` when it is one of another pipeline, space or objective."""
        options = self._options
        name = options.study_name or f"{pipeline}-sweep-{self._sweep.row.sweep}"
        home = self._sweep.request.project.home
        url = options.storage or f"sqlite:///{home / 'studies.db'}"
        home.mkdir(parents=True, exist_ok=True)
        directions: list[Any] = ["maximize" if item.higher_is_better else "minimize" for item in self._objectives]
        try:
            storage = optuna.storages.RDBStorage(url)
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                directions=directions,
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(0),  # never asked: proposals are drawn in memory
                pruner=self._pruner(),
            )
        except (UsageError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise UnavailableError(
                f"hydra.sweeper.storage: {type(error).__name__}: {str(error).splitlines()[0]}",
                hint="a URL as SQLAlchemy takes it: sqlite:///studies.db, postgresql://user@host/database",
            ) from error
        facts = {
            "pipeline": pipeline,
            "objectives": [item.name for item in self._objectives],
            "space": self._space.describe(),
        }
        for key, value in facts.items():
            known = study.user_attrs.get(key)
            if known is not None and known != value:
                hint = "name another study: hydra.sweeper.study_name=NAME"
                raise UsageError(f"the study {name} is one of another {key}: {known}, and this is {value}", hint=hint)
            if known is None:
                study.set_user_attr(key, value)
        if len(study.directions) != len(directions):
            raise UsageError(f"the study {name} has {len(study.directions)} objectives, this sweep {len(directions)}")
        self._sweep.name_study(name)
        return study

    def _sampler(self, number: int) -> Any:
        """Make the sampler of one proposal, seeded by the search's seed and the trial's number."""
        seed = int(digest({"seed": self._options.seed, "trial": number})[:8], 16)
        make = _SAMPLERS[self._options.sampler]
        given = dict(self._options.sampler_options)
        if self._options.sampler == "grid":
            return make(self._space.grid(), seed=self._options.seed, **_checked(make, given, "sampler"))
        return make(seed=seed, **_checked(make, given, "sampler"))

    def _pruner(self) -> Any:
        if self._options.pruner is None:
            return optuna.pruners.NopPruner()
        make = _PRUNERS[self._options.pruner]
        return make(**_checked(make, dict(self._options.pruner_options), "pruner"))


def _checked(make: Callable[..., Any], given: dict[str, Any], what: str) -> dict[str, Any]:
    """Refuse options that there are none of; raises `UsageError`."""
    allowed = [name for name in inspect.signature(make).parameters if name not in {"self", "seed", "search_space"}]
    wrong = [name for name in given if name not in allowed]
    if wrong:
        raise UsageError(f"hydra.sweeper.{what}_options.{wrong[0]}: unknown", hint=f"allowed: {', '.join(allowed)}")
    return given


def _distribution(domain: Domain) -> Any:
    match domain:
        case Choices(words):
            return optuna.distributions.CategoricalDistribution(words)
        case Whole(low, high, step, log):
            return optuna.distributions.IntDistribution(low, high, log=log, step=1 if log else step)
        case Real(low, high, step, log):
            return optuna.distributions.FloatDistribution(low, high, log=log, step=None if log else step)
    raise EngineError(f"{domain}: not a domain")

"""What `engine run -m` does with the jobs that a sweeper proposes: one sweep for the whole command.

Called by `engine run`, through Hydra: `launch` for Hydra's own sweepers, `search` for the optimising one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.commands.arguments import print_json, show
from engine.commands.tables import render_table
from engine.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from engine.config import SweepFacts
    from engine.project import Project
    from engine.sweep_records import SweepRecord
    from engine.sweeps.display import SweepDisplay
    from engine.sweeps.sweep import Sweep


@dataclass
class SweepCommand:
    """One command's sweep; it begins with its first batch."""

    project: Project
    arguments: argparse.Namespace
    argv: list[str]
    sweep: Sweep | None = None
    display: SweepDisplay | None = None
    study: Any = None
    record: SweepRecord | None = field(default=None)

    def launch(self, jobs: Sequence[Sequence[str]], first: int, facts: SweepFacts) -> list[Any]:
        """Run a batch; gives each trial's first objective (`None`: it has no value)."""
        trials = self._open(facts).run(jobs, first)
        return [trial.tuned[0].value if trial.tuned else None for trial in trials]

    def search(self, options: dict[str, Any], facts: SweepFacts) -> Any:
        """Let Optuna propose the trials."""
        try:
            from engine.sweeps.optuna_search import SearchOptions, search  # noqa: PLC0415 - a second of imports
        except ImportError as error:
            raise UnavailableError(f"hydra/sweeper=optuna: {error}", hint="pip install 'plumbline[optuna]'") from error
        return search(self._open(facts), SearchOptions.read(options), facts)

    def conclude(self) -> int:
        """Judge the best trial and tell how it went; gives the exit code, 0 when there was no sweep."""
        if self.sweep is None:
            return 0
        record = self.sweep.conclude()
        if self.display is not None:
            self.display.close()
        if self.arguments.json:
            print_json(record)
        elif not self.arguments.ndjson:
            show(tell_sweep(record))
        return record.exit_code

    def close(self) -> None:
        """Give terminal and lock back; any number of times."""
        if self.display is not None:
            self.display.close()
        if self.sweep is not None:
            self.sweep.close()

    def _open(self, facts: SweepFacts) -> Sweep:
        if self.sweep is None:
            self.sweep = self._begin(facts)
        return self.sweep

    def _begin(self, facts: SweepFacts) -> Sweep:
        from engine.clock import SystemClock  # noqa: PLC0415 - start-up time of --help
        from engine.provenance import GitProbe  # noqa: PLC0415
        from engine.running import Around, RunOptions  # noqa: PLC0415
        from engine.runs import parse_sample  # noqa: PLC0415
        from engine.sweeps.display import choose_display  # noqa: PLC0415
        from engine.sweeps.sweep import Sweep, SweepRequest  # noqa: PLC0415

        asked = self.arguments
        if asked.from_ or asked.to or asked.only or asked.force:
            hint = "leave out --from, --to, --only and --force; what is cached is not run again anyway"
            raise UsageError("a sweep runs whole trials", hint=hint)
        self.display = choose_display(quiet=asked.quiet, ndjson=asked.ndjson, log_format=asked.log_format)
        options = RunOptions(sample=asked.sample, command=("engine", "run", *self.argv))
        request = SweepRequest(
            project=self.project,
            identity=facts.identity,
            fixed=facts.fixed,
            options=options,
            sample=parse_sample(asked.sample),
        )
        git = GitProbe(self.project.root).start()
        return Sweep(request, Around(self.display, SystemClock(), git), self.display)


def tell_sweep(record: SweepRecord, limit: int = 30) -> str:
    """Tell a sweep in words and a table, best trial first."""
    names = list(dict.fromkeys(key for trial in record.trials for key in trial.params))
    rows = []
    for trial in record.trials[:limit]:
        values = {metric.name: metric.value for metric in trial.tuned}
        error = trial.error.splitlines()[0][:60] if trial.error else ""
        state = f"{trial.state}: {error}" if error else trial.state
        rows.append(
            [trial.rank, str(trial.number), trial.run_id, *(values.get(name) for name in record.objectives),
             *(str(trial.params.get(name, "")) for name in names), round(trial.seconds, 1), state]
        )  # fmt: skip
    headers = ["rank", "trial", "run", *record.objectives, *names, "seconds", "state"]
    best = (
        f"best: trial {record.best} (run {record.best_run}), verdict {record.verdict or 'none'}"
        + (f", {record.model} is champion" if record.promoted else "")
        if record.best is not None
        else "no trial has a value: nothing was judged"
    )
    resumed = f", {record.resumed} of them from before it was stopped" if record.resumed else ""
    told = (
        f"sweep {record.sweep} of {record.pipeline}: {len(record.trials)} trials{resumed}; "
        f"{record.executed} nodes ran of {record.distinct} different ones; {record.seconds:.1f} s"
    )
    lines = [
        told,
        render_table(headers, rows),
        *([f"and {len(record.trials) - limit} more"] if len(record.trials) > limit else []),
        best,
        *(
            [f"no trial beats: {', '.join(str(number) for number in record.pareto)} (trade-offs)"]
            if record.pareto
            else []
        ),
        f"report: {record.report}",
    ]
    return "\n".join(lines)

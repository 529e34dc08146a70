"""Triggers and the retraining policy as declared: when a pipeline runs again, and what holds it back."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.spec.base import Duration, Identifier, PositiveInt, Prose, Spec


class TriggerSpec(Spec, frozen=True, kw_only=True):
    """One reason to run again; `params` are the component's own keys in YAML.

    With `alone: false` the trigger launches nothing by itself: it is a part of another (`any`, `all`).
    """

    kind: Identifier
    params: msgspec.Struct
    alone: bool = True
    doc: Prose = ""


class BudgetSpec(Spec, frozen=True, kw_only=True):
    """What the pipeline's launched runs may cost in any `per`; null is no limit."""

    runs: PositiveInt | None = None
    cpu_hours: Annotated[float, msgspec.Meta(gt=0)] | None = None
    per: Duration = "30d"


class BackoffSpec(Spec, frozen=True, kw_only=True):
    """How long to wait after runs that failed: `first`, then `factor` times as long each time, at most `longest`.

    After `give_up_after` failures in a row nothing is launched until data, code or configuration change, or a person resets it
    (`engine triggers reset`).
    """

    first: Duration = "10m"
    factor: Annotated[float, msgspec.Meta(ge=1, le=10)] = 2.0
    longest: Duration = "1d"
    give_up_after: PositiveInt = 5


class GuardSpec(Spec, frozen=True, kw_only=True):
    """What is watched after a promotion: the new version against the one before it, on rows that neither was judged on.

    Both score the same labelled rows. When the new one's loss is surely higher (a confidence sequence at `level`, which holds
    at all looks together) by more than the share `worse_by` of the other's, the alias goes back to the version before.
    """

    worse_by: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.02
    level: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] = 0.01
    min_labels: PositiveInt = 200


class RetrainSpec(Spec, frozen=True, kw_only=True):
    """What happens when a trigger fires. The defaults are safe: one run at a time, four a day at most.

    `concurrency` says what a reason does that comes while a run is in flight: `forbid` drops it and says so, `queue_one` waits
    (one run for all that came), `replace` stops the run. `cooldown` is counted from the end of the last run, `debounce` from
    the first of the reasons that wait. `overrides` are Hydra's, for launched runs only. `on_quality_failure: last_good` trains on
    the last good snapshot when new data is quarantined; without it nothing is trained. `guard` takes a promotion back that
    turns out to be a mistake; null leaves that to people.
    """

    concurrency: Literal["forbid", "queue_one", "replace"] = "queue_one"
    cooldown: Duration = "1h"
    debounce: Duration = "0s"
    budget: BudgetSpec = BudgetSpec(runs=4, per="1d")
    backoff: BackoffSpec = BackoffSpec()
    on_quality_failure: Literal["diagnose", "last_good"] = "diagnose"
    guard: GuardSpec | None = GuardSpec()
    overrides: tuple[str, ...] = ()
    observe: Duration = "5m"

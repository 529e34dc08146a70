"""Which retraining policies are compared: the shipped ones by name, the pipeline's own, and any that the command line states.

Enters: a pipeline's spec and names. Leaves: a `Policy` each: its triggers, its rules and the monitors that its triggers read,
as documents, so that a node can be keyed by them. Raises `UsageError` and `ConfigError`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.components import Catalogue
from engine.errors import ConfigError, NotFoundError, Problem, UsageError
from engine.keys import Json
from engine.spec import BackoffSpec, BudgetSpec, PipelineSpec, RetrainSpec, TriggerSpec, identity
from engine.spec.monitoring import MonitorSpec
from engine.watch.levels import level_for

ALWAYS, NEVER, DECLARED = "always", "never", "declared"

SHIPPED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    NEVER: {},
    ALWAYS: {"every_time": {"kind": "staleness", "older_than": "1us"}},
    "daily": {"daily": {"kind": "cron", "schedule": "0 0 * * *"}},
    "weekly": {"weekly": {"kind": "cron", "schedule": "0 0 * * 1"}},
    "monthly": {"monthly": {"kind": "cron", "schedule": "0 0 1 * *"}},
    "drift": {"drifted": {"kind": "drift"}},
    "performance": {"worse": {"kind": "performance"}},
}
_MONITORS: Mapping[str, str] = {"drift": "drift", "performance": "performance"}
_UNLIMITED = RetrainSpec(cooldown="0s", budget=BudgetSpec(), backoff=BackoffSpec(first="0s"))
_NO_READINGS = frozenset({"cron", "staleness", "new_labels", "data_commit", "manual", "any", "all"})
_OVER_READINGS = frozenset({"drift", "performance", "quality"})
_NO_CONTENT = (_NO_READINGS - {"data_commit"}) | _OVER_READINGS
_WITHOUT_PROFILES = frozenset({"performance", "calibration", "staleness", "service"})


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy: triggers and monitors by name as documents (`identity` of their specs), and the rules of retraining."""

    name: str
    triggers: Mapping[str, Any]
    monitors: Mapping[str, Any]
    retrain: RetrainSpec

    @property
    def counts_content(self) -> bool:
        """Say whether a trigger may ask what the sources held: those of a user's own may."""
        return any(item["kind"] not in _NO_CONTENT for item in self.triggers.values())

    @property
    def reads(self) -> bool:
        """Say whether some trigger is one over readings of monitors."""
        return any(item["kind"] in _OVER_READINGS for item in self.triggers.values())

    @property
    def shown(self) -> dict[str, dict[str, Any]]:
        """Give the triggers as they would be declared."""
        return {
            name: {"kind": item["kind"], **{key: value for key, value in item["params"].items() if value not in (None, [])}}
            for name, item in self.triggers.items()
        }  # fmt: skip


def choose_policies(
    spec: PipelineSpec, names: Sequence[str], stated: Mapping[str, Any], catalogue: Catalogue
) -> tuple[Policy, ...]:
    """Give the policies that are named, `always` among them, each once; raises what is wrong with one.

    `stated` maps a name to triggers as YAML values: one with a `kind`, or several by name.
    """
    wanted = list(dict.fromkeys((ALWAYS, *names, *stated)))
    found = []
    for name in wanted:
        if name in stated:
            found.append(_shipped(name, _several(name, stated[name]), spec, catalogue))
        elif name == DECLARED:
            found.append(_declared(spec))
        elif name in SHIPPED:
            found.append(_shipped(name, SHIPPED[name], spec, catalogue))
        else:
            raise UsageError(
                f"no policy `{name}`",
                hint=f"there are {', '.join((*SHIPPED, DECLARED))}; state one of your own: "
                f"--policy '{name}: {{kind: staleness, older_than: 30d}}'",
            )
    return tuple(found)


def default_names(spec: PipelineSpec) -> tuple[str, ...]:
    """Name what is compared when nothing is asked for: the declared policy only where one is declared."""
    return (NEVER, "weekly", "monthly", "drift", "performance", *((DECLARED,) if spec.triggers else ()))


def _declared(spec: PipelineSpec) -> Policy:
    if not spec.triggers:
        raise UsageError(
            f"{spec.name} declares no triggers, so there is no declared policy",
            hint="leave `declared` out of --policies",
        )
    triggers = {name: _trigger(item) for name, item in spec.triggers.items()}
    monitors = {name: item for name, item in spec.monitors.items() if _is_read(item, spec.triggers)}
    return Policy(DECLARED, triggers, {name: _monitor(_levelled(name, spec)) for name in monitors}, spec.retrain)


def _shipped(name: str, triggers: Mapping[str, Mapping[str, Any]], spec: PipelineSpec, catalogue: Catalogue) -> Policy:
    """Make a policy of stated triggers, with the pipeline's own rules and monitors where it has them."""
    made = {key: _build(name, key, item, catalogue) for key, item in triggers.items()}
    kinds = {item.kind for item in made.values()}
    monitors: dict[str, Any] = {}
    if kinds - _NO_READINGS:
        own = {key: item for key, item in spec.monitors.items() if _is_read(item, made)}
        monitors = {
            key: _monitor(_levelled(key, spec))
            for key, item in own.items()
            if name not in _MONITORS or item.kind == name
        }
        monitors = monitors or _default_monitors(kinds, catalogue)
    return Policy(
        name,
        {key: _trigger(item) for key, item in made.items()},
        monitors,
        _UNLIMITED if name == ALWAYS else spec.retrain,
    )


def _several(name: str, stated: Any) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(stated, Mapping) or not stated:
        raise UsageError(
            f"--policy {name}: give a trigger, or several by name", hint=f"--policy '{name}: {{kind: drift}}'"
        )
    several: Mapping[str, Any] = {name: stated} if isinstance(stated.get("kind"), str) else stated
    if not all(isinstance(item, Mapping) for item in several.values()):
        raise UsageError(f"--policy {name}: each trigger is a mapping with a `kind`")
    return several


def _build(policy: str, name: str, item: Mapping[str, Any], catalogue: Catalogue) -> TriggerSpec:
    """Check a stated trigger as a declared one is checked."""
    path = f"--policy {policy}.{name}"
    values = {key: value for key, value in item.items() if key not in {"kind", "alone"}}
    try:
        component = catalogue.get("trigger", str(item.get("kind")))
    except NotFoundError as error:
        raise ConfigError([Problem(f"{path}.kind", error.message, value=item.get("kind"),
                                   allowed=tuple(catalogue.of("trigger")))]) from None  # fmt: skip
    try:
        params = msgspec.convert(values, component.params, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError([Problem(path, str(error), value=str(values))]) from None
    return TriggerSpec(kind=component.name, params=params, alone=bool(item.get("alone", True)))


def _default_monitors(kinds: set[str], catalogue: Catalogue) -> dict[str, Any]:
    wanted = sorted({_MONITORS.get(kind, "drift") for kind in kinds - _NO_READINGS})
    return {
        kind: _monitor(MonitorSpec(kind=kind, params=catalogue.get("monitor", kind).params())) for kind in wanted
    }  # fmt: skip


def reads_profiles(kinds: Iterable[str]) -> bool:
    """Say whether one of these monitors compares features with those of the training rows."""
    return any(kind not in _WITHOUT_PROFILES for kind in kinds)


def _is_read(monitor: MonitorSpec, triggers: Mapping[str, TriggerSpec]) -> bool:
    """Say whether some trigger looks at what a monitor reads; one of a user's own may look at anything."""
    for trigger in triggers.values():
        params: Any = trigger.params
        match trigger.kind:
            case "drift":
                wanted = {"input": {"drift", "multivariate"}, "output": {"prediction"}}.get(params.of, {"concept"})
            case "performance":
                wanted = {"estimated"} if params.estimated else {"performance"}
            case "quality":
                wanted = {"quality"}
            case kind:
                wanted = set() if kind in _NO_READINGS else {monitor.kind}
        if monitor.kind in wanted:
            return True
    return False


def _trigger(spec: TriggerSpec) -> dict[str, Json]:
    return {"kind": spec.kind, "params": identity(spec.params), "alone": spec.alone}


def _levelled(name: str, spec: PipelineSpec) -> MonitorSpec:
    """Give a declared monitor at the level that it has among all that are declared, of which only some are read here."""
    level = level_for(name, spec.monitors, spec.watch.level)
    return msgspec.structs.replace(spec.monitors[name], level=level)


def _monitor(spec: MonitorSpec) -> Json:
    return {**dict(identity(spec)), "notify": []}  # type: ignore[arg-type]

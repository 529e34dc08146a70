"""Gates replayed: the challenger of a moment before the same gates as in a run, against the model then in production.

Enters: models and rows as they were known. Leaves: a verdict with each gate's result. The evidence is made of what a run's gates
see: scores of challenger, baseline and champion on the challenger's test rows, slices, columns, the audit of the sources. Rulings
on a challenger and models shortly before it are a node (`rule_challenger`), since more than one policy asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import msgspec
import polars as pl

from engine.backtest.history import Models, read_rows
from engine.components import catalogue_of
from engine.contracts import Artefact, Evidence, Gate, Scores, Work
from engine.evaluation.evaluate import evaluate_scores
from engine.evaluation.names import choose_metrics
from engine.evaluation.slices import MAX_SLICES, slice_masks
from engine.evaluation.verdict import decide_verdict
from engine.keys import Json
from engine.nodes.frames import read_document, write_document
from engine.nodes.target import group_ids
from engine.records import GateResult, Verdict
from engine.spec import EvaluateSpec

_PROBE, _SOURCE, _RULING = "probe.", "source.", "ruling."


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the gates said of a challenger."""

    verdict: Verdict
    results: tuple[GateResult, ...] = ()


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The test rows of a challenger, as it and its baseline score them: the same whoever is champion."""

    challenger: int
    rows: pl.DataFrame
    scores: Mapping[str, Scores]


@dataclass
class Court:
    """The declared gates that are replayed; what was asked of the same two models is answered once."""

    settings: Mapping[str, Any]
    inputs: Mapping[str, Artefact]
    models: Models
    _rulings: dict[tuple[int, int], Ruling] = field(default_factory=dict)
    _held: _HeldOut | None = None

    def __post_init__(self) -> None:
        """Take over what nodes have judged."""
        for role, item in self.inputs.items():
            if role.startswith(_RULING):
                found = read_document(item.path / "rulings.json")
                for champion, ruling in zip(found["champions"], found["rulings"], strict=True):
                    self._rulings[found["challenger"], champion] = msgspec.convert(ruling, Ruling)

    def rule(self, challenger: int, champion: int) -> Ruling:
        """Judge the challenger of a moment against the model of another; without gates asked for, everything is promoted."""
        if not self.settings["gated"]:
            return Ruling("promote")
        asked = challenger, champion
        if asked not in self._rulings:
            self._rulings[asked] = self._judge(challenger, champion)
        return self._rulings[asked]

    def _judge(self, challenger: int, champion: int) -> Ruling:
        evidence = self._evidence(challenger, champion)
        results = []
        for name, declared in self.settings["gates"].items():
            component = self.models.catalogue.get("gate", declared["kind"])
            gate: Gate = component.build(msgspec.convert(declared["params"], component.params))
            found = gate.decide(name, evidence)
            results.append(
                msgspec.structs.replace(found, name=name, kind=declared["kind"], severity=declared["severity"])
            )
        return Ruling(decide_verdict(results), tuple(results))

    def _evidence(self, challenger: int, champion: int) -> Evidence:
        models, spec = self.models, msgspec.convert(self.settings["evaluate"], EvaluateSpec)
        if self._held is None or self._held.challenger != challenger:
            self._held = self._hold_out(challenger, spec)
        rows, scores, ours = self._held.rows, dict(self._held.scores), models.model(challenger)
        columns = {name: slice_masks(rows[name].cast(pl.String).to_numpy()) for name in spec.slices}
        seen = models.trained_on(champion, rows)
        refusals = (f"the champion was trained on {seen} of the {rows.height} test rows",) if seen else ()
        if not refusals:
            scores["champion"] = replace(scores["challenger"], prediction=models.model(champion).score(rows))
        # What a gate asks beyond the primary metric it measures itself, on the same resamples.
        primary = choose_metrics(ours.target.task, spec)[1]
        lean = msgspec.structs.replace(spec, metrics=(primary,), primary=primary, slices=())
        document = msgspec.to_builtins(evaluate_scores(ours.target, scores, {}, lean, refusals))
        return Evidence(
            task=ours.target.task,
            challenger=scores["challenger"],
            baseline=scores.get("baseline"),
            champion=scores.get("champion"),
            champion_name="champion",
            slices={name: dict(islice(masks, MAX_SLICES)) for name, masks in columns.items()},
            validation=self._validation(),
            metrics=document,
            seed=self.settings["seed"],
            refusals=refusals,
            probes=self._probes(challenger),
            columns={name: rows[name].cast(pl.String).to_numpy() for name in self.settings["columns"]},
            target=ours.target,
        )

    def _hold_out(self, challenger: int, spec: EvaluateSpec) -> _HeldOut:
        models = self.models
        rows, ours = models.part(challenger, ("test",)), models.model(challenger)
        table = {"challenger": ours.score(rows)}
        if models.has(challenger, "baseline"):
            table["baseline"] = models.model(challenger, "baseline").score(rows)
        y, group = models.labels(challenger, rows), group_ids(rows, ours.trained.get("group"))
        cluster = rows[spec.cluster].rank("dense").cast(pl.Int64).to_numpy() if spec.cluster else group
        scores = {name: Scores(y, values, cluster, group, ours.target.quantiles) for name, values in table.items()}
        return _HeldOut(challenger, rows, scores)

    def _validation(self) -> dict[str, Mapping[str, Json]]:
        found = {role.removeprefix(_SOURCE): item for role, item in self.inputs.items() if role.startswith(_SOURCE)}
        return {name: read_document(item.path / "validation.json") for name, item in found.items()}

    def _probes(self, challenger: int) -> dict[str, Mapping[str, Json]]:
        ending = f".{challenger}"
        return {
            role.removeprefix(_PROBE).removesuffix(ending): read_document(item.path / "probe.json")
            for role, item in self.inputs.items()
            if role.startswith(_PROBE) and role.endswith(ending)
        }


def rule_challenger(work: Work) -> Mapping[str, Json]:
    """Judge the challenger of one moment against the models of others; leaves `rulings.json`. The body of a node."""
    settings: Any = work.settings
    models = Models(work.inputs, catalogue_of(work.place), read_rows(work.inputs["rows"]))
    court, challenger = Court(settings, work.inputs, models), settings["challenger"]
    found = [court.rule(challenger, champion) for champion in settings["champions"]]
    told: list[Json] = [{"verdict": item.verdict, "results": msgspec.to_builtins(item.results)} for item in found]
    document: dict[str, Json] = {"challenger": challenger, "champions": settings["champions"], "rulings": told}
    write_document(work.out / "rulings.json", document)
    return {"verdicts": [item.verdict for item in found]}

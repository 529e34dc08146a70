"""A run of the shipped flights pipeline as data: values of the real one's size and shape, made up."""

from __future__ import annotations

import hashlib
import math
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine.evaluation.document import (
    CalibrationCurve,
    Curves,
    EvaluationDocument,
    Histogram,
    MeasuredMetric,
    ModelEvaluation,
    PairedDifference,
    PrecisionRecallCurve,
    RocCurve,
    SliceMetric,
)
from engine.plan.model import ExecutionPlan, PlanNode
from engine.records import Environment, GateResult, GitState, Metric, NodeOutput, NodeResult, RunRecord, SnapshotPin
from engine.report.content import DataUsed, Finding, ReportContent, SourceData, SplitPart
from engine.report.lettering import text_width

CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO")
SIZES = (13_894, 13_291, 13_725, 11_874, 8_614, 6_206, 5_098, 4_540, 3_010, 540, 255, 160, 98, 65, 42, 28)
FEATURES = (
    "origin_late_rate_4h",
    "carrier_delay_mean_6h",
    "minute_of_day",
    "plane_delay_last_1d",
    "origin_delay_mean_6h",
    "precip",
    "carrier_late_rate_6h",
    "humid",
    "dest_delay_mean_12h",
    "carrier_against_norm",
    "plane_delay_max_1d",
    "pressure",
    "visib",
    "wind_speed",
    "temp",
    "arrival_hour",
    "origin_delay_std_1d",
    "carrier_ix",
    "miles",
    "dest_ix",
    "weekday",
    "age",
    "seats",
    "plane_legs_1d",
    "raining",
)
SOURCES = ("flights", "weather", "planes")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def flights_plan() -> ExecutionPlan:
    sources = {f"source.{name}": f"ingest.{name}" for name in SOURCES}
    wiring: dict[str, tuple[str, dict[str, str], str]] = {
        "ingest.planes": ("ingest", {}, "package into data@main"),
        "ingest.weather": ("ingest", {}, "package into data@main"),
        "ingest.flights": ("ingest", {"reference.planes": "ingest.planes"}, "package into data@main"),
        "features": ("features", sources, "41 features, point in time"),
        "split": ("split", {"rows": "features"}, "time_forward"),
        "train": ("train", {"rows": "features", "split": "split"}, "lightgbm_binary"),
        "baseline": ("train", {"rows": "features", "split": "split"}, "linear"),
        "evaluate": (
            "evaluate",
            {"rows": "features", "split": "split", "model": "train", "baseline": "baseline", **sources},
            "roc_auc, average_precision, log_loss",
        ),
        "gate": ("gate", {"evaluation": "evaluate", **sources}, "data_valid, better_than_champion, calibrated, parity"),
        "package": (
            "package",
            {
                "rows": "features",
                "split": "split",
                "model": "train",
                "evaluation": "evaluate",
                "gate": "gate",
                **sources,
            },
            "model package",
        ),
        "promote": ("promote", {"package": "package", "gate": "gate", "model": "train"}, "flights@champion"),
        "report": ("report", {"evaluation": "evaluate", "gate": "gate", "promotion": "promote"}, "report.html"),
    }
    nodes = [
        PlanNode(name=name, kind=kind, inputs=inputs, title=title, effect=kind == "promote")
        for name, (kind, inputs, title) in wiring.items()
    ]
    return ExecutionPlan(pipeline="flights", nodes=tuple(nodes))


def flights_results(plan: ExecutionPlan) -> tuple[NodeResult, ...]:
    ran = {
        "features": 6.83,
        "split": 0.184,
        "train": 9.41,
        "baseline": 1.27,
        "evaluate": 4.92,
        "gate": 0.63,
        "package": 0.88,
        "promote": 0.041,
        "report": 0.033,
    }
    rows = {
        "ingest.flights": 336_776,
        "ingest.weather": 26_115,
        "ingest.planes": 3_322,
        "features": 327_346,
        "split": 327_346,
        "evaluate": 81_440,
    }
    return tuple(
        NodeResult(
            name=node.name,
            kind=node.kind,
            state="ran" if node.name in ran else "cached",
            key=sha(f"key {node.name}"),
            output=NodeOutput(digest=sha(node.name), notes={"rows": rows[node.name]} if node.name in rows else {}),
            reason="`carrier_late_rate_6h.window` 12h -> 6h"
            if node.name == "features"
            else "new content from features"
            if node.name in ran
            else "",
            seconds=ran.get(node.name, 0.0),
            peak_bytes=(180 + 40 * len(node.inputs)) << 20 if node.name in ran else None,
            attempts=1 if node.name in ran else 0,
        )
        for node in plan.nodes
    )


def interval(name: str, value: float, half: float, n: int = 81_440) -> dict[str, Any]:
    better = name in {"roc_auc", "average_precision"}
    ends = {"low": value - half, "high": value + half, "level": 0.95}
    return {"name": name, "value": value, **ends, "n": n, "higher_is_better": better}


def flights_curves(skill: float, bias: float, seed: int) -> Curves:
    steps = [i / 199 for i in range(200)]
    noise = random.Random(seed)
    bins = (0.03, 0.06, 0.09, 0.12, 0.16, 0.2, 0.26, 0.34, 0.46, 0.63)
    precision = [0.157 + skill / 5 * (1 - x) ** 1.6 + 0.02 * math.sin(i / 3) / (1 + i / 8) for i, x in enumerate(steps)]
    return Curves(
        roc=RocCurve(fpr=tuple(steps), tpr=tuple(x ** (1 / skill) for x in steps)),
        precision_recall=PrecisionRecallCurve(recall=tuple(steps), precision=tuple(precision)),
        calibration=CalibrationCurve(
            predicted=bins,
            observed=tuple(min(1.0, x * bias + noise.gauss(0, 0.012)) for x in bins),
            n=tuple(round(9000 * math.exp(-7 * x)) for x in bins),
        ),
    )


METRICS = {
    "roc_auc": {"challenger": (0.7421, 0.0042), "baseline": (0.6874, 0.0051), "champion": (0.7318, 0.0045)},
    "average_precision": {"challenger": (0.3893, 0.0078), "baseline": (0.3015, 0.0067), "champion": (0.3702, 0.0076)},
    "log_loss": {"challenger": (0.3741, 0.0038), "baseline": (0.4027, 0.0046), "champion": (0.3802, 0.0040)},
    "brier": {"challenger": (0.1139, 0.0014), "baseline": (0.1234, 0.0016), "champion": (0.1158, 0.0015)},
    "calibration_error": {
        "challenger": (0.0094, 0.0021),
        "baseline": (0.0213, 0.0029),
        "champion": (0.0127, 0.0024),
    },
}
SHAPES = {"challenger": (2.9, 1.02, 1), "champion": (2.7, 0.93, 2), "baseline": (2.15, 1.18, 3)}


def flights_evaluation() -> dict[str, Any]:
    """The evaluation document as JSON, through its own record."""
    edges = tuple(i / 25 for i in range(26))
    positive = tuple(round(900 * math.exp(-((i - 6) ** 2) / 45)) for i in range(25))
    negative = tuple(round(9000 * math.exp(-((i - 2) ** 2) / 14)) for i in range(25))
    models = {
        role: ModelEvaluation(
            metrics={name: MeasuredMetric(**interval(name, *values[role])) for name, values in METRICS.items()},
            curves=flights_curves(*shape),
            histogram=Histogram(edges=edges, positive=positive, negative=negative),
        )
        for role, shape in SHAPES.items()
    }
    differences = {role: {name: difference(name, role) for name in METRICS} for role in SHAPES if role != "challenger"}
    sizes = {
        "carrier": dict(zip(CARRIERS, SIZES, strict=True)),
        "origin": {"EWR": 29_550, "JFK": 26_146, "LGA": 25_744},
    }
    noise = random.Random(7)
    slices = [flights_slice(column, name, n, noise) for column, found in sizes.items() for name, n in found.items()]
    document = EvaluationDocument(
        task="binary",
        primary="roc_auc",
        n=81_440,
        positives=12_786,
        label_mean=0.157,
        level=0.95,
        resamples=500,
        seed=0,
        min_slice_rows=200,
        models=models,
        differences=differences,
        slices=tuple(slices),
    )
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return plain


def difference(name: str, role: str) -> PairedDifference:
    value = METRICS[name]["challenger"][0] - METRICS[name][role][0]
    return PairedDifference(**interval(name, value, METRICS[name][role][1] * 0.55), probability=0.998)


def flights_slice(column: str, value: str, n: int, noise: random.Random) -> SliceMetric:
    if n < 200:
        note = f"{n} rows, 200 needed"
        absent = MeasuredMetric(name="roc_auc", value=None, n=n, reason=note)
        return SliceMetric(column=column, value=value, n=n, status="insufficient", metric=absent, note=note)
    centre = 0.742 + noise.gauss(0, 0.018)
    own = MeasuredMetric(**interval("roc_auc", centre, 1.15 / math.sqrt(n), n))
    champion = MeasuredMetric(name="roc_auc", value=centre - 0.01, n=n)
    return SliceMetric(column=column, value=value, n=n, status="measured", metric=own, champion=champion)


def flights_gates() -> tuple[GateResult, ...]:
    return (
        GateResult(
            name="data_valid",
            kind="data_validation",
            status="pass",
            observed="0 blocking of 19 failed",
            required="no blocking expectation fails",
            reason="",
        ),
        GateResult(
            name="better_than_champion",
            kind="paired_bootstrap",
            status="pass",
            observed="+0.0103 [+0.0062, +0.0144]",
            required="lower bound of ROC AUC above −0.002",
            reason="",
        ),
        GateResult(
            name="better_than_baseline",
            kind="baseline",
            status="pass",
            observed="+0.0547 [+0.0502, +0.0592]",
            required="lower bound above 0.01",
        ),
        GateResult(
            name="calibrated",
            kind="calibration",
            status="pass",
            observed="0.0094 [0.0063, 0.0125]",
            required="upper bound at most 0.03",
        ),
        GateResult(
            name="no_weak_slice",
            kind="slice_threshold",
            status="inconclusive",
            severity="warn",
            observed="5 of 19 slices below 200 rows",
            required="ROC AUC at least 0.65 in every slice",
            reason="too few rows: carrier AS, F9, YV, HA, OO",
        ),
        GateResult(
            name="parity",
            kind="parity",
            status="pass",
            observed="512 of 512 rows bit-identical",
            required="training and serving give the same bits",
        ),
    )


def flights_environment() -> Environment:
    packages = {f"package-{index:02d}": f"{index % 4}.{index % 9}.{index % 5}" for index in range(70)} | {
        "polars": "2.1.0",
        "lightgbm": "4.7.0",
    }
    return Environment(
        python="3.11.9",
        platform="Linux x86_64",
        engine="0.1.0",
        packages=packages,
        cpu_count=2,
        digest=sha("environment"),
    )


def flights_run(plan: ExecutionPlan) -> RunRecord:
    recorded = {
        role: tuple(Metric(**interval(name, *values[role])) for name, values in METRICS.items())
        for role in ("challenger", "baseline")
    }
    rows = {"flights": 336_776, "weather": 26_115, "planes": 3_322}
    return RunRecord(
        run_id="20261123-074410-5f3a",
        pipeline="flights",
        status="succeeded",
        verdict="promote",
        started_at="2026-11-23T07:44:10Z",
        finished_at="2026-11-23T07:44:35Z",
        seconds=24.7,
        command=("engine", "run", "pipeline=flights", "train.params.num_leaves=63"),
        overrides=("train.params.num_leaves=63",),
        config_digest=sha("config"),
        plan_digest=sha("plan"),
        seeds={"train": 0, "baseline": 0, "evaluate": 0},
        snapshots=tuple(
            SnapshotPin(
                source=name, repository="data", commit=sha(name)[:40], digest=sha(f"content {name}"), rows=rows[name]
            )
            for name in SOURCES
        ),
        nodes=flights_results(plan),
        metrics=recorded["challenger"],
        baseline_metrics=recorded["baseline"],
        gates=flights_gates(),
        model="flights:12",
        model_digest=sha("model"),
        promoted=True,
        git=GitState(commit=sha("git")[:40], branch="main", dirty=False),
        environment=flights_environment(),
        peak_bytes=1_431_655_765,
    )


def flights_data() -> DataUsed:
    def met(rule: str) -> Finding:
        return Finding(rule=rule, status="pass", failed=0, checked=336_776)

    samples = tuple(
        {
            "flight_id": f"AA-{1000 + i}-13570{i}",
            "tailnum": f"N{3 + i}EMAA",
            "origin": "LGA",
            "sched_dep": "2013-01-01T11:00:00Z",
        }
        for i in range(5)
    )
    references = Finding(
        rule="tailnum references planes.tailnum, min_match_fraction 0.8",
        status="fail",
        severity="warn",
        failed=50_094,
        checked=336_776,
        observed="85.1 % match",
        samples=samples,
    )
    flights = (
        *(met(rule) for rule in ("flight_id unique, not null", "origin in EWR, JFK, LGA", "distance 10 to 6000")),
        references,
    )
    return DataUsed(
        sources=(
            SourceData(
                name="flights",
                repository="data",
                commit=sha("flights")[:40],
                rows=336_776,
                first="2013-01-01T10:15:00Z",
                last="2014-01-01T04:59:00Z",
                findings=flights,
            ),
            SourceData(
                name="weather",
                repository="data",
                commit=sha("weather")[:40],
                rows=26_115,
                first="2013-01-01T06:00:00Z",
                last="2013-12-30T23:00:00Z",
                findings=(met("observation_id unique"), met("humid 0 to 100")),
            ),
            SourceData(
                name="planes",
                repository="data",
                commit=sha("planes")[:40],
                rows=3_322,
                findings=(met("tailnum unique, not null"),),
            ),
        ),
        split=(
            SplitPart(
                name="train", rows=218_410, positives=34_291, first="2013-01-01T10:15:00Z", last="2013-08-30T23:59:00Z"
            ),
            SplitPart(
                name="validation",
                rows=26_980,
                positives=2_721,
                first="2013-09-01T09:00:00Z",
                last="2013-09-29T23:30:00Z",
            ),
            SplitPart(name="unused", rows=516, positives=80, first="2013-08-31T00:02:00Z", last="2013-09-30T23:49:00Z"),
            SplitPart(
                name="test", rows=81_440, positives=12_786, first="2013-10-01T09:00:00Z", last="2013-12-31T23:30:00Z"
            ),
        ),
        usable_labels=327_346,
        dropped_labels={"never_known": 9_430},
    )


def flights_content(**changes: Any) -> ReportContent:
    plan = flights_plan()
    run = flights_run(plan)
    importance = {name: 1000 * 0.86**index for index, name in enumerate(FEATURES)} | {"raining": 0.0}
    content: dict[str, Any] = {
        "run": run,
        "plan": plan,
        "evaluation": flights_evaluation(),
        "importance": importance,
        "data": flights_data(),
        "champion_name": "flights:11",
        "baseline_name": "linear",
        "reproduce": ("git checkout " + sha("git")[:40], "engine runs reproduce 20261123-074410-5f3a"),
        "previous": None,
    }
    return ReportContent(**(content | changes))


@pytest.fixture(scope="session")
def content() -> ReportContent:
    return flights_content()


@pytest.fixture(scope="session")
def make_content() -> Callable[..., ReportContent]:
    """Give the flights report with some of its fields replaced."""
    return flights_content


@pytest.fixture(scope="session")
def parse_svg() -> Callable[[str], ET.Element]:
    """Parse a picture and hold it to what every picture owes its reader; gives its root."""
    return checked_picture


_COORDINATES = {"x": 0, "x1": 0, "x2": 0, "cx": 0, "y": 1, "y1": 1, "y2": 1, "cy": 1}


def checked_picture(source: str) -> ET.Element:
    root = ET.fromstring(source)
    assert local(root) == "svg"
    assert local(root[0]) == "title"
    assert root[0].text
    drawn = [value for part in root.iter() for key, value in part.attrib.items() if key != "class"]
    assert not [value for value in drawn if re.search("nan|inf", value)]
    box = [float(part) for part in root.attrib["viewBox"].split()]
    assert box[2] > 0
    assert box[3] > 0
    turned = {id(child) for part in root.iter() if "transform" in part.attrib for child in part.iter()}
    for part in root.iter():
        if id(part) not in turned:
            for key, axis in _COORDINATES.items():
                if key in part.attrib:
                    assert -1 <= float(part.attrib[key]) <= box[2 + axis] + 1, ET.tostring(part)
            if local(part) == "text":
                left, right = extent(part)
                assert left >= -1, ET.tostring(part)
                assert right <= box[2] + 1, ET.tostring(part)
    return root


def local(part: ET.Element) -> str:
    return part.tag.rpartition("}")[2]


def extent(part: ET.Element) -> tuple[float, float]:
    """Where a label starts and ends, by the generous widths that layouts reckon with."""
    width = text_width(part.text or "", 12.8 if part.attrib["class"] == "heading" else 11.0)
    x = float(part.attrib["x"])
    match part.attrib.get("text-anchor"):
        case "middle":
            return x - width / 2, x + width / 2
        case "end":
            return x - width, x
        case _:
            return x, x + width

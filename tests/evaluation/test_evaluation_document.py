"""The evaluation document: complete, JSON, readable by the report, and calm about bad numbers."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from engine.contracts import Scores
from engine.errors import DataError
from engine.evaluation.curves import MAX_POINTS, curves_of, histogram_of
from engine.evaluation.document import EvaluationDocument, read_evaluation
from engine.evaluation.evaluate import evaluate_scores
from engine.evaluation.names import NULL_SLICE
from engine.evaluation.slices import MAX_SLICES
from engine.evaluation.verdict import decide_verdict
from engine.keys import canonical_json
from engine.records import GateResult
from engine.spec import EvaluateSpec

SPEC = EvaluateSpec(resamples=60, min_slice_rows=50, slices=("city",))


def models(n=800, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3) * 1.0
    good = 1 / (1 + np.exp(-(rng.standard_normal(n) + 1.5 * y - 1)))
    return {"challenger": Scores(y, good), "baseline": Scores(y, np.full(n, 0.3)), "champion": Scores(y, good * 0.9)}


def cities(n=800):
    return np.array((["NYC"] * 5 + ["LA"] * 4 + [None] * 1) * (n // 10) + ["X"] * (n % 10), dtype=object)


def test_document_has_everything_and_is_canonical_json():
    document = evaluate_scores("binary", models(), {"city": cities()}, SPEC, ["some refusal"])
    text = canonical_json(msgspec.to_builtins(document))
    assert read_evaluation(json.loads(text)) == document
    assert text == canonical_json(
        msgspec.to_builtins(evaluate_scores("binary", models(), {"city": cities()}, SPEC, ["some refusal"]))
    )
    assert (document.n, document.positives, document.primary) == (800, int(models()["challenger"].y.sum()), "roc_auc")
    assert set(document.models) == {"challenger", "baseline", "champion"}
    assert set(document.differences) == {"baseline", "champion"}
    assert document.differences["baseline"]["roc_auc"].low > 0
    assert document.refusals == ("some refusal",)
    challenger = document.models["challenger"]
    assert document.differences["baseline"]["brier"].value == pytest.approx(
        challenger.metrics["brier"].value - document.models["baseline"].metrics["brier"].value
    )


def test_slices_partition_the_rows_and_null_is_one_of_them():
    document = evaluate_scores("binary", models(), {"city": cities()}, SPEC)
    found = {item.value: item for item in document.slices}
    assert {name: item.n for name, item in found.items()} == {"NYC": 400, "LA": 320, NULL_SLICE: 80}
    assert [item.n for item in document.slices] == sorted((item.n for item in document.slices), reverse=True)
    nyc = found["NYC"]
    assert nyc.status == "measured"
    assert nyc.metric.low < nyc.metric.value < nyc.metric.high
    assert nyc.baseline.value == 0.5
    mask = cities() == "NYC"
    expected = evaluate_scores(
        "binary",
        {"challenger": Scores(models()["challenger"].y[mask], models()["challenger"].prediction[mask])},
        {},
        SPEC,
    )
    assert nyc.metric == expected.models["challenger"].metrics["roc_auc"]


def test_small_and_one_sided_slices_are_marked():
    values = models()
    column = np.array(["small"] * 20 + ["rest"] * 780, dtype=object)
    values["challenger"].y[20:] = np.where(np.arange(780) < 400, 0.0, values["challenger"].y[20:])
    column[20:420] = "zeros"
    values = {"challenger": values["challenger"]}
    found = {item.value: item for item in evaluate_scores("binary", values, {"city": column}, SPEC).slices}
    assert (found["small"].status, found["small"].metric.value) == ("insufficient", None)
    assert found["small"].note == "20 rows, 50 needed"
    assert (found["zeros"].status, found["zeros"].metric.value) == ("undefined", None)
    assert "one class" in found["zeros"].note


def test_a_column_of_many_values_is_cut_and_counted():
    document = evaluate_scores("binary", models(), {"id": np.arange(800).astype(str)}, SPEC)
    assert len(document.slices) == MAX_SLICES
    assert document.left_out_slices == {"id": 800 - MAX_SLICES}


def test_bad_numbers_are_told_and_not_raised():
    values = models()
    values["baseline"].prediction[3] = np.nan
    document = evaluate_scores("binary", values, {"city": cities()}, SPEC)
    assert document.models["baseline"].metrics["roc_auc"].value is None
    assert "1 of 800" in document.models["baseline"].metrics["roc_auc"].reason
    assert document.models["baseline"].curves.roc.fpr == ()
    assert document.differences["baseline"]["roc_auc"].value is None
    assert (
        document.models["challenger"].metrics
        == evaluate_scores("binary", models(), {}, SPEC).models["challenger"].metrics
    )
    empty = {"challenger": Scores(np.array([]), np.array([]))}
    document = evaluate_scores("binary", empty, {"city": np.array([], dtype=object)}, SPEC)
    assert (document.n, document.label_mean, document.slices) == (0, None, ())
    canonical_json(msgspec.to_builtins(document))


def test_regression_gets_its_own_metrics():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(500) * 10
    document = evaluate_scores(
        "regression", {"challenger": Scores(y, y + rng.standard_normal(500))}, {}, EvaluateSpec(resamples=60)
    )
    assert (document.primary, set(document.models["challenger"].metrics)) == ("rmse", {"rmse", "mae", "r2"})
    assert document.positives is None
    histogram = document.models["challenger"].histogram
    assert sum(histogram.counts) == 500
    assert histogram.positive == ()


def test_rows_that_differ_are_refused():
    values = models()
    with pytest.raises(DataError, match="baseline was not scored on the same rows"):
        evaluate_scores(
            "binary", values | {"baseline": Scores(1 - values["baseline"].y, values["baseline"].prediction)}, {}, SPEC
        )
    with pytest.raises(DataError, match="slice `city` has 3 values"):
        evaluate_scores("binary", values, {"city": np.array(["a"] * 3)}, SPEC)
    with pytest.raises(DataError, match="no scores of the challenger"):
        evaluate_scores("binary", {}, {}, SPEC)


def test_curves_are_small_end_where_they_should_and_enclose_the_area():
    values = models(20_000)["challenger"]
    curves = curves_of("binary", values.y, values.prediction)
    for points in (curves.roc.fpr, curves.roc.tpr, curves.precision_recall.recall):
        assert len(points) <= MAX_POINTS
        assert list(points) == sorted(points)
    assert (curves.roc.fpr[0], curves.roc.tpr[0], curves.roc.fpr[-1], curves.roc.tpr[-1]) == (0, 0, 1, 1)
    area = np.trapezoid(curves.roc.tpr, curves.roc.fpr)
    document = evaluate_scores("binary", {"challenger": values}, {}, EvaluateSpec(resamples=50))
    assert area == pytest.approx(document.models["challenger"].metrics["roc_auc"].value, abs=2e-3)
    assert sum(curves.calibration.n) == 20_000
    histogram = histogram_of("binary", values.y, values.prediction)
    assert sum(histogram.positive) == values.y.sum()
    assert sum(histogram.positive) + sum(histogram.negative) == 20_000


@pytest.mark.parametrize(
    "p", [np.full(50, 0.3), np.full(50, 1e300), np.linspace(-1, 1, 50) * 1e308, np.linspace(5, 5 + 1e-13, 50)]
)
def test_histograms_of_odd_ranges(p):
    y = np.arange(50) % 2 * 1.0
    for task in ("binary", "regression"):
        histogram = histogram_of(task, y, p)
        counted = sum(histogram.counts) + sum(histogram.positive) + sum(histogram.negative)
        assert counted == (50 if histogram.edges else 0)
        canonical_json(msgspec.to_builtins(histogram))
        canonical_json(msgspec.to_builtins(curves_of(task, y, p)))


def test_what_is_not_a_document_reads_as_none():
    assert read_evaluation({}) is None
    assert read_evaluation(None) is None
    assert isinstance(
        read_evaluation(
            {"task": "binary", "primary": "brier", "n": 1, "level": 0.9, "resamples": 50, "seed": 0, "newer": 1}
        ),
        EvaluationDocument,
    )


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ([], "inconclusive"),
        ([("pass", "warn")], "inconclusive"),
        ([("pass", "block")], "promote"),
        ([("pass", "block"), ("fail", "warn"), ("inconclusive", "warn")], "promote"),
        ([("pass", "block"), ("inconclusive", "block")], "inconclusive"),
        ([("inconclusive", "block"), ("fail", "block"), ("pass", "block")], "reject"),
    ],
)
def test_verdicts(statuses, verdict):
    results = [
        GateResult(name=str(i), kind="k", status=status, severity=severity)
        for i, (status, severity) in enumerate(statuses)
    ]
    assert decide_verdict(results) == verdict

"""`mode: compat` gives the figures of Evidently 0.7.23 and NannyML 0.13.1 (`peer_figures.json` holds theirs, with versions)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from engine.watch.compat import Labelled, judge_samples, read_estimated, samples_of
from engine.watch.evidently_numbers import Pair, evidently_default, evidently_value
from engine.watch.nannyml_numbers import nannyml_auc, nannyml_auc_error, nannyml_counts, nannyml_fit
from engine.watch.performance import apply_calibration, calibrate
from tests.watch.peer_data import columns, scores

FIGURES = json.loads((Path(__file__).parent / "peer_figures.json").read_text())
SIZES = {"small": (900, 400, 0.2, 200), "small_same": (900, 400, 0.0, 200), "large": (3000, 1000, 0.2, 500),
         "large_same": (3000, 1000, 0.0, 500), "huge": (12000, 2000, 0.2, 1000)}  # fmt: skip


def present(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def pair_of(case: str, name: str) -> Pair:
    n, m, moved, _ = SIZES[case]
    before, now = present(columns(n, 1, 0.0)[name]), present(columns(m, 2, moved)[name])
    return Pair(before, now, before.dtype.kind == "f")


@pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case, found in FIGURES["evidently"].items() for name in found]
)
def test_evidently(case: str, name: str) -> None:
    pair = pair_of(case, name)
    for method, told in FIGURES["evidently"][case][name].items():
        ours = evidently_default(pair) if method == "default" else evidently_value(method, pair)
        assert ours is not None
        assert ours.value == pytest.approx(told["value"], abs=1e-9), method
        assert ours.drifted == told["drifted"], method


@pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case, found in FIGURES["nannyml"].items() for name in found]
)
def test_nannyml_drift(case: str, name: str) -> None:
    n, m, moved, size = SIZES[case]
    before, now = columns(n, 1, 0.0)[name], columns(m, 2, moved)[name]
    chunks = [present(before[low : low + size]) for low in range(0, n, size)]
    for method, told in FIGURES["nannyml"][case][name].items():
        fitted = nannyml_fit(method, chunks)
        assert fitted is not None
        read = [fitted.read(present(now[low : low + size])) for low in range(0, m, size)]
        assert [item.value for item in read] == pytest.approx(told["value"], abs=1e-9), method
        assert fitted.threshold == pytest.approx(told["threshold"], abs=1e-9), method
        assert [item.drifted for item in read] == told["alert"], method


@pytest.mark.parametrize("case", sorted(FIGURES["cbpe"]))
def test_nannyml_confidence_based_estimates(case: str) -> None:
    told = FIGURES["cbpe"][case]
    (before, y), (now, _) = scores(4000, 1, 0.0), scores(2000, 2, 0.4)
    if case == "tied":
        before, now = np.round(before, 2), np.round(now, 2)
    assert told["needs_calibration"]
    points = calibrate(before, y)
    parts = [now[low : low + 500] for low in range(0, 2000, 500)]
    probability = [apply_calibration(points, part) for part in parts]
    ours = [nannyml_auc(p, part) for p, part in zip(probability, parts, strict=True)]
    assert ours == pytest.approx(told["roc_auc"]["value"], abs=1e-6)
    error = nannyml_auc_error(y, before)(500)
    assert [error] * 4 == pytest.approx(told["roc_auc"]["sampling_error"], abs=1e-6)
    for name in ("f1", "precision", "recall", "specificity", "accuracy"):
        counted = [nannyml_counts(p, part >= 0.5)[name] for p, part in zip(probability, parts, strict=True)]
        assert counted == pytest.approx(told[name]["value"], abs=1e-6), name


def test_nannyml_limits_of_an_estimate() -> None:
    told = FIGURES["cbpe"]["distinct"]["roc_auc"]
    (before, y), (now, _) = scores(4000, 1, 0.0), scores(2000, 2, 0.4)
    chunks = [Labelled(y[low : low + 500], before[low : low + 500]) for low in range(0, 4000, 500)]
    said = read_estimated(chunks, now[:500])
    details = said.findings[0].details
    assert (details["lower"], details["upper"]) == pytest.approx((told["lower"], told["upper"]), abs=1e-6)


def test_ks_and_chi_squared_are_those_of_scipy() -> None:
    pair = pair_of("small", "bell")
    expected = stats.ks_2samp(pair.reference, pair.current)
    assert evidently_value("ks", pair).value == pytest.approx(expected.pvalue, abs=1e-9)
    fitted = nannyml_fit("kolmogorov_smirnov", [pair.reference])
    assert fitted is not None
    assert fitted.read(pair.current).value == pytest.approx(expected.statistic, abs=1e-9)
    wide = evidently_value("wasserstein", pair).value * np.std(pair.reference)
    assert wide == pytest.approx(stats.wasserstein_distance(pair.reference, pair.current), abs=1e-9)


def test_broken_columns_have_a_status() -> None:
    chunk = pl.DataFrame({"x": [1.0, 2.0, float("inf"), None]})
    empty = samples_of("x", [chunk, chunk], pl.DataFrame({"x": pl.Series([None, None], dtype=pl.Float64)}))
    assert empty is not None
    assert judge_samples(empty).status == "insufficient_data"
    assert samples_of("x", [chunk], pl.DataFrame({"x": ["one"]})) is None

"""The language by small examples: names, exact definitions, the request's own row, encoders, target encoding."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from engine.errors import ConfigError
from engine.features.compute import compute
from engine.features.encoders import encode, fit_encoders
from engine.features.program import FeatureProgram, compile_program
from engine.nodes.matrix import to_matrix
from engine.spec import Available, SpineSpec
from tests.features import worlds as w

BLANK = {"a": None, "k": "x", "j": 0, "v": None, "n": None, "s": None, "b": None}


def rows(*given: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**BLANK, "id": index, **row} for index, row in enumerate(given)]


def ask(
    feature: dict[str, Any], history: list[dict[str, Any]], at: int = 100, name: str = "f", **request: Any
) -> dict[str, Any]:
    """The columns of one declared feature, by name, for one spine row."""
    asked = [{**BLANK, "event_time": at, "row_id": 0, **request}]
    scene = w.scene({name: feature}, history, asked, [], w.Setting())
    made = compute(scene.program, scene.spine, scene.history)
    assert scene.truth() == w.bits(made)  # the reference agrees
    return {column: value for column, value in made.rows(named=True)[0].items() if not column.startswith("all_")}


def window(agg: Any, of: str | None = "n", **more: Any) -> dict[str, Any]:
    return {"from": "ev", "agg": agg, "window": "1h", **({"of": of} if of else {}), **more}


SEVEN = rows(*({"t": time, "n": value} for time, value in enumerate([3, 1, 2, 2, None, 3, 9])))


def test_a_quantile_is_the_value_of_nearest_rank() -> None:
    shares = [0.0, 0.05, 0.25, 0.5, 0.75, 0.999, 1.0]
    made = ask(window({"quantile": {"q": shares}}), SEVEN, name="f_{agg}")
    assert list(made) == ["f_quantile_0", "f_quantile_5", "f_quantile_25", "f_quantile_50", "f_quantile_75",
                          "f_quantile_99_9", "f_quantile_100"]  # fmt: skip
    assert list(made.values()) == [1, 1, 2, 2, 3, 9, 9]


def test_last_k_goes_back_in_the_total_order_and_skips_nulls() -> None:
    assert ask(window({"last_k": {"k": 3}}), SEVEN) == {"f_1": 9, "f_2": 3, "f_3": 2}
    few = ask(window({"last_k": {"k": 3}}, empty=-1), SEVEN[:2])
    assert few == {"f_1": 1, "f_2": 3, "f_3": -1}


def test_top_k_ranks_by_frequency_then_by_the_smaller_value() -> None:
    assert ask(window({"top_k": {"k": 4}}), SEVEN, name="f_{agg}_{window}") == {
        "f_top_k_1h_1": 2,
        "f_top_k_1h_2": 3,
        "f_top_k_1h_3": 1,
        "f_top_k_1h_4": 9,
    }


def test_a_histogram_counts_below_between_and_from_its_edges() -> None:
    assert ask(window({"histogram": {"edges": [2, 3]}}), SEVEN) == {"f_0": 1, "f_1": 2, "f_2": 3}
    big = rows({"t": 1, "n": 2**53 + 1}, {"t": 2, "n": 2**53})
    assert ask(window({"histogram": {"edges": [2.0**53]}}), big) == {"f_0": 0, "f_1": 2}
    assert ask(window({"histogram": {"edges": [0]}}), []) == {"f_0": 0, "f_1": 0}


def test_a_smoothed_mean_is_its_prior_until_there_are_values() -> None:
    smoothed = window({"smoothed_mean": {"prior": 0.5, "weight": 2}})
    assert ask(smoothed, []) == {"f": 0.5}
    assert ask(smoothed, SEVEN) == {"f": (20.0 + 0.5 * 2.0) / (6.0 + 2.0)}


def test_names_and_mappings_mix_and_windows_multiply_them() -> None:
    feature = {**window(["count", {"last_k": {"k": 2}}, {"quantile": {"q": 0.5}}]), "window": ["3us", "1h"]}
    made = ask(feature, SEVEN, at=7, name="n_{agg}_{window}", k="x")
    assert made == {
        "n_count_3us": 2,
        "n_count_1h": 6,
        "n_last_k_3us_1": 9,
        "n_last_k_1h_1": 9,
        "n_last_k_3us_2": 3,
        "n_last_k_1h_2": 3,
        "n_quantile_50_3us": 3,
        "n_quantile_50_1h": 2,
    }


def test_the_request_counts_by_identity_and_last() -> None:
    history = rows({"t": 99, "n": 5}, {"t": 100, "n": 7})  # one at the same moment as the request: not visible
    feature = window(["count", "last", "first", "max", {"last_k": {"k": 2}}], include_request=True)
    made = ask(feature, history, name="f_{agg}", n=4)
    assert made == {"f_count": 2, "f_last": 4, "f_first": 5, "f_max": 5, "f_last_k_1": 4, "f_last_k_2": 5}
    assert ask(window("count", None, include_request=True), [], k=None) == {"f": 1}  # it needs no key to be itself
    assert ask(window("count", None, include_request=True, where="n > 0"), history, n=-1) == {"f": 1}
    assert ask(window("last", include_request=True), history, n=None) == {"f": 5}


def problems(feature: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        w.scene({"f": feature}, [], [], [], w.Setting())
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_the_request_can_only_be_counted_where_it_is_a_row() -> None:
    assert "not known of the row" in problems(window("max", "EPOCH_SECONDS(t)", include_request=True))[0][1]
    assert problems(window("max", include_request=True, on={"k": "s"}))[0][0] == "features.f.on.k"
    asked = {**window("count", None, include_request=True), "from": "asked"}
    assert "not of `asked`" in problems(asked)[0][1]


def test_target_encoding_sees_only_labels_that_were_available() -> None:
    labels = rows(
        {"t": 10, "a": 20, "n": 1},
        {"t": 11, "a": 21, "n": 1},
        {"t": 12, "a": 500, "n": 0},
        {"t": 13, "a": None, "n": 0},
    )
    feature = window({"smoothed_mean": {"prior": 0.1, "weight": 2}}, "CAST(n > 0 AS bigint)")
    asked = [{**BLANK, "event_time": at, "row_id": 0} for at in (20, 21, 499, 500)]
    scene = w.scene({"f": feature}, labels, asked, [], w.Setting(available=Available(column="a")))
    made = compute(scene.program, scene.spine, scene.history)["f"].to_list()
    assert made == [(1.0 + 0.2) / 3.0, (2.0 + 0.2) / 4.0, (2.0 + 0.2) / 4.0, (2.0 + 0.2) / 5.0]
    assert scene.truth() == w.bits(compute(scene.program, scene.spine, scene.history))


# --- encoders ----------------------------------------------------------------------------------------------------


def encoded(
    training: dict[str, list[Any]], asked: dict[str, list[Any]], **features: dict[str, Any]
) -> dict[str, list[Any]]:
    program = compile_program(
        w.typed(features), SpineSpec(source="asked", request=w.REQUEST), None, w.sources_of(w.Setting())
    ).program
    fitted = fit_encoders(program, pl.DataFrame(training, strict=False))
    made: dict[str, list[Any]] = encode(program, fitted, pl.DataFrame(asked, strict=False)).to_dict(as_series=False)
    return made


def test_standardise_takes_mean_and_deviation_of_training_rows() -> None:
    made = encoded({"v": [2.0, 4.0, None]}, {"v": [5.0, 3.0, None]}, z={"encode": "v", "with": "standardise"})
    assert made == {"z": [2.0, 0.0, None]}
    assert encoded({"n": [7, 7]}, {"n": [9, None]}, z={"encode": "n", "with": "standardise", "unknown": 0}) == {
        "z": [0.0, 0.0]
    }


def test_standardise_does_not_depend_on_the_order_of_huge_and_tiny_values() -> None:
    values = [1e308, 1e308, -1e308, -1e308, 1.0, 5e-324, 1e16, -1e16, 3.0]
    for order in (values, values[::-1], sorted(values)):
        assert encoded({"v": order}, {"v": [4.0]}, z={"encode": "v", "with": "standardise"}) == {"z": [0.0]}
    assert encoded({"v": [1e16, 1.0, -1e16, 3.0, 4.0]}, {"v": [1.6]}, z={"encode": "v", "with": "standardise"})[
        "z"
    ] == [0.0]


def test_bins_hold_equal_shares_and_null_is_unknown() -> None:
    feature = {"encode": "n", "with": "bins", "bins": 4}
    made = encoded({"n": list(range(1, 9))}, {"n": [-5, 1, 2, 3, 4, 5, 6, 7, 8, 99, None]}, bin=feature)
    assert made == {"bin": [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, -1]}
    assert encoded({"n": [None]}, {"n": [3, None]}, bin=feature) == {"bin": [0, -1]}
    assert encoded({"n": [1, 1, 1, 2]}, {"n": [0, 1, 2]}, bin=feature) == {"bin": [0, 0, 1]}  # equal edges are one


def test_only_a_vocabulary_is_categorical_to_a_trainer() -> None:
    features = {
        "ix": {"encode": "s"},
        "share": {"encode": "s", "with": "frequency"},
        "z": {"encode": "v", "with": "standardise"},
        "bin": {"encode": "v", "with": "bins"},
    }
    program = compile_program(
        w.typed(features), SpineSpec(source="asked", request=w.REQUEST), None, w.sources_of(w.Setting())
    ).program
    frame = pl.DataFrame({"s": ["a", "b", "a"], "v": [1.0, 2.0, None]})
    matrix = to_matrix(program, fit_encoders(program, frame), frame, program.order)
    assert (matrix.x.dtype, matrix.x.shape, matrix.categorical) == (np.dtype("f8"), (3, 4), ("ix",))
    assert program.categorical_names == ("ix",)
    assert FeatureProgram.from_json(msgspec.json.decode(msgspec.json.encode(program.to_json()))) == program

"""What a model predicts: classes as declared or as found, and words for a label that is none of them."""

from __future__ import annotations

import polars as pl
import pytest

from engine.errors import DataError
from engine.nodes.target import fit_target


def test_a_class_that_is_not_declared_is_named_with_its_rows() -> None:
    labels = pl.Series(["low", "mid", "top", "top", None])
    with pytest.raises(DataError, match="does not name `top`") as caught:
        fit_target({"task": "multiclass", "classes": ["low", "mid"]}, labels)
    assert "(2 rows)" in str(caught.value)
    assert "add it to train.classes" in str(caught.value)


def test_declared_classes_keep_their_order_and_may_be_absent() -> None:
    target = fit_target({"task": "multiclass", "classes": ["top", "low", "never"]}, pl.Series(["low", "top", None]))
    assert target.classes == ("top", "low", "never")


def test_numbers_are_classes_by_name() -> None:
    with pytest.raises(DataError, match="`3`"):
        fit_target({"task": "multiclass", "classes": [1, 2]}, pl.Series([1, 2, 3]))


def test_a_single_class_is_named() -> None:
    with pytest.raises(DataError, match=r"one class only \(`low`\)"):
        fit_target({"task": "multiclass"}, pl.Series(["low", "low", None]))

"""Bins that are kept from one training to the next change no bit of a model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from engine.components import load_catalogue
from engine.contracts import FitRequest, Matrix
from engine.project import shipped


def matrix(key: str, seed: int) -> Matrix:
    draw = np.random.default_rng(seed)
    x = draw.standard_t(3, (600, 5))
    return Matrix(x, x[:, 0] * 2 + draw.standard_t(2, 600), ("a", "b", "c", "d", "e"), (), key)


@pytest.mark.parametrize("stopping", [0, 3])
def test_a_shared_dataset_gives_the_same_bits(stopping: int) -> None:
    component = load_catalogue(shipped("conf").parent, ("lightgbm_trainer",)).get("trainer", "lightgbm")
    held = matrix("held", 2)
    texts: dict[str, list[bytes]] = {"shared": [], "alone": []}
    leaves = (7, 31, 15, 7)
    tree = component.params.__struct_fields__
    assert "params" in tree
    for kind, key in (("shared", "rows"), ("alone", "")):
        for number, count in enumerate(leaves):
            inner = type(component.params().params)
            params = inner(num_leaves=count, min_data_in_leaf=5 + number % 2, feature_fraction=0.6)
            trainer = component.build(component.params(rounds=8, early_stopping=stopping, params=params))
            rows = dataclasses.replace(matrix("", 1), key=key)
            files = trainer.train(rows, held, FitRequest("regression", 1, 1, lambda *_: None))
            texts[kind].append(files["model.txt"])
    assert texts["shared"] == texts["alone"]
    assert len(set(texts["alone"])) > 1, "the control: other parameters give other trees"

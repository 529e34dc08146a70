"""Provenance: for every value of random files merged in order, the place leads to the line that wrote that value."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, reject
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigTypeError

from engine.config.files import parse_yaml
from engine.config.origins import OriginTree

KEYS = st.sampled_from(["alpha", "beta", "gamma", "delta"])
TREES = st.recursive(
    st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3),
    max_leaves=8,
)
FILES = st.lists(st.dictionaries(KEYS, TREES, max_size=4), min_size=1, max_size=3)


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, str(index)))]
    return [(path, value)]


def merge(merged: DictConfig, values: dict[str, Any]) -> None:
    try:
        merged.merge_with(OmegaConf.create(values))
    except ConfigTypeError:  # a list against a mapping: composing reports that
        reject()


@given(FILES)
def test_each_place_leads_to_the_value(documents: list[dict[str, Any]]) -> None:
    texts = {f"{number}.yaml": yaml.safe_dump(document) for number, document in enumerate(documents)}
    tree, merged = OriginTree(), OmegaConf.create({})
    for name, text in texts.items():
        file = parse_yaml(text, name)
        tree.add_file(file, "")
        merge(merged, file.values)
    origins = tree.flatten()
    for path, value in leaves(OmegaConf.to_container(merged)):
        place = origins[".".join(path)].place
        assert place is not None
        line = texts[place.file].splitlines()[place.line - 1][place.column - 1 :]
        assert line.strip() == (str(value) if path[-1].isdigit() else f"{path[-1]}: {value}")


@given(FILES)
def test_nothing_is_left_of_what_was_replaced(documents: list[dict[str, Any]]) -> None:
    """Every origin is that of a value which exists in the merged configuration."""
    tree, merged = OriginTree(), OmegaConf.create({})
    for document in documents:
        tree.add_file(parse_yaml(yaml.safe_dump(document), "x.yaml"), "")
        merge(merged, document)
    for path in tree.flatten():
        found: Any = OmegaConf.to_container(merged)
        for part in path.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]


def test_a_package_is_a_prefix() -> None:
    tree = OriginTree()
    tree.add_file(parse_yaml("kind: forest\n", "train/forest.yaml"), "train")
    assert str(tree.flatten()["train.kind"]) == "train/forest.yaml:1:1"


def test_an_override_of_a_list_forgets_its_items() -> None:
    tree = OriginTree()
    tree.add_file(parse_yaml("names: [a, b, c]\n", "x.yaml"), "")
    tree.add_override("names", ["z"], "names=[z]")
    origins = tree.flatten()
    assert str(origins["names.0"]) == "names=[z]"
    assert "names.1" not in origins

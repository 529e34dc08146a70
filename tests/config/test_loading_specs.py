"""From values to specs: what belongs to the spec and what to the component, and that the two checkers agree."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.components import Catalogue, Component, Params, PluginError
from engine.config import ComposedConfig, load_plugins, load_settings, load_spec, shipped_plugins
from engine.errors import ConfigError, Problem
from engine.spec import EncodedFeature, ExpressionFeature, LookupFeature, WindowFeature, identity


def test_keys_are_shared_out_between_spec_and_component(stage) -> None:
    spec = stage.load("pipeline=mine", "train.seed=4", "train.params.depth=9")
    assert (spec.train.kind, spec.train.seed) == ("forest", 4)
    assert msgspec.to_builtins(spec.train.params) == {
        "trees": 200,
        "objective": "gini",
        "params": {"depth": 9, "rate": 0.1},
    }
    assert msgspec.to_builtins(spec.split.params) == {"train_until": "2013-09-01"}
    assert spec.gates["floor"].params.minimum == 0.6
    assert spec.name == "mine"


def test_the_distinguishing_key_picks_the_class_of_a_feature(stage) -> None:
    features = stage.load("pipeline=mine").features
    assert [type(feature) for feature in features.values()] == [
        WindowFeature,
        LookupFeature,
        EncodedFeature,
        ExpressionFeature,
    ]


def test_a_key_that_no_file_mentions_can_be_overridden(stage) -> None:
    config = stage.compose("pipeline=mine", "execute.retries=3", "registry.alias=canary")
    assert load_settings(config).execute.retries == 3
    assert load_spec(config, stage.catalogue(config)).registry.alias == "canary"


def test_parameters_that_hide_a_key_of_the_spec_are_refused(stage) -> None:
    class Hiding(Params, frozen=True, kw_only=True):
        seed: int = 0

    config = stage.compose("pipeline=mine", "baseline={kind: hiding}")
    known = stage.catalogue(config)
    components = [
        component for role in ("source", "trainer", "splitter", "gate") for component in known.of(role).values()
    ]
    hiding = Component("trainer", "hiding", Hiding, build=lambda params: params)
    with pytest.raises(PluginError, match="seed"):
        load_spec(config, Catalogue([*components, hiding]))


def test_settings_mistakes_are_reported_with_all_others(stage) -> None:
    config = stage.compose("pipeline=mine", "execute.workers=0", "train.trees=0")
    with pytest.raises(ConfigError) as caught:
        load_spec(config, stage.catalogue(config))
    assert {problem.path for problem in caught.value.problems} == {"execute.workers", "train.trees"}
    with pytest.raises(ConfigError) as alone:
        load_settings(config)
    assert [problem.path for problem in alone.value.problems] == ["execute.workers"]


def test_shipped_plugins_are_those_of_a_new_project(stage) -> None:
    assert "splits" in shipped_plugins()
    assert load_plugins(stage.compose("pipeline=mine", "extra_plugins=[a,b]")) == ("pretend", "a", "b")


STRANGE = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**30,
        1.5,
        2.0,
        1e300,
        "",
        "x",
        "7d",
        "a.b",
        "with space",
        "${x}",
        [],
        [1],
        ["7d", "7d"],
        {},
        {"kind": "csv"},
    ]
)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in paths_in(item, (*path, key)))]


def mutated(values: Any, path: tuple[Any, ...], action: str, strange: Any) -> Any:
    changed = copy.deepcopy(values)
    *around, last = path
    node = changed
    for key in around:
        node = node[key]
    if action == "remove":
        del node[last]
    elif action == "add" and isinstance(node[last], dict):
        node[last]["surprise"] = strange
    else:
        node[last] = strange
    return changed


@settings(max_examples=250, deadline=None)
@given(seed=st.integers(0, 10**6), action=st.sampled_from(["replace", "remove", "add"]), strange=STRANGE)
def test_the_schema_finds_whatever_the_conversion_refuses(prepared, seed: int, action: str, strange: Any) -> None:
    """Conversion and schema are generated from the same classes: neither may refuse what the other admits."""
    config, catalogue = prepared
    path = random.Random(seed).choice(paths_in(config.values)[1:])
    broken = replace(config, values=mutated(dict(config.values), path, action, strange))
    for problem in problems_of(broken, catalogue):
        assert problem.path not in {"(configuration)", "settings"}, problem


def problems_of(config: ComposedConfig, catalogue: Catalogue) -> tuple[Problem, ...]:
    try:
        spec = load_spec(config, catalogue)
        load_settings(config)
    except ConfigError as error:
        return error.problems
    identity(spec)
    return ()

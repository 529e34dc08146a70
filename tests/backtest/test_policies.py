"""Which policies are compared, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.api import Declared, declare
from engine.backtest.policies import ALWAYS, SHIPPED, choose_policies, default_names
from engine.errors import ConfigError, UsageError
from engine.project import Project
from engine.watch.levels import level_for
from tests.backtest.conftest import PIPELINE, generated, write_project


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Declared:
    """The declaration of the generated history's pipeline."""
    root = write_project(tmp_path_factory.mktemp("declared"), generated(weeks=2))
    return declare(Project(root), ["pipeline=turning"])


def chosen(declared: Declared, names: tuple[str, ...] = (), **stated: Any) -> dict[str, Any]:
    """Choose, by name."""
    return {item.name: item for item in choose_policies(declared.spec, names, stated, declared.catalogue)}


def test_always_is_there_once_and_first(declared: Declared) -> None:
    """It is what regret is measured against."""
    assert list(chosen(declared, ("weekly", ALWAYS, "weekly"))) == [ALWAYS, "weekly"]


def test_every_shipped_policy_can_be_made_of_any_pipeline(declared: Declared) -> None:
    """Drift and performance bring their monitors where the pipeline has none."""
    found = chosen(declared, tuple(SHIPPED))
    assert [item["kind"] for item in found["drift"].monitors.values()] == ["drift"]
    assert [item["kind"] for item in found["performance"].monitors.values()] == ["performance"]
    assert not found["weekly"].monitors
    assert found[ALWAYS].retrain.budget.runs is None


def test_the_declared_policy_is_compared_where_there_is_one(declared: Declared, tmp_path: Path) -> None:
    """With its own rules, and only the monitors that its triggers read."""
    assert "declared" in default_names(declared.spec)
    own = chosen(declared, ("declared",))["declared"]
    assert own.retrain.cooldown == "6d"
    assert list(own.monitors) == ["outcome"]
    shared = level_for("outcome", declared.spec.monitors, declared.spec.watch.level)
    assert own.monitors["outcome"]["level"] == shared < declared.spec.watch.level
    text = "\n".join(line for line in PIPELINE.splitlines() if not line.startswith(("triggers", "  worse")))
    bare = declare(Project(write_project(tmp_path, generated(weeks=2), text)), ["pipeline=turning"])
    assert "declared" not in default_names(bare.spec)
    with pytest.raises(UsageError, match="declares no triggers"):
        chosen(bare, ("declared",))


def test_a_policy_of_ones_own_is_checked_like_a_declared_trigger(declared: Declared) -> None:
    """One trigger or several; mistakes name the place."""
    found = chosen(declared, old={"kind": "staleness", "older_than": "30d"})["old"]
    assert found.shown == {"old": {"kind": "staleness", "older_than": "30d", "since": "promotion"}}
    several = {"a": {"kind": "drift", "alone": False}, "b": {"kind": "any", "triggers": ["a"]}}
    assert list(chosen(declared, mixed=several)["mixed"].triggers) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"--policy old\.old"):
        chosen(declared, old={"kind": "staleness", "older_than": "soon"})
    with pytest.raises(ConfigError, match="kind"):
        chosen(declared, old={"kind": "stalenes"})
    with pytest.raises(UsageError, match="give a trigger"):
        chosen(declared, old=3)


def test_an_unknown_name_lists_the_known_ones(declared: Declared) -> None:
    """And says how to state one."""
    with pytest.raises(UsageError, match="no policy `wekly`"):
        chosen(declared, ("wekly",))


def test_only_triggers_that_may_ask_for_content_have_it_counted(declared: Declared) -> None:
    """Counting reads every source once more."""
    found = chosen(declared, ("weekly", "drift"), data={"kind": "data_commit"})
    assert [name for name, item in found.items() if item.counts_content] == ["data"]

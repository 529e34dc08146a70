"""What the engine relies on in Hydra beyond its documented interface. When Hydra changes, this file says where to look."""

from __future__ import annotations

import importlib.metadata
import inspect

import pytest
from omegaconf import OmegaConf

from engine.config import hydra_internals as internals


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_minor_version_is_the_pinned_one() -> None:
    assert importlib.metadata.version("hydra-core").startswith("1.3.")


def test_every_name_is_there() -> None:
    assert [name for name in internals.__all__ if not hasattr(internals, name)] == []


def test_signatures() -> None:
    assert parameters(internals.run_hydra_application)[:5] == [
        "args",
        "args_parser",
        "task_function",
        "config_path",
        "config_name",
    ]
    assert parameters(internals.create_defaults_list) == [
        "repo",
        "config_name",
        "overrides_list",
        "prepend_hydra",
        "skip_missing",
    ]
    assert parameters(internals.apply_overrides) == ["overrides", "cfg"]
    assert parameters(internals.embed_in_package) == ["ret", "package_override"]
    assert parameters(internals.ConfigRepository._create_defaults_list) == ["self", "config_path", "defaults"]


def test_the_parser_knows_the_flags_that_are_refused_or_read() -> None:
    arguments = internals.get_args_parser().parse_args([])
    for name in (
        "config_path",
        "config_name",
        "config_dir",
        "experimental_rerun",
        "hydra_help",
        "shell_completion",
        "info",
        "overrides",
    ):
        assert hasattr(arguments, name)


def test_an_override_tells_what_it_is() -> None:
    (changed, added, removed, swept, hydra) = internals.OverridesParser.create().parse_overrides(
        ["a.b=1", "+c=x", "~d", "e=1,2", "hydra.run.dir=x"]
    )
    assert (changed.key_or_group, changed.value(), changed.is_add()) == ("a.b", 1, False)
    assert added.is_add()
    assert removed.is_delete()
    assert swept.is_sweep_override()
    assert list(swept.sweep_string_iterator()) == ["1", "2"]
    assert hydra.is_hydra_override()


def test_a_forced_override_adds_and_changes() -> None:
    config = OmegaConf.create({"a": 1})
    OmegaConf.set_struct(config, True)
    internals.apply_overrides(internals.OverridesParser.create().parse_overrides(["++a=2", "++b.c=3"]), config)
    assert config == {"a": 2, "b": {"c": 3}}


def test_a_malformed_override_raises_one_of_the_two_errors() -> None:
    with pytest.raises((internals.OverrideParseException, internals.HydraException)):
        internals.OverridesParser.create().parse_overrides(["a"])


def test_the_defaults_list_gives_files_and_packages_in_merge_order(stage) -> None:
    from engine.config.folders import search_path
    from engine.config.repository import Repository

    repository = Repository(search_path(stage.project))
    repository.chosen.add("pipeline")
    overrides = internals.OverridesParser.create().parse_overrides(["pipeline=mine"])
    internals.version.setbase(internals.VERSION_BASE)
    found = internals.create_defaults_list(repository, "config", overrides, False, False)
    order = [(default.config_path, default.package or "") for default in found.defaults]
    assert order == [
        ("builtin", ""), ("config", ""), ("split/by_time", "split"), ("train/forest", "train"), ("gates/standard", "gates"),
        ("pipeline/loans", ""), ("pipeline/mine", ""),
    ]  # fmt: skip
    assert found.overrides.known_choices["pipeline"] == "mine"

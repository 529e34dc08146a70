"""Composing: the same values as Hydra's own, with places, secrets kept as references, and nothing heavy imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from engine.config import list_pipelines
from engine.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "overrides",
    [
        ["pipeline=loans"],
        ["pipeline=mine"],
        ["pipeline=mine", "train.trees=3", "+train.objective=entropy", "++train.params.rate=0.5"],
        ["pipeline=mine", "split=by_chance", "~triggers", "evaluate.slices=[person,tier]"],
        ["pipeline=mine", "train={kind: mean}", "+gates.other={kind: floor, metric: brier, minimum: 0.1}"],
        ["pipeline=loans", "baseline=null", "label.horizon='60d'", "doc='a, b'"],
    ],
)
def test_values_are_those_of_hydra(stage, overrides: list[str]) -> None:
    """Hydra reads one folder here, so the two folders of the stage are put together for it."""
    together = stage.root / "together"
    subprocess.run(["cp", "-r", str(stage.root / "shipped" / "conf"), str(together)], check=True)
    subprocess.run(["cp", "-r", f"{stage.project.conf}/.", str(together)], check=True)
    file = together / "pipeline" / "loans.yaml"  # in YAML 1.1, which Hydra reads, a bare `on` is a boolean
    file.write_text(file.read_text().replace("on: {", '"on": {'))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(together), version_base="1.3"):
        expected = OmegaConf.to_container(hydra_compose("config", overrides), resolve=True)
    found = dict(stage.compose(*overrides).values)
    name = found.pop("name")
    assert name == overrides[0].removeprefix("pipeline=")
    assert found == expected


def test_a_project_needs_no_config_of_its_own(stage) -> None:
    assert not (stage.project.conf / "config.yaml").exists()
    assert stage.compose("pipeline=mine").values["plugins"] == ["pretend"]


def test_a_project_may_have_a_config_of_its_own(stage) -> None:
    stage.write(
        "config.yaml", "defaults: [builtin, _self_, {pipeline: mine}]\nextra_plugins: [more]\nexecute: {retries: 7}\n"
    )
    config = stage.compose()
    assert config.pipeline == "mine"
    assert config.values["extra_plugins"] == ["more"]
    assert config.values["plugins"] == ["pretend"]
    assert config.values["execute"] == {"retries": 7}
    assert "hydra" not in config.values


def test_pipelines_of_both_folders_are_listed(stage) -> None:
    assert list_pipelines(stage.project) == ["loans", "mine"]


def test_places_name_files_of_the_project_by_their_path_in_it(stage) -> None:
    config = stage.compose("pipeline=mine", "execute.retries=3")
    assert str(config.origins["train.trees"]) == "conf/pipeline/mine.yaml:10:3"
    assert stage.normalise(str(config.origins["train.kind"])) == "SHIPPED/conf/train/forest.yaml:1:1"
    assert str(config.origins["execute.retries"]) == "execute.retries=3"
    assert config.origin("sources.loans.expect[0].unique") == config.origins["sources.loans.expect.0.unique"]
    assert config.origin("features.ratio.nothing_there") == config.origins["features.ratio"]


def test_every_leaf_has_an_origin(stage) -> None:
    config = stage.compose("pipeline=mine", "execute.retries=3", "evaluate.slices=[person]")

    def visit(path: str, value: object) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        assert path in {"", "name"} or path in config.origins, path
        for key, item in items:
            visit(f"{path}.{key}".lstrip("."), item)

    visit("", dict(config.values))


def test_secrets_stay_references(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    stage.pipeline('sources: {loans: {password: "${secret:DB_PASSWORD}"}}\ndoc: "see ${sources.loans.password}"\n')
    config = stage.compose("pipeline=mine", "owner='pg://u:${secret:DB_PASSWORD}@h'")
    assert config.values["sources"]["loans"]["password"] == "${secret:DB_PASSWORD}"
    assert config.values["doc"] == "see ${secret:DB_PASSWORD}"
    assert config.values["owner"] == "pg://u:${secret:DB_PASSWORD}@h"
    assert "hunter2" not in str(config)


def test_plain_variables_are_read(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "here")
    stage.pipeline(
        "doc: ${env:WHERE}\nowner: ${env:NOT_SET_AT_ALL,nobody}\ntrain: {trees: '${oc.decode:${env:NOT_SET,7}}'}\n"
    )
    values = stage.compose("pipeline=mine").values
    assert (values["doc"], values["owner"], values["train"]["trees"]) == ("here", "nobody", 7)


def test_oc_env_cannot_be_put_together_at_run_time(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    stage.pipeline("runbook: DB_PASSWORD\ndoc: ${oc.${owner}:DB_PASSWORD}\nowner: env\n")
    with pytest.raises(ConfigError) as caught:
        stage.compose("pipeline=mine")
    assert "hunter2" not in str(caught.value)


def test_oc_env_is_left_to_others_as_it_was(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "here")
    stage.pipeline("doc: ${env:WHERE}\n")
    stage.compose("pipeline=mine")
    assert OmegaConf.create({"a": "${oc.env:WHERE}"}).a == "here"


def test_a_whole_node_can_be_reused(stage) -> None:
    stage.pipeline("features:\n  tier2: ${features.tier}\n  tier3: {lookup: people.tier, doc: '${..tier.lookup}'}\n")
    values = stage.compose("pipeline=mine").values
    assert values["features"]["tier2"] == values["features"]["tier"]
    assert values["features"]["tier3"]["doc"] == "people.tier"


def test_a_wide_reuse_does_not_explode(stage) -> None:
    wide = "".join(f"  f{n}: ${{features.tier}}\n" for n in range(500))
    stage.pipeline(f"features:\n{wide}")
    assert len(stage.compose("pipeline=mine").values["features"]) == 504


def test_composing_twice_gives_the_same(stage) -> None:
    assert stage.compose("pipeline=mine") == stage.compose("pipeline=mine")


def test_a_plain_run_imports_nothing_heavy(stage) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom engine.config import compose, load_settings\n"
        "from engine.project import Project\nimport engine.config.folders as folders\n"
        f"folders.shipped = lambda folder: Path({str(stage.root)!r}) / 'shipped' / folder\n"
        f"load_settings(compose(Project(Path({str(stage.project.root)!r})), ['pipeline=mine']))\n"
        "print(','.join(sorted(set(sys.modules) & {'jsonschema', 'polars', 'numpy', 'lightgbm', 'distributed', 'pandas',"
        " 'scipy', 'pygit2', 'sqlalchemy', 'rich'})))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.strip() == ""
    assert answer.stderr == ""

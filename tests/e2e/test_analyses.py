"""`engine analyse` from YAML to report: fits are nodes, cached and shared, and nothing is registered."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.nodes.card import card_facts
from engine.project import shipped

UserProject = Any  # see conftest.py
Finished = tuple[UserProject, Any]

ANALYSIS = """
analysis:
  weak: {kind: weak_slices, min_rows: 40}
  shap: {kind: shap}
  worth: {kind: ablation, by: declaration, features: [km, clock, flips, driver_ix]}
  rows: {kind: learning_curve, shares: [0.5, 1.0], draws: 1}
  age: {kind: decay, step: 2d, origins: 3}
  choice: {kind: nested_cv, grid: {params.num_leaves: [4, 15]}, folds: 2, inner_folds: 1, horizon: 4d}
"""


@pytest.fixture(scope="module")
def analysed(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[UserProject, Any]:
    root = tmp_path_factory.mktemp("analysed")
    shutil.copytree(finished[0].root, root, dirs_exist_ok=True)
    project = finished[0].at(root)
    draw = random.Random(3)
    head, *rows = (root / "data" / "rides.csv").read_text().splitlines()
    project.write(
        "data/rides.csv", "\n".join([f"{head},coin", *(f"{row},{draw.randrange(100)}" for row in rows)]) + "\n"
    )
    project.edit("conf/pipeline/rides.yaml", "late: i64}", "late: i64, coin: i64}")
    project.edit("conf/pipeline/rides.yaml", "hour: i64}}", "hour: i64, coin: i64}}")
    project.edit("conf/pipeline/rides.yaml", "  clock: {expr: hour}", "  clock: {expr: hour}\n  flips: {expr: coin}")
    project.edit("conf/pipeline/rides.yaml", "baseline:", ANALYSIS + "baseline:")
    outcome = project.engine("analyse", "pipeline=rides", "--json", "-q", timeout=400)
    assert outcome.code == 0, outcome.err
    return project, outcome.json


def test_every_analysis_answers_with_its_published_schema(analysed: tuple[UserProject, Any]) -> None:
    _, answer = analysed
    assert list(answer["analyses"]) == ["weak", "shap", "worth", "rows", "age", "choice"]
    (published,) = (shipped("schemas") / "records").glob("analysis-answer.json")
    jsonschema.Draft202012Validator(json.loads(published.read_bytes())).validate(answer)
    worth = answer["analyses"]["worth"]["facts"]
    assert "flips" not in worth["matters"]
    assert abs(worth["harm"]["flips"]) < max(worth["harm"].values())
    assert answer["analyses"]["shap"]["facts"]["mean_size"]["km"] > 0
    assert answer["analyses"]["age"]["facts"]["ages_days"] == [2, 4]
    assert len(answer["analyses"]["choice"]["facts"]["chosen"]) == 2


def test_fits_are_nodes_shared_and_cached(analysed: tuple[UserProject, Any]) -> None:
    project, answer = analysed
    record = project.record(answer["run_id"])
    fits = [node for node in record["nodes"] if node["kind"] == "fit"]
    # ablation 4 and the learning curve's half, both on one fit of the whole model; 3 origins; 2 x (2 inner + 1 outer).
    assert len(fits) == 4 + 1 + 1 + 3 + 6
    assert not any(node["name"] == "promote" and node["state"] == "ran" for node in record["nodes"])
    again = project.engine("analyse", "pipeline=rides", "--json", "-q")
    assert (again.code, again.json["ran"]) == (0, 0)
    assert again.json["analyses"] == answer["analyses"]
    more = project.engine("analyse", "pipeline=rides", "--only", "worth", "analysis.worth.margin=0.5", "--json", "-q")
    assert more.json["ran"] == 1, "another margin trains nothing"


def test_the_report_shows_them(analysed: tuple[UserProject, Any]) -> None:
    _, answer = analysed
    page = Path(answer["report"]).read_text()
    assert 'id="analyses"' in page
    assert "fits of choice" in page
    assert answer["analyses"]["age"]["summary"].split(":")[0] in page.replace("&#x27;", "'")


def test_an_analysis_of_every_run_is_in_its_report_and_package(analysed: tuple[UserProject, Any]) -> None:
    project, _ = analysed
    outcome = project.engine("run", "pipeline=rides", "analysis.weak.when=run", "--json", "-q")
    assert outcome.code in {0, 4}, outcome.err
    nodes = {node["name"]: node for node in project.record(outcome.json["run_id"])["nodes"]}
    assert "analysis.weak" in nodes
    assert "analysis.age" not in nodes
    assert 'id="analyses"' in Path(outcome.json["report"]).read_text()
    folders = list((project.root / ".plumbline" / "artefacts").rglob("evidence.json"))
    assert any("weak" in json.loads(path.read_bytes()).get("analyses", {}) for path in folders)


def test_the_card_names_slices_that_a_search_confirmed() -> None:
    found = {"slice": "city = c", "gap": 0.5, "n": 120}
    facts = {"confirmed": ["city = c"], "slices": [found, {"slice": "hour >= 18", "gap": 0.1, "n": 90}]}
    evidence = {"evaluation": {}, "analyses": {"weak": {"kind": "weak_slices", "facts": facts}}}
    assert card_facts({"owner": "", "intended_use": "", "limitations": "", "review_by": None}, evidence)[
        "weak_slices"
    ] == ["city = c: found by search, worse than all other rows by 0.5000, n = 120"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("analyse", "pipeline=rides"), "declares no analysis"),
        (("analyse", "pipeline=rides", "analysis=default", "--only", "wek_slices"), "no such analysis"),
        (("check", "pipeline=rides", "+analysis.x={kind: ablation, seed: 3}"), "seeds"),
        (("check", "pipeline=rides", "+analysis.x={kind: decay}"), "step"),
        (
            ("analyse", "pipeline=rides", "+analysis.x={kind: ablation, features: [kmm]}"),
            "analysis.x: `kmm` matches no column",
        ),
        (
            ("analyse", "pipeline=rides", "+analysis.x={kind: nested_cv, by: row_id, grid: {params.leaves: [3]}}"),
            "leaves",
        ),
    ],
)
def test_mistakes_are_told(project: UserProject, arguments: tuple[str, ...], words: str) -> None:
    outcome = project.engine(*arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert "Traceback" not in outcome.err

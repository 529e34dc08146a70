"""Cases under `tests:`, and what `engine features` tells: through the command line, on a small project."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.features.lineage import personal, subprogram, upstream
from engine.records import FeatureExplanation
from engine.report.lineage import draw_lineage

PIPELINE = """\
# @package _global_
defaults: [/split: time_forward, /train: linear_binary, _self_]
name: trips
owner: fleet
sources:
  trips:
    kind: csv
    path: trips.csv
    columns: {{trip: str, driver: str, at: timestamp, minutes: f64, tip: f64, late: bool}}
    derive: {{done: at + MINUTES(minutes), rich: tip > 5}}
    key: [driver]
    time: at
    id: trip
    available: {{column: done}}
    decimals: {{tip: 2}}
    where: minutes >= 0
  drivers:
    kind: csv
    path: drivers.csv
    columns: {{driver: str, born: i64}}
    key: [driver]
    static: true
    tags: [pii]
spine: {{source: trips, request: {{driver: str, tip: f64}}}}
features:
  born: {{lookup: drivers.born}}
  age: {{expr: YEAR(event_time) - born, owner: people, tags: [core]}}
  who: {{expr: UPPER(driver), tags: [pii, core], doc: the driver's name}}
  tip_{{agg}}_{{window}}: {{from: trips, of: tip, agg: [mean, {{last_k: {{k: 2}}}}], window: 1d}}
  last_done: {{lookup: trips.done}}
  ratio: {{expr: tip / tip_mean_1d}}
  ratio_z: {{encode: ratio, with: standardise}}
  richness: {{from: trips, of: CAST(rich AS bigint), agg: sum, window: 1d}}
label: {{from: trips, expr: late}}
split: {{train_until: 2024-02-01, validation_until: 2024-03-01}}
evaluate: {{slices: [age]}}
tests:
{tests}
"""
GOOD = """\
  tips:
    given:
      trips:
        - {trip: a, driver: ann, at: 2024-02-28T23:00:00Z, minutes: 10, tip: 1.005}
        - {trip: b, driver: ann, at: 2024-02-29T00:00:00Z, minutes: 30, tip: 8}
        - {trip: c, driver: ann, at: 2024-02-29T00:30:00Z, minutes: 31, tip: 100}   # still under way
        - {trip: d, driver: ann, at: 2024-02-29T00:10:00Z, done: 2024-02-29T00:20:00Z, rich: true, minutes: -0.0}
        - {trip: e, driver: ann, at: 2024-02-29T00:10:00Z, minutes: -1, tip: 50}    # refused by the source's `where`
      drivers:
        - {driver: ann, born: 1990}
    at: 2024-02-29T01:00:00Z
    request: {driver: ann, tip: 4.5}
    expect: {tip_mean_1d: 4.5, tip_last_k_1d_1: 8.0, tip_last_k_1d_2: 1.0, age: 34, who: ANN, ratio: 1.0, richness: 2,
             last_done: "2024-02-29T00:20:00Z"}
  nobody: {at: 2024-02-29, expect: {age: null, tip_mean_1d: null, richness: 0}}
"""
BAD = (
    GOOD
    + """\
  off: {at: 2024-02-29, request: {driver: ann, tip: 3}, expect: {ratio: 1, richness: 1, who: ann}}
  near: {at: 2024-02-29, request: {driver: ann}, expect: {richness: 0}, tolerance: 0.5}
"""
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf" / "pipeline").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def declare(project: Path, tests: str = GOOD) -> None:
    (project / "conf" / "pipeline" / "trips.yaml").write_text(PIPELINE.format(tests=tests), encoding="utf-8")


def engine(*argv: str) -> int:
    return main(["features", *argv, "pipeline=trips"])


def test_cases_that_hold(project: Path, capsys: Any) -> None:
    declare(project)
    assert engine("test") == 0, capsys.readouterr()
    told = capsys.readouterr()
    assert "tips    pass           8" in told.out
    assert "trips: 2 of 2 cases pass" in told.err
    assert engine("test", "-k", "nobody", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], [case["name"] for case in report["cases"]]) == (True, ["nobody"])
    assert engine("test", "-k", "nothing") == 2
    assert not (project / ".plumbline").exists()  # no store was touched


def test_cases_that_do_not_hold_are_shown_with_what_came_out(project: Path, capsys: Any) -> None:
    declare(project, BAD)
    assert engine("test") == 3
    out = capsys.readouterr().out.splitlines()
    assert [line.split() for line in out if line.startswith("off")] == [
        ["off", "FAIL", "3"],
        ["off", "ratio", "1", "null"],
        ["off", "richness", "1", "0"],
        ["off", "who", "'ann'", "'ANN'"],
    ]
    assert engine("test", "--json", "-k", "off") == 3
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert [(item["feature"], item["expected"], item["actual"]) for item in case["compared"]] == [
        ("ratio", 1, None),
        ("richness", 1, 0),
        ("who", "ann", "ANN"),
    ]


@pytest.mark.parametrize(("expected", "tolerance", "code"), [
    ("0.1", "", 0), ("0.10000000000000002", "", 3), ("0.10000000000000002", ", tolerance: 1e-9", 0), ("0.2", ", tolerance: 1e-9", 3),
])  # fmt: skip
def test_doubles_are_compared_bit_for_bit_unless_a_tolerance_is_given(
    project: Path, expected: str, tolerance: str, code: int
) -> None:
    given = "{trips: [{trip: a, driver: ann, at: 2024-02-28T23:00:00Z, minutes: 1, tip: 0.1}]}"
    case = (
        f"{{given: {given}, at: 2024-02-29, request: {{driver: ann}}, expect: {{tip_mean_1d: {expected}}}{tolerance}}}"
    )
    declare(project, f"  one: {case}")
    assert engine("test") == code


def test_a_pipeline_without_cases_says_so(project: Path, capsys: Any) -> None:
    declare(project, "  {}")
    assert engine("test") == 0
    assert "no cases" in capsys.readouterr().err


def test_mistakes_in_cases_have_places(project: Path, capsys: Any) -> None:
    declare(project, "  wrong: {at: 2024-02-29, expect: {tip_mean_2d: 1.0}}")
    assert engine("test") == 2
    assert "conf/pipeline/trips.yaml:38:36" in capsys.readouterr().err


def test_features_are_listed_by_tag_owner_and_source(project: Path, capsys: Any) -> None:
    declare(project)

    def names(*argv: str) -> list[str]:
        assert engine("list", "--json", *argv) == 0
        return [item["name"] for item in json.loads(capsys.readouterr().out)]

    assert len(names()) == 10
    assert names("--tag", "core") == ["age", "who"]
    assert names("--tag", "pii") == ["born", "age", "who"]
    assert names("--owner", "people") == ["age"]
    assert names("--source", "drivers") == ["born"]
    assert engine("list", "--tag", "core") == 0
    assert "pii (derived)" in capsys.readouterr().out


def test_a_feature_is_explained_in_words_as_json_and_as_a_picture(project: Path, capsys: Any) -> None:
    declare(project)
    assert engine("explain", "ratio", "--graph", "f.svg") == 0
    told = capsys.readouterr().out
    assert "no finished run" in told
    assert engine("explain", "ratio", "--json") == 0
    item = json.loads(capsys.readouterr().out)
    assert item["upstream"] == ["tip_mean_1d"]
    assert item["downstream"] == ["ratio_z"]
    assert (item["sources"], item["reads"]) == (["trips"], ["tip", "tip_mean_1d"])
    assert (item["owner"], item["tests"], item["profile"], item["cost"]) == ("fleet", ["tips"], None, None)
    picture = ET.fromstring((project / "f.svg").read_text(encoding="utf-8"))
    texts = {"".join(node.itertext()) for node in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"source trips", "tip", "tip_mean_1d", "ratio", "ratio_z"} <= texts
    assert engine("explain", "age", "--json") == 0
    age = json.loads(capsys.readouterr().out)
    assert (age["pii"], age["used_by"], age["tags"], age["owner"]) == (
        "derived",
        ["evaluate.slices.0"],
        ["core"],
        "people",
    )
    assert engine("explain", "ages") == 2
    assert engine("explain", "age", "--graph", "f.png") == 2


def test_users_and_models_are_drawn() -> None:
    told = FeatureExplanation(
        name="f", kind="window", type="f64", words="w", declared="f", source="s", sources=("s",), columns=(), key=(),
        window="1d", owner="", doc="", tags=(), pii=None, reads=(), upstream=(), downstream=(), used_by=("evaluate.slices.0",),
        tests=(), models=("m:1@champion",),
    )  # fmt: skip
    picture = draw_lineage(told, {"f": ["source s", "k"]})
    assert "model m:1@champion" in picture
    assert "2 uses it" in picture


def test_a_subprogram_computes_one_feature_and_what_it_reads(project: Path) -> None:
    declare(project)
    from engine.api import declare as declared_of
    from engine.project import Project

    declared = declared_of(Project(project), ["pipeline=trips"])
    program = declared.logical.program
    assert subprogram(program, "ratio_z").order == ("tip_mean_1d", "ratio")
    assert upstream(program, "age") == ("born",)
    assert personal(program, declared.spec) == {"born": "derived", "age": "derived", "who": "tagged"}

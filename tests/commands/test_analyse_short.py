"""What `engine analyse` asks for by itself: ablations of the features that matter most, as the last run measured them."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.api import declare
from engine.commands import analyse_short
from engine.commands.analyse_short import shorten
from engine.locations import Stores
from engine.project import Project
from tests.e2e.conftest import make_project

IMPORTANCE = {"km": 5.0, "clock": 9.0, "driver_ix": 1.0, "driver_late_1d": 4.0, "driver_late_7d": 4.0}


@pytest.mark.parametrize(
    ("by", "kept"),
    [("column", ("clock", "km")), ("declaration", ("clock", "driver_late_{window}"))],
)
def test_the_features_that_matter_most_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, kept: tuple[str, ...]
) -> None:
    make_project(tmp_path)
    declared = declare(
        Project(tmp_path),
        [
            "pipeline=rides",
            f"+analysis.worth={{kind: ablation, by: {by}}}",
            "+analysis.few={kind: ablation, features: [km]}",
        ],
    )
    stores = Stores(Project(tmp_path), declared.settings)
    monkeypatch.setattr(analyse_short, "MOST", 2)
    monkeypatch.setattr(analyse_short, "last_importance", lambda *_: IMPORTANCE)
    short, words = shorten(declared, ["worth", "few"], stores)
    assert short.spec.analysis["worth"].params.features == kept
    assert short.logical.spec.analysis["worth"].params.features == kept
    assert short.spec.analysis["few"].params.features == ("km",), "what is declared stays"
    assert len(words) == 1
    assert "--all" in words[0]


def test_before_any_run_nothing_is_left_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path)
    declared = declare(Project(tmp_path), ["pipeline=rides", "+analysis.worth={kind: ablation}"])
    monkeypatch.setattr(analyse_short, "MOST", 2)
    short, words = shorten(declared, ["worth"], Stores(Project(tmp_path), declared.settings))
    assert short.spec == declared.spec
    assert "as many trainings" in words[0]

"""Every kind of mistake, with the whole message that a person gets. `PLUMBLINE_UPDATE_GOLDENS=1` rewrites the messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import ConfigError, ExitCode

GOLDEN = Path(__file__).parents[1] / "golden" / "config"
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


def overrides_of(case: str) -> list[str]:
    file = GOLDEN / case / "overrides.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else ["pipeline=mine"]


@pytest.mark.parametrize("case", CASES)
def test_message(case: str, stage) -> None:
    stage.overlay(GOLDEN / case / "conf")
    with pytest.raises(ConfigError) as caught:
        stage.load(*overrides_of(case))
    assert caught.value.exit_code == ExitCode.USAGE
    for problem in caught.value.problems:  # a place in a file, or an override: never an anonymous complaint
        assert problem.path
        assert problem.path != "(configuration)"
        assert problem.places or problem.override or case == "no_pipeline_chosen"
    message = stage.normalise(str(caught.value)) + "\n"
    expected = GOLDEN / case / "expected.txt"
    if os.environ.get("PLUMBLINE_UPDATE_GOLDENS"):
        expected.write_text(message, encoding="utf-8")
    assert message == expected.read_text(encoding="utf-8")


def test_there_are_enough_kinds() -> None:
    assert len(CASES) >= 50

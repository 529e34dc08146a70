"""Compositions kept between commands: the same as composing, and gone with whatever they depended on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config.kept import KEPT
from engine.errors import ConfigError


@pytest.fixture
def home(stage) -> Path:
    stage.project.home.mkdir()
    return stage.project.home


def entries(home: Path) -> list[Path]:
    return list((home / "composed").glob("*"))


def test_what_was_kept_is_what_composing_gives(stage, home) -> None:
    overrides = ("pipeline=mine", "train.trees=3", "doc='a ${train.trees}'")
    made = stage.compose(*overrides)
    assert len(entries(home)) == 1
    assert stage.compose(*overrides) == made
    assert made.origin("train.trees").override == "train.trees=3"


def test_a_kept_composition_needs_no_hydra(stage, home) -> None:
    program = (
        "import sys, json\nfrom pathlib import Path\nimport engine.config.folders as folders\n"
        "from engine.config import compose\nfrom engine.project import Project\n"
        f"folders.shipped = lambda folder: Path({str(stage.root)!r}) / 'shipped' / folder\n"
        f"compose(Project(Path({str(stage.project.root)!r})), ['pipeline=mine'])\n"
        "print(json.dumps([name for name in ('hydra', 'omegaconf', 'yaml') if name in sys.modules]))"
    )
    said = [subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)]
    assert [json.loads(words) for words in said] == [["hydra", "omegaconf", "yaml"], []]


@pytest.mark.parametrize("change", ["a file", "a shipped file", "a new file before the shipped one", "a link"])
def test_any_file_that_takes_part_counts(stage, home, change: str, tmp_path: Path) -> None:
    stage.pipeline("doc: one\n")
    before = stage.compose("pipeline=mine")
    if change == "a file":
        stage.pipeline("doc: two\n")
    elif change == "a shipped file":
        file = stage.root / "shipped" / "conf" / "pipeline" / "loans.yaml"
        file.write_text(file.read_text() + "\n# said\ncard: {owner: two}\n")
    elif change == "a new file before the shipped one":
        shipped = (stage.root / "shipped" / "conf" / "pipeline" / "loans.yaml").read_text()
        stage.write("pipeline/loans.yaml", shipped + "\ncard: {owner: two}\n")
    else:
        (tmp_path / "elsewhere").mkdir()
        (stage.project.conf / "linked").symlink_to(tmp_path / "elsewhere")
        (stage.project.conf / "linked" / "again").symlink_to(stage.project.conf)  # a circle of links ends
        stage.compose("pipeline=mine")
        assert len(entries(home)) == 2
        return
    assert stage.compose("pipeline=mine") != before


def test_variables_that_were_read_count(stage, home, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.pipeline("doc: ${env:PLACE,nowhere}\n")
    monkeypatch.delenv("PLACE", raising=False)
    assert stage.compose("pipeline=mine").values["doc"] == "nowhere"
    monkeypatch.setenv("PLACE", "here")
    assert stage.compose("pipeline=mine").values["doc"] == "here"
    monkeypatch.setenv("PLACE", "there")
    assert stage.compose("pipeline=mine").values["doc"] == "there"
    monkeypatch.delenv("PLACE")
    assert stage.compose("pipeline=mine").values["doc"] == "nowhere"


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_entry_counts_as_absent(stage, home, damage: bytes | None) -> None:
    made = stage.compose("pipeline=mine")
    (entry,) = entries(home)
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(bytes(content) if damage is None else damage)
    assert stage.compose("pipeline=mine") == made
    assert entries(home)[0].read_bytes() != bytes(content)


def test_mistakes_are_never_kept_and_nothing_is_left_without_a_home(stage) -> None:
    stage.compose("pipeline=mine")
    assert not stage.project.home.exists()
    stage.project.home.mkdir()
    with pytest.raises(ConfigError):
        stage.compose("pipeline=mine", "pipelin=loans")
    assert not entries(stage.project.home)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(stage, home) -> None:
    (home / "composed").write_text("in the way")
    assert stage.compose("pipeline=mine") == stage.compose("pipeline=mine")


def test_only_the_last_are_kept(stage, home) -> None:
    (home / "composed").mkdir()
    for index in range(KEPT + 5):
        (home / "composed" / f"old{index}").write_bytes(b"")
    stage.compose("pipeline=mine")
    assert len(entries(home)) == KEPT

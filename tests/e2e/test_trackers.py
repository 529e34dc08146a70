"""A run and its mirrors: nothing is lost while a tracker is down, nothing is slowed, no secret is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

UserProject = Any  # see conftest.py
SILENT = {"PLUMBLINE_NO_SENDER": "1"}


def test_what_a_tracker_missed_is_sent_later(finished: tuple[UserProject, Any], tmp_path: Path) -> None:
    project = finished[0].at(shutil.copytree(finished[0].root, tmp_path / "p"))
    heard = tmp_path / "gone" / "lineage.jsonl"
    text = (project.root / "conf/pipeline/rides.yaml").read_text()
    declared = (
        f"trackers:\n  lineage: {{kind: openlineage, url: 'file://{heard}', api_key: '${{secret:LINEAGE_KEY}}'}}\n"
    )
    project.write("conf/pipeline/rides.yaml", text + declared)
    answer = project.engine("run", "pipeline=rides", "--json", "-q", env=SILENT).json
    assert answer["status"] == "succeeded"
    assert answer["nodes"]["ran"] == 0, "a tracker is part of no key"
    down = project.engine("runs", "sync", "--json").json
    assert (down["waiting"], down["deliveries"][0]["sent"]) == (1, False)
    assert "lineage.jsonl" in down["deliveries"][0]["error"]
    project.engine("run", "pipeline=rides", "--json", "-q", env=SILENT)
    heard.parent.mkdir()
    secret = {"LINEAGE_KEY": "hunter2hunter2"}
    sent = project.engine("runs", "sync", "--json", env=secret).json
    assert (sent["waiting"], [item["sent"] for item in sent["deliveries"]]) == (0, [True, True])
    jobs = [json.loads(line)["job"]["name"] for line in heard.read_text().splitlines()]
    assert jobs.count("rides") == 4
    assert project.engine("runs", "sync", "--json").json["deliveries"] == []
    for path in [*(project.root / "runs").rglob("*"), *(project.root / ".plumbline").glob("*")]:
        assert not (path.is_file() and b"hunter2" in path.read_bytes()), path


def test_a_run_folder_deleted_before_it_was_sent_is_told_and_stops_nothing(
    finished: tuple[UserProject, Any], tmp_path: Path
) -> None:
    project = finished[0].at(shutil.copytree(finished[0].root, tmp_path / "p"))
    text = (project.root / "conf/pipeline/rides.yaml").read_text()
    project.write(
        "conf/pipeline/rides.yaml", text + f"trackers:\n  a: {{kind: openlineage, url: 'file://{tmp_path}/a.jsonl'}}\n"
    )
    runs = [project.engine("run", "pipeline=rides", "--json", "-q", env=SILENT).json["run_id"] for _ in range(2)]
    shutil.rmtree(project.root / "runs" / runs[0])
    told = {item["run_id"]: item for item in project.engine("runs", "sync", "--json").json["deliveries"]}
    assert told[runs[0]]["sent"] is False
    assert "missing" in told[runs[0]]["error"]
    assert told[runs[1]]["sent"] is True

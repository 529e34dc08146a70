"""Logs of serving that are older than is wanted go, as whole files; what a server writes, and younger ones, stay."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.cli import main
from engine.data.old_logs import OldLogs
from engine.serve.segments import SegmentLimits, SegmentWriter, is_abandoned

DAY = 86_400.0


def write(folder: Path, *, close: bool) -> tuple[SegmentWriter, Path]:
    writer = SegmentWriter(folder, b"head", SegmentLimits(), lambda _: None)
    assert writer.append(b"rows", 1)
    if close:
        writer.close()
    return writer, next(iter(folder.glob("*.wal")))


def age(path: Path, now: float, days: float) -> None:
    os.utime(path, (now - days * DAY, now - days * DAY))


def test_old_files_go_whole_and_what_is_written_stays(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    _, old = write(tmp_path / "events" / "shop", close=True)
    _, young = write(tmp_path / "predictions" / "shop" / "b", close=True)
    busy_writer, busy = write(tmp_path / "events" / "other", close=False)
    sealed = tmp_path / "predictions" / "shop" / "a" / "1-2-3.parquet"
    sealed.parent.mkdir(parents=True)
    sealed.write_bytes(b"x" * 7)
    beside = tmp_path / "feedback" / "shop" / "1-2-3.parquet"
    beside.parent.mkdir(parents=True)
    beside.write_bytes(b"labels")
    mark = tmp_path / "events" / "shop" / "p.mark"
    mark.write_text("1")
    for path, days in ((old, 31), (young, 29), (busy, 90), (sealed, 31), (beside, 90), (mark, 90)):
        age(path, now, days)
    logs = OldLogs(tmp_path, is_abandoned)
    found = logs.find(now, 30 * DAY)
    assert {item.name for item in found} == {str(path.relative_to(tmp_path)) for path in (old, sealed)}
    assert sum(item.bytes for item in found) == 7 + old.stat().st_size
    assert logs.delete(found) == 2
    assert logs.delete(found) == 0
    assert all(path.exists() for path in (young, busy, beside, mark))
    assert logs.find(now, 30 * DAY) == []
    busy_writer.close()
    age(busy, now, 90)
    assert [item.name for item in logs.find(now, 30 * DAY)] == [str(busy.relative_to(tmp_path))]


def test_the_oldest_go_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    now, found = 1_800_000_000.0, []
    for days, name in (
        (5, "predictions/shop/a"),
        (4, "events/shop"),
        (3, "predictions/shop/b"),
        (9, "predictions/other/c"),
    ):
        _, path = write(tmp_path / name, close=True)
        age(path, now, days)
        found.append(path)
    busy_writer, busy = write(tmp_path / "events" / "shop" / "busy", close=False)
    size = busy.stat().st_size
    logs = OldLogs(tmp_path, is_abandoned, "shop")
    assert logs.beyond(now, 4 * size) == []
    assert [tmp_path / item.name for item in logs.beyond(now, 4 * size - 1)] == found[:1]
    assert [tmp_path / item.name for item in logs.beyond(now, 2 * size)] == found[:2]
    assert [tmp_path / item.name for item in logs.beyond(now, 0)] == found[
        :3
    ]  # not what is written, nor another model's
    assert logs.delete(logs.beyond(now, 0)) == 3
    assert busy.exists()
    assert found[3].exists()
    busy_writer.close()


def test_the_command_says_what_would_go_and_deletes_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "pipeline").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    _, old = write(tmp_path / ".plumbline" / "events" / "shop", close=True)
    os.utime(old, (0, 0))
    for arguments, there in (([], True), (["--keep-logs", "30"], True), (["--keep-logs", "30", "--yes"], False)):
        assert main(["gc", "--json", *arguments]) == 0
        found = [item for item in json.loads(capsys.readouterr().out)["garbage"] if item["store"] == "logs"]
        assert [item["name"] for item in found] == ([f"events/shop/{old.name}"] if arguments else [])
        assert old.exists() == there
    assert main(["gc", "--keep-logs", "-1"]) == 2

"""A disk that is full, or read-only, under the commands that write: words and an exit code, no traceback, nothing lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import PIPELINE
from tests.loop.test_tick import LOOP


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A project on a disk of its own of three megabytes."""
    root = tmp_path / "disk"
    root.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(root)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        (root / "conf/pipeline").mkdir(parents=True)
        (root / "conf/pipeline/rides.yaml").write_text(PIPELINE + LOOP)
        (root / "data").mkdir()
        (root / "data/rides.csv").write_text("ride_id,driver,distance,hour,at,late\n")
        yield root
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


COMMANDS = (["tick"], ["run", "pipeline=rides"], ["triggers", "fire", "rides", "often", "--reason", "now"])


def engine(disk: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine", *arguments]
    return subprocess.run(command, check=False, cwd=disk, capture_output=True, text=True, timeout=120)


def fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as opened:
        while True:
            opened.write(b"0" * 1024)


@pytest.mark.parametrize(("fault", "words"), [("full", "full"), ("read-only", "writable")])
def test_what_the_disk_lacks_is_said(disk: Path, fault: str, words: str) -> None:
    assert engine(disk, "tick").returncode == 0
    if fault == "full":
        fill(disk / "fill")
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for command in COMMANDS:
        done = engine(disk, *command)
        told = done.stdout + done.stderr
        assert done.returncode == 7, (command, told)
        assert words in told, command
        assert "Traceback" not in told
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    (disk / "fill").unlink(missing_ok=True)
    assert engine(disk, "triggers", "verify").stdout == "every chain holds\n"
    assert engine(disk, "tick").returncode == 0

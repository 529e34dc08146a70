"""What the tests of several packages share: a real PostgreSQL server, and how property tests look for examples."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

# No example is timed: a busy machine is no bug. CI looks at the same examples every time, people at new ones.
settings.register_profile("plumbline", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("plumbline")

# Debian keeps the server's programs out of the PATH.
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """A PostgreSQL server of this test session alone, without a network port."""
    if shutil.which("initdb") is None and not os.environ.get("CI"):
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="plumbline-pg-"))
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, "postgres", "postgres")
    data = str(folder / "data")
    options = f"-c listen_addresses='' -k {folder} -F -c max_connections=100"
    begin = ["pg_ctl", "-D", data, "-o", options, "-w", "-l", str(folder / "log"), "start"]
    try:
        for command in (["initdb", "-D", data, "-A", "trust", "-U", "plumbline", "--no-sync"], begin):
            done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, cwd=folder, **user)
            assert done.returncode == 0, command[0]
        yield folder
    finally:
        with suppress(OSError):
            subprocess.run(
                ["pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, capture_output=True, cwd=folder, **user
            )
        shutil.rmtree(folder, ignore_errors=True)

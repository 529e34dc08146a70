"""The contracts of import-linter hold, and every module of the package stands in a layer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def test_every_contract_is_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_an_upward_import_breaks_them(tmp_path: Path) -> None:
    package = tmp_path / "layered"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "upper.py").write_text("")
    (package / "lower.py").write_text("import layered.upper\n")
    (tmp_path / "contract.ini").write_text(
        "[importlinter]\nroot_package = layered\n\n[importlinter:contract:layers]\nname = layers\ntype = layers\n"
        "containers = layered\nexhaustive = true\nlayers =\n  upper\n  lower\n"
    )
    done = lint(tmp_path, "--config", "contract.ini")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "layered.lower is not allowed to import layered.upper" in done.stdout

"""The format of a model package, and the refusal of others. Standard library only: promotion checks it before moving an alias.

Called by everything that opens a package: promotion, evaluation of a champion, export, verification, serving.
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.errors import IntegrityError

PACKAGE_VERSION = 1


def check_readable(folder: Path) -> None:
    """Raise `IntegrityError` for a package in a format that this engine does not read."""
    try:
        found = json.loads((folder / "package.json").read_bytes()).get("package_version")
    except (OSError, ValueError, AttributeError):
        found = None
    if found == PACKAGE_VERSION:
        return
    said = "no format" if found is None else f"format {found}"
    newer = isinstance(found, int) and found > PACKAGE_VERSION
    raise IntegrityError(
        f"the package {folder.name[:12]} has {said}; this engine reads format {PACKAGE_VERSION}",
        hint="use the newer engine that wrote it" if newer else "train the model again: `engine run`, then promote",
    )

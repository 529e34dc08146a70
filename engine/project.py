"""Where things are: the project's folder, and the files that ship with the engine (checkout and wheel alike)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """Give the folder `conf`, `plugins` or `schemas` that came with the engine: in a wheel inside the package, else beside it."""
    inside = _PACKAGE / "shipped" / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with `conf/` (and `plugins/`, `runs/`); state and data live under `.plumbline/` unless URLs say otherwise."""

    root: Path

    @property
    def conf(self) -> Path:
        """The project's own Hydra groups."""
        return self.root / "conf"

    @property
    def home(self) -> Path:
        """The engine's own folder in the project."""
        return self.root / ".plumbline"

    def locate(self, url: str | None, default: str) -> str:
        """Give a store's URL: as written when it has a scheme, else an absolute path from the project's root."""
        if url is not None and "://" in url:
            return url
        path = self.home / default if url is None else self.root / Path(url).expanduser()
        return str(path.resolve())


def find_project(start: Path) -> Project:
    """Give the nearest folder at or above `start` that has `conf/`; `start` itself when there is none."""
    for folder in (start, *start.parents):
        if (folder / "conf").is_dir():
            return Project(folder.resolve())
    return Project(start.resolve())

"""The folders that are searched for configuration files, and the names that composing gives a meaning to."""

from __future__ import annotations

from pathlib import Path

from engine.project import Project, shipped

PIPELINE = "pipeline"
PRIMARY = "config"
OWN, SHIPPED = "main", "shipped"


def search_path(project: Project) -> list[tuple[str, Path]]:
    """Give the folders that are searched, first hit wins: the project's `conf/`, then the shipped one."""
    own, built_in = project.conf.resolve(), shipped("conf").resolve()
    folders = [(OWN, own)] if own.is_dir() else []
    return folders if own == built_in else [*folders, (SHIPPED, built_in)]

"""The small values of this plugin: a file that is here, how it is read, and what can be known of a name alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_NOTHING = "__HIVE_DEFAULT_PARTITION__"  # how Hive and Spark write a null into a folder's name


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file whose bytes are here, and what a person calls it: its path, or the URL that it came from."""

    path: Path
    shown: str = ""

    def __str__(self) -> str:
        return self.shown or str(self.path)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is read: the component's parameters, its format (`None`: by its name), and the columns to keep."""

    params: Any
    format: str | None
    columns: Mapping[str, str]


def folder_values(name: str) -> dict[str, str | None]:
    """Read the columns that folders carry in their names.

    >>> folder_values("rides/year=2024/city=New%20York/part-0.parquet")
    {'year': '2024', 'city': 'New York'}
    """
    pairs = [part.split("=", 1) for part in name.split("/")[:-1] if "=" in part]
    return {unquote(key): None if value == _NOTHING else unquote(value) for key, value in pairs}

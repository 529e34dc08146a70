"""What both kinds of tables share: secrets at use, and the declared columns among those that a table has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from engine.errors import DataError


def resolved(options: Mapping[str, str]) -> dict[str, str]:
    """Put the secrets into options; raises `UnavailableError` naming what is not set."""
    if not any("${" in text for text in options.values()):
        return dict(options)
    from engine.config.secrets import resolve_secret  # noqa: PLC0415 - start-up time

    return {name: resolve_secret(text) for name, text in options.items()}


def plain(error: Exception, options: Mapping[str, str]) -> str:
    """Give an error's first words, without the values of secrets."""
    words = " ".join(str(error).split())[:300]
    for value in resolved({name: text for name, text in options.items() if "${" in text}).values():
        words = words.replace(value, "***")
    return words


def refuse_absent(table: str, found: Iterable[str], columns: Mapping[str, str]) -> None:
    """Raise `DataError` for a declared column that a table does not have."""
    names = list(found)
    for name in columns:
        if name not in names:
            near = get_close_matches(name, names, 1)
            meant = f" (did you mean `{near[0]}`?)" if near else ""
            raise DataError(f"{table} has no column `{name}`{meant}", hint=f"it has: {', '.join(names[:40])}")

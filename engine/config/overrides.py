"""Overrides of the command line: parsed by Hydra's grammar, checked one by one against what exists, then applied.

A value override may name any key, whether a file mentions it or not: the spec, not the YAML, decides what exists, so
that `execute.retries=3` needs no `+` and a misspelt key is reported with the nearest real one. Importing this module
imports Hydra.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.config.folders import PIPELINE
from engine.config.hydra_internals import (
    HydraException,
    Override,
    OverrideParseException,
    OverridesParser,
    OverrideType,
    apply_overrides,
)
from engine.config.interpolation import check_text
from engine.config.origins import OriginTree
from engine.config.repository import Repository
from engine.config.wording import nearest, show_value
from engine.errors import Problem

_GRAMMAR = (
    "write key=value, +key=value to add, ~key to remove; quote a value with spaces, commas or braces: 'key=\"a, b\"'"
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line asks for: options of groups, and values."""

    groups: tuple[Override, ...]
    values: tuple[Override, ...]


def read_overrides(texts: Sequence[str], repository: Repository, keys: Sequence[str]) -> Overrides:
    """Parse and check; mistakes go to `repository.problems`. `keys` are the names that a root may have."""
    groups: list[Override] = []
    values: list[Override] = []
    for text in texts:
        override = _parse(text, repository)
        if override is None or override.is_hydra_override():
            continue
        problem = _check(override, repository, keys)
        if problem is not None:
            repository.problems.append(problem)
        elif repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict):
            if not override.is_delete():
                repository.chosen.add(override.key_or_group)
            groups.append(override)
        else:
            values.append(override)
    return Overrides(tuple(groups), tuple(values))


def apply_values(overrides: Sequence[Override], config: DictConfig, origins: OriginTree) -> list[Problem]:
    """Apply value overrides to the merged files, in order; gives the mistakes."""
    problems = []
    for override in overrides:
        problem = _apply(override, config, origins)
        if problem is not None:
            problems.append(problem)
    return problems


def _parse(text: str, repository: Repository) -> Override | None:
    path = text.partition("=")[0].strip("+~ ") or "(override)"
    try:
        (parsed,) = _parser().parse_overrides([text])
    except (OverrideParseException, HydraException) as error:
        message = f"this override cannot be read{_reason(str(error), text)}"
        repository.problems.append(Problem(path, message, override=text, hint=_GRAMMAR))
        return None
    if not parsed.key_or_group:
        repository.problems.append(Problem(path, "this override names no key", override=text, hint=_GRAMMAR))
        return None
    parsed.input_line = text
    return parsed


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _reason(error: str, text: str) -> str:
    """Give what Hydra's parser says beyond that it failed."""
    said = [
        line.strip()
        for line in error.splitlines()
        if not line.startswith(("Error parsing override", "LexerNo", "See http"))
    ]
    words = " ".join(line for line in said if line and line != text and set(line) != {"^"})
    return f": {words}" if words else ""


def _check(override: Override, repository: Repository, keys: Sequence[str]) -> Problem | None:
    text, key = str(override.input_line), override.key_or_group
    if override.is_sweep_override():
        hint = f"add -m to run one for each; for a list write {key}=[…], for a text with a comma quote it"
        return Problem(key, "several values for one run", value=override.get_value_string(), override=text, hint=hint)
    if "_target_" in key.split(".") or "_target_" in _keys_in(override.value()):
        return Problem(key, "`_target_` is never followed: components are looked up by name", override=text,
                       hint="write `kind=NAME`")  # fmt: skip
    for written in _texts_in(override.value()):
        refusal = check_text(written) if "${" in written else None
        if refusal:
            return Problem(key, refusal.message, value=show_value(written), allowed=refusal.allowed, suggestion=refusal.suggestion,
                           hint=refusal.hint, override=text)  # fmt: skip
    if repository.group_exists(key) and not isinstance(override.value(), dict):
        return _check_option(override, repository)
    root = key.split(".")[0]
    if "/" in key or override.package is not None or (root == key and root not in keys):
        known = [*repository.groups(), *([] if "/" in key else keys)]
        what = "group" if "/" in key else "key or group"
        _note_misspelt_pipeline(key, known, repository)
        near = nearest(key, known)
        allowed = () if near else tuple(sorted(set(known)))
        return Problem(key, f"unknown {what}", allowed=allowed, suggestion=near, override=text)
    return None


def _note_misspelt_pipeline(key: str, known: Sequence[str], repository: Repository) -> None:
    """`pipelin=flights` is one mistake, not two: do not also say that no pipeline is chosen."""
    if nearest(key, known) == PIPELINE:
        repository.unknown.add(PIPELINE)


def _check_option(override: Override, repository: Repository) -> Problem | None:
    text, group, value = str(override.input_line), override.key_or_group, override.value()
    options = repository.options(group)
    if group == PIPELINE and (
        override.is_delete() or override.is_add() or override.package or not isinstance(value, str)
    ):
        repository.unknown.add(group)
        return Problem(
            group, "exactly one pipeline is chosen", allowed=tuple(options), override=text, hint="pipeline=NAME"
        )
    if override.is_delete():
        return None
    names = value if isinstance(value, list) else [value]
    wrong = [name for name in names if not isinstance(name, str) or not repository.config_exists(f"{group}/{name}")]
    if not wrong:
        return None
    repository.unknown.add(group)
    if wrong[0] is None:
        return Problem(
            group, "null is not an option", allowed=tuple(options), override=text, hint=f"~{group} leaves it out"
        )
    return Problem(group, f"there is no {group} of this name", value=show_value(wrong[0]), allowed=tuple(options),
                   suggestion=nearest(str(wrong[0]), options), override=text)  # fmt: skip


def _apply(override: Override, config: DictConfig, origins: OriginTree) -> Problem | None:
    text, key = str(override.input_line), override.key_or_group
    exists = _present(config, key)
    if override.is_delete() and not exists:
        return Problem(key, "cannot be removed: nothing is there", override=text)
    if override.is_add() and exists and not isinstance(override.value(), dict | list):
        return Problem(key, "cannot be added: it is there already", override=text, hint=f"{text[1:]} changes it")
    forced = override if override.is_delete() or override.is_add() else replace(override, type=OverrideType.FORCE_ADD)
    try:
        apply_overrides([forced], config)
    except (HydraException, OmegaConfBaseException) as error:
        return Problem(key, f"this override cannot be applied: {str(error).splitlines()[0]}", override=text)
    if override.is_delete():
        origins.remove(key)
    else:
        origins.add_override(key, override.value(), text)
    return None


def _present(config: DictConfig, key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if not OmegaConf.is_dict(node) or node._is_missing() or node._is_none() or part not in node:  # noqa: SLF001
            return False
        node = node._get_node(part)  # noqa: SLF001 - without resolving interpolations
    return True


def _keys_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _keys_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _keys_in(item)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)

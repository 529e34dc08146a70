"""`engine models rollback --drill`: go back to the last known good version, look that it is whole, and come again.

Both moves are real, by compare-and-swap, and rows of the ledger that say that they were a drill; servers follow them. What
`engine score` counts as practised is what stands there.
"""

from __future__ import annotations

import argparse
import getpass
import time
from dataclasses import dataclass

from engine.commands.arguments import print_json, project_of, show
from engine.errors import ConflictError, IntegrityError
from engine.model_records import DrillAnswer
from engine.records import LedgerEntry
from engine.stores import rollouts
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.ledger import Versions, Why
from engine.stores.registry import Registry


@dataclass(frozen=True)
class Drill:
    """What is practised on, and where."""

    registry: Registry
    artefacts: LocalArtefactStore


def drill(arguments: argparse.Namespace, stage: Drill) -> int:
    """Practise a rollback; raises `IntegrityError` when the version to go back to is not whole, before anything moves."""
    registry, model, alias = stage.registry, arguments.model, arguments.alias
    _refuse_during_rollout(registry, model)
    _check_target(arguments, stage)
    started = time.monotonic()
    evidence = {"drill": True}
    back = registry.rollback(model, alias, Why(getpass.getuser(), f"drill: {arguments.reason}", evidence=evidence))
    seconds = time.monotonic() - started
    found = registry.alias(model, alias)
    if found is None or found.version != back.to_version:
        raise ConflictError(f"@{alias} of {model} moved during the drill", hint="look at `engine models history`")
    again = _forth(arguments, registry, back, seconds)
    answer = DrillAnswer(
        model=model, alias=alias, version=int(back.from_version or 0), back_to=int(back.to_version or 0),
        seconds=seconds, rows=(back.sequence, again.sequence),
    )  # fmt: skip
    if arguments.json:
        print_json(answer)
    else:
        show(
            f"@{alias} of {model} went back from version {answer.version} to {answer.back_to} in {seconds:.3f} s, and came"
        )
        show(f"again; rows {answer.rows[0]} and {answer.rows[1]} of the ledger say so")
    return 0


def _refuse_during_rollout(registry: Registry, model: str) -> None:
    running = rollouts.current(registry, model)
    if running is not None and running.status in rollouts.ALIVE:
        hint = "let it end, or: engine rollout abort"
        raise ConflictError(
            f"a rollout of {model}:{running.challenger} is {running.status}: a drill would abort it", hint=hint
        )


def _check_target(arguments: argparse.Namespace, stage: Drill) -> None:
    """Verify the packages that would answer, there and after coming again: digests, manifest, golden predictions."""
    from engine.nodes.packages import verify_package  # noqa: PLC0415 - imports polars, numpy and the trainer

    numbers = {stage.registry.known_good(arguments.model, arguments.alias)}
    held = stage.registry.alias(arguments.model, arguments.alias)
    numbers |= {held.version} if held else set()
    for version in stage.registry.versions(arguments.model):
        problems = verify_package(stage.artefacts, version, project_of(arguments)) if version.version in numbers else []
        if problems:
            raise IntegrityError(
                f"{version.name}:{version.version} is not whole, so nothing was moved: {'; '.join(problems)}",
                hint="roll back for good (without --drill), or promote a version that is whole",
            )


def _forth(arguments: argparse.Namespace, registry: Registry, back: LedgerEntry, seconds: float) -> LedgerEntry:
    evidence = {"drill": True, "seconds": seconds, "row": back.sequence}
    return registry.move_alias(
        arguments.model, arguments.alias, Versions(back.to_version, int(back.from_version or 0)),
        Why(getpass.getuser(), f"drill over: {arguments.reason}", evidence=evidence), action="promote",
    )  # fmt: skip

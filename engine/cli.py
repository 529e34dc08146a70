"""The command line: peels off the sub-command, maps errors to exit codes, and nothing else.

Each command lives in `engine/commands/<name>.py` with `run(argv) -> int` and is imported only when it is called, so
`engine --help` costs an interpreter's start and no more. Results go to stdout, words for people to stderr.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence

from engine.errors import EngineError, ExitCode

COMMANDS = {
    "init": "start a project: conf/ with a first pipeline, plugins/, .gitignore",
    "check": "validate a pipeline's declaration without touching data",
    "plan": "show what a run would do and why, as a tree, JSON or SVG",
    "run": "run a pipeline: ingest, validate, train, evaluate, gate, promote, report",
    "tick": "look at every pipeline's triggers, decide, launch what is due; what cron calls",
    "triggers": "list, explain, fire, pause and resume triggers",
    "backtest": "replay history under several retraining policies: quality, cost, regret",
    "runs": "list and show past runs",
    "ci": "check a change: feature cases, a small training, the champion's baseline",
    "analyse": "look at a model: weak slices, importance, ablation, learning and decay curves",
    "score": "how ready for production a pipeline is: the ML Test Score",
    "models": "list, show, promote, roll back and verify models",
    "rollout": "show, pause, resume, abort and judge rollouts of challengers",
    "predict": "score a file with a registered model, each row at its event time",
    "feedback": "give labels by prediction id, late or revised; see how answers turned out",
    "serve": "answer requests over HTTP with a registered model",
    "data": "versioned data: snapshots, diffs, profiles, validation, quarantine",
    "monitor": "read drift, quality, calibration and performance chunk by chunk; alerts",
    "features": "list and explain a pipeline's features",
    "schema": "write or check the JSON Schemas for editors and readers",
    "gc": "find, and with --yes delete, what no run, model, tag or branch needs",
    "doctor": "check this machine and project, with what to do about each finding",
}

EPILOGUE = """\
Examples:
  engine run pipeline=flights
  engine run pipeline=flights train.params.num_leaves=63 --json
  engine plan pipeline=flights --graph plan.svg
  engine run -m pipeline=flights train.params.num_leaves=31,63

`engine COMMAND --help` tells a command's flags. Exit codes: 0 ok, 2 usage or config, 3 gate rejected, 4 inconclusive,
5 data quarantined, 6 locked, 7 a dependency is unavailable, 8 integrity, 130 interrupted, 1 internal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    gc.set_threshold(50_000, 20, 20)  # what a command imports stays: looking for garbage among it costs a twentieth
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_help())
        return ExitCode.OK if arguments else ExitCode.USAGE
    if arguments[0] in {"-V", "--version"}:
        from engine import __version__  # noqa: PLC0415

        print(f"plumbline {__version__}")
        return ExitCode.OK
    if arguments[0] in {"-sc", "--shell-completion"}:  # what Hydra's completion script calls
        return _guarded("run", arguments)
    name, *rest = arguments
    if name not in COMMANDS:
        return _unknown(name)
    return _guarded(name, rest)


def _guarded(name: str, rest: list[str]) -> int:
    try:
        code: int = importlib.import_module(f"engine.commands.{name}").run(rest)
        sys.stdout.flush()
        return code
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished nodes are kept, run the same command to go on", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of our stdout left; that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except OSError as error:
        return _told(error)


def _told(error: OSError) -> int:
    """End in words for what the machine lacks: space, a writable disk, permission, files; a traceback is for our own mistakes."""
    from pathlib import Path  # noqa: PLC0415 - start-up time

    from engine.stores.disk import LACKS, disk_error  # noqa: PLC0415

    if error.errno not in LACKS:
        raise error
    worded = disk_error(error, "use", Path(str(error.filename or Path.cwd())))
    print(f"error: {worded}", file=sys.stderr)
    return worded.exit_code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {words}" for name, words in COMMANDS.items()]
    return "\n".join(["usage: engine COMMAND [flags] [overrides]", "", "Commands:", *lines, "", EPILOGUE])


def _unknown(name: str) -> int:
    from difflib import get_close_matches  # noqa: PLC0415 - start-up time

    near = get_close_matches(name, COMMANDS, 1)
    meant = f" (did you mean `{near[0]}`?)" if near else ""
    print(f"error: unknown command `{name}`{meant}\n  allowed: {', '.join(COMMANDS)}", file=sys.stderr)
    return ExitCode.USAGE


if __name__ == "__main__":
    sys.exit(main())

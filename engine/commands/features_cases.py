"""`engine features test`: run the cases that a pipeline declares under `tests:`; no data store is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import ExitCode, NotFoundError
from engine.records import FeatureCaseResult, FeatureTestReport
from engine.spec.cases import FeatureTestSpec


def run(argv: Sequence[str]) -> int:
    """Print a table and what differs; exit code 3 when a case fails, as when a gate rejects."""
    parser = Parser("features test", "Run the cases under `tests:` of a pipeline, in process and without data stores.")
    parser.add_argument("-k", metavar="TEXT", dest="pattern", help="only the cases whose name contains this")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, rest = parser.parse_known_args(argv)
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help

    declared = declare(project_of(arguments), split_overrides(rest))
    cases = _choose(declared.spec.tests, arguments.pattern)
    results: list[FeatureCaseResult] = []
    if cases:
        from engine.features.case_runner import run_cases  # noqa: PLC0415 - imports polars

        results = run_cases(cases, declared.logical.compiled)
    failed = sum(not result.passed for result in results)
    if arguments.json:
        print_json(FeatureTestReport(pipeline=declared.spec.name, ok=not failed, cases=tuple(results)))
    else:
        _tell(declared.spec.name, results, failed)
    return ExitCode.REJECTED if failed else ExitCode.OK


def _choose(cases: Mapping[str, FeatureTestSpec], pattern: str | None) -> dict[str, FeatureTestSpec]:
    chosen = {name: case for name, case in cases.items() if pattern is None or pattern in name}
    if pattern is not None and not chosen:
        raise NotFoundError(f"no case's name contains {pattern!r}", hint=f"there are: {', '.join(cases) or 'none'}")
    return chosen


def _tell(pipeline: str, results: Sequence[FeatureCaseResult], failed: int) -> None:
    if not results:
        say(f"{pipeline}: no cases; declare them under `tests:`")
        return
    rows = [[item.name, "pass" if item.passed else "FAIL", len(item.compared)] for item in results]
    show(render_table(["case", "result", "compared"], rows))
    wrong = [[item.name, one.feature, _text(one.expected), _text(one.actual)]
             for item in results for one in item.compared if not one.equal]  # fmt: skip
    if wrong:
        show("\n" + render_table(["case", "feature", "expected", "actual"], wrong))
    say(f"{pipeline}: {len(results) - failed} of {len(results)} cases pass")


def _text(value: object) -> str:
    """A value with all its digits, as YAML would write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)

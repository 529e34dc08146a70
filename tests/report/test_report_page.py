"""The page: complete, offline, escaped, well-formed, quick, and honest about what is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from engine.plan.model import ExecutionPlan, PlanNode
from engine.records import Metric, NodeResult, RunRecord
from engine.report.content import DataUsed, Finding, ReportContent, SourceData, read_split
from engine.report.evidence import metric_words
from engine.report.page import render_report
from engine.report.style import PAGE, PALETTE, PICTURE
from engine.report.verdict import rule_on

Make = Callable[..., ReportContent]
SECTIONS = ("verdict", "metrics", "plan", "data", "curves", "importance", "slices", "reproduce")
VOID = {"meta", "br", "hr", "col", "path", "rect", "circle", "line", "polyline", "polygon"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed without being open, or left open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, f"{tag} may not close itself in HTML"
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> Balanced:
    """Hold a page to what every report owes its reader."""
    page.encode("utf-8")
    assert page.startswith("<!DOCTYPE html>\n")
    ET.fromstring(page.partition("\n")[2])
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    offline(page, parser)
    idents = [attrs["id"] for _, attrs in parser.seen if "id" in attrs]
    assert len(idents) == len(set(idents))
    links = [str(attrs["href"]) for tag, attrs in parser.seen if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= set(idents)
    assert all(attrs.get("scope") in {"row", "col"} for tag, attrs in parser.seen if tag == "th")
    for (tag, _), (following, _) in pairwise(parser.seen):
        assert tag != "table" or following == "caption"
        assert tag != "svg" or following == "title"
    return parser


def offline(page: str, parser: Balanced) -> None:
    assert "<script" not in page.lower()
    assert not re.search(r"https?:", re.sub(r">[^<]*<", "><", page.partition("</style>")[2]))
    assert not re.search(r"@import|url\(|javascript:", page.partition("</style>")[0])
    loading = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "use", "image"}
    assert not loading & {tag for tag, _ in parser.seen}
    assert not [name for _, attrs in parser.seen for name in attrs if name.startswith("on") or name == "src"]


def words_of(page: str) -> str:
    """The text of the page without its head and table of contents."""
    main = ET.fromstring(page.partition("\n")[2]).find("body/main")
    assert main is not None
    return " ".join(main.itertext())


def with_run(content: ReportContent, **changes: Any) -> ReportContent:
    return msgspec.structs.replace(content, run=msgspec.structs.replace(content.run, **changes))


def test_the_page_is_whole_and_ordered(content: ReportContent) -> None:
    page = render_report(content)
    parser = check_page(page)
    sections = [attrs["id"] for tag, attrs in parser.seen if tag == "section"]
    assert tuple(sections) == SECTIONS
    assert len(page.encode()) < 300_000


def test_it_says_what_it_knows(content: ReportContent) -> None:
    words = words_of(render_report(content))
    shown = ["Promoted", "flights:12", "0.7421", "[0.7379, 0.7463]", "0.7318", "0.6874", "+0.0103", "81,440 test rows"]
    shown += ["336,776", "9,430 never known", "218,410", "34,291", "2013-10-01", "50,094 (14.9\xa0%)", "N3EMAA"]
    shown += ["origin_late_rate_4h", "engine runs reproduce 20261123-074410-5f3a", "train.params.num_leaves=63"]
    shown += ["3 from the cache", "prevalence 0.157", "champion flights:11", "AS (160 rows)", "95\xa0% bootstrap"]
    shown += [gate.name for gate in content.run.gates] + [gate.required for gate in content.run.gates]
    shown += [metric_words(metric.name) for metric in content.run.metrics]
    shown += [pin.commit for pin in content.run.snapshots] + [content.run.config_digest]
    assert [word for word in shown if word not in words] == []


def test_every_carrier_is_in_the_slices(content: ReportContent) -> None:
    assert content.evaluation is not None
    words = words_of(render_report(content))
    for found in content.evaluation["slices"]:
        assert f"{found['column']} = {found['value']}" in words


def test_the_page_is_a_function_of_its_content(content: ReportContent, make_content: Make) -> None:
    assert render_report(content) == render_report(make_content())


HOSTILE = '"><script>alert(1)</script><img src=x onerror=1>\x1b[31m\x00\ud800&amp;'


def poison(value: Any) -> Any:
    """Put markup into every text of a JSON value, keys included, but for closed vocabularies."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, dict):
        return {key: poison(item) for key, item in value.items()}
    return [poison(item) for item in value] if isinstance(value, list | tuple) else value


KEPT = {"status", "verdict", "severity", "state", "digest", "key", "config_digest", "plan_digest", "model_digest"}


def poisoned(value: Any) -> Any:
    """Put markup into every text of a record that its type lets be any text."""
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return type(value)(**{name: item if name in KEPT else poisoned(item) for name, item in fields.items()})
    if isinstance(value, tuple):
        return tuple(poisoned(item) for item in value)
    if isinstance(value, dict):
        return {poisoned(key): poisoned(item) for key, item in value.items()}
    return value + HOSTILE if isinstance(value, str) else value


def test_hostile_text_is_shown_and_never_obeyed(content: ReportContent) -> None:
    evaluation = msgspec.json.decode(msgspec.json.encode(content.evaluation))
    for found in evaluation["slices"]:
        found |= {key: poison(found[key]) for key in ("column", "value", "note")}
    evaluation["refusals"] = [HOSTILE]
    evaluation["models"]["challenger"]["metrics"][HOSTILE] = {"name": HOSTILE, "value": 0.5, "reason": HOSTILE}
    failed = NodeResult(name="train", kind="train", state="failed", error=f"no\n{HOSTILE}", reason=HOSTILE)
    run = msgspec.structs.replace(content.run, nodes=(failed, *content.run.nodes), error=HOSTILE, sample=HOSTILE)
    hostile = poisoned(msgspec.structs.replace(content, run=run, previous=run, evaluation=None))
    page = render_report(msgspec.structs.replace(hostile, evaluation=evaluation))
    check_page(page)
    assert page.count("&lt;script&gt;") > 150
    assert "onerror" not in re.sub(r">[^<]*<|\"[^\"]*\"", "", page.partition("</style>")[2])


@pytest.mark.parametrize(
    ("changes", "word", "sentence"),
    [
        ({}, "Promoted", "All 5 blocking gates passed, and flights:12 is now the champion."),
        ({"promoted": False}, "Promote", "All 5 blocking gates passed; the champion has not been replaced."),
        ({"verdict": None}, "Finished", "no gate was asked"),
        ({"status": "interrupted", "verdict": None}, "Interrupted", "stopped before it ended"),
        ({"status": "running", "verdict": None}, "Running", "had not ended"),
        ({"status": "failed", "error": "\n disk full\nmore"}, "Failed", "disk full"),
        ({"status": "failed"}, "Failed", "no message"),
        ({"verdict": "reject", "gates": ()}, "Rejected", "see the table"),
    ],
)
def test_the_ruling(content: ReportContent, changes: dict[str, Any], word: str, sentence: str) -> None:
    changed = with_run(content, **changes)
    ruling = rule_on(changed.run)
    assert ruling.word == word
    assert sentence in ruling.sentence
    assert word in words_of(render_report(changed))


@pytest.mark.parametrize(
    ("status", "verdict", "exit_code", "sentence"),
    [
        ("fail", "reject", 3, "1 of 5 blocking gates failed: parity, 2 bits differ."),
        ("inconclusive", "inconclusive", 4, "1 of 5 blocking gates could not decide: parity, 2 bits differ."),
    ],
)
def test_a_gate_against_is_named(
    content: ReportContent, status: str, verdict: str, exit_code: int, sentence: str
) -> None:
    gates = tuple(
        msgspec.structs.replace(gate, status=status, reason="2 bits differ") if gate.name == "parity" else gate
        for gate in content.run.gates
    )
    changed = with_run(content, gates=gates, verdict=verdict, promoted=False, exit_code=exit_code)
    words = words_of(render_report(changed))
    assert sentence in words
    assert f"Exit code {exit_code}" in words
    assert words.index("parity") < words.index("data_valid")


def test_a_failed_run_shows_the_node_and_its_error_first(content: ReportContent) -> None:
    def ended(node: NodeResult) -> NodeResult:
        if node.name == "train":
            error = "DataError: 3 labels are null\n  next: check label.expr"
            return msgspec.structs.replace(node, state="failed", output=None, error=error, attempts=2)
        late = node.name in {"evaluate", "gate", "package", "promote", "report"}
        return msgspec.structs.replace(node, state="skipped", output=None) if late else node

    nodes = tuple(map(ended, content.run.nodes))
    changed = with_run(
        msgspec.structs.replace(content, evaluation=None, importance={}),
        status="failed", verdict=None, nodes=nodes, gates=(), metrics=(), baseline_metrics=(), model=None, exit_code=1,
    )  # fmt: skip
    page = render_report(changed)
    sections = [attrs["id"] for tag, attrs in check_page(page).seen if tag == "section"]
    assert sections == ["verdict", "failure", "metrics", "plan", "data", "reproduce"]
    words = words_of(page)
    assert "Node train failed: DataError: 3 labels are null" in words
    assert "next: check label.expr" in words
    assert "2 attempts" in words
    assert words.index("next: check label.expr") < words.index("What ran")
    assert "Not run because of it: evaluate" in re.sub(r"\s+", " ", words)


def test_without_a_document_the_record_speaks(content: ReportContent) -> None:
    words = words_of(render_report(msgspec.structs.replace(content, evaluation=None)))
    assert "0.7421" in words
    assert "The evaluation has no curves." in words
    assert "The evaluation has no slices." in words


def test_an_unreadable_document_is_said(content: ReportContent) -> None:
    page = render_report(msgspec.structs.replace(content, evaluation={"models": 3}))
    check_page(page)
    assert "cannot be read" in words_of(page)


def test_empty_cells_are_marked_for_narrow_screens(content: ReportContent) -> None:
    parser = check_page(render_report(content))
    cells = [attrs for tag, attrs in parser.seen if tag == "td"]
    assert all(attrs.get("data-label") for attrs in cells)
    assert any("empty" in (attrs.get("class") or "") for attrs in cells)


def drop_each(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in document:
        yield key, {name: value for name, value in document.items() if name != key}


def test_any_missing_part_of_the_document_is_survived(content: ReportContent) -> None:
    assert content.evaluation is not None
    for _, document in drop_each(dict(content.evaluation)):
        check_page(render_report(msgspec.structs.replace(content, evaluation=document)))


def test_undefined_metrics_say_why(content: ReportContent) -> None:
    evaluation = msgspec.json.decode(msgspec.json.encode(content.evaluation))
    undefined = {"name": "roc_auc", "value": None, "reason": "only one class in the test rows"}
    evaluation["models"]["challenger"] = {"metrics": {"roc_auc": undefined}}
    evaluation["differences"] = {"baseline": {"roc_auc": {"name": "roc_auc", "value": None}}}
    page = render_report(msgspec.structs.replace(content, evaluation=evaluation))
    check_page(page)
    assert "only one class in the test rows" in words_of(page)
    bare = with_run(
        msgspec.structs.replace(content, evaluation=None), metrics=(Metric(name="roc_auc", value=None),), seconds=0.0
    )
    check_page(render_report(bare))


def test_refusals_and_left_out_slices_are_said(content: ReportContent) -> None:
    evaluation = dict(content.evaluation or {}) | {"refusals": ["the champion was trained on them"]}
    evaluation["left_out_slices"] = {"tailnum": 3900}
    changed = msgspec.structs.replace(content, evaluation=evaluation, max_slices=4)
    words = words_of(render_report(changed))
    assert "Not scored: the champion was trained on them" in words
    assert "3,910 more slices not shown" in words


def test_a_regression_has_no_share_of_positives(content: ReportContent) -> None:
    evaluation = dict(content.evaluation or {}) | {"task": "regression", "positives": None, "primary": "rmse"}
    evaluation["models"] = {
        "challenger": {
            "metrics": {"rmse": {"name": "rmse", "value": 31.4, "higher_is_better": False}},
            "curves": {
                "calibration": {"predicted": [-20.0, 0.0, 90.0], "observed": [-18.0, 2.0, 80.0], "n": [5, 9, 2]}
            },
            "histogram": {"edges": [-30.0, 0.0, 100.0], "counts": [10, 6]},
        }
    }
    page = render_report(msgspec.structs.replace(content, evaluation=evaluation))
    check_page(page)
    words = words_of(page)
    assert "mean label" in words
    assert "positive" not in words.partition("What ran")[0]
    assert "RMSE (lower is better)" in words


def minimal_run(**changes: Any) -> RunRecord:
    fields: dict[str, Any] = {"run_id": "1", "pipeline": "p", "status": "succeeded", "started_at": "now"}
    return RunRecord(**(fields | {"config_digest": "0" * 64, "plan_digest": "1" * 64} | changes))


@pytest.mark.parametrize("status", ["running", "succeeded", "failed", "interrupted"])
def test_the_least_there_can_be(status: str) -> None:
    content = ReportContent(run=minimal_run(status=status), plan=ExecutionPlan(pipeline="p", nodes=()))
    page = render_report(content)
    check_page(page)
    words = words_of(page)
    for said in ("No gate was judged", "no evaluation", "The plan has no nodes", "The run read no data"):
        assert said in words
    assert "nan" not in words


def test_two_hundred_nodes() -> None:
    nodes = tuple(PlanNode(name=f"n{i}", kind="train", inputs={"rows": f"n{i // 3}"} if i else {}) for i in range(200))
    page = render_report(ReportContent(run=minimal_run(), plan=ExecutionPlan(pipeline="p", nodes=nodes)))
    check_page(page)
    assert len(page.encode()) < 300_000


def test_what_changed_since_the_previous_run(content: ReportContent) -> None:
    run = content.run
    assert run.environment is not None
    pins = tuple(
        msgspec.structs.replace(pin, digest="0" * 64, rows=300_000) if pin.source == "flights" else pin
        for pin in run.snapshots
    )
    packages = run.environment.packages | {"polars": "2.0.9"}
    previous = msgspec.structs.replace(
        run,
        run_id="previous-run",
        snapshots=pins,
        overrides=(),
        config_digest="0" * 64,
        metrics=tuple(msgspec.structs.replace(metric, value=0.25) for metric in run.metrics),
        environment=msgspec.structs.replace(run.environment, packages=packages, digest="2" * 64),
    )
    page = render_report(msgspec.structs.replace(content, previous=previous))
    check_page(page)
    words = words_of(page)
    assert "flights 300,000 rows to 336,776" in words
    assert "polars 2.0.9 to 2.1.0" in words
    assert "overrides none before, train.params.num_leaves=63 now" in words
    assert "+0.4921" in words


def test_findings_with_odd_samples() -> None:
    samples = ({}, {"a": None, "b": [1, 2]}, {"c": "x" * 500})
    finding = Finding(rule="a not null", status="fail", failed=3, checked=0, samples=samples)
    data = DataUsed(sources=(SourceData(name="s", findings=(finding,)),))
    content = ReportContent(run=minimal_run(), plan=ExecutionPlan(pipeline="p", nodes=()), data=data)
    words = words_of(render_report(content))
    check_page(render_report(content))
    assert "1 of 1 not met" in words
    assert "null" in words
    assert "x" * 100 not in words


def test_the_split_as_the_node_wrote_it() -> None:
    summary = {"train": {"rows": 10, "label_mean": 0.2, "first": "2013-01-01T00:00:00Z", "last": None}, "digest": "ab"}
    parts = read_split(summary)
    assert [(part.name, part.rows, part.label_mean) for part in parts] == [("train", 10, 0.2)]


def test_it_renders_fast(content: ReportContent) -> None:
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        render_report(content)
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.25  # about 8 ms on an idle machine


def test_importing_the_page_imports_no_data_library() -> None:
    check = "import sys, engine.report.page; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"numpy", "polars", "pandas", "matplotlib", "lightgbm", "scipy", "distributed", "sqlalchemy", "jinja2"}
    assert not heavy & set(found)


def colours(theme: str) -> dict[str, tuple[float, ...]]:
    found = re.findall(r"--([\w-]+):#([0-9a-f]{6})", theme)
    return {name: tuple(int(value[place : place + 2], 16) / 255 for place in (0, 2, 4)) for name, value in found}


def luminance(colour: tuple[float, ...]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(dark: bool) -> None:
    light, _, night = PALETTE.partition("@media")
    found = colours(night if dark else light)
    washes = [(name, f"{name}-wash") for name in ("good", "bad", "unsure", "ran", "cached", "todo", "off")]
    papers = [(name, "paper") for name in ("ink", "soft", "accent", "good", "bad", "unsure", "off")]
    grounds = [("soft", f"{name}-wash") for name in ("ran", "cached", "bad", "todo", "off")]
    for ink, ground in (*washes, *papers, *grounds):
        assert contrast(found[ink], found[ground]) >= 4.5, (ink, ground)
    for tone in ("challenger", "baseline", "champion"):
        assert contrast(found[tone], found["paper"]) >= 3, tone


def test_every_colour_that_is_used_is_defined_for_light_and_dark() -> None:
    used = set(re.findall(r"var\(--([\w-]+)", PALETTE + PICTURE + PAGE)) - {"tone", "wash", "natural"}
    light, _, night = PALETTE.partition("@media")
    assert used <= set(colours(light))
    assert set(colours(light)) == set(colours(night))
    assert not set("<&") & set(PALETTE + PICTURE + PAGE)

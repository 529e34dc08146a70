"""Tests for features and data (section II of the paper)."""

from __future__ import annotations

from engine.features.lineage import declarations, personal, upstream
from engine.score.facts import Facts
from engine.score.finding import Finding, Question, by_gate

_LEAKAGE = "leaks: {kind: leakage}"


def schema(facts: Facts) -> Finding:
    """1. Feature expectations are captured in a schema."""
    read = sorted(facts.program.source_names)
    without = [name for name in read if not facts.spec.sources[name].expect]
    count = sum(len(facts.spec.sources[name].expect) for name in read)
    add = f"expectations for {', '.join(without)}: `expect: [{{column: …, not_null: true}}]`" if without else ""
    checked = any(gate.status == "pass" for gate in facts.gates("data_validation"))
    found = f"{count} expectations of {len(read)} sources, types and request fields are declared"
    if without:
        return Finding(0.5 if count else 0, f"{found}; none for {', '.join(without)}", add)
    if not checked:
        return Finding(
            0.5, f"{found}; no run has shown that they hold", "a gate `data: {kind: data_validation}`, and a run"
        )
    return Finding(1, f"{found}, checked at every ingestion before data is published")


def beneficial(facts: Facts) -> Finding:
    """2. All features are beneficial."""
    measured = {kind: facts.analyses[kind] for kind in ("ablation", "permutation") if kind in facts.analyses}
    if measured:
        run, document = measured.get("ablation") or measured["permutation"]
        idle = [*document.facts.get("harmful", ()), *document.facts.get("useless", ())]
        found = f"{document.kind} of run {run}: {document.summary}"
        if not idle:
            return Finding(1, found)
        return Finding(0.5, found, f"`train.exclude: [{', '.join(idle[:5])}]`")
    if not facts.importance:
        return Finding(0, "no run has measured importance", "`engine run`")
    useless = sorted(name for name, value in facts.importance.items() if value <= 0)
    found = f"importance of {len(facts.importance)} columns is measured in every run"
    if useless:
        shown = ", ".join(useless[:5]) + (f" and {len(useless) - 5} more" if len(useless) > 5 else "")
        return Finding(
            0.5, f"{found}; without any: {shown}", "`analysis: {worth: {kind: ablation}}`, and `engine analyse`"
        )
    return Finding(1, f"{found}, and every one has some")


def cost(facts: Facts) -> Finding:
    """3. No feature's cost is too much."""
    return by_gate(facts.gates("latency"), "a limit: `gates: {fast: {kind: latency, max_ms: 20}}`")


def requirements(facts: Facts) -> Finding:
    """4. Features adhere to meta-level requirements."""
    return by_gate(
        facts.gates("leakage"),
        f"what no feature may be is checked by a gate: `gates: {{{_LEAKAGE}}}` (future, proxies of the label, ids)",
    )


def privacy(facts: Facts) -> Finding:
    """5. The data pipeline has appropriate privacy controls."""
    private = personal(facts.program, facts.spec)
    tagged = sorted(name for name, how in private.items() if how == "tagged")
    sources = sorted(name for name, source in facts.spec.sources.items() if "pii" in getattr(source, "tags", ()))
    lineage = (
        f"{len(private)} features are tagged `pii` or derived from such" if private else "no feature is tagged `pii`"
    )
    if facts.champion is None:
        return Finding(0, f"{lineage}; no model card tells it yet", "`engine run`; tag personal data: `tags: [pii]`")
    told = f"{lineage}; lineage is followed and told on every model card; secrets are kept as references only"
    if tagged or sources or facts.card.limitations:
        return Finding(1, told)
    return Finding(0.5, told, "tag what is personal (`tags: [pii]`), or say in `card.limitations` that nothing is")


def quick(facts: Facts) -> Finding:
    """6. New features can be added quickly."""
    count = len(facts.program.feature_names)
    if not facts.spec.tests:
        return Finding(0.5, f"{count} features in one declaration, for training and serving", "examples: `tests:`")
    return Finding(
        1, f"{count} features in one declaration for training and serving; {len(facts.spec.tests)} examples try them"
    )


def code_tested(facts: Facts) -> Finding:
    """7. All input feature code is tested."""
    if not facts.cases:
        return Finding(0, "no feature has a test case", "`tests: {name: {given: …, at: …, request: …, expect: …}}`")
    failed = [case.name for case in facts.cases if not case.passed]
    if failed:
        return Finding(0, f"cases fail: {', '.join(failed)}", "`engine features test`")
    named = {item.feature for case in facts.cases for item in case.compared}
    covered = named | {
        other for name in named if name in facts.program.by_name for other in upstream(facts.program, name)
    }
    families = declarations(facts.spec.features)
    declared = {how for how, _ in families.values()}
    tested = {families[name][0] for name in covered if name in families}
    left = sorted(declared - tested)
    found = f"{len(facts.cases)} cases pass; they cover {len(tested)} of {len(declared)} declared features"
    if len(tested) >= 0.8 * len(declared):
        return Finding(1, f"{found}; the compiler checks the types of all")
    return Finding(
        0.5, found, f"cases for {', '.join(left[:6])}" + (f" and {len(left) - 6} more" if len(left) > 6 else "")
    )


QUESTIONS = (
    Question("data", 1, "Feature expectations are captured in a schema", schema),
    Question("data", 2, "All features are beneficial", beneficial),
    Question("data", 3, "No feature's cost is too much", cost),
    Question("data", 4, "Features adhere to meta-level requirements", requirements),
    Question("data", 5, "The data pipeline has appropriate privacy controls", privacy),
    Question("data", 6, "New features can be added quickly", quick),
    Question("data", 7, "All input feature code is tested", code_tested),
)

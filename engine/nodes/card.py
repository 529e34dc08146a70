"""The model card: what a model is for, what it was trained on, how well it does and where it does not. Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORST_SLICES = 5


def render_card(card: Mapping[str, Any], described: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """Write the card from measured facts and from what the pipeline's `card:` says; nothing is made up for what is absent."""
    return (
        "\n\n".join(
            section
            for section in (
                f"# Model card: {described['pipeline']}",
                card["doc"],
                _facts(card, described),
                _section(
                    "Intended use", card["intended_use"] or "Not stated. Say it in the pipeline's `card.intended_use`."
                ),
                _section(
                    "Limitations", card["limitations"] or "Not stated. Say it in the pipeline's `card.limitations`."
                ),
                _section("Data", _data(described)),
                _section("Personal data", _personal(card.get("pii", {}))),
                _section("Quality on the test period", _metrics(evidence)),
                _section("Weakest slices", _slices(evidence)),
                _section("Gates", _gates(evidence)),
            )
            if section
        )
        + "\n"
    )


def card_facts(card: Mapping[str, Any], evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the card says of who answers for the model, and where it is weak, for machines (`CardFacts`)."""
    kept = {name: card[name] for name in ("owner", "intended_use", "limitations", "review_by")}
    return {**kept, "weak_slices": [line.removeprefix("- ") for line in _worst(evidence)]}


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _facts(card: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    trained = described["trainer"]
    lines = [
        f"- Owner: {card['owner'] or 'not stated'}",
        f"- Review by: {card['review_by'] or 'not stated'}",
        f"- Task: {described['task']}; trainer: {trained['component']}; {len(trained['columns'])} columns",
        f"- Trained on {trained['rows']:,} rows, seed {trained['seed']}",
        f"- Feature program: `{described['program_digest'][:16]}`",
    ]
    return "\n".join(lines)


def _data(described: Mapping[str, Any]) -> str:
    lines = [
        f"- {name}: {item['rows']:,} rows" + (f", {item['first'][:10]} to {item['last'][:10]}" if item["first"] else "")
        for name, item in described["data"].items()
    ]
    parts = [
        f"- {part}: {item['rows']:,} rows, {item['first'][:10]} to {item['last'][:10]}{_label_mean(item)}"
        for part, item in described["split"].items()
        if isinstance(item, Mapping) and part != "unused"
    ]
    return "\n".join([*lines, *parts])


def _label_mean(part: Mapping[str, Any]) -> str:
    return "" if part["label_mean"] is None else f", label mean {part['label_mean']:.4f}"


def _personal(private: Mapping[str, str]) -> str:
    if not private:
        return "No feature is tagged `pii`, and no source that one comes from."
    return "\n".join(f"- {name}: {'tagged `pii`' if how == 'tagged' else 'derived from what is tagged `pii`'}"
                     for name, how in private.items())  # fmt: skip


def _metrics(evidence: Mapping[str, Any]) -> str:
    models = evidence["evaluation"]["models"]
    names = [name for name in ("challenger", "baseline", "champion") if models.get(name)]
    rows = [
        f"| {metric} | " + " | ".join(_interval(models[name]["metrics"].get(metric)) for name in names) + " |"
        for metric in models["challenger"]["metrics"]
    ]
    return "\n".join([f"| metric | {' | '.join(names)} |", f"|---|{'---|' * len(names)}", *rows])


def _interval(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return "not defined"
    if metric.get("low") is None:
        return f"{metric['value']:.4f}"
    return f"{metric['value']:.4f} ({metric['low']:.4f} to {metric['high']:.4f})"


def _slices(evidence: Mapping[str, Any]) -> str:
    return "\n".join(_worst(evidence)) or "No slice had enough rows to be measured."


def _worst(evidence: Mapping[str, Any]) -> list[str]:
    """Give the weakest slices, a line each: those that a search confirmed, then the weakest of the declared ones."""
    return [*_searched(evidence), *_declared(evidence)]


def _searched(evidence: Mapping[str, Any]) -> list[str]:
    return [
        f"- {item['slice']}: found by search, worse than all other rows by {item['gap']:.4f}, n = {item['n']:,}"
        for document in evidence.get("analyses", {}).values()
        if document["kind"] == "weak_slices"
        for item in document["facts"].get("slices", ())
        if item["slice"] in document["facts"].get("confirmed", ())
    ]


def _declared(evidence: Mapping[str, Any]) -> list[str]:
    primary = evidence["evaluation"].get("primary")
    found = [
        item for item in evidence["evaluation"].get("slices", []) if item.get("metric", {}).get("value") is not None
    ]
    if not found:
        return []
    better = found[0]["metric"]["higher_is_better"]
    worst = sorted(found, key=lambda item: item["metric"]["value"], reverse=not better)[:_WORST_SLICES]
    return [
        f"- {item['column']} = {item['value']}: {primary} {_interval(item['metric'])}, n = {item['n']:,}"
        for item in worst
    ]


def _gates(evidence: Mapping[str, Any]) -> str:
    gates = evidence["gates"]
    lines = [
        f"- {gate['name']}: {gate['status']}; observed {gate['observed']}, required {gate['required']}"
        for gate in gates["results"]
    ]
    return "\n".join([f"Verdict: **{gates['verdict']}**.", "", *lines])

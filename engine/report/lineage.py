"""A feature's lineage as a picture: sources and request fields on the left, the feature, then who uses it.

Enters an explanation and what each feature around it reads. Leaves SVG, drawn as the plan is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.records import FeatureExplanation
from engine.report.graph import Card, draw_cards

_WORDS = {"source": "source", "request": "request", "feature": "feature", "subject": "this", "user": "uses it"}


def draw_lineage(told: FeatureExplanation, needs: Mapping[str, Sequence[str]]) -> str:
    """Draw it; `needs` maps every feature of the picture to the sources (`source NAME`), fields and features it reads."""
    users = [*told.used_by, *(f"model {name}" for name in told.models)]
    edges: dict[str, Sequence[str]] = {item: () for found in needs.values() for item in found}
    edges |= {**needs, **dict.fromkeys(users, (told.name,))}
    cards = [_card(name, told, needs, users) for name in edges]
    return draw_cards(cards, edges, (f"Lineage of feature {told.name}", told.words))


def _card(name: str, told: FeatureExplanation, needs: Mapping[str, Sequence[str]], users: Sequence[str]) -> Card:
    if name == told.name:
        state = "subject"
    elif name in users:
        state = "user"
    elif name in needs:
        state = "feature"
    else:
        state = "source" if name.startswith("source ") else "request"
    detail = told.type if state == "subject" else ""
    return Card(name, state, _WORDS[state], detail, told.words if state == "subject" else name)

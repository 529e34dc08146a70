"""Keys do not move: a change here makes every cached result and every recorded digest new, and needs a new key scheme."""

from __future__ import annotations

import pytest

from engine.keys import KEY_SCHEME, Json, canonical_json, digest, digest_bytes
from engine.plan.model import PlanNode, action_key

NODE = PlanNode(
    name="train",
    kind="train",
    inputs={"matrix": "features", "split": "split"},
    settings={"rounds": 200, "params": {"num_leaves": 31, "eta": 0.05}},
    code={"lightgbm": "4.7.0", "engine": "ab"},
)
INPUTS = {"matrix": "11", "split": "22"}
PINNED = "58363212c5e072c830f436e9666b0cdacf8351c78a2f1aa3c04fd6647450e463"


def test_the_key_scheme() -> None:
    assert KEY_SCHEME == 1, "a new scheme: write it into CHANGELOG.md, and pin the keys below anew"


@pytest.mark.parametrize(
    ("document", "text", "expected"),
    [
        (None, "null", "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"),
        (True, "true", "b5bea41b6c623f7c09f1bf24dcae58ebab3c0cdd90ad966bc43a45b44867e12b"),
        (0, "0", "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"),
        (1e-300, "1e-300", "e4d4c3c52e45077e307b6aea260f9138b998da7a1743065d83a2e78f7df8cdd6"),
        ("", '""', "12ae32cb1ec02d01eda3581b127c1fee3b0dc53572ed6baf239721a03d82e126"),
        (
            "naïve \u2028 \U0001f6eb",
            '"naïve \u2028 \U0001f6eb"',
            "ddd09f36f44c43e8a420877ecfbc3681af90516863a867307e835e416efbcf1c",
        ),
        (["a;b"], '["a;b"]', "b3e4024d2abddbe037f07f23ebf58b470f1b3159232b5b4246f6ad68c954fcc6"),
        (["a", "b"], '["a","b"]', "0473ef2dc0d324ab659d3580c1134e9d812035905c4781fdd6d529b0c6860e13"),
        (
            {"b": [1, 2.0, None], "a": {"z": False}},
            '{"a":{"z":false},"b":[1,2.0,null]}',
            "8f0d5f1e047c6f3e659f14cdfb216f2d33650fe98088c7af4dfba1bcd177ff27",
        ),
    ],
)
def test_a_document_keeps_its_text_and_digest(document: Json, text: str, expected: str) -> None:
    assert canonical_json(document).decode() == text
    assert digest(document) == expected
    assert digest_bytes(text.encode()) == expected


def test_a_node_keeps_its_key() -> None:
    assert action_key(NODE, INPUTS) == PINNED


@pytest.mark.parametrize(
    "change",
    [
        {"title": "other words"},
        {"declared_at": {"rounds": "conf/pipeline/x.yaml:3:1"}},
        {"timeout_seconds": 1.0},
        {"retries": 0},
        {"backoff_seconds": 9.0},
        {"inputs": {"matrix": "renamed", "split": "split"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_decide_the_result_is_not_in_the_key(change: dict) -> None:
    assert action_key(_changed(change), INPUTS) == PINNED


@pytest.mark.parametrize(
    "change",
    [{"kind": "other"}, {"settings": {"rounds": 201}}, {"settings": {"rounds": 200.0}}, {"code": {"engine": "ab"}}],
    ids=str,
)
def test_what_decides_the_result_is(change: dict) -> None:
    assert action_key(_changed(change), INPUTS) != PINNED


def test_the_roles_of_inputs_count() -> None:
    assert action_key(NODE, {"matrix": "22", "split": "11"}) != PINNED


def _changed(change: dict) -> PlanNode:
    fields = {name: getattr(NODE, name) for name in NODE.__struct_fields__}
    return PlanNode(**{**fields, **change})

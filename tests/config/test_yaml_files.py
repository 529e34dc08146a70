"""One YAML file: the dialect, the caps, and that nothing in a file can raise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.files import MAX_BYTES, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"), ("yes", "yes"), ("on", "on"), ("true", True), ("False", False), ("12:30", "12:30"),
        ("010", "010"), ("2013-09-01", "2013-09-01"), ("0x1f", 31), ("1_000", 1000), ("1.5e3", 1500.0), ("1e5", 1e5),
        (".5", 0.5), ("-3", -3), ("0", 0), ("~", None), ("", None), (".inf", ".inf"), ("1.", 1.0), ("'7'", "7"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}\n", "x.yaml").values["key"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text() -> None:
    assert parse_yaml("on: {3: a, null: b, true: c}\n", "x.yaml").values == {"on": {"3": "a", "null": "b", "true": "c"}}


def test_merge_keys_bring_values_that_own_keys_replace() -> None:
    file = parse_yaml("base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\n", "x.yaml")
    assert file.problems == ()
    assert file.values["own"] == {"a": 1, "b": 3}


def test_a_hundred_thousand_brackets_are_a_message_and_not_a_crash() -> None:
    (problem,) = parse_yaml("[" * 100_000, "x.yaml").problems
    assert "nested more than" in problem.message


def test_an_alias_bomb_is_counted_without_expanding_it() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 50)}]" for n in range(1, 50)]
    (problem,) = parse_yaml("\n".join(lines), "x.yaml").problems
    assert "aliases" in problem.message


def test_a_few_aliases_are_fine() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: [*a, *a, *a]\n", "x.yaml").problems == ()


def test_a_huge_file_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    (problem,) = read_yaml(path, "big.yaml").problems
    assert "bytes" in problem.message


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    (problem,) = read_yaml(tmp_path / "none.yaml", "none.yaml").problems
    assert "cannot be read" in problem.message


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(path, "bom.yaml").values == {"a": 1}


@given(st.text(alphabet=st.sampled_from("abc:-[]{},&*!|>'\"#%@`?\n\t ${}.0123~<\\é"), max_size=60))
def test_no_text_raises(text: str) -> None:
    file = parse_yaml(text, "x.yaml")
    assert file.problems or isinstance(file.values, dict)
    for problem in file.problems:
        assert problem.message
        assert problem.places[0].line >= 1
        assert problem.places[0].column >= 1


@given(st.binary(max_size=60))
def test_no_bytes_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.yaml"
    path.write_bytes(data)
    read_yaml(path, "x.yaml")

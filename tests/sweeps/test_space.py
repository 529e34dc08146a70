"""Search spaces from Hydra's words, and the mistakes in them."""

from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.sweeps.space import Choices, Real, Whole, read_space


def test_words_become_domains() -> None:
    space = read_space(
        [
            "pipeline=p",
            "a=choice(x,y)",
            "b=range(8,65,8)",
            "c=int(interval(4,40))",
            "d=tag(log,interval(0.01,0.3))",
            "e=1,2",
        ],
        {"f": "interval(0.0, 1.0)", "a": "choice(q)"},
    )
    assert space.domains == {
        "f": Real(0.0, 1.0),
        "a": Choices(("x", "y")),
        "b": Whole(8, 64, 8),
        "c": Whole(4, 40),
        "d": Real(0.01, 0.3, None, True),
        "e": Choices(("1", "2")),
    }
    assert space.fixed == ("pipeline=p",)


def test_a_grid_has_every_value() -> None:
    assert read_space(["a=range(0,1,0.25)", "b=choice(x,y)"], {}).grid() == {
        "a": [0.0, 0.25, 0.5, 0.75],
        "b": ["x", "y"],
    }
    with pytest.raises(UsageError, match="no grid"):
        read_space(["a=interval(0,1)"], {}).grid()


MISTAKES = {
    "a=range(5,5)": "no value",
    "a=interval(3.0,3.0)": "empty",
    "a=tag(log,interval(0.0,1.0))": "above 0",
    "a=1": "nothing is searched",
    "a=interval(": "cannot be read",
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.items())
def test_mistakes_are_worded(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_space([text], {})

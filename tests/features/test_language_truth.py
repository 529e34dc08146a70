"""Random programs over random histories agree with the reference, bit for bit: in a batch, row by row, shuffled."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features.compute import compute, spine_of
from engine.features.encoders import FittedEncoders, encode, fit_encoders
from engine.features.label import label_rows
from engine.features.program import compile_program
from engine.keys import canonical_json
from engine.spec import Available, SpineSpec
from tests.features import reference as ref
from tests.features import worlds as w

chances = st.randoms(use_true_random=False)
COMPARED = {"values": 0}
"""How many values have been compared with the reference; a deep run prints it."""


def same(found: pl.DataFrame, truth: list[tuple[Any, ...]]) -> None:
    COMPARED["values"] += len(truth) * found.width
    made = w.bits(found)
    if made != truth:
        for row, (left, right) in enumerate(zip(made, truth, strict=True)):
            for name, one, other in zip(found.columns, left, right, strict=True):
                assert one == other, (row, name)
    assert made == truth


@settings(max_examples=w.examples(60), deadline=None)
@given(w.scenes(), chances)
def test_compute_is_the_truth_in_a_batch_row_by_row_and_shuffled(scene: w.Scene, chance: Any) -> None:
    program, spine, history, as_of = scene.program, scene.spine, scene.history, scene.world.as_of
    truth = scene.truth()
    same(compute(program, spine, history, as_of), truth)
    for index in range(len(scene.asked)):
        same(compute(program, spine[index : index + 1], history, as_of), truth[index : index + 1])
    parts = [w.to_frame([row], w.EVENT) for row in chance.sample(scene.events, len(scene.events))]
    chunked = {**history, "ev": pl.concat(parts, rechunk=False) if parts else history["ev"]}
    order = chance.sample(range(len(scene.asked)), len(scene.asked))
    pieces = pl.concat([spine[index : index + 1] for index in order], rechunk=False)
    same(compute(program, pieces, chunked, as_of), [truth[index] for index in order])


@settings(max_examples=w.examples(40), deadline=None)
@given(w.scenes(), chances)
def test_the_future_changes_nothing_and_other_rows_change_nothing(scene: w.Scene, chance: Any) -> None:
    now = chance.choice(range(len(scene.asked)))
    at, source = scene.asked[now]["event_time"], scene.world.sources["ev"]

    def is_known(row: w.Row) -> bool:
        since = row["a"] if source.available else None if row["t"] is None else row["t"] + source.delay
        return since is not None and since <= at

    history = {**scene.history, "ev": w.to_frame([row for row in scene.events if is_known(row)], w.EVENT)}
    whole = compute(scene.program, scene.spine, scene.history, scene.world.as_of)
    same(compute(scene.program, scene.spine[now], history, scene.world.as_of), w.bits(whole[now]))


@settings(max_examples=w.examples(40), deadline=None)
@given(w.events(0, 16), st.sampled_from([Available(), Available(delay="2us"), Available(column="a")]), st.booleans())
def test_the_spine_is_the_truth(rows: list[w.Row], available: Available, limited: bool) -> None:
    setting, as_of = w.Setting(available=available), 4 if limited else None
    spine = SpineSpec(source="ev", request=w.REQUEST, where="n > 0")
    program = compile_program(w.typed(w.WHOLE), spine, None, w.sources_of(setting)).program
    made = spine_of(program, {"ev": w.to_frame(rows, w.EVENT)}, as_of)
    source = ref.Source(w.EVENT, ("k",), "t", "id", available.column, ref.microseconds(available.delay))
    truth = ref.spine_of(rows, source, w.EXPRESSIONS["n > 0"].mean, as_of)
    names = ["id", "t", *w.REQUEST]
    same(made.select("row_id", "event_time", *w.REQUEST), [tuple(w.bits_of(row[n]) for n in names) for row in truth])


@settings(max_examples=w.examples(60), deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "from": st.just("ev"),
            "expr": st.sampled_from(["n > 0", "v", "n % 7"]),
            "on": st.sampled_from([{"id": "row"}, {"k": "k"}, {"k": "k", "j": "j"}]),
            "horizon": st.sampled_from([None, "0s", "3us", "2s", "1d"]),
            "maturity": st.sampled_from(["0s", "2us", "4s", "2d"]),
        }
    ),
    st.sampled_from([Available(), Available(delay="2us"), Available(column="a")]),
    st.sampled_from(w.BASES),
    st.data(),
)
def test_labels_are_the_truth(label: w.Row, available: Available, base: int, data: Any) -> None:
    rows, asked = data.draw(w.events(base, 20)), data.draw(w.questions(base, 8))
    now = base + data.draw(w.offsets)
    compiled, source = w.label_scene(label, rows, w.Setting(available=available))
    spine = w.to_frame(asked, {"event_time": "timestamp", "row_id": "i64", **w.REQUEST})
    made = label_rows(compiled.program, spine, {"ev": w.to_frame(rows, w.EVENT)}, now)
    truth = [
        ref.label_of(
            {**ref.cleaned(row), "row": row["row_id"]},
            rows,
            source,
            label=label,
            expression=w.EXPRESSIONS[label["expr"]],
            now=now,
        )
        for row in asked
    ]
    latest = 253_402_300_799_999_999
    same(
        made.rows,
        [
            tuple(map(w.bits_of, (one.label, one.known_at if (one.known_at or 0) <= latest else None,
                                  one.reason == "usable", one.reason)))
            for one in truth
        ],
    )  # fmt: skip
    assert sum(made.counts.values()) == len(asked)


encoders = st.one_of(
    st.tuples(st.sampled_from(["s", "n", "b", "k"]), st.sampled_from(["vocab", "frequency"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["v", "n"]), st.just("bins"), st.integers(2, 12)),
    st.tuples(st.sampled_from(["v", "n", "b"]), st.just("standardise"), st.just(0)),
)


@settings(max_examples=w.examples(100), deadline=None)
@given(st.lists(encoders, min_size=1, max_size=5), w.questions(0, 40), w.questions(0, 12), chances)
def test_encoders_are_the_truth_for_any_order_of_the_training_rows(
    chosen: list[tuple[str, str, int]], training: list[w.Row], asked: list[w.Row], chance: Any
) -> None:
    parameters = {"vocab": "min_count", "frequency": "min_count", "bins": "bins"}
    features = {
        f"e{index}": {"encode": column, "with": encoder}
        | ({parameters[encoder]: number} if encoder in parameters else {})
        for index, (column, encoder, number) in enumerate(chosen)
    }
    spine = SpineSpec(source="asked", request=w.REQUEST)
    program = compile_program(w.typed(features), spine, None, w.sources_of(w.Setting())).program
    frame = w.to_frame(training, w.REQUEST)
    fitted = fit_encoders(program, frame)
    shuffled = w.to_frame(chance.sample(training, len(training)), w.REQUEST)
    assert canonical_json(fit_encoders(program, shuffled).to_json()) == canonical_json(fitted.to_json())
    stored = FittedEncoders.from_json(msgspec.json.decode(msgspec.json.encode(fitted.to_json())))
    fits = [
        ref.fit(encoder, [ref.clean(row[column]) for row in training], min_count=number, bins=number)
        for column, encoder, number in chosen
    ]
    truth = [
        tuple(map(w.bits_of, (number_of(item, fit, row) for item, fit in zip(chosen, fits, strict=True))))
        for row in asked
    ]
    rows = w.to_frame(asked, w.REQUEST)
    same(encode(program, stored, rows), truth)
    for index in range(len(asked)):
        same(encode(program, stored, rows[index]), truth[index : index + 1])


def number_of(item: tuple[str, str, int], fit: Any, row: w.Row) -> Any:
    column, encoder, _ = item
    number = fit(ref.clean(row[column]))
    unknown = {"vocab": -1, "bins": -1, "frequency": -1.0, "standardise": None}[encoder]
    return unknown if number is None else number


def test_say_how_much_was_compared(capsys: Any) -> None:
    with capsys.disabled():
        if w.DEEP:
            print(f"\ncompared {COMPARED['values']:,} values with the reference; 0 differ")
    assert COMPARED["values"] > 0

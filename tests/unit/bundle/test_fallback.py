"""The fallback answers in the model's form: a constant, a rule of the row, or the champion before."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import steelyard as sy
from steelyard.bundle.fallback import Fallback
from steelyard.bundle.fallback_graph import compile_fallback
from steelyard.bundle.format import read_verified, seal
from steelyard.bundle.outputs import Guarded, Outputs
from steelyard.bundle.predictor import Predictor
from steelyard.core.config import Config
from steelyard.errors import DefinitionError, IntegrityError, RefusedError
from steelyard.features.columns import columns_of
from steelyard.flow.building import Built, build, read_table


class House(sy.Row):
    rooms: int
    area: float | None
    district: Literal["north", "south"]


DEFINITION = {"name": "m", "row": House, "data": sy.Csv("t"), "label": "y"}
CLASSES: dict[str, Any] = {
    "binary": ("no", "yes"),
    "multiclass": ("high", "low", "mid"),
    "regression": None,
}
ROWS = [(rooms, 10.0 * rooms, ["north", "south"][rooms % 2]) for rooms in range(1, 9)]


def model(fallback: Any) -> sy.Model:
    return sy.Model(**DEFINITION, estimator=LinearRegression(), fallback=fallback)  # type: ignore[arg-type]


def fallback(given: Any, task: Any, classes: Any = None) -> Fallback:
    """Return a compiled fallback, checked against the rows, as a loaded bundle has it."""
    definition, classes = model(given), classes or CLASSES[task]
    made = compile_fallback(definition, task, classes)
    made.check(columns_of(definition.fields, ROWS))
    files = {"fallback.json": json.dumps(made.document).encode()}
    graph = made.graph(definition.fields)
    if graph is not None:
        files["fallback.onnx"] = graph.SerializeToString()
    outputs = Outputs({"task": task, "classes": classes, "threshold": 0.5})
    return Fallback(files, definition.fields, outputs)


@pytest.mark.parametrize(
    ("task", "value", "answer"),
    [
        ("regression", 12, (12.0, None)),
        ("binary", 0.75, ("yes", [0.25, 0.75])),
        ("binary", 0, ("no", [1.0, 0.0])),
        ("binary", "yes", ("yes", [0.0, 1.0])),
        ("binary", {"yes": 0.25, "no": 0.75}, ("no", [0.75, 0.25])),
        ("multiclass", "mid", ("mid", [0.0, 0.0, 1.0])),
        ("multiclass", {"low": 0.5, "mid": 0.25, "high": 0.25}, ("low", [0.25, 0.5, 0.25])),
    ],
)
def test_a_constant_answers_in_the_form_of_the_task(task: str, value: Any, answer: Any) -> None:
    made = fallback(sy.Constant(value), task)
    assert made.kind == "constant"
    assert made.answer_many(ROWS) == [answer] * len(ROWS)
    assert type(made.answer_one(ROWS[0])[0]) is type(answer[0])  # type: ignore[index]


@pytest.mark.parametrize(
    ("task", "value", "told"),
    [
        ("regression", "12", "a regression answers with a number"),
        ("regression", True, "a regression answers with a number"),
        ("binary", 1.5, "probability of 'yes', from 0 to 1"),
        ("binary", "Yes", "Did you mean yes"),
        ("multiclass", 0.3, "no label of the data"),
        ("multiclass", "middle", "Did you mean mid"),
        ("multiclass", {"low": 0.5, "lwo": 0.5}, "Did you mean low"),
        ("multiclass", {"low": 0.5, "mid": 0.5}, "high"),
    ],
)
def test_a_constant_of_another_form_is_told(task: str, value: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as caught:
        fallback(sy.Constant(value), task)
    assert caught.value.field == "fallback"


def test_without_a_fallback_there_is_no_answer() -> None:
    made = fallback(None, "binary")
    assert made.kind == "none"
    assert made.answer_many(ROWS[:2]) == [None, None]


def test_a_rule_answers_by_the_row() -> None:
    number = fallback(sy.Rule(lambda xp, c: 2 * c.rooms + xp.fill_null(c.area, 1.5)), "regression")
    assert number.answer_many(ROWS) == [(12.0 * row[0], None) for row in ROWS]
    assert number.answer_one((3, None, "north")) == (7.5, None)

    rule = sy.Rule(lambda xp, c: xp.where((c.rooms > 4) & (c.district == "north"), 0.75, 0.25))
    share = fallback(rule, "binary")
    assert share.answer_one((6, None, "north")) == ("yes", [0.25, 0.75])
    assert share.answer_one((6, None, "south")) == ("no", [0.75, 0.25])

    several = fallback(
        sy.Rule(
            lambda xp, c: {
                "low": xp.where(c.rooms < 3, 0.5, 0.125),
                "high": xp.where(c.rooms < 3, 0.25, 0.75),
                "mid": xp.where(c.rooms < 3, 0.25, 0.125),
            }
        ),
        "multiclass",
    )
    assert several.answer_one(ROWS[0]) == ("low", [0.25, 0.5, 0.25])
    assert several.answer_one(ROWS[5]) == ("high", [0.75, 0.125, 0.125])


def test_an_answer_does_not_depend_on_its_company() -> None:
    rule = sy.Rule(lambda xp, c: 1 / (1 + xp.exp(-c.rooms + xp.sin(xp.fill_null(c.area, 0.0)))))
    made = fallback(rule, "binary")
    rows = [(n % 11, None if n % 5 == 0 else n / 7, "north") for n in range(100)]
    alone = [made.answer_one(row) for row in rows]
    assert made.answer_many(rows) == alone
    assert made.answer_many(rows[13:30]) == alone[13:30]


def test_what_a_rule_says_beyond_its_training_rows_is_bounded_or_nothing() -> None:
    made = fallback(sy.Rule(lambda xp, c: c.area / 100), "binary")
    assert made.answer_many([(1, 250.0, "north"), (1, -3.0, "north")]) == [
        ("yes", [0.0, 1.0]),
        ("no", [1.0, 0.0]),
    ]
    assert made.answer_many([(1, None, "north"), (1, 50.0, "north")]) == [None, ("yes", [0.5, 0.5])]
    ratio = fallback(sy.Rule(lambda xp, c: 1 / c.rooms), "regression")
    assert ratio.answer_one((0, 1.0, "north")) is None


def test_shares_of_several_labels_are_made_to_sum_to_one() -> None:
    def shares(xp: Any, c: Any) -> Any:
        low = c.rooms / 10
        return {"low": low, "mid": 1 - low, "high": 0 * low}

    made = fallback(sy.Rule(shares), "multiclass")
    answer = made.answer_one((30, 1.0, "north"))
    assert answer == ("low", [0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("task", "function", "told"),
    [
        ("binary", lambda xp, c: c.area / 10, "not probabilities for 7 of 8 training rows"),
        ("regression", lambda xp, c: 1 / (c.rooms - 3), "not a finite number for 1 of 8"),
        ("binary", lambda xp, c: xp.mean(c.area), "xp.mean may not be used"),
        ("binary", lambda xp, c: 0.3, "the rule's 'answer' is 0.3, no array over the rows"),
        ("binary", lambda xp, c: c.are / 100, "are"),
        ("binary", lambda xp, c: 0.3 if c.rooms > 3 else 0.5, "could not be traced"),
        ("binary", lambda xp, c: c.district, "got text"),
        ("multiclass", lambda xp, c: c.rooms / 10, "label: array"),
        ("regression", lambda xp, c: {"x": c.rooms}, "one array"),
        ("multiclass", lambda xp, c: {"hi": c.rooms}, "Did you mean high"),
        ("multiclass", lambda xp, c: {"low": c.rooms}, "nothing of the labels"),
        ("binary", lambda xp, c: {"no": c.rooms / 10, "yes": c.rooms / 20}, "not probabilities"),
    ],
)
def test_a_rule_that_cannot_answer_is_told(task: str, function: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as caught:
        fallback(sy.Rule(function), task)
    assert caught.value.field == "fallback"


def houses() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rooms = rng.integers(1, 9, 300)
    return pl.DataFrame(
        {
            "rooms": rooms,
            "area": [None if i % 9 == 0 else float(i % 100) for i in range(300)],
            "district": ["north", "south"] * 150,
            "price": rooms * 10.0,
            "big": np.where(rooms > 4, "yes", "no"),
        }
    )


def built(folder: Path, label: str, rule: Any, **given: Any) -> Built:
    estimator = LinearRegression() if label == "price" else LogisticRegression()
    table = {"name": "m", "row": House, "data": sy.Python(houses), "positive": None} | given
    if label == "big":
        table["positive"] = table["positive"] or "yes"
    definition = sy.Model(label=label, estimator=estimator, fallback=rule, **table)
    return build(definition, read_table(definition, Config(folder / "state")), folder)


def test_a_rule_is_sealed_with_golden_answers(tmp_path: Path) -> None:
    made = built(tmp_path, "big", sy.Rule(lambda xp, c: xp.where(c.rooms > 4, 0.75, 0.25)))
    other = built(tmp_path, "big", sy.Rule(lambda xp, c: xp.where(c.rooms > 4, 0.5, 0.25)))
    assert made.bundle != other.bundle
    assert made.predictor.fallback.by_rule
    row = made.predictor.golden_rows()[0]
    answer = made.predictor.fallback.answer_one(row)
    files, _ = read_verified(made.folder)
    golden = [json.loads(line) for line in files["golden.jsonl"].splitlines()]
    assert tuple(golden[0]["fallback"]) == answer
    golden[0]["fallback"][1][0] += 1e-3
    changed = {**files, "golden.jsonl": b"\n".join(json.dumps(g).encode() for g in golden)}
    with pytest.raises(IntegrityError, match="row 1: expected the fallback"):
        Predictor.load(seal(changed, tmp_path / "changed")[1])


def test_a_wrong_fallback_is_told_before_training(tmp_path: Path) -> None:
    class Never(LogisticRegression):
        def fit(self, *given: Any, **named: Any) -> Any:
            raise AssertionError("it was trained")

    definition = sy.Model(
        name="m",
        row=House,
        data=sy.Python(houses),
        label="big",
        positive="yes",
        estimator=Never(),
        fallback=sy.Constant(7),
    )
    table = read_table(definition, Config(tmp_path / "state"))
    with pytest.raises(DefinitionError, match="from 0 to 1"):
        build(definition, table, tmp_path)


def test_an_unfit_answer_is_the_fallbacks_and_says_why(tmp_path: Path) -> None:
    guards = sy.Guards(output="refuse")
    made = built(tmp_path, "price", sy.Rule(lambda xp, c: 5 * c.rooms), guards=guards)
    near, far = made.predictor.answer_many([(4, None, "north"), (900, None, "north")])
    assert isinstance(near, Guarded)
    assert near.reason == ""
    assert isinstance(far, Guarded)
    assert (far.answer, far.reason) == ((4500.0, None), "out_of_range")
    assert [flag.rule for flag in far.flags] == ["range"]
    none = built(tmp_path, "price", None, guards=guards).predictor
    (error,) = none.answer_many([(900, None, "north")])
    assert "prediction" in str(error)


# The champion before


class Wide(House):
    """A row with a field that the older model does not know."""

    floor: int = 0


class Narrow(sy.Row):
    """A row without a field that the older model needs."""

    rooms: int


def answers_of(predictor: Predictor, rows: Sequence[Any]) -> list[Any]:
    return predictor.fallback.answer_many(rows)


def test_the_champion_before_answers_rows_of_the_newer_one(tmp_path: Path) -> None:
    old = built(tmp_path, "big", None).predictor
    asks = sy.PreviousChampion()
    new = built(tmp_path, "big", asks, row=Wide, data=sy.Python(houses)).predictor
    rows = [(3, None, "south", 2), (7, 12.0, "north", 1)]
    assert answers_of(new, rows) == [None, None]
    assert new.fallback.bundle is None
    stands = new.fallback.after(old)
    assert stands.bundle == old.bundle
    assert stands.answer_many(rows) == old.predict_many([row[:3] for row in rows])
    assert new.fallback.bundle is None


def test_probabilities_follow_the_newer_order_of_labels(tmp_path: Path) -> None:
    old = built(tmp_path, "big", None, positive="no").predictor
    new = built(tmp_path, "big", sy.PreviousChampion()).predictor
    assert (old.classes, new.classes) == (("yes", "no"), ("no", "yes"))
    row = (2, None, "south")
    label, scores = old.predict_one(row)
    assert scores is not None
    assert new.fallback.after(old).answer_one(row) == (label, scores[::-1])


def test_what_it_cannot_answer_is_left_to_the_rest(tmp_path: Path) -> None:
    old = built(tmp_path, "big", None).predictor
    asks = sy.PreviousChampion(otherwise=sy.Rule(lambda xp, c: c.rooms / 10))
    new = built(tmp_path, "big", asks, row=Narrow).predictor
    stands = new.fallback.after(old)
    assert stands.kind == "previous_champion"
    assert stands.answer_one((7,)) == ("yes", [1 - 0.7, 0.7])


def test_a_champion_that_fails_as_well_is_no_end(tmp_path: Path, monkeypatch: Any) -> None:
    old = built(tmp_path, "big", None).predictor
    new = built(tmp_path, "big", sy.PreviousChampion(otherwise=sy.Constant(0.25))).predictor
    stands = new.fallback.after(old)
    monkeypatch.setattr(old, "run", lambda feeds, options: 1 / 0)
    assert stands.answer_one((7, None, "north")) == ("no", [0.75, 0.25])
    monkeypatch.setattr(old, "run", lambda feeds, options: [("yes", [float("nan")] * 2)])
    assert stands.answer_one((7, None, "north")) == ("no", [0.75, 0.25])


def test_one_of_another_task_cannot_stand_in(tmp_path: Path) -> None:
    new = built(tmp_path, "big", sy.PreviousChampion()).predictor
    with pytest.raises(RefusedError, match="regression"):
        new.fallback.after(built(tmp_path, "price", None).predictor)


def test_a_bundle_is_served_though_the_one_before_is_lost(tmp_path: Path, caplog: Any) -> None:
    old = built(tmp_path, "big", None)
    new = built(tmp_path, "big", sy.PreviousChampion(otherwise=sy.Constant(0.25)))
    row = (7, None, "north")
    whole = Predictor.load(new.folder, previous=(old.folder, old.bundle))
    assert whole.fallback.answer_one(row) == old.predictor.predict_one(row)
    (old.folder / "packed.onnx").unlink()
    with caplog.at_level(logging.WARNING):
        left = Predictor.load(new.folder, previous=(old.folder, old.bundle))
    assert "packed.onnx" in caplog.text
    assert left.fallback.answer_one(row) == ("no", [0.75, 0.25])

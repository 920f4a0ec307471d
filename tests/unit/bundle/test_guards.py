"""A guard finds exactly what its rules say, by row and by batch, whatever the packed layout is."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression

import steelyard as sy
from steelyard.bundle.guard_limits import guard_limits
from steelyard.bundle.guards import Checked, Guard
from steelyard.bundle.outputs import Guarded
from steelyard.bundle.packing import Packer, Packing
from steelyard.core.answers import Flag
from steelyard.core.config import Config
from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.core.guards import Guards
from steelyard.errors import InputError
from steelyard.features.columns import columns_of
from steelyard.flow.building import Built, build, read_table

START = datetime(2024, 1, 1, tzinfo=UTC)
FIELDS = (
    FieldSpec("age", "int", ge=0, le=200),
    FieldSpec("income", "float", optional=True),
    FieldSpec("debt", "float", optional=True),
    FieldSpec("city", "str", optional=True),
    FieldSpec("plan", "str", optional=True),
    FieldSpec("stars", "int", choices=(1, 2, 3, 4)),
    FieldSpec("active", "bool"),
    FieldSpec("since", "date"),
    FieldSpec("left", "date", optional=True),
    FieldSpec("at", "datetime", aware=True, optional=True),
)
TRAINING = [
    (
        20 + i % 50,
        float(i % 40),
        None if i % 3 == 0 else float(i),  # null is usual here
        ["Oslo", "Rome"][i % 2],
        None if i % 4 == 0 else "pro",  # and here
        [1, 2, 4][i % 3],
        True,
        date(2024, 1, 1) + timedelta(days=i % 30),
        None if i % 2 else date(2024, 1, 1),
        START + timedelta(hours=i),
    )
    for i in range(200)
]
GOOD: tuple[Any, ...] = (30, 5.0, None, "Oslo", None, 4, True, date(2024, 2, 9), None, START)
ODD: list[tuple[str, Any, str]] = [
    ("age", 150, "range"),
    ("income", -900.0, "range"),
    ("income", None, "null"),
    ("debt", 1e6, "range"),
    ("city", "oslo", "unseen"),
    ("city", None, "null"),
    ("plan", "", "unseen"),
    ("stars", 3, "unseen"),
    ("active", False, "unseen"),
    ("since", date(2029, 1, 1), "range"),
    ("left", date(1999, 1, 1), "range"),
    ("at", START - timedelta(days=400), "range"),
    ("at", None, "null"),
]
CODES = {
    "city": {"Oslo": 0.0, "Rome": 1.0},
    "plan": {"pro": 0.0, NULL_STRING: 1.0},
}
BLOCK = ("age", "income", "debt", "stars", "active", "since", "left")
LAYOUTS = {
    "native": Packing((*BLOCK, "city", "plan"), ("at",), (), CODES, {"city": None, "plan": None}),
    "codes": Packing((*BLOCK, "city", "plan"), ("at",), (), CODES, {"city": 2.0, "plan": 2.0}),
    "strings": Packing(("age", "income"), ("at", "left"), ("city", "plan"), {}, {}),
    "little": Packing((), (), ("city",), {}, {}),
}
PLACE = {field.name: i for i, field in enumerate(FIELDS)}


def guard_of(layout: Packing, guards: Guards | None = None) -> Guard:
    columns = columns_of(FIELDS, TRAINING)
    document = guard_limits(guards or Guards(), FIELDS, columns, layout.codes or ())
    return Guard(json.loads(json.dumps(document)), FIELDS, layout)


def check(guard: Guard, layout: Packing, rows: Sequence[Any]) -> list[Checked] | None:
    return guard.check(rows, Packer(layout, FIELDS).pack_many(rows))


def changed(name: str, value: Any) -> tuple[Any, ...]:
    return (*GOOD[: PLACE[name]], value, *GOOD[PLACE[name] + 1 :])


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Packing:
    return request.param  # type: ignore[no-any-return]


def test_rows_like_training_are_passed(layout: Packing) -> None:
    guard = guard_of(layout)
    assert check(guard, layout, [GOOD]) is None
    assert check(guard, layout, TRAINING) is None


@pytest.mark.parametrize(("name", "value", "rule"), ODD, ids=[f"{n}-{r}" for n, _, r in ODD])
def test_each_rule_flags_its_field(layout: Packing, name: str, value: Any, rule: str) -> None:
    guard = guard_of(layout)
    found = check(guard, layout, [GOOD, changed(name, value), GOOD])
    assert found is not None
    assert found[0] == found[2] == ()
    assert isinstance(found[1], tuple)
    assert [(flag.field, flag.rule) for flag in found[1]] == [(name, rule)]


@pytest.mark.parametrize(("name", "value", "rule"), ODD, ids=[f"{n}-{r}" for n, _, r in ODD])
def test_each_rule_can_refuse_and_ignore(layout: Packing, name: str, value: Any, rule: Any) -> None:
    row = changed(name, value)
    (refused,) = check(
        guard_of(layout, Guards(fields={name: {rule: "refuse"}})), layout, [row]
    ) or [()]
    assert isinstance(refused, InputError)
    assert [error["field"] for error in refused.errors] == [name]
    assert refused.errors[0]["message"].startswith("expected")
    assert check(guard_of(layout, Guards(fields={name: {rule: "ignore"}})), layout, [row]) is None


def test_a_refusal_names_every_refused_field_and_no_flagged_one(layout: Packing) -> None:
    guards = Guards(range="refuse", unseen="refuse")
    row = (150, None, None, "Bonn", None, 4, True, date(2024, 2, 9), None, START)
    (refused,) = check(guard_of(layout, guards), layout, [row]) or [()]
    assert isinstance(refused, InputError)
    assert [(error["field"], error["got"]) for error in refused.errors] == [
        ("age", 150),
        ("city", "Bonn"),
    ]


def values_of(field: FieldSpec) -> st.SearchStrategy[Any]:
    usual = st.sampled_from(
        [row[PLACE[field.name]] for row in TRAINING[:20]] + [GOOD[PLACE[field.name]]]
    )
    odd = [value for name, value, _ in ODD if name == field.name]
    return usual | st.sampled_from(odd) if odd else usual


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(LAYOUTS)),
    st.lists(st.tuples(*map(values_of, FIELDS)), min_size=1, max_size=5),
    st.fixed_dictionaries(
        {
            rule: st.sampled_from(["flag", "refuse", "ignore"])
            for rule in ("unseen", "range", "null")
        }
    ),
)
def test_batches_and_layouts_find_what_the_rules_say(
    name: str, rows: list[Any], actions: dict[str, Any]
) -> None:
    layout, guards = LAYOUTS[name], Guards(**actions)
    guard = guard_of(layout, guards)
    together = check(guard, layout, rows) or [()] * len(rows)
    for row, found in zip(rows, together, strict=True):
        (alone,) = check(guard, layout, [row]) or [()]
        wanted = [
            (name, rule)
            for name, value, rule in ODD
            if row[PLACE[name]] == value and actions[rule] != "ignore"
        ]
        refused = [name for name, rule in wanted if actions[rule] == "refuse"]
        for one in (alone, found):
            if isinstance(one, InputError):
                assert [error["field"] for error in one.errors] == refused
            else:
                assert not refused
                assert [(flag.field, flag.rule) for flag in one] == wanted


def test_a_row_of_mostly_nulls_is_empty() -> None:
    fields = tuple(FieldSpec(name, "float", optional=True) for name in "abcd")
    layout = Packing(tuple("abcd"))
    training = [tuple(None if (i + j) % 2 else 1.0 for j in range(4)) for i in range(100)]
    packer = Packer(layout, fields)
    for action in ("flag", "refuse"):
        document = guard_limits(Guards(empty=action), fields, columns_of(fields, training), ())  # type: ignore[arg-type]
        guard = Guard(document, fields, layout)
        rows = [(1.0, None, None, 1.0), (None, None, 1.0, None), (None,) * 4]
        found = guard.check(rows, packer.pack_many(rows))
        assert found is not None
        assert found[0] == ()
        for one in found[1:]:
            if action == "flag":
                assert one == (Flag("body", "empty", "expected at most 2 of 4 values null"),)
            else:
                assert isinstance(one, InputError)
                assert one.errors[0]["field"] == "body"


def test_where_training_had_only_nulls_every_value_is_odd() -> None:
    fields = (FieldSpec("x", "float", optional=True),)
    document = guard_limits(Guards(), fields, columns_of(fields, [(None,), (None,)]), ())
    guard, packer = Guard(document, fields, Packing(("x",))), Packer(Packing(("x",)), fields)
    assert guard.check([(None,)], packer.pack_many([(None,)])) is None
    (found,) = guard.check([(0.0,)], packer.pack_many([(0.0,)])) or [()]
    assert found == (Flag("x", "range", "expected null, as always in training"),)


def test_a_message_is_stable_and_tells_no_private_value() -> None:
    fields = (FieldSpec("age", "int", private=True), FieldSpec("on", "date"))
    training = [(i, date(2024, 1, 1) + timedelta(days=i)) for i in range(100)]
    document = guard_limits(Guards(), fields, columns_of(fields, training), ())
    layout = Packing(("age", "on"))
    guard, packer = Guard(document, fields, layout), Packer(layout, fields)
    rows = [(n, date(2030, 1, n % 28 + 1)) for n in (500, 900)]
    one, two = guard.check(rows, packer.pack_many(rows)) or [(), ()]
    assert one == two
    assert one == (
        Flag("age", "range", "expected a value in the range of training"),
        Flag("on", "range", "expected 2023-09-24 to 2024-07-17, as in training"),
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_finite_is_refused(bad: float) -> None:
    guard = Guard({}, (), Packing(()))
    assert guard.check_answers([(1.0, None), (1e300, None), (True, [0.5, 0.5])]) is None
    for answer in [(bad, None), (True, [0.5, bad]), (True, [-math.inf, math.inf])]:
        fine, refused = guard.check_answers([(1.0, None), answer]) or [(), ()]
        assert fine == ()
        assert isinstance(refused, InputError)


@pytest.mark.parametrize("action", ["flag", "refuse"])
def test_an_answer_out_of_range_is_flagged_or_refused(action: str) -> None:
    document = {"output": {"action": action, "low": -2.0, "high": 22.5}}
    guard = Guard(document, (), Packing(()))
    assert guard.check_answers([(22.5, None)]) is None
    fine, odd = guard.check_answers([(0.0, None), (-3.0, None)]) or [(), ()]
    assert fine == ()
    if action == "flag":
        assert odd == (Flag("prediction", "output", "expected -2 to 22.5, as in training"),)
    else:
        assert isinstance(odd, InputError)
        assert odd.errors[0]["field"] == "prediction"


class Visit(sy.Row):
    age: int
    city: str
    seen: date


def visits() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, 400)
    return pl.DataFrame(
        {
            "age": age,
            "city": ["Oslo", "Rome"] * 200,
            "seen": [date(2024, 1, 1)] * 400,
            "sick": age + rng.normal(0, 10, 400) > 50,
            "cost": age * 2.0,
        }
    )


def built(folder: Path, label: str, estimator: Any, **given: Any) -> Built:
    definition = sy.Model(
        name="m", row=Visit, data=sy.Python(visits), label=label, estimator=estimator, **given
    )
    return build(definition, read_table(definition, Config(folder / "state")), folder)


def test_a_bundle_carries_its_guards(tmp_path: Path) -> None:
    kept = {"estimator": HistGradientBoostingClassifier(max_iter=5), "positive": True}
    made = built(tmp_path, "sick", **kept)
    rows = [(30, "Oslo", date(2024, 1, 1)), (300, "Bonn", date(2024, 1, 2))]
    plain, odd = made.predictor.answer_many(rows)
    assert plain == Guarded(made.predictor.predict_one(rows[0]))
    assert isinstance(odd, Guarded)
    assert odd.answer == made.predictor.predict_one(rows[1])
    assert [(f.field, f.rule) for f in odd.flags] == [
        ("age", "range"),
        ("city", "unseen"),
        ("seen", "range"),
    ]
    other = built(tmp_path, "sick", **kept, guards=sy.Guards(unseen="refuse"))
    assert other.bundle != made.bundle
    assert isinstance(other.predictor.answer_many(rows)[1], InputError)


def test_a_line_leaves_the_range_of_its_labels(tmp_path: Path) -> None:
    made = built(tmp_path, "cost", LinearRegression(), guards=sy.Guards(range="ignore"))
    (answer,) = made.predictor.answer_many([(9_000, "Oslo", date(2024, 1, 1))])
    assert isinstance(answer, Guarded)
    assert [flag.rule for flag in answer.flags] == ["output"]

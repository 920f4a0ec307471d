"""Row features are traced into a graph that computes what Python would, row by row."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import steelyard as sy
from steelyard.core.schema import row_fields
from steelyard.errors import DefinitionError
from steelyard.features.columns import columns_of
from steelyard.features.trace import FeatureGraph, trace


class Visit(sy.Row):
    count: int
    amount: float | None
    plan: str | None
    member: bool
    born: date | None
    at: datetime
    seen: pydantic.AwareDatetime | None


FIELDS = row_fields(Visit)


def traced(function: Callable[[Any, Any], dict[str, Any]]) -> FeatureGraph:
    return trace(sy.row_features(Visit)(function), FIELDS)


@sy.row_features(Visit)
def everything(xp: Any, c: Any) -> dict[str, Any]:
    return {
        "ratio": c.amount / xp.maximum(c.count, 1),
        "not_basic": c.plan != "basic",
        "known_plan": xp.isin(c.plan, ["basic", "pro"]),
        "no_plan": xp.is_null(c.plan),
        "plan_or_none": xp.fill_null(c.plan, "none"),
        "member": c.member,
        "hour": xp.hour(c.at),
        "minute": xp.minute_of_day(c.at),
        "weekday": xp.day_of_week(c.born),
        "year": xp.year(c.born),
        "month": xp.month(c.at),
        "day": xp.day(c.seen),
        "age": xp.days_between(c.at, c.born),
        "big": (c.count > 3) & c.member,
        "size": xp.where(c.count > 3, "big", "small"),
        "price": xp.where(c.member, 0.5, 1.0),
    }


GRAPH = trace(everything, FIELDS)


def expected(row: tuple[Any, ...]) -> dict[str, Any]:
    count, amount, plan, member, born, at, seen = row
    utc = seen.astimezone(UTC) if seen else None
    born_at = datetime(born.year, born.month, born.day) if born else None
    nan = math.nan
    return {
        "ratio": nan if amount is None else amount / max(count, 1),
        "not_basic": float(plan != "basic"),
        "known_plan": float(plan in ("basic", "pro")),
        "no_plan": float(plan is None),
        "plan_or_none": "none" if plan is None else plan,
        "member": float(member),
        "hour": float(at.hour),
        "minute": float(at.hour * 60 + at.minute),
        "weekday": nan if born is None else float(born.weekday()),
        "year": nan if born is None else float(born.year),
        "month": float(at.month),
        "day": nan if utc is None else float(utc.day),
        "age": nan if born_at is None else (at - born_at) / timedelta(days=1),
        "big": float(count > 3 and member),
        "size": "big" if count > 3 else "small",
        "price": 0.5 if member else 1.0,
    }


rows = st.tuples(
    st.integers(-(2**53), 2**53),
    st.none() | st.floats(-1e300, 1e300),
    st.none() | st.sampled_from(["basic", "pro", "", "é", "日本"]),
    st.booleans(),
    st.none() | st.dates(),
    st.datetimes(),
    st.none() | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11))]),
                             min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=1, max_size=5))
def test_the_graph_computes_what_python_computes(given_rows: list[tuple[Any, ...]]) -> None:
    found = GRAPH.run(columns_of(FIELDS, given_rows))
    for i, row in enumerate(given_rows):
        for name, value in expected(row).items():
            got = found[name][i]
            if isinstance(value, str):
                assert got == value, name
            else:
                assert got == pytest.approx(value, rel=1e-12, nan_ok=True), name


def test_what_a_feature_uses_is_known() -> None:
    assert GRAPH.uses["ratio"] == {"amount", "count"}
    assert GRAPH.uses["age"] == {"at", "born"}
    assert "plan_or_none" in GRAPH.categorical
    assert "hour" in GRAPH.numeric


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13])
def test_bits_do_not_depend_on_the_batch(n: int) -> None:
    graph = traced(
        lambda xp, c: {
            "log": xp.log1p(xp.abs(c.amount)) ** 1.3,
            "sine": xp.sin(c.amount),
            "tanh": xp.tanh(c.amount),
            "exp": xp.exp(-xp.abs(c.amount)),
        }
    )
    amounts = np.random.default_rng(0).lognormal(0, 4, 400)
    whole = graph.run({"amount": amounts})
    for start in range(200):
        part = graph.run({"amount": amounts[start : start + n]})
        for name, values in part.items():
            assert values.tobytes() == whole[name][start : start + n].tobytes(), name


def test_only_used_columns_are_inputs() -> None:
    assert traced(lambda xp, c: {"double": c.count * 2}).inputs == ("count",)


def test_a_feature_may_be_a_column_as_it_is() -> None:
    graph = traced(lambda xp, c: {"amount": c.amount, "twin": c.amount})
    found = graph.run({"amount": np.array([1.5, math.nan])})
    assert found["amount"].tolist() == pytest.approx([1.5, math.nan], nan_ok=True)
    assert found["twin"].tolist() == pytest.approx([1.5, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda xp, c: {"a": xp.mean(c.amount)}, "its own row"),
        (lambda xp, c: {"a": xp.meen(c.amount)}, "xp has no meen"),
        (lambda xp, c: {"a": c.amuont}, "Did you mean amount"),
        (lambda xp, c: {"a": c.at}, "use xp.hour"),
        (lambda xp, c: {"a": 3.0}, "no array over the rows"),
        (lambda xp, c: {"a": c.amount * 0 if c.count > 3 else c.amount}, "could not be traced"),
        (lambda xp, c: {"a": xp.hour(c.amount)}, "expected a date or datetime"),
        (lambda xp, c: {}, "must return a dict"),
        (lambda xp, c: [c.amount], "must return a dict"),
    ],
)
def test_what_is_no_row_feature_is_refused(function: Any, words: str) -> None:
    with pytest.raises(DefinitionError, match=words) as caught:
        traced(function)
    assert caught.value.field == "features"


def test_a_function_takes_two_arguments() -> None:
    with pytest.raises(DefinitionError, match="two arguments"):
        sy.row_features(Visit)(lambda c: {})  # type: ignore[arg-type, misc]

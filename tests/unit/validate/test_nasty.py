"""Nasty rows are allowed by the schema, cover what is nasty, and are the same every time."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.fields import FieldSpec
from steelyard.core.hashing import canonical_json
from steelyard.core.validation import RowDecoder
from steelyard.errors import DefinitionError
from steelyard.features.columns import columns_of
from steelyard.validate.nasty import nasty_rows

FIELDS = (
    FieldSpec("age", "int", ge=0, le=120),
    FieldSpec("count", "int", optional=True),
    FieldSpec("price", "float", gt=0),
    FieldSpec("rate", "float", optional=True),
    FieldSpec("step", "float", multiple_of=0.25, ge=-1, le=1),
    FieldSpec("even", "int", multiple_of=2, gt=-10, lt=10),
    FieldSpec("on", "bool", optional=True),
    FieldSpec("name", "str"),
    FieldSpec("code", "str", pattern=r"^[A-Z]{3}\d+$", max_length=9),
    FieldSpec("short", "str", min_length=2, max_length=4, optional=True),
    FieldSpec("plan", "str", choices=("a", "b")),
    FieldSpec("level", "int", choices=(1, 5)),
    FieldSpec("day", "date", optional=True),
    FieldSpec("at", "datetime"),
    FieldSpec("utc", "datetime", aware=True),
)


def values(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_every_row_is_allowed_and_json() -> None:
    rows = nasty_rows(FIELDS, {}, seed=0)
    decoder = RowDecoder(FIELDS, allow_unknown=False)
    for row in rows:
        assert list(row) == [field.name for field in FIELDS]
        assert decoder.check_one(json.loads(canonical_json(row))) == decoder.check_one(row)
        assert decoder.decode_one(json.dumps(row).encode()) == decoder.check_one(row)
    columns = columns_of(FIELDS, [decoder.check_one(row) for row in rows])
    assert all(len(column) == len(rows) for column in columns.values())


def test_what_is_nasty_is_there() -> None:
    rows = nasty_rows(FIELDS, {}, seed=0)
    for field in FIELDS:
        assert (None in values(rows, field.name)) is field.optional
    assert {0, 120} <= set(values(rows, "age"))
    assert {2**53, -(2**53), 0, -1} <= set(values(rows, "count"))
    prices = values(rows, "price")
    assert min(prices) == 5e-324
    assert max(prices) == np.finfo(np.float64).max
    assert any(math.copysign(1, v) < 0 and v == 0 for v in values(rows, "rate") if v is not None)
    names = values(rows, "name")
    assert "" in names
    assert max(map(len, names)) == 10_000
    assert any("\x00" in name for name in names)
    assert any("\u202e" in name for name in names)
    assert max(len(v) for v in values(rows, "short") if v) == 4
    assert {"0001-01-01", "9999-12-31"} <= set(values(rows, "day"))
    assert any(value.endswith("Z") for value in values(rows, "utc"))
    assert {1, 5} == set(values(rows, "level"))


def test_the_same_arguments_give_the_same_rows_and_no_row_twice() -> None:
    rows = nasty_rows(FIELDS, {}, seed=3)
    assert rows == nasty_rows(FIELDS, {}, seed=3)
    assert len({repr(row) for row in rows}) == len(rows)
    assert len(nasty_rows(FIELDS, {}, seed=3, most=7)) == 7
    assert all(row[f.name] is None for row in rows[:1] for f in FIELDS if f.optional)


def test_examples_fill_what_is_not_nasty() -> None:
    fields = (FieldSpec("name", "str"), FieldSpec("age", "int"))
    examples = {
        "name": np.array(["Ada", "Grace"], dtype=object),
        "age": np.array([36, 85]),
    }
    rows = nasty_rows(fields, examples, seed=0)
    assert {row["age"] for row in rows if row["name"] == ""} <= {36, 85, 0, -(2**63)}
    assert "aDA" in values(rows, "name")  # near a known one, and unseen


def test_a_pattern_takes_the_example_where_none_can_be_made_up() -> None:
    field = FieldSpec("code", "str", pattern=r"^(?=.*[aeiou])(?!.*xx)[b-y]{3}(?<=q.z)$")
    with pytest.raises(DefinitionError, match="made up") as caught:
        nasty_rows([field], {}, seed=0)
    assert caught.value.field == "code"


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["int", "float"]),
    low=st.integers(-1000, 1000),
    span=st.integers(1, 500),
    closed=st.booleans(),
    step=st.sampled_from([None, 1, 2, 5, 0.5]),
    optional=st.booleans(),
)
def test_numbers_stay_within_any_limits(
    kind: Any, low: int, span: int, closed: bool, step: float | None, optional: bool
) -> None:
    bounds = {"ge": low, "le": low + span} if closed else {"gt": low - 1, "lt": low + span + 1}
    field = FieldSpec("x", kind, optional=optional, multiple_of=step, **bounds)  # type: ignore[arg-type]
    decoder = RowDecoder([field], allow_unknown=False)
    try:
        rows = nasty_rows([field], {}, seed=0)
    except DefinitionError:
        assert step is not None  # no multiple lies within
        assert span < step
        return
    for row in rows:
        decoder.check_one(row)

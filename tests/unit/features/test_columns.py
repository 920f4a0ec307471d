"""Values travel to columns and back unchanged."""

import math
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.fields import MAX_EXACT_INT, NULL_STRING, FieldSpec
from steelyard.features.columns import NULL_TIME, column, dtype_of, from_wire, json_rows

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "str": st.text().filter(lambda text: text != NULL_STRING),
    "date": st.dates(),
    "datetime": st.datetimes(),
}


@pytest.mark.parametrize("kind", list(VALUES))
@given(st.data())
def test_values_come_back_as_they_were(kind: Any, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[kind], min_size=1, max_size=6))
    field = FieldSpec("x", kind)
    array = column(field, values)
    assert array.dtype == dtype_of(field)
    assert [from_wire(field, value) for value in array.tolist()] == values


@pytest.mark.parametrize("kind", list(VALUES))
@given(st.data())
def test_null_is_its_own_value(kind: Any, data: st.DataObject) -> None:
    some = VALUES[kind] if kind != "int" else st.integers(-MAX_EXACT_INT, MAX_EXACT_INT)
    values = [*data.draw(st.lists(st.none() | some, max_size=6)), None]
    field = FieldSpec("x", kind, optional=True)
    array = column(field, values)
    assert [from_wire(field, value) for value in array.tolist()] == values


def test_the_empty_string_is_not_null() -> None:
    field = FieldSpec("x", "str", optional=True)
    assert column(field, ["", None]).tolist() == ["", NULL_STRING]


def test_aware_times_are_kept_in_utc() -> None:
    field = FieldSpec("x", "datetime", aware=True)
    east = datetime(2024, 1, 1, 3, tzinfo=timezone(timedelta(hours=3)))
    array = column(field, [east])
    assert array.tolist() == [1_704_067_200_000_000]
    assert from_wire(field, array.tolist()[0]) == east


def test_rows_are_what_a_client_would_send() -> None:
    fields = [FieldSpec("n", "int", optional=True), FieldSpec("on", "date", optional=True)]
    columns = {"n": np.array([3.0, math.nan]), "on": np.array([0, NULL_TIME])}
    assert json_rows(fields, columns) == [{"n": 3, "on": "1970-01-01"}, {"n": None, "on": None}]
    assert type(json_rows(fields, columns)[0]["n"]) is int
    assert column(FieldSpec("d", "date"), [date(1970, 1, 2)]).tolist() == [1]

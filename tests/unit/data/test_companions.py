"""Weight, key, group and time: read beside the row, and rows without them are named."""

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

import steelyard as sy
from steelyard.data.companions import Companions, read_companions
from steelyard.errors import DefinitionError

DAY = 86_400_000_000


class Visit(sy.Row):
    n: int
    at: datetime | None = None
    day: date | None = None


def companions(table: dict[str, Any], *, text: bool = True, **settings: Any) -> Companions:
    model = sy.Model(
        name="m",
        row=Visit,
        data=sy.Csv("t.csv"),
        label="y",
        estimator=LogisticRegression(),
        **settings,
    )
    return read_companions(model, pl.DataFrame(table), text)


def faults(found: Companions) -> dict[tuple[str, str], list[int]]:
    return {(fault.field, fault.reason): fault.rows.tolist() for fault in found.faults}


def test_a_definition_without_companions_has_none() -> None:
    found = companions({"n": ["1"]})
    assert (found.weight, found.key, found.group, found.time) == (None, None, None, None)
    assert found.faults == ()


def test_weights_are_positive_and_finite() -> None:
    found = companions({"w": ["1", "0.5", "0", "-1", None, "1e999", "x"]}, weight="w")
    assert found.weight is not None
    assert found.weight[:2].tolist() == [1.0, 0.5]
    assert faults(found) == {
        ("w", "not > 0"): [2, 3],
        ("w", "null"): [4],
        ("w", "not finite"): [5],
        ("w", "not a number"): [6],
    }


def test_keys_and_groups_hold_the_table_s_own_values() -> None:
    found = companions(
        {"k": ["7", None, "a"], "g": [1, 2, None]}, key="k", split=sy.GroupSplit("g")
    )
    assert found.key is not None
    assert found.group is not None
    assert found.key.tolist() == ["7", None, "a"]
    assert found.group.tolist() == [1, 2, None]
    assert faults(found) == {("k", "null"): [1], ("g", "null"): [2]}


def test_a_column_split_may_have_nulls() -> None:
    found = companions({"part": ["test", None]}, split=sy.ColumnSplit("part"))
    assert found.group is not None
    assert found.group.tolist() == ["test", None]
    assert found.faults == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1970-01-02", "1970-01-03"], [DAY, 2 * DAY]),
        (["1970-01-01T00:00:01", "1970-01-01 00:00:02"], [1_000_000, 2_000_000]),
        (["1970-01-01T00:00:00Z", "1970-01-01T01:00:00+01:00"], [0, 0]),
        ([date(1970, 1, 2)], [DAY]),
        ([datetime(1970, 1, 1, 1)], [3_600_000_000]),
    ],
)
def test_times_outside_the_row_are_what_the_column_holds(
    values: list[Any], expected: list[int]
) -> None:
    found = companions(
        {"when": values}, text=isinstance(values[0], str), split=sy.TimeSplit("when", test="1d")
    )
    assert found.time is not None
    assert found.time.tolist() == expected
    assert found.faults == ()


def test_cells_that_are_no_times_among_times() -> None:
    values = ["1970-01-01", "1970-01-02", "1970-01-02", "soon", None, "1970-01-01T00:00:00"]
    found = companions({"when": values}, split=sy.TimeSplit("when", test="1d"))
    assert faults(found) == {("when", "null"): [4], ("when", "not a date"): [3, 5]}


def test_times_of_the_row_keep_its_declaration_and_may_not_be_null() -> None:
    table = {"at": ["1970-01-01T00:00:01", None, "1970-01-01T00:00:01Z", "1970-01-01"]}
    found = companions(table, split=sy.TimeSplit("at", test="1d"))
    assert found.time is not None
    assert found.time[0] == 1_000_000
    assert faults(found) == {
        ("at", "null"): [1],
        ("at", "a UTC offset"): [2],
        ("at", "not a datetime"): [3],
    }
    days = companions({"day": ["1970-01-03"]}, split=sy.TimeSplit("day", test="1d"))
    assert days.time is not None
    assert days.time.tolist() == [2 * DAY]


@pytest.mark.parametrize("values", [["soon", "later"], [1, 2], [None, None]])
def test_a_column_without_times_is_refused(values: list[Any]) -> None:
    with pytest.raises(DefinitionError, match="'when' holds no dates or datetimes") as caught:
        companions({"when": values}, split=sy.TimeSplit("when", test="1d"))
    assert caught.value.field == "split"


def test_a_start_with_an_offset_needs_times_with_one() -> None:
    start = sy.TimeSplit("when", start="1970-01-01T00:00:00+00:00")
    with pytest.raises(DefinitionError, match="has a UTC offset"):
        companions({"when": ["1970-01-01T00:00:00"]}, split=start)
    assert companions({"when": ["1970-01-01T00:00:00Z"]}, split=start).faults == ()

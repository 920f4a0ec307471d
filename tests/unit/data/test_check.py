"""The check of a table: N rows in are N rows accounted for, and the bad ones can be looked at."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.data.cells import Fault
from steelyard.data.check import check, merge_faults, write_bad_rows
from steelyard.errors import DataError
from steelyard.features.columns import NULL_TIME, dtype_of

FIELDS = [
    FieldSpec("i", "int", ge=0),
    FieldSpec("f", "float", optional=True, lt=100),
    FieldSpec("b", "bool"),
    FieldSpec("s", "str", optional=True, choices=("a", "b")),
    FieldSpec("d", "date"),
    FieldSpec("t", "datetime", optional=True, aware=True),
]
GOOD = {
    "i": "5",
    "f": "1.5",
    "b": "true",
    "s": "a",
    "d": "2013-01-01",
    "t": "2013-01-01T00:00:00Z",
}
CELL = st.one_of(
    st.none(),
    st.sampled_from([*GOOD.values(), "-1", "5.0", "1e3", "x", " 5", "c", "", "1970-01-01", "nan"]),
    st.text(max_size=4),
)


@st.composite
def text_tables(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(0, 12))
    columns = {
        name: draw(st.lists(st.one_of(st.just(good), CELL), min_size=rows, max_size=rows))
        for name, good in GOOD.items()
    }
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


@settings(deadline=None, max_examples=80)
@given(table=text_tables())
def test_every_row_is_good_or_named_as_bad(table: pl.DataFrame) -> None:
    checked = check(table, FIELDS, text=True)
    bad = {row for fault in checked.faults for row in fault.rows.tolist()}
    assert checked.rows_in == table.height == len(checked.rows) + len(bad)
    assert set(checked.rows.tolist()) == set(range(table.height)) - bad
    assert sum(checked.counts.values()) == sum(len(fault.rows) for fault in checked.faults)
    for field in FIELDS:
        column = checked.columns[field.name]
        assert column.shape == (len(checked.rows),)
        assert column.dtype == dtype_of(field)


@settings(deadline=None, max_examples=25)
@given(table=text_tables())
def test_a_row_is_judged_by_itself(table: pl.DataFrame) -> None:
    whole = check(table, FIELDS, text=True)
    for row in range(table.height):
        alone = check(table[row : row + 1], FIELDS, text=True)
        assert alone.good[0] == whole.good[row]
        assert set(alone.counts) == {
            (fault.field, fault.reason) for fault in whole.faults if row in fault.rows
        }


def test_columns_hold_the_good_rows_in_order() -> None:
    table = pl.DataFrame({"i": ["3", "x", "1"], "s": ["b", "a", None], "other": ["?", "?", "?"]})
    checked = check(table, [FIELDS[0], FIELDS[3]], text=True)
    assert checked.rows.tolist() == [0, 2]
    assert checked.columns["i"].tolist() == [3, 1]
    assert checked.columns["s"].tolist() == ["b", NULL_STRING]
    assert set(checked.columns) == {"i", "s"}
    assert checked.counts == {("i", "not an int"): 1}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (FieldSpec("n", "int", default=7), 7),
        (FieldSpec("n", "float", optional=True, default=2), 2.0),
        (FieldSpec("n", "str", default="x"), "x"),
        (FieldSpec("n", "str", optional=True, default=None), NULL_STRING),
        (FieldSpec("n", "date", optional=True, default=None), NULL_TIME),
    ],
)
def test_an_absent_column_takes_its_default(field: FieldSpec, expected: Any) -> None:
    checked = check(pl.DataFrame({"i": ["1", "2"]}), [field], text=True)
    assert checked.columns["n"].tolist() == [expected, expected]
    assert checked.columns["n"].dtype == dtype_of(field)
    assert checked.good.all()


def test_a_null_cell_does_not_take_the_default() -> None:
    table = pl.DataFrame({"n": pl.Series(["1", None])})
    assert check(table, [FieldSpec("n", "int", default=7)], text=True).counts == {("n", "null"): 1}


def test_an_absent_column_without_default_is_named_with_the_nearest() -> None:
    fields = [FieldSpec("tenure", "int"), FieldSpec("age", "int")]
    with pytest.raises(DataError, match="no column 'tenure', 'age'") as caught:
        check(pl.DataFrame({"Tenure": ["1"]}), fields, text=True)
    assert "Did you mean Tenure?" in str(caught.value.fix)


def test_faults_of_one_column_in_two_uses_are_one() -> None:
    faults = merge_faults(
        [Fault("t", "null", np.array([1, 4])), Fault("u", "null", np.array([1])),
         Fault("t", "null", np.array([0, 4])), Fault("t", "odd", np.array([2]))]
    )  # fmt: skip
    found = [(fault.field, fault.reason, fault.rows.tolist()) for fault in faults]
    assert found == [("t", "null", [0, 1, 4]), ("u", "null", [1]), ("t", "odd", [2])]


def test_bad_rows_are_a_table_for_people(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "i": ["1", "x", None, "-4"],
            "s": ["a", 'odd "one"\nhere', "b", "a"],
            "row": ["p", "q", "r", "s"],
        }
    )
    checked = check(table, [FIELDS[0], FIELDS[3]], text=True)
    path = tmp_path / "deep" / "bad.csv"
    assert write_bad_rows(path, table, checked.faults, np.array([10, 11, 12, 13])) == 4
    found = pl.read_csv(path, infer_schema=False)
    assert found.columns == ["_row", "field", "reason", "got", "i", "s", "row"]
    assert found.rows() == [
        ("11", "i", "not an int", "x", "x", 'odd "one"\nhere', "q"),
        ("11", "s", "not one of a, b", 'odd "one"\nhere', "x", 'odd "one"\nhere', "q"),
        ("12", "i", "null", None, None, "b", "r"),
        ("13", "i", "not >= 0", "-4", "-4", "a", "s"),
    ]


def test_bad_rows_of_typed_tables(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {"i": [1.5, 2.0], "l": [[1], None], "z": [b"\xff", None], "o": [{"a": 1}, None]}
    )
    checked = check(table, [FieldSpec("i", "int")])
    write_bad_rows(tmp_path / "bad.csv", table, checked.faults)
    [row] = pl.read_csv(tmp_path / "bad.csv", infer_schema=False).rows()
    assert row == ("0", "i", "not an int", "1.5", "1.5", "[1]", r"b'\xff'", "{'a': 1}")


@settings(deadline=None, max_examples=40)
@given(table=text_tables())
def test_every_fault_is_a_line_of_the_file(
    table: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checked = check(table, FIELDS, text=True)
    path = tmp_path_factory.mktemp("bad") / "bad.csv"
    lines = write_bad_rows(path, table, checked.faults)
    found = pl.read_csv(path, infer_schema=False)
    assert lines == found.height == sum(checked.counts.values())
    rows = {int(row) for row in found["row"]}
    assert rows == set(range(table.height)) - set(checked.rows.tolist())

"""Cells: what each kind of field takes from text and from typed columns, and why not."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from steelyard.core.fields import NULL_STRING, FieldSpec, Kind
from steelyard.data.cells import read_cells
from steelyard.features.columns import NULL_TIME, dtype_of

INT, FLOAT, BOOL = FieldSpec("x", "int"), FieldSpec("x", "float"), FieldSpec("x", "bool")
DAY, AT = FieldSpec("x", "date"), FieldSpec("x", "datetime")
AWARE = FieldSpec("x", "datetime", aware=True)
RANGE = "not within the years 1 to 9999"


def reasons(field: FieldSpec, values: list[Any], *, text: bool, dtype: Any = None) -> list[Any]:
    """Return the value of each cell, or the reason why it is none in a tuple."""
    cells = read_cells(pl.Series("x", values, dtype=dtype), field, text=text)
    found: list[Any] = cells.values.tolist()
    assert cells.values.dtype == dtype_of(field)
    assert len({fault.reason for fault in cells.faults}) == len(cells.faults)
    for fault in cells.faults:
        assert fault.field == "x"
        assert len(fault.rows)
        for row in fault.rows.tolist():
            assert not isinstance(found[row], tuple), "a cell has one reason"
            found[row] = (fault.reason,)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5),
        ("-0", 0),
        ("5.0", 5),
        ("5e3", 5000),
        ("1E5", 100_000),
        ("-500e-2", -5),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9007199254740993", 2**53 + 1),
        ("9223372036854775808", ("not within 64 bits",)),
        ("9223372036854775808.0", ("not within 64 bits",)),
        ("1" + "0" * 400, ("not within 64 bits",)),
        ("1e400", ("not finite",)),
        ("5.5", ("not an int",)),
        ("1e-3", ("not an int",)),
        *[
            (text, ("not an int",))
            for text in (" 5", "5 ", "5x", "+5", "5.", ".5", "007", "00", "-", "1_000", "1,000")
        ],
        *[
            (text, ("not an int",))
            for text in ("true", "nan", "inf", "0x10", "\u0665", "5\n", "1e", "")
        ],
        (None, ("null",)),
    ],
)
def test_ints_in_text(text: str | None, expected: Any) -> None:
    # Among others, so that no cell is judged by its neighbours.
    found = reasons(INT, ["7", text, None, "x", "8.0"], text=True, dtype=pl.String)
    assert found == [7, expected, ("null",), ("not an int",), 8]


def test_optional_ints_are_exact_in_float64() -> None:
    field = FieldSpec("x", "int", optional=True)
    bounds = f"not within {-(2**53)} to {2**53}"
    texts = ["5", None, str(2**53), str(2**53 + 1), str(-(2**53) - 1), str(2**63 - 1)]
    found = reasons(field, texts, text=True)
    assert found[0] == 5.0
    assert np.isnan(found[1])
    assert found[2:] == [2.0**53, (bounds,), (bounds,), (bounds,)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5.0),
        ("0.1", 0.1),
        ("-1.7976931348623157e308", -1.7976931348623157e308),
        ("5e-324", 5e-324),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
        ("1e400", ("not finite",)),
        *[
            (text, ("not a number",))
            for text in (" 1", "1 ", "NaN", "nan", "inf", "-inf", "Infinity")
        ],
        *[
            (text, ("not a number",))
            for text in (".5", "5.", "+1", "01.5", "1,5", "true", "", "1e")
        ],
    ],
)
def test_floats_in_text(text: str, expected: Any) -> None:
    assert reasons(FLOAT, [text, "1.5"], text=True) == [expected, 1.5]


def test_bools_in_text() -> None:
    texts = ["true", "True", "1", "false", "False", "0", None, "TRUE", "yes", " true", "1.0", ""]
    no = ("not true or false",)
    assert reasons(BOOL, texts, text=True) == [
        True, True, True, False, False, False, ("null",), no, no, no, no, no,
    ]  # fmt: skip


def test_optional_bools_are_float64() -> None:
    found = reasons(FieldSpec("x", "bool", optional=True), [True, False, None], text=False)
    assert found[:2] == [1.0, 0.0]
    assert np.isnan(found[2])


def test_dates_in_text() -> None:
    texts = ["1970-01-02", "0001-01-01", "9999-12-31", "2013-02-29", " 1970-01-01", "01/02/13"]
    no = ("not a date",)
    for text in (True, False):
        assert reasons(DAY, texts, text=text) == [1, -719162, 2932896, no, no, no]


def test_datetimes_in_text() -> None:
    texts = ["1970-01-01T00:00:01", "1970-01-01 00:00:00.5", "1970-01-01T00:00:00Z", "1970-01-01"]
    for text in (True, False):
        assert reasons(AT, texts, text=text) == [
            1_000_000, 500_000, ("a UTC offset",), ("not a datetime",),
        ]  # fmt: skip
        assert reasons(AWARE, texts, text=text) == [
            ("no UTC offset",), ("no UTC offset",), 0, ("not a datetime",),
        ]  # fmt: skip
    assert reasons(AT, ["9999-12-31T23:59:59.9999999"], text=True) == [(RANGE,)]


def test_optional_times_are_null_at_the_smallest_int() -> None:
    kinds: tuple[Kind, ...] = ("date", "datetime")
    for kind in kinds:
        field = FieldSpec("x", kind, optional=True)
        assert reasons(field, [None], text=True, dtype=pl.String) == [NULL_TIME]


NOT_INT, NOT_NUMBER, NOT_BOOL = ("not an int",), ("not a number",), ("not true or false",)
NOT_STR, NOT_DATE, NOT_AT = ("not a string",), ("not a date",), ("not a datetime",)


@pytest.mark.parametrize(
    ("field", "values", "dtype", "expected"),
    [
        (INT, [1, -2], pl.Int8, [1, -2]),
        (INT, [5, 2**63], pl.UInt64, [5, ("not within 64 bits",)]),
        (INT, [5, 2**100], pl.Int128, [5, ("not within 64 bits",)]),
        (INT, [5.0, 2.5, None], pl.Float64, [5, NOT_INT, ("null",)]),
        (INT, [float("nan"), float("-inf")], pl.Float64, [("not finite",)] * 2),
        (INT, [-(2.0**63), 2.0**63], pl.Float64, [-(2**63), ("not within 64 bits",)]),
        (INT, [Decimal("2.00"), Decimal("2.50")], pl.Decimal(9, 2), [2, NOT_INT]),
        (INT, [Decimal(2**60 + 1)], pl.Decimal(38, 0), [2**60 + 1]),
        (INT, ["5"], pl.String, [NOT_INT]),
        (INT, [True], pl.Boolean, [NOT_INT]),
        (INT, [date(2013, 1, 1)], pl.Date, [NOT_INT]),
        (FLOAT, [1, 2], pl.Int32, [1.0, 2.0]),
        (FLOAT, [1.5, float("nan"), float("inf")], pl.Float32, [1.5, *[("not finite",)] * 2]),
        (FLOAT, [Decimal("2.50")], pl.Decimal(9, 2), [2.5]),
        (FLOAT, [2**64 - 1], pl.UInt64, [2.0**64]),
        (FLOAT, [True], pl.Boolean, [NOT_NUMBER]),
        (FLOAT, ["1.5"], pl.String, [NOT_NUMBER]),
        (FLOAT, [1], pl.Duration, [NOT_NUMBER]),
        (BOOL, [True, False, None], pl.Boolean, [True, False, ("null",)]),
        (BOOL, [1, 0], pl.Int64, [NOT_BOOL] * 2),
        (BOOL, ["true"], pl.String, [NOT_BOOL]),
        (FieldSpec("x", "str"), [1], pl.Int64, [NOT_STR]),
        (FieldSpec("x", "str"), ["", "x", None], pl.String, ["", "x", ("null",)]),
        (FieldSpec("x", "str"), [None], pl.Null, [("null",)]),
        (DAY, [date(1970, 1, 2), None], pl.Date, [1, ("null",)]),
        (DAY, [2_932_897], pl.Date, [(RANGE,)]),
        (DAY, [datetime(1970, 1, 2), datetime(1970, 1, 2, 3)], pl.Datetime("ns"),
         [1, ("not a date: it has a time of day",)]),
        (DAY, [datetime(1970, 1, 2, tzinfo=UTC)], pl.Datetime("us", "UTC"), [NOT_DATE]),
        (DAY, [5], pl.Int64, [NOT_DATE]),
        (AT, [datetime(1970, 1, 1, 0, 0, 1)], pl.Datetime("ms"), [1_000_000]),
        (AT, [-1, 1999], pl.Datetime("ns"), [-1, 1]),
        (AT, [2**62, 253_402_300_800_000], pl.Datetime("ms"), [NOT_AT, (RANGE,)]),
        (AT, [datetime(1970, 1, 1, tzinfo=UTC)], pl.Datetime("us", "UTC"), [("a UTC offset",)]),
        (AWARE, [datetime(1970, 1, 1, tzinfo=UTC)], pl.Datetime("us", "UTC"), [0]),
        (AWARE, [datetime(1970, 1, 1)], pl.Datetime("us"), [("no UTC offset",)]),
        (AT, [date(1970, 1, 1)], pl.Date, [NOT_AT]),
        (AT, [5], pl.Int64, [NOT_AT]),
    ],
)  # fmt: skip
def test_typed_columns(
    field: FieldSpec, values: list[Any], dtype: Any, expected: list[Any]
) -> None:
    assert reasons(field, values, text=False, dtype=dtype) == expected


def spec(kind: Any, **limits: Any) -> FieldSpec:
    return FieldSpec("x", kind, **limits)


@pytest.mark.parametrize(
    ("field", "good", "bad", "reason"),
    [
        (spec("int", ge=3), ["3"], ["2"], "not >= 3"),
        (spec("int", gt=3), ["4"], ["3"], "not > 3"),
        (spec("int", le=3), ["3"], ["4"], "not <= 3"),
        (spec("int", lt=3), ["2"], ["3"], "not < 3"),
        (spec("int", ge=2.5), ["3"], ["2"], "not >= 2.5"),
        (spec("int", gt=2.5), ["3"], ["2"], "not > 2.5"),
        (spec("int", le=-2.5), ["-3"], ["-2"], "not <= -2.5"),
        (spec("int", lt=-2.5), ["-3"], ["-2"], "not < -2.5"),
        (spec("int", le=2**53), [str(2**53)], [str(2**53 + 1)], f"not <= {2**53}"),
        (spec("int", ge=float("-inf")), ["-5"], [], ""),
        (spec("int", multiple_of=5), ["10", "-5", "0"], ["7"], "not a multiple of 5"),
        (spec("int", multiple_of=0.5), ["3"], [], ""),
        (spec("int", choices=(1, 2)), ["1", "2.0"], ["3"], "not one of 1, 2"),
        (spec("int", choices=(1, 2**62)), [str(2**62)], [str(2**62 + 1)], f"not one of 1, {2**62}"),
        (spec("float", ge=0.1, le=0.3), ["0.1", "0.3"], ["0.09"], "not >= 0.1"),
        (spec("float", gt=0), ["1e-300"], ["0", "-0.0"], "not > 0"),
        (spec("float", multiple_of=0.5), ["2.5", "-0.5"], ["0.75"], "not a multiple of 0.5"),
        (spec("str", choices=("a", "b")), ["a"], ["c", "A", "a "], "not one of a, b"),
        (spec("str", choices=tuple("abcdefghij")), ["j"], ["k"],
         "not one of a, b, c, d, e, f, g, h and 2 more"),
        (spec("str", min_length=2), ["éé"], ["é", "x"], "shorter than 2"),
        (spec("str", max_length=1), ["é", "😀"], ["ab"], "longer than 1"),
        (spec("str", pattern="^[a-z]+[0-9]$"), ["ab1", "ab1\n"], ["1ab", "AB1"],
         "no match of ^[a-z]+[0-9]$"),
        (spec("str", pattern="b"), ["abc"], ["xyz"], "no match of b"),
        (spec("str"), ["\ufdd1"], [NULL_STRING], "U+FDD0, which stands for null"),
    ],
)  # fmt: skip
def test_limits(field: FieldSpec, good: list[str], bad: list[str], reason: str) -> None:
    texts = [*good, *bad]
    found = reasons(field, texts, text=True)
    assert [value for value in found if isinstance(value, tuple)] == [(reason,)] * len(bad)
    assert not any(isinstance(value, tuple) for value in found[: len(good)])


def test_null_has_no_limits() -> None:
    for field in (spec("int", optional=True, ge=5), spec("float", optional=True, gt=0)):
        assert np.isnan(reasons(field, [None, "7"], text=True)[0])
    choices = spec("str", optional=True, choices=("a",), min_length=1, pattern="a")
    assert reasons(choices, [None, "a"], text=True) == [NULL_STRING, "a"]

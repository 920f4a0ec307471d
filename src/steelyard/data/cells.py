"""One column of a table against one field: every cell is read, checked, and faulted by reason.

The rules are those of the row validator in serving. Text columns (CSV) must hold the literal of the
field's kind and nothing around it; typed columns must have the kind: an int counts as a float and
5.0 as an int, a string is no number and a boolean neither. Dates may be ISO strings in both.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from steelyard.core.fields import NULL_STRING, FieldSpec, Kind
from steelyard.data.times import DATE_RANGE, DATETIME_RANGE, dates, datetimes, has_offset
from steelyard.features.columns import NULL_TIME

__all__ = ["INT_TEXT", "NOT_FINITE", "NUMBER_TEXT", "Cells", "Fault", "read_cells"]

INT_TEXT: Final = r"^-?(?:0|[1-9][0-9]*)$"
NUMBER_TEXT: Final = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
"""A JSON number: no blanks, no leading zeros or plus, digits on both sides of the point."""
_TRUE_TEXT: Final = ["true", "True", "1"]
_FALSE_TEXT: Final = ["false", "False", "0"]
NOT_FINITE: Final = "not finite"

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """What is wrong with one field in the rows at `rows` (positions, ascending)."""

    field: str
    reason: str
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A column in its representation [N]; what stands in a faulted row is undefined."""

    values: Array
    faults: tuple[Fault, ...]


class _Marks:
    """Gathers faults; a cell keeps the first reason found for it."""

    def __init__(self, field: str, live: npt.NDArray[np.bool_]) -> None:
        self.field = field
        self.live = live
        self.found: dict[str, list[npt.NDArray[np.int64]]] = {}

    def add(self, wrong: Array, reason: str) -> None:
        rows = np.flatnonzero(self.live & wrong)
        if len(rows):
            self.live[rows] = False
            self.found.setdefault(reason, []).append(rows)

    def add_all(self, reason: str) -> None:
        self.add(np.ones(len(self.live), dtype=bool), reason)

    def add_among(self, rows: npt.NDArray[np.int64], part: "_Marks") -> None:
        """Take over what `part` found in the column's cells at `rows`."""
        for fault in part.faults:
            wrong = np.zeros(len(self.live), dtype=bool)
            wrong[rows[fault.rows]] = True
            self.add(wrong, fault.reason)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """One fault a reason: a column may meet the same one in several ways."""
        return tuple(
            Fault(self.field, reason, np.sort(np.concatenate(rows)))
            for reason, rows in self.found.items()
        )


def read_cells(column: pl.Series, field: FieldSpec, *, text: bool) -> Cells:
    """Return the representation of a column [N] and every cell that the field does not allow.

    `text` says that strings are how the source writes every kind, as CSV does.
    """
    null = column.is_null().to_numpy()
    marks = _Marks(field.name, np.ones(len(column), dtype=bool))
    if not field.optional:
        marks.add(null, "null")
    marks.live &= ~null
    values = _READERS[field.kind](column, field, text, marks)
    return Cells(values, marks.faults)


def _int(column: pl.Series, field: FieldSpec, text: bool, marks: _Marks) -> Array:
    values = _int_values(column, text, marks)
    low, high = field.int_bounds
    marks.add((values < low) | (values > high), f"not within {low} to {high}")
    _check_numbers(values, field, marks)
    if not field.optional:
        return values
    return np.where(column.is_null().to_numpy(), np.nan, values)


def _int_values(column: pl.Series, text: bool, marks: _Marks) -> npt.NDArray[np.int64]:
    """Return int64 [N]; 0 where null or wrong."""
    if isinstance(column.dtype, pl.Decimal):
        # Exact beyond 2**53, where float64 is not: 2.00 is the text 2.
        column, text = column.cast(pl.String).str.replace(r"\.0*$", ""), True
    if column.dtype == pl.String and text:
        return _int_text(column, marks)
    if column.dtype.is_integer():
        narrow = column.cast(pl.Int64, strict=False)
        marks.add(narrow.is_null().to_numpy(), "not within 64 bits")
        return narrow.fill_null(0).to_numpy()
    if column.dtype.is_float():
        return _whole(_float_values(column, text, marks, "not an int"), marks)
    marks.add_all("not an int")
    return np.zeros(len(column), dtype=np.int64)


def _int_text(column: pl.Series, marks: _Marks) -> npt.NDArray[np.int64]:
    plain = _flags(column.str.contains(INT_TEXT))
    exact = column.cast(pl.Int64, strict=False)
    marks.add(plain & exact.is_null().to_numpy(), "not within 64 bits")
    values = exact.fill_null(0).to_numpy(writable=True)
    # What is left may still be an int, written 5.0 or 5e3.
    other = np.flatnonzero(marks.live & ~plain)
    if len(other):
        part = _Marks(marks.field, np.ones(len(other), dtype=bool))
        values[other] = _whole(_float_values(column[other], True, part, "not an int"), part)
        marks.add_among(other, part)
    return values


def _whole(values: npt.NDArray[np.float64], marks: _Marks) -> npt.NDArray[np.int64]:
    marks.add(values != np.trunc(values), "not an int")
    inside = (values >= -(2.0**63)) & (values < 2.0**63)
    marks.add(~inside, "not within 64 bits")
    return np.where(inside, np.nan_to_num(values), 0).astype(np.int64)


def _float(column: pl.Series, field: FieldSpec, text: bool, marks: _Marks) -> Array:
    values = _float_values(column, text, marks, "not a number")
    _check_numbers(values, field, marks)
    return np.where(column.is_null().to_numpy(), np.nan, values)


def _float_values(
    column: pl.Series, text: bool, marks: _Marks, reason: str
) -> npt.NDArray[np.float64]:
    """Return finite float64 [N]; 0 where null or wrong."""
    if column.dtype == pl.String and text:
        shaped = _flags(column.str.contains(NUMBER_TEXT))
        marks.add(~shaped, reason)
    elif not column.dtype.is_numeric():
        marks.add_all(reason)
        return np.zeros(len(column))
    if column.dtype == pl.String:
        # As a JSON reader has it: -0 is the int 0, and only -0.0 has the sign.
        column = column.replace("-0", "0")
    values = column.cast(pl.Float64, strict=False).fill_null(0.0).to_numpy()
    finite = np.isfinite(values)
    marks.add(~finite, NOT_FINITE)
    return np.where(finite, values, 0.0)


def _check_numbers(values: Array, field: FieldSpec, marks: _Marks) -> None:
    if field.choices is not None:
        marks.add(~np.isin(values, np.array(field.choices)), _choice_reason(field))
    # Bounds of integers are rounded to integers: comparing int64 with float64 is inexact.
    exact = values.dtype == np.int64
    if field.ge is not None:
        marks.add(values < _bound(field.ge, math.ceil, exact), f"not >= {field.ge}")
    if field.gt is not None:
        marks.add(values <= _bound(field.gt, math.floor, exact), f"not > {field.gt}")
    if field.le is not None:
        marks.add(values > _bound(field.le, math.floor, exact), f"not <= {field.le}")
    if field.lt is not None:
        marks.add(values >= _bound(field.lt, math.ceil, exact), f"not < {field.lt}")
    if field.multiple_of is not None:
        step: Any = field.multiple_of
        if exact and float(step).is_integer():
            rest = values % int(step)
        else:
            rest = np.fmod(values.astype(np.float64), step)
        marks.add(rest != 0, f"not a multiple of {step}")


def _bound(limit: float, rounded: Callable[[float], int], exact: bool) -> float | int:
    return rounded(limit) if exact and math.isfinite(limit) else limit


def _choice_reason(field: FieldSpec) -> str:
    choices = [str(choice) for choice in field.choices or ()]
    more = f" and {len(choices) - 8} more" if len(choices) > 8 else ""
    return f"not one of {', '.join(choices[:8])}{more}"


def _bool(column: pl.Series, field: FieldSpec, text: bool, marks: _Marks) -> Array:
    null = column.is_null().to_numpy()
    if column.dtype == pl.String and text:
        true, false = _flags(column.is_in(_TRUE_TEXT)), _flags(column.is_in(_FALSE_TEXT))
        marks.add(~(true | false), "not true or false")
    elif column.dtype == pl.Boolean:
        true = _flags(column)
    else:
        marks.add_all("not true or false")
        true = np.zeros(len(column), dtype=bool)
    return np.where(null, np.nan, true) if field.optional else true


def _str(column: pl.Series, field: FieldSpec, text: bool, marks: _Marks) -> Array:
    if column.dtype != pl.String:
        marks.add_all("not a string")
        return np.full(len(column), NULL_STRING, dtype=object)
    marks.add(_flags(column == NULL_STRING), "U+FDD0, which stands for null")
    if field.choices is not None:
        marks.add(~_flags(column.is_in(list(field.choices))), _choice_reason(field))
    if field.min_length is not None or field.max_length is not None:
        length = column.str.len_chars().fill_null(0).to_numpy()
        if field.min_length is not None:
            marks.add(length < field.min_length, f"shorter than {field.min_length}")
        if field.max_length is not None:
            marks.add(length > field.max_length, f"longer than {field.max_length}")
    if field.pattern is not None:
        search = re.compile(field.pattern).search
        found = [value for value in column.unique().drop_nulls().to_list() if search(value)]
        known = pl.Series(found, dtype=pl.String)
        marks.add(~_flags(column.is_in(known.implode())), f"no match of {field.pattern}")
    return column.fill_null(NULL_STRING).to_numpy()


def _flags(mask: pl.Series) -> npt.NDArray[np.bool_]:
    return mask.fill_null(False).to_numpy()


def _date(column: pl.Series, field: FieldSpec, text: bool, marks: _Marks) -> Array:
    if column.dtype == pl.String:
        column = dates(column)
    elif isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is None:
        # Some table types (pandas) have no dates: midnight stands for the day, as 5.0 for 5.
        days = column.dt.date()
        marks.add(_flags(days.cast(column.dtype) != column), "not a date: it has a time of day")
        column = days
    elif column.dtype != pl.Date:
        marks.add_all("not a date")
        return np.full(len(column), NULL_TIME, dtype=np.int64)
    return _times(column.to_physical(), DATE_RANGE, marks, "not a date")


def _datetime(column: pl.Series, field: FieldSpec, text: bool, marks: _Marks) -> Array:
    if column.dtype == pl.String:
        micros = datetimes(column)
        marks.add(micros.is_null().to_numpy(), "not a datetime")
        zoned = has_offset(column)
    elif isinstance(column.dtype, pl.Datetime):
        micros = _micros(column)
        zoned = np.full(len(column), column.dtype.time_zone is not None)
    else:
        marks.add_all("not a datetime")
        return np.full(len(column), NULL_TIME, dtype=np.int64)
    marks.add(zoned != field.aware, "no UTC offset" if field.aware else "a UTC offset")
    return _times(micros, DATETIME_RANGE, marks, "not a datetime")


def _micros(column: pl.Series) -> pl.Series:
    """Return microseconds [N]; null where they do not fit into 64 bits."""
    raw = column.to_physical()
    unit = getattr(column.dtype, "time_unit", "us")
    if unit == "ns":
        return raw // 1000
    if unit == "ms":
        reach = 2**63 // 1000
        return raw.to_frame("x").select(
            pl.when(pl.col("x").is_between(-reach, reach - 1)).then(pl.col("x") * 1000)
        )["x"]
    return raw


def _times(raw: pl.Series, span: tuple[int, int], marks: _Marks, reason: str) -> Array:
    marks.add(raw.is_null().to_numpy(), reason)
    values = raw.cast(pl.Int64).fill_null(NULL_TIME).to_numpy()
    marks.add((values < span[0]) | (values > span[1]), "not within the years 1 to 9999")
    return values


_READERS: dict[Kind, Callable[[pl.Series, FieldSpec, bool, _Marks], Array]] = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": _str,
    "date": _date,
    "datetime": _datetime,
}

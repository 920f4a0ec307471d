"""How each kind of field travels as a column: the one place that knows dtypes and nulls.

int: int64; optional: float64 with NaN. float: float64, null NaN. bool: bool; optional: float64
with NaN. str: object strings, null `NULL_STRING`. date: int64 days since 1970; datetime: int64
microseconds since 1970 (UTC where aware); null is the smallest int64.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.features.parts import Columns

__all__ = [
    "NULL_TIME",
    "column",
    "columns_of",
    "dtype_of",
    "from_wire",
    "json_rows",
    "to_wire",
]

NULL_TIME: Final = -(2**63)
"""A null date or datetime; the same as NumPy's NaT."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


def dtype_of(field: FieldSpec) -> np.dtype[Any]:
    """Return the NumPy dtype of a field's column.

    >>> dtype_of(FieldSpec("age", "int", optional=True))
    dtype('float64')
    """
    if field.kind == "str":
        return np.dtype(object)
    if field.temporal or (field.kind == "int" and not field.optional):
        return np.dtype(np.int64)
    if field.kind == "bool" and not field.optional:
        return np.dtype(np.bool_)
    return np.dtype(np.float64)


def to_wire(field: FieldSpec, value: Any) -> Any:
    """Return the representation of one validated Python value (None, number, str, date, ...)."""
    if value is None:
        if field.kind == "str":
            return NULL_STRING
        return NULL_TIME if field.temporal else math.nan
    if field.kind == "date":
        return value.toordinal() - _EPOCH_DAY
    if field.kind == "datetime":
        delta = value - (_EPOCH_UTC if field.aware else _EPOCH)
        return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    return value


def column(field: FieldSpec, values: Iterable[Any]) -> npt.NDArray[Any]:
    """Return the column [N] of N validated Python values.

    >>> column(FieldSpec("age", "int", optional=True), [3, None])
    array([ 3., nan])
    """
    return np.array([to_wire(field, value) for value in values], dtype=dtype_of(field))


def columns_of(fields: Sequence[FieldSpec], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the columns of rows whose values stand in the fields' order."""
    return {field.name: column(field, (row[i] for row in rows)) for i, field in enumerate(fields)}


def from_wire(field: FieldSpec, value: Any) -> Any:
    """Return the Python value (None, number, str, date, ...) of one element of a column."""
    if field.kind == "str":
        return None if value == NULL_STRING else value
    if field.temporal:
        if value == NULL_TIME:
            return None
        if field.kind == "date":
            return date.fromordinal(int(value) + _EPOCH_DAY)
        return (_EPOCH_UTC if field.aware else _EPOCH) + timedelta(microseconds=int(value))
    if value != value:  # NaN
        return None
    return {"int": int, "float": float, "bool": bool}[field.kind](value)


def json_rows(fields: Sequence[FieldSpec], columns: Columns) -> list[dict[str, Any]]:
    """Return the N rows of columns as JSON objects, as a client would send them.

    >>> json_rows([FieldSpec("on", "date")], {"on": np.array([0])})
    [{'on': '1970-01-01'}]
    """
    by_column = []
    for field in fields:
        values = [from_wire(field, value) for value in columns[field.name].tolist()]
        if field.temporal:
            values = [None if value is None else value.isoformat() for value in values]
        by_column.append(values)
    names = [field.name for field in fields]
    return [dict(zip(names, row, strict=True)) for row in zip(*by_column, strict=True)]

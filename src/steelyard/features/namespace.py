"""What a row feature may call: element-wise array-API functions, and words for times and nulls.

The namespace is narrower than ndonnx on purpose. A reduction (mean, sort, unique) would let a
row's answer depend on its neighbours in a batch, which nothing in Steelyard may.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import ndonnx as ndx
import ndonnx.extensions as extensions

from steelyard.core.fields import NULL_STRING
from steelyard.errors import DefinitionError, nearest

__all__ = ["Columns", "Namespace"]

_ELEMENTWISE: Final = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "add",
        "asin",
        "asinh",
        "astype",
        "atan",
        "atan2",
        "atanh",
        "bool",
        "ceil",
        "clip",
        "copysign",
        "cos",
        "cosh",
        "divide",
        "e",
        "equal",
        "exp",
        "expm1",
        "float32",
        "float64",
        "floor",
        "floor_divide",
        "greater",
        "greater_equal",
        "hypot",
        "inf",
        "int32",
        "int64",
        "isfinite",
        "isinf",
        "isnan",
        "less",
        "less_equal",
        "log",
        "log10",
        "log1p",
        "log2",
        "logaddexp",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "maximum",
        "minimum",
        "multiply",
        "nan",
        "negative",
        "not_equal",
        "pi",
        "positive",
        "pow",
        "reciprocal",
        "remainder",
        "round",
        "sign",
        "signbit",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "subtract",
        "tan",
        "tanh",
        "trunc",
        "utf8",
    ]
)
_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND


def _is_time(x: ndx.Array) -> bool:
    return isinstance(x.dtype, (ndx.DateTime64DType, ndx.TimeDelta64DType))


class Namespace:
    """`xp` in a row feature: element-wise functions of the array API and a few of our own."""

    def __getattr__(self, name: str) -> Any:
        if name in _ELEMENTWISE:
            return getattr(ndx, name)
        own = [n for n in dir(Namespace) if not n.startswith("_")]
        if hasattr(ndx, name):
            raise DefinitionError(
                f"xp.{name} may not be used in a row feature: an answer may depend on its own row "
                "only.",
                field="features",
                fix="Aggregate over rows upstream, or use an element-wise function.",
            )
        raise DefinitionError(
            f"xp has no {name}.", field="features", fix=nearest(name, [*_ELEMENTWISE, *own])
        )

    @staticmethod
    def where(condition: ndx.Array, x1: Any, x2: Any) -> ndx.Array:
        """Return `x1` where the condition holds, else `x2`; either or both may be constants."""
        constants = not isinstance(x1, ndx.Array) and not isinstance(x2, ndx.Array)
        return ndx.where(condition, ndx.asarray(x1) if constants else x1, x2)

    @staticmethod
    def is_null(x: ndx.Array) -> ndx.Array:
        """Return where a value is null."""
        if x.dtype == ndx.utf8:
            return x == NULL_STRING
        if _is_time(x) or x.dtype in (ndx.float32, ndx.float64):
            return ndx.isnan(x)
        return ndx.astype(x, ndx.bool) & False

    @staticmethod
    def fill_null(x: ndx.Array, value: float | str) -> ndx.Array:
        """Return `x` with null replaced by a constant."""
        return ndx.where(Namespace.is_null(x), ndx.asarray(value), x)

    @staticmethod
    def isin(x: ndx.Array, items: Sequence[Any]) -> ndx.Array:
        """Return where a value is one of `items`; null is none of them."""
        return extensions.isin(x, list(items))

    @staticmethod
    def _microseconds(x: ndx.Array) -> ndx.Array:
        if not isinstance(x.dtype, ndx.DateTime64DType):
            raise DefinitionError(
                f"expected a date or datetime column; got {x.dtype}.",
                field="features",
                fix="Declare the field as date or datetime.",
            )
        return ndx.astype(ndx.astype(x, ndx.DateTime64DType("us")), ndx.int64)

    @staticmethod
    def _null_kept(x: ndx.Array, number: ndx.Array) -> ndx.Array:
        return ndx.where(ndx.isnan(x), ndx.asarray(float("nan")), ndx.astype(number, ndx.float64))

    @staticmethod
    def hour(x: ndx.Array) -> ndx.Array:
        """Return the hour of the day, 0 to 23 (UTC where the field is aware); null stays null."""
        whole = Namespace._microseconds(x) // (3600 * _SECOND)
        return Namespace._null_kept(x, whole % 24)

    @staticmethod
    def minute_of_day(x: ndx.Array) -> ndx.Array:
        """Return the minutes since midnight, 0 to 1439; null stays null."""
        whole = Namespace._microseconds(x) // (60 * _SECOND)
        return Namespace._null_kept(x, whole % 1440)

    @staticmethod
    def day_of_week(x: ndx.Array) -> ndx.Array:
        """Return the day of the week, Monday = 0 to Sunday = 6; null stays null."""
        # 1970-01-01 was a Thursday.
        return Namespace._null_kept(x, (Namespace._microseconds(x) // _DAY + 3) % 7)

    @staticmethod
    def _civil(x: ndx.Array) -> tuple[ndx.Array, ndx.Array, ndx.Array]:
        """Return year, month and day of the proleptic Gregorian calendar.

        Source: H. Hinnant, chrono-compatible low-level date algorithms (civil_from_days).
        """
        days = Namespace._microseconds(x) // _DAY + 719_468
        era = days // 146_097
        day_of_era = days - era * 146_097
        leap = day_of_era // 1_460 - day_of_era // 36_524 + day_of_era // 146_096
        year_of_era = (day_of_era - leap) // 365
        past = year_of_era // 4 - year_of_era // 100
        day_of_year = day_of_era - (365 * year_of_era + past)
        shifted = (5 * day_of_year + 2) // 153
        day = day_of_year - (153 * shifted + 2) // 5 + 1
        month = (shifted + 2) % 12 + 1
        year = year_of_era + era * 400 + ndx.astype(month <= 2, ndx.int64)
        return year, month, day

    @staticmethod
    def year(x: ndx.Array) -> ndx.Array:
        """Return the year; null stays null."""
        return Namespace._null_kept(x, Namespace._civil(x)[0])

    @staticmethod
    def month(x: ndx.Array) -> ndx.Array:
        """Return the month, 1 to 12; null stays null."""
        return Namespace._null_kept(x, Namespace._civil(x)[1])

    @staticmethod
    def day(x: ndx.Array) -> ndx.Array:
        """Return the day of the month, 1 to 31; null stays null."""
        return Namespace._null_kept(x, Namespace._civil(x)[2])

    @staticmethod
    def days_between(later: ndx.Array, earlier: ndx.Array) -> ndx.Array:
        """Return the days from `earlier` to `later` with their fraction; null where either is."""
        gap = Namespace._microseconds(later) - Namespace._microseconds(earlier)
        days = ndx.astype(gap, ndx.float64) / float(_DAY)
        null = ndx.isnan(later) | ndx.isnan(earlier)
        return ndx.where(null, ndx.asarray(float("nan")), days)


class Columns:
    """`c` in a row feature: the row's columns as attributes."""

    def __init__(self, columns: Mapping[str, ndx.Array]) -> None:
        self._columns = dict(columns)

    def __getattr__(self, name: str) -> ndx.Array:
        try:
            return self._columns[name]
        except KeyError:
            raise DefinitionError(
                f"the row has no column {name!r}.",
                field="features",
                fix=nearest(name, self._columns),
            ) from None

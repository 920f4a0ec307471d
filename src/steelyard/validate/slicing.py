"""Slices: the held-out rows of each value of a column, or of each quarter of a number."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.fields import NULL_STRING, Kind
from steelyard.features.columns import NULL_TIME
from steelyard.features.parts import Part
from steelyard.validate.rows import codes

__all__ = ["column_of", "slices_of"]

_AS_VALUES: Final = 10
_QUARTERS: Final = (0.25, 0.5, 0.75)

Rows = npt.NDArray[np.int64]


def column_of(part: Part, name: str) -> npt.NDArray[Any]:
    """Return a feature [N], or else the raw column of that name."""
    return part.features[name] if name in part.features else part.columns[name]


def slices_of(values: npt.NDArray[Any], kind: Kind | None = None) -> Iterator[tuple[str, Rows]]:
    """Yield each slice of a column [N]: what it is called, and its rows.

    Strings, booleans and numbers of at most ten values are sliced by value, other numbers and times
    by quarters. Null is a slice of its own. `kind` tells days and moments from numbers.

    >>> [(name, rows.tolist()) for name, rows in slices_of(np.array([1.0, np.nan, 1.0]))]
    [('1', [0, 2]), ('null', [1])]
    """
    if values.dtype == object:
        place, distinct = codes(values.tolist())
        named = [("null" if v == NULL_STRING else str(v), i) for i, v in enumerate(distinct)]
        for name, i in sorted(named):
            yield name, np.flatnonzero(place == i)
        return
    numbers = values.astype(np.int8) if values.dtype == bool else values
    null = np.isnan(numbers) if numbers.dtype.kind == "f" else numbers == NULL_TIME
    known = np.unique(numbers[~null])
    if len(known) <= _AS_VALUES:
        for value in known:
            rows = np.flatnonzero(numbers == value)
            yield _text(values[rows[0]], kind), rows
    else:
        edges = np.unique(np.quantile(numbers[~null], _QUARTERS, method="nearest"))
        place = np.searchsorted(edges, numbers, side="right")
        for i in range(len(edges) + 1):
            rows = np.flatnonzero((place == i) & ~null)
            if len(rows):
                ends = (numbers[rows].min(), numbers[rows].max())
                yield " to ".join(_text(end, kind) for end in ends), rows
    if null.any():
        yield "null", np.flatnonzero(null)


def _text(value: Any, kind: Kind | None) -> str:
    if kind in ("date", "datetime"):
        return str(np.datetime64(int(value), "D" if kind == "date" else "us"))
    return str(bool(value)) if isinstance(value, np.bool_) else f"{value:.6g}"

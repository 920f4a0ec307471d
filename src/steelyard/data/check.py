"""Every row of a table against the row's fields: what is good becomes columns, the rest is named."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steelyard.core.fields import FieldSpec
from steelyard.core.files import atomic_write
from steelyard.data.cells import Fault, read_cells
from steelyard.errors import DataError, nearest
from steelyard.features.columns import column
from steelyard.features.parts import Columns

__all__ = ["Checked", "check", "count_faults", "good_rows", "merge_faults", "write_bad_rows"]

_LONGEST_CELL = 200


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A table of N rows after the check: which are good, and what is wrong with the others.

    `good` is a mask [N]. `faults` has one entry a field and reason; a row may stand in several.
    """

    cells: Columns
    good: npt.NDArray[np.bool_]
    faults: tuple[Fault, ...]

    @property
    def rows_in(self) -> int:
        """The number of rows that were checked: the good ones and the bad ones."""
        return len(self.good)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The positions of the good rows, ascending."""
        return np.flatnonzero(self.good)

    @property
    def columns(self) -> Columns:
        """The good rows' columns in their representation."""
        if self.good.all():
            return self.cells
        return {name: values[self.good] for name, values in self.cells.items()}

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many rows each (field, reason) made bad."""
        return count_faults(self.faults)


def check(table: pl.DataFrame, fields: Sequence[FieldSpec], *, text: bool = False) -> Checked:
    """Check every row of `table` against `fields`; other columns are ignored.

    `text` says that the source writes every kind as text (CSV). An absent column takes the field's
    default; without one DataError names the nearest column.

    >>> table = pl.DataFrame({"age": ["31", "5x", None]})
    >>> checked = check(table, [FieldSpec("age", "int")], text=True)
    >>> checked.columns["age"].tolist(), checked.counts
    ([31], {('age', 'null'): 1, ('age', 'not an int'): 1})
    """
    _refuse_absent(table, fields)
    cells: dict[str, npt.NDArray[Any]] = {}
    faults: list[Fault] = []
    for field in fields:
        if field.name in table.columns:
            found = read_cells(table[field.name], field, text=text)
            cells[field.name] = found.values
            faults += found.faults
        else:
            cells[field.name] = np.repeat(column(field, [field.default]), table.height)
    return Checked(cells, good_rows(table.height, faults), tuple(faults))


def _refuse_absent(table: pl.DataFrame, fields: Sequence[FieldSpec]) -> None:
    absent = [f.name for f in fields if f.required and f.name not in table.columns]
    if absent:
        names = ", ".join(repr(name) for name in absent[:12])
        raise DataError(
            f"the table has no column {names}, which the row requires.",
            fix=f"{nearest(absent[0], table.columns)} Rename the field, or give it a default.",
        )


def good_rows(rows: int, faults: Iterable[Fault]) -> npt.NDArray[np.bool_]:
    """Return which of `rows` rows have no fault [N]."""
    good = np.ones(rows, dtype=bool)
    for fault in faults:
        good[fault.rows] = False
    return good


def merge_faults(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return one fault a (field, reason), where a column was checked for more than one use.

    >>> twice = [Fault("at", "null", np.array([1, 4])), Fault("at", "null", np.array([0, 4]))]
    >>> [fault.rows.tolist() for fault in merge_faults(twice)]
    [[0, 1, 4]]
    """
    merged: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        key = (fault.field, fault.reason)
        before = merged[key].rows if key in merged else fault.rows
        merged[key] = Fault(*key, np.union1d(before, fault.rows))
    return tuple(merged.values())


def count_faults(faults: Iterable[Fault]) -> dict[tuple[str, str], int]:
    """Return how many rows each (field, reason) made bad."""
    return {(fault.field, fault.reason): len(fault.rows) for fault in faults}


def write_bad_rows(
    path: Path,
    table: pl.DataFrame,
    faults: Sequence[Fault],
    numbers: npt.NDArray[np.int64] | None = None,
) -> int:
    """Write a CSV for people: a line a fault with row number, field, reason, got, then the row.

    `numbers` are the rows' numbers in the snapshot where `table` is a part of it; the first is 0.
    Returns the number of lines.
    """
    rows = np.concatenate([fault.rows for fault in faults]) if faults else np.zeros(0, np.int64)
    which = np.repeat(np.arange(len(faults)), [len(fault.rows) for fault in faults])
    order = np.argsort(rows, kind="stable")
    rows, which = rows[order], which[order]
    text = table[rows].with_columns(_as_text(table[rows][name]) for name in table.columns)
    got: list[str | None] = [None] * len(rows)
    for i, fault in enumerate(faults):
        mine = np.flatnonzero(which == i)
        if fault.field in text.columns:
            for at, value in zip(mine, text[fault.field][mine].to_list(), strict=True):
                got[at] = value if value is None else value[:_LONGEST_CELL]
    head = {
        "row": pl.Series(rows if numbers is None else numbers[rows]),
        "field": pl.Series([faults[i].field for i in which.tolist()], dtype=pl.String),
        "reason": pl.Series([faults[i].reason for i in which.tolist()], dtype=pl.String),
        "got": pl.Series(got, dtype=pl.String),
    }
    # The table may have columns of these names.
    taken = set(table.columns)
    first = pl.DataFrame({_free(name, taken): values for name, values in head.items()})
    atomic_write(path, pl.concat([first, text], how="horizontal").write_csv().encode())
    return len(rows)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"_{name}"
    return name


def _as_text(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        return values
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        shown = [None if value is None else repr(value) for value in values.to_list()]
        return pl.Series(values.name, shown, dtype=pl.String)
    return values.cast(pl.String)

"""What stands beside a row without being its input: weight, key, group and time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steelyard.core.definition import Model
from steelyard.core.fields import FieldSpec
from steelyard.core.splits import ColumnSplit, GroupSplit, TimeSplit
from steelyard.data.cells import Fault, read_cells
from steelyard.data.split import moment
from steelyard.data.times import dates, datetimes, has_offset
from steelyard.errors import DefinitionError

__all__ = ["Companions", "read_companions"]

_MICROS_OF_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Companions:
    """The companions of N rows, None where the definition names none, and what is wrong in them.

    `weight` is positive and finite. `time` is int64 microseconds since 1970. `key` and `group` hold
    the table's own values; `group` is the column of a GroupSplit or a ColumnSplit.
    """

    weight: npt.NDArray[np.float64] | None
    key: npt.NDArray[Any] | None
    group: npt.NDArray[Any] | None
    time: npt.NDArray[np.int64] | None
    faults: tuple[Fault, ...]


def read_companions(model: Model, table: pl.DataFrame, text: bool) -> Companions:
    """Read the columns [N] that a definition names beside the row's fields.

    Rows without weight, key, group or time are faults. Raises DefinitionError where the column of
    a TimeSplit holds no times, or its start has an offset and the times have none.
    """
    faults: list[Fault] = []
    weight = key = group = time = None
    if model.weight is not None:
        cells = read_cells(table[model.weight], FieldSpec(model.weight, "float", gt=0), text=text)
        weight, faults = cells.values, [*faults, *cells.faults]
    if model.key is not None:
        key = _objects(table[model.key])
        faults += _nulls(table[model.key])
    match model.split:
        case GroupSplit():
            group = _objects(table[model.split.group])
            faults += _nulls(table[model.split.group])
        case ColumnSplit():
            group = _objects(table[model.split.column])
        case TimeSplit():
            spec = _time_spec(model, model.split, table[model.split.time])
            cells = read_cells(table[model.split.time], spec, text=text)
            time = cells.values * _MICROS_OF_DAY if spec.kind == "date" else cells.values
            faults += cells.faults
    return Companions(weight, key, group, time, tuple(faults))


def _objects(column: pl.Series) -> npt.NDArray[Any]:
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_list()
    return values


def _nulls(column: pl.Series) -> list[Fault]:
    rows = np.flatnonzero(column.is_null().to_numpy())
    return [Fault(column.name, "null", rows)] if len(rows) else []


def _time_spec(model: Model, how: TimeSplit, column: pl.Series) -> FieldSpec:
    declared = {field.name: field for field in model.fields}.get(how.time)
    if declared is not None and declared.temporal:
        spec = FieldSpec(how.time, declared.kind, aware=declared.aware)
    else:
        spec = _found_spec(how.time, column)
    if how.start is not None and moment(how.start)[1] and not spec.aware:
        raise DefinitionError(
            f"start={how.start!r} has a UTC offset, the times in {how.time!r} have none.",
            field="split",
            fix="Drop the offset from start.",
        )
    return spec


def _found_spec(name: str, column: pl.Series) -> FieldSpec:
    """Return what most of a column's values are; cells with others become bad rows."""
    if column.dtype == pl.Date:
        return FieldSpec(name, "date")
    if isinstance(column.dtype, pl.Datetime):
        return FieldSpec(name, "datetime", aware=column.dtype.time_zone is not None)
    if column.dtype == pl.String:
        values = column.unique()
        timed = datetimes(values).is_not_null().to_numpy()
        zoned = has_offset(values)
        found = {
            FieldSpec(name, "date"): int(dates(values).is_not_null().sum()),
            FieldSpec(name, "datetime"): int((timed & ~zoned).sum()),
            FieldSpec(name, "datetime", aware=True): int((timed & zoned).sum()),
        }
        spec = max(found, key=lambda candidate: found[candidate])
        if found[spec]:
            return spec
    example = column.drop_nulls().head(1).to_list()
    raise DefinitionError(
        f"the column {name!r} holds no dates or datetimes; one value is "
        f"{example[0] if example else None!r}.",
        field="split",
        fix="Name a column with ISO dates or datetimes such as 2013-10-01T12:30:00.",
    )

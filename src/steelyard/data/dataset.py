"""From a definition to labelled, split columns, with every row of the table accounted for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steelyard.core.definition import Model
from steelyard.core.records import Snapshot
from steelyard.core.sources import Csv
from steelyard.core.splits import ColumnSplit, GroupSplit, TimeSplit
from steelyard.data.cells import Fault
from steelyard.data.check import (
    Checked,
    check,
    count_faults,
    good_rows,
    merge_faults,
    write_bad_rows,
)
from steelyard.data.companions import Companions, read_companions
from steelyard.data.label import Label, Labels, Target, read_labels, target_of
from steelyard.data.snapshot import open_snapshot, take_snapshot
from steelyard.data.split import split
from steelyard.errors import DataError, DefinitionError, nearest
from steelyard.features.parts import Part, Task

__all__ = ["Accounting", "Dataset", "load"]


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where the rows of a table went: `rows_in == label_null + good + bad`.

    `faults` counts rows by (field, reason); a bad row may stand under several.
    """

    rows_in: int
    label_null: int
    good: int
    bad: int
    faults: Mapping[tuple[str, str], int]

    def document(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return {
            "rows_in": self.rows_in,
            "label_null": self.label_null,
            "good": self.good,
            "bad": self.bad,
            "faults": [
                {"field": field, "reason": reason, "rows": rows}
                for (field, reason), rows in self.faults.items()
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A definition's table, checked, labelled and split.

    `all` holds the good labelled rows in table order, `train` and `test` part them. Labels of a
    regression are float64. `bad_rows` is a CSV of the rows that were left out, None without any.
    """

    snapshot: Snapshot
    all: Part
    train: Part
    test: Part
    target: Target
    accounting: Accounting
    bad_rows: Path | None

    @property
    def task(self) -> Task:
        """What kind of target the model has."""
        return self.target.task

    @property
    def positive(self) -> Label | None:
        """The class whose probability a binary model predicts; None for other tasks."""
        return self.target.positive


def load(
    model: Model, snapshots: Path, *, snapshot: str | None = None, bad_rows: Path | None = None
) -> Dataset:
    """Read, keep, check, label and split the table of a definition.

    `snapshot` is the id of a kept one to take instead of the source. Bad rows are written to `bad_rows`,
    by default a file named after model and snapshot beside the snapshots. Raises DataError where
    the table cannot be read or no row is good, DefinitionError where the definition names a column
    that is not there or its estimator, label and split do not fit the table.
    """
    if snapshot is None:
        taken = take_snapshot(model.data, model.folder, snapshots)
        table = open_snapshot(snapshots, taken.id)[1]
    else:
        taken, table = open_snapshot(snapshots, snapshot)
    _check_names(model, table)
    text = isinstance(model.data, Csv)
    labels = read_labels(table[model.label], text=text)
    labelled = np.flatnonzero(~labels.null)
    rows = table.filter(~labels.null)
    checked = check(rows, model.fields, text=text)
    companions = read_companions(model, rows, text)
    faults = merge_faults([*checked.faults, *_among(labels.faults, labelled), *companions.faults])
    good = good_rows(len(labelled), faults)
    accounting = Accounting(
        rows_in=table.height,
        label_null=int(labels.null.sum()),
        good=int(good.sum()),
        bad=int((~good).sum()),
        faults=count_faults(faults),
    )
    path = bad_rows or snapshots / "bad_rows" / f"{model.name}-{taken.id[:12]}.csv"
    kept = _keep_bad_rows(path, rows, faults, labelled)
    if kept and not good.any():
        raise _nothing_good(accounting, kept)
    part = _part(checked, labels, companions, labelled).take(good)
    target = target_of(part.label, model.estimator, model.positive)
    if target.task == "regression":
        part = replace(part, label=part.label.astype(np.float64))
    train, test = split(part, model.split, target.task)
    return Dataset(taken, part, train, test, target, accounting, kept)


def _check_names(model: Model, table: pl.DataFrame) -> None:
    named = {"label": model.label, "key": model.key, "weight": model.weight}
    for field, name in {**named, "split": _split_column(model)}.items():
        if name is not None and name not in table.columns:
            raise DefinitionError(
                f"the table has no column {name!r}.",
                field=field,
                fix=nearest(name, table.columns),
            )
    if not table.height:
        raise DataError("the table has no rows.", fix="Check the source of the definition.")


def _split_column(model: Model) -> str | None:
    match model.split:
        case TimeSplit():
            return model.split.time
        case GroupSplit():
            return model.split.group
        case ColumnSplit():
            return model.split.column
    return None


def _among(faults: Sequence[Fault], chosen: npt.NDArray[np.int64]) -> list[Fault]:
    """Give faults of a table's rows the positions that the rows have among the chosen ones."""
    return [Fault(f.field, f.reason, np.searchsorted(chosen, f.rows)) for f in faults]


def _keep_bad_rows(
    path: Path, rows: pl.DataFrame, faults: Sequence[Fault], numbers: npt.NDArray[np.int64]
) -> Path | None:
    if not faults:
        # What an earlier run left under this name would be taken for this run's.
        path.unlink(missing_ok=True)
        return None
    write_bad_rows(path, rows, faults, numbers)
    return path


def _nothing_good(accounting: Accounting, kept: Path) -> DataError:
    (field, reason), rows = max(accounting.faults.items(), key=lambda item: item[1])
    return DataError(
        f"all {accounting.bad} rows are bad; {field!r} is {reason} in {rows} of them.",
        fix=f"Correct the row's type or the table. The rows are in {kept}.",
    )


def _part(
    checked: Checked, labels: Labels, companions: Companions, numbers: npt.NDArray[np.int64]
) -> Part:
    return Part(
        rows=numbers,
        columns=checked.cells,
        label=labels.values[numbers],
        features={},
        weight=companions.weight,
        key=companions.key,
        group=companions.group,
        time=companions.time,
    )

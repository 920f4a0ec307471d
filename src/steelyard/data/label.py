"""The label column: its values with their type, and what kind of task they make."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steelyard.core.fields import FieldSpec, Kind
from steelyard.data.cells import NOT_FINITE, Cells, Fault, read_cells
from steelyard.errors import DataError, DefinitionError, nearest
from steelyard.features.parts import Task

__all__ = ["Label", "Labels", "Target", "read_labels", "target_of", "task_of"]

Label = str | int | bool
"""One value of a class label."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """A label column of N rows: object strings, int64, bool or float64.

    `null` is where there is no label, `faults` are labels that are no values (NaN, infinite);
    what `values` hold there is undefined.
    """

    values: npt.NDArray[Any]
    null: npt.NDArray[np.bool_]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What is predicted: the task, and for classes their sorted values and the positive one."""

    task: Task
    classes: tuple[Label, ...] | None = None
    positive: Label | None = None


def read_labels(column: pl.Series, *, text: bool) -> Labels:
    """Return the labels [N] with the narrowest type that holds them all: int, float, bool, else str.

    The kind of text (CSV) is inferred over all rows; strings of a typed column stay strings.
    Raises DataError where no row has a label, or they are neither numbers, booleans nor strings.

    >>> read_labels(pl.Series("late", ["1", "0", None]), text=True).values.dtype
    dtype('int64')
    """
    null = column.is_null().to_numpy()
    present = np.flatnonzero(~null)
    if not len(present):
        raise DataError(
            f"no row has a label: all {len(column)} cells of {column.name!r} are null.",
            fix="Name the column that holds what is to be predicted.",
        )
    found = _narrowest(column.drop_nulls(), text)
    values = np.zeros(len(column), dtype=found.values.dtype)
    values[present] = found.values
    faults = tuple(Fault(f.field, f.reason, present[f.rows]) for f in found.faults)
    return Labels(values, null, faults)


def _narrowest(column: pl.Series, text: bool) -> Cells:
    kinds: tuple[Kind, ...] = ("int", "float", "bool")
    for kind in kinds:
        cells = read_cells(column, FieldSpec(column.name, kind), text=text)
        # NaN and infinity make a bad row, not a column of another type.
        if all(kind == "float" and fault.reason == NOT_FINITE for fault in cells.faults):
            return cells
    if column.dtype == pl.String:
        return read_cells(column, FieldSpec(column.name, "str"), text=text)
    raise DataError(
        f"the label {column.name!r} has the type {column.dtype}, expected numbers, booleans or "
        "strings.",
        fix="Make it one of them upstream, for example in a query.",
    )


def task_of(label: npt.NDArray[Any], estimator: Any, positive: Label | None = None) -> Task:
    """Return the task that an estimator and the labels [N] make; errors as `target_of`."""
    return target_of(label, estimator, positive).task


def target_of(label: npt.NDArray[Any], estimator: Any, positive: Label | None = None) -> Target:
    """Return what an estimator learns from the labels [N] of the good rows.

    Two classes need a positive one: True of booleans and 1 of 0 and 1 unless named. Raises
    DefinitionError where estimator, labels and `positive` do not fit, and DataError where all
    labels are equal.
    """
    from sklearn.base import is_classifier, is_regressor

    name = type(estimator).__name__
    if not is_classifier(estimator) and not is_regressor(estimator):
        raise DefinitionError(
            f"{name} is neither a classifier nor a regressor.",
            field="estimator",
            fix="Use, for example, HistGradientBoostingClassifier().",
        )
    classes = tuple(sorted(set(label.tolist())))
    if len(classes) < 2:
        shown = f"every label is {classes[0]!r}" if classes else "there is no label"
        raise DataError(f"{shown}: nothing can be learned.", fix="Check the label's column.")
    if is_regressor(estimator):
        return _regression(label, name, positive)
    if label.dtype == np.float64:
        broken = label[label != np.trunc(label)]
        example = broken[0] if len(broken) else label[0]
        raise DefinitionError(
            f"{name} is a classifier, but labels are numbers such as {example.item()!r}.",
            field="estimator",
            fix="Use a regressor, or make classes of the numbers upstream.",
        )
    if len(classes) == 2:
        return Target("binary", classes, _positive(classes, positive))
    if positive is not None:
        raise DefinitionError(
            f"a positive class is for two classes; the labels have {len(classes)}.",
            field="positive",
            fix="Drop positive=.",
        )
    return Target("multiclass", classes)


def _regression(label: npt.NDArray[Any], name: str, positive: Label | None) -> Target:
    if label.dtype.kind not in "if":
        raise DefinitionError(
            f"{name} is a regressor, but labels are not numbers; one is {_example(label)!r}.",
            field="estimator",
            fix="Use a classifier, or correct the labels that are no numbers.",
        )
    if positive is not None:
        raise DefinitionError(
            f"a positive class is for classifiers; {name} is a regressor.",
            field="positive",
            fix="Drop positive=.",
        )
    return Target("regression")


def _example(label: npt.NDArray[Any]) -> Any:
    """Return the label that is the least like a number, to name it."""
    odd = [value for value in label.tolist() if not str(value).replace(".", "", 1).isdigit()]
    return odd[0] if odd else label.tolist()[0]


def _positive(classes: tuple[Label, ...], given: Label | None) -> Label:
    if given is None and classes in ((False, True), (0, 1)):
        return classes[1]
    for value in classes:
        if value == given:
            return value
    first, second = classes
    fix = f"Write positive={second!r} or positive={first!r}."
    if given is None:
        raise DefinitionError(
            "two classes need a positive one, whose probability is predicted.",
            field="positive",
            fix=fix,
        )
    hint = nearest(str(given), map(str, classes)) if isinstance(given, str) else ""
    raise DefinitionError(f"no label is {given!r}. {hint}".rstrip(), field="positive", fix=fix)

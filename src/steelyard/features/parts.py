"""Columns with their labels, as data hands them to training and to the gates."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Columns", "Part", "Scores", "Task"]

Columns = Mapping[str, npt.NDArray[Any]]
"""Named columns of N values each, in the column representation of `features.columns`."""
Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """N rows of a snapshot: where they stood, their columns, label and companions.

    `rows` are row numbers of the snapshot [N]. `columns` are the row's raw columns; `features` is
    what the model sees (raw columns that are features, and row features), empty until they were
    computed. `label` keeps its type: object strings, int64, bool, or float64. `time` is int64
    microseconds. `key` and `group` hold Python objects.
    """

    rows: npt.NDArray[np.int64]
    columns: Columns
    label: npt.NDArray[Any]
    features: Columns
    weight: npt.NDArray[np.float64] | None = None
    key: npt.NDArray[Any] | None = None
    group: npt.NDArray[Any] | None = None
    time: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: npt.NDArray[Any]) -> "Part":
        """Return the rows at `index` (positions or a mask), in that order."""

        def pick(array: npt.NDArray[Any] | None) -> Any:
            return None if array is None else array[index]

        return replace(
            self,
            rows=self.rows[index],
            columns={name: column[index] for name, column in self.columns.items()},
            label=self.label[index],
            features={name: column[index] for name, column in self.features.items()},
            weight=pick(self.weight),
            key=pick(self.key),
            group=pick(self.group),
            time=pick(self.time),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a bundle answered for N rows.

    `prediction` [N] has the label's type (float64 for regression). `probabilities` [N, K] float64
    follows `classes`; None for regression.
    """

    prediction: npt.NDArray[Any]
    probabilities: npt.NDArray[np.float64] | None
    classes: tuple[str | int | bool, ...] | None

    def __len__(self) -> int:
        return len(self.prediction)

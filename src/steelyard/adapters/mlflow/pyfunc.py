"""The loader that MLflow calls to read a bundle as a model. It runs no code from the bundle.

It needs the base install and MLflow, with the pandas that MLflow brings.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.adapters.mlflow.model import PROBABILITY
from steelyard.bundle.predictor import Answer, Predictor
from steelyard.core.answers import class_keys
from steelyard.core.fields import FieldSpec
from steelyard.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BundleModel"]


class BundleModel:
    """A bundle as MLflow's python_function: rows in, a table of answers out."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """Answer N rows: `prediction` and, for classes, a column `probability_CLASS` each.

        `model_input` is a pandas DataFrame (its other columns are ignored), one row as a dict, a
        list of rows, or a dict of columns. There are no `params`. Raises InputError with every bad
        field, named `rows.N.field` where there are several rows.
        """
        import pandas as pd

        if params:
            errors = [
                {"field": n, "message": "is no parameter", "got": v} for n, v in params.items()
            ]
            raise InputError(errors, fix="Give no params.")
        index = model_input.index if isinstance(model_input, pd.DataFrame) else None
        rows = self._rows(model_input)
        answers = self._answered(self._checked(rows))
        table = {"prediction": [prediction for prediction, _ in answers]}
        for i, key in enumerate(class_keys(self.predictor.classes or ())):
            table[f"{PROBABILITY}{key}"] = [scores[i] for _, scores in answers if scores]
        return pd.DataFrame(table, index=index)

    def _rows(self, given: Any) -> list[Mapping[str, Any]]:
        import pandas as pd

        if isinstance(given, pd.DataFrame):
            return _table_rows(given, self.predictor.fields)
        if isinstance(given, Mapping):
            given = _rows_of_columns(given)
        if isinstance(given, Sequence) and all(isinstance(row, Mapping) for row in given):
            return [{name: _python(value) for name, value in row.items()} for row in given]
        raise InputError(
            [{"field": "inputs", "message": "expected rows", "got": type(given).__name__}],
            fix="Give a pandas DataFrame, a dict, or a list of dicts.",
        )

    def _checked(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        checked = []
        errors: list[dict[str, Any]] = []
        for i, row in enumerate(rows):
            try:
                checked.append(self.predictor.decoder.check_one(row))
            except InputError as error:
                errors += _named(error, i, len(rows))
        if errors:
            raise InputError(errors)
        return checked

    def _answered(self, rows: Sequence[tuple[Any, ...]]) -> list[Answer]:
        """Answer checked rows; the guards refuse here what they refuse elsewhere."""
        found = self.predictor.answer_many(rows)
        errors: list[dict[str, Any]] = []
        for i, one in enumerate(found):
            if isinstance(one, InputError):
                errors += _named(one, i, len(rows))
        if errors:
            raise InputError(errors)
        return [one.answer for one in found if not isinstance(one, InputError)]


def _named(error: InputError, place: int, rows: int) -> list[dict[str, Any]]:
    prefix = f"rows.{place}." if rows > 1 else ""
    return [{**e, "field": f"{prefix}{e['field']}"} for e in error.errors]


def _rows_of_columns(given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of `{column: values}`, or the one row of `{field: value}`."""
    if not any(isinstance(value, (list, tuple)) for value in given.values()):
        return [given]
    lengths = {len(v) if isinstance(v, (list, tuple)) else 1 for v in given.values()}
    if len(lengths) > 1:
        got = ", ".join(str(length) for length in sorted(lengths))
        raise InputError([{"field": "inputs", "message": "expected one length", "got": got}])
    columns = [v if isinstance(v, (list, tuple)) else [v] for v in given.values()]
    return [dict(zip(given, row, strict=True)) for row in zip(*columns, strict=True)]


def _table_rows(table: "pd.DataFrame", fields: Sequence[FieldSpec]) -> list[Mapping[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(len(table))]
    for field in fields:
        if field.name in table.columns:
            for row, value in zip(rows, table[field.name].tolist(), strict=True):
                row[field.name] = _cell(value, field)
    return list(rows)


def _cell(value: Any, field: FieldSpec) -> Any:
    """Return a cell as the value that it stands for; pandas' marks of null are None."""
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    value = _python(value)
    if field.kind == "date" and isinstance(value, datetime) and value.time() == time():
        return value.date()  # pandas has no dates: one is the midnight that opens it
    return value


def _python(value: Any) -> Any:
    """Return the Python value of a scalar of NumPy or pandas."""
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime(warn=False)
    return value.item() if isinstance(value, np.generic) else value


def _load_pyfunc(path: str) -> BundleModel:
    """Load a bundle for MLflow; its files and golden rows are verified first."""
    return BundleModel(Predictor.load(Path(path)))

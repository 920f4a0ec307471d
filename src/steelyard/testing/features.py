"""For the tests of a definition's row features."""

from collections.abc import Mapping
from typing import Any

from steelyard.core.definition import Model
from steelyard.core.fields import NULL_STRING
from steelyard.core.validation import RowDecoder
from steelyard.features.columns import columns_of
from steelyard.features.trace import trace

__all__ = ["compute_features"]


def compute_features(model: Model, *rows: Mapping[str, Any]) -> list[dict[str, float | str | None]]:
    """Return the row features of each row, computed by the graph that trains and serves.

    Rows are given as a client would send them. A number that is null comes back as None. Raises
    InputError for a row that the definition does not allow, DefinitionError where the model has
    features that cannot be traced.
    """
    if model.features is None:
        return [{} for _ in rows]
    decoder = RowDecoder(model.fields, allow_unknown=model.allow_unknown_fields)
    columns = columns_of(model.fields, [decoder.check_one(row) for row in rows])
    found = trace(model.features, model.fields).run(columns)
    return [{name: _plain(values[i]) for name, values in found.items()} for i in range(len(rows))]


def _plain(value: Any) -> float | str | None:
    if isinstance(value, str):
        return None if value == NULL_STRING else value
    number = float(value)
    return None if number != number else number

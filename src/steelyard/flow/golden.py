"""The golden rows of a bundle: what it must answer on every machine before it may serve there."""

from typing import Any, Final

import numpy as np

from steelyard.core.definition import Model
from steelyard.features.columns import json_rows
from steelyard.features.parts import Part
from steelyard.validate.nasty import nasty_rows

__all__ = ["golden_rows"]

_GOLDEN: Final = 100
_NASTY: Final = 60


def golden_rows(definition: Model, test: Part) -> list[dict[str, Any]]:
    """Return rows to answer at every load: held-out ones, evenly taken, and nasty ones.

    Values of private fields are taken from the nasty rows, which are made up, so that no person's
    value is kept in a bundle.
    """
    places = np.unique(np.linspace(0, len(test) - 1, _GOLDEN).astype(np.int64))
    sample = test.take(places)
    rows = json_rows(definition.fields, sample.columns)
    nasty = nasty_rows(definition.fields, sample.columns, seed=definition.seed)[:_NASTY]
    private = [field.name for field in definition.fields if field.private]
    if private:
        invented = nasty_rows(definition.fields, {}, seed=definition.seed)
        for rows_ in (rows, nasty):
            for i, row in enumerate(rows_):
                row.update({name: invented[i % len(invented)][name] for name in private})
    return rows + nasty

"""Slices cover every row once."""

from typing import Any

import numpy as np
import pytest

from steelyard.core.fields import NULL_STRING
from steelyard.features.columns import NULL_TIME
from steelyard.validate.slicing import slices_of

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        RNG.normal(size=100),
        np.where(RNG.random(100) < 0.3, np.nan, RNG.normal(size=100)),
        RNG.integers(0, 4, 100),
        RNG.random(100) < 0.5,
        RNG.choice(np.array(["a", "b", NULL_STRING], dtype=object), 100),
        np.where(RNG.random(100) < 0.2, NULL_TIME, RNG.integers(0, 9999, 100)),
        np.full(100, np.nan),
        np.zeros(100),
    ],
)
def test_every_row_is_in_one_slice(values: Any) -> None:
    rows = np.concatenate([rows for _, rows in slices_of(values)])
    assert sorted(rows.tolist()) == list(range(100))
    names = [name for name, _ in slices_of(values)]
    assert len(set(names)) == len(names)


def test_names_are_for_people() -> None:
    assert [name for name, _ in slices_of(np.array([True, False]))] == ["False", "True"]
    assert [name for name, _ in slices_of(np.array([0, NULL_TIME]), "date")] == [
        "1970-01-01",
        "null",
    ]

"""A fallback that cannot be is told where it is written."""

import math
from typing import Any

import pytest
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.errors import DefinitionError


@pytest.mark.parametrize(
    "make",
    [
        lambda: sy.Constant(math.nan),
        lambda: sy.Constant([0.3]),  # type: ignore[arg-type]
        lambda: sy.Constant({"a": 0.7, "b": 0.7}),
        lambda: sy.Constant({"a": 1.5, "b": -0.5}),
        lambda: sy.Constant({"a": True}),
        lambda: sy.Rule(0.3),  # type: ignore[arg-type]
        lambda: sy.Rule(lambda c: c.x),  # type: ignore[arg-type, misc]
        lambda: sy.PreviousChampion(0.3),  # type: ignore[arg-type]
        lambda: sy.PreviousChampion(sy.PreviousChampion()),  # type: ignore[arg-type]
    ],
)
def test_a_mistake_names_the_fallback(make: Any) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert caught.value.field == "fallback"
    assert caught.value.fix


def test_a_model_takes_fallbacks_only() -> None:
    class Customer(sy.Row):
        x: int

    given: Any = {"name": "m", "row": Customer, "data": sy.Csv("t"), "label": "y"}
    for good in (None, sy.Constant("a"), sy.Rule(lambda xp, c: c.x), sy.PreviousChampion()):
        assert sy.Model(**given, estimator=Ridge(), fallback=good).fallback is good
    with pytest.raises(DefinitionError, match="expected a fallback") as caught:
        sy.Model(**given, estimator=Ridge(), fallback=0.3)
    assert caught.value.field == "fallback"

"""The slices gate: limits within slices, small slices listed, and the look for weak ones."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import steelyard as sy
from steelyard.features.parts import Columns, Scores
from steelyard.validate.candidate import Candidate
from steelyard.validate.slices import check_slices

Make = Callable[..., Candidate]


def spoiled(candidate: Candidate, where: Any) -> Candidate:
    """Answer some held-out rows at random."""
    rng = np.random.default_rng(0)
    scores = candidate.scores
    if scores.probabilities is None:
        told = np.where(
            where, scores.prediction + rng.normal(scale=9, size=len(where)), scores.prediction
        )
        return replace(candidate, scores=Scores(told, None, None))
    order = np.arange(len(where))
    order[where] = rng.permutation(order[where])
    return replace(
        candidate,
        scores=Scores(scores.prediction[order], scores.probabilities[order], scores.classes),
    )


def pro(columns: Columns) -> Any:
    return columns["plan"] == "pro"


def test_a_weak_slice_is_refused_and_named(make: Make) -> None:
    made = make(gates=(sy.SlicesAtLeast("roc_auc", 0.6, by=["plan", "active"]),))
    by_plan, by_active = check_slices(made)
    assert by_plan.passed
    assert by_active.passed
    assert by_plan.evidence["judged"] == 3
    by_plan, by_active = check_slices(spoiled(made, pro(made.test.columns)))
    assert not by_plan.passed
    assert by_plan.evidence["failing"][0]["slice"] == "pro"
    assert "'plan' is pro" in by_plan.evidence["message"]
    assert by_plan.name == "roc_auc >= 0.6 by plan"


def test_at_most_is_the_other_way(make: Make) -> None:
    made = make("regression", gates=(sy.SlicesAtMost("rmse", 3.0, by=["plan"]),))
    (found,) = check_slices(made)
    assert found.passed
    (found,) = check_slices(spoiled(made, pro(made.test.columns)))
    assert not found.passed
    assert isinstance(found.value, float)
    assert found.value > 3.0


def test_small_slices_are_listed_and_not_judged(make: Make) -> None:
    gates = (sy.SlicesAtLeast("accuracy", 1.0, by=["city"], min_rows=200),)
    (found,) = check_slices(make(gates=gates))
    assert found.passed
    assert found.flagged
    assert found.evidence["judged"] == 0
    assert found.evidence["not_judged"][0]["why"] == "fewer than 200 rows"
    assert "null" in [line["slice"] for line in found.evidence["not_judged"]]


def test_a_slice_without_a_value_is_listed(make: Make) -> None:
    made = make(gates=(sy.SlicesAtLeast("roc_auc", 0.5, by=["plan"]),))
    label = made.test.label.copy()
    label[pro(made.test.columns)] = "no"
    (found,) = check_slices(replace(made, test=replace(made.test, label=label)))
    assert [line["slice"] for line in found.evidence["not_judged"]] == ["pro"]
    assert found.evidence["judged"] == 2


@pytest.mark.parametrize(("by", "slices"), [("charge", 4), ("total", 5), ("since", 4)])
def test_numbers_and_times_are_sliced_by_quarters(make: Make, by: str, slices: int) -> None:
    gates = (sy.SlicesAtLeast("accuracy", 0.1, by=[by], min_rows=20),)
    (found,) = check_slices(make(gates=gates))
    assert found.evidence["judged"] == slices
    first = found.evidence["slices"][0]["slice"]
    assert " to " in first or first == "null"
    if by == "since":
        assert first[:2] in ("19", "20")  # a day, not a number of days


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_without_limits_a_weak_slice_is_pointed_at(make: Make, task: str) -> None:
    made = make(task, rows=4000, test=3000)
    (found,) = check_slices(made)
    assert found.passed
    assert not found.flagged, found.evidence
    (found,) = check_slices(spoiled(made, pro(made.test.columns)))
    assert found.passed
    assert found.flagged
    assert found.evidence["failing"][0]["slice"] == "pro"
    assert found.evidence["failing"][0]["skill"] < 0


def test_private_columns_are_looked_at_only_where_asked(make: Make) -> None:
    class Private(sy.Row):
        plan: str = sy.Field(private=True)
        active: bool

    made = make(rows=4000, test=3000, definition={"row": Private})
    made = replace(made, model_features=("plan", "active"))
    (found,) = check_slices(spoiled(made, pro(made.test.columns)))
    assert {line["column"] for line in found.evidence["worst"]} == {"active"}
